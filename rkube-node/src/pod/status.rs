//! The status to report.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, HostIP, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    Input, conditions,
    life::{self, Life, View},
    plan::{Course, Gate, Progress, Why},
    stop,
};
use crate::runtime::{Exit, Role, RuntimeContainer};

/// Whole seconds, as times go over the wire.
pub(crate) fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

fn terminated(input: &Input<'_>, exit: &Exit, container: Option<&RuntimeContainer>) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: container.map(|container| id(input, container)),
            exit_code: exit.code,
            started_at: exit.started_at.map(time),
            finished_at: Some(time(exit.finished_at)),
            reason: Some(exit.reason().to_owned()),
            message: exit.message.as_deref().map(Into::into),
            signal: None,
        }),
        ..ContainerState::default()
    }
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
        ..ContainerState::default()
    }
}

fn id(input: &Input<'_>, container: &RuntimeContainer) -> String {
    format!("{}://{}", input.node.runtime, container.id)
}

/// The container that `exit` is of, if the runtime has it.
fn exited<'a>(view: &View<'a>) -> Option<&'a RuntimeContainer> {
    view.latest.filter(|latest| matches!(latest.state, crate::runtime::ContainerState::Exited(_)))
}

/// What is shown of a container: its state, and the exit that is its last state because the state is
/// another.
fn state(input: &Input<'_>, view: &View<'_>, gate: &Gate, lost: bool, idle: &str) -> (ContainerState, bool) {
    let pod = || {
        let meta = &input.pod.metadata;
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid))
    };
    match (&view.life, gate) {
        (_, Gate::Image { reason, message }) => (waiting(reason, Some(message.clone())), true),
        (Life::Exited(_), Gate::CrashLoop { wait }) => {
            let wait = conditions::span(*wait);
            let note = format!("back-off {wait} restarting failed container={} pod={}", view.name(), pod());
            (waiting("CrashLoopBackOff", Some(note)), true)
        }
        (Life::New, _) if lost => (terminated(input, &life::lost(None, input.now), None), false),
        (Life::New | Life::Created, _) => (waiting(idle, None), false),
        (Life::Running { since }, _) => {
            let running = Some(ContainerStateRunning { started_at: Some(time(*since)) });
            (ContainerState { running, ..ContainerState::default() }, false)
        }
        (Life::Exited(exit), _) => (terminated(input, exit, exited(view)), false),
    }
}

fn container(input: &Input<'_>, view: &View<'_>, gate: &Gate, lost: bool, idle: &str) -> ContainerStatus {
    let (mut state, ended_before) = state(input, view, gate, lost, idle);
    let old_state = view.old.and_then(|old| old.state.as_ref());
    // What was reported once stays as it was reported, to the second and with its id.
    if let (Some(new), Some(old)) = (&state.terminated, old_state.and_then(|old| old.terminated.as_ref()))
        && view.latest.is_none()
        && new.exit_code == old.exit_code
    {
        state.terminated = Some(old.clone());
    }
    let mut last_state = view.old.and_then(|old| old.last_state.clone());
    if let (true, Life::Exited(exit)) = (ended_before, &view.life) {
        if view.latest.is_some() || last_state.is_none() {
            last_state = Some(terminated(input, exit, exited(view)));
        }
    } else if let Some(previous) = view.previous
        && let crate::runtime::ContainerState::Exited(exit) = &previous.state
    {
        last_state = Some(terminated(input, exit, Some(previous)));
    } else if view.alive()
        && let Some(ended) = old_state.filter(|old| old.terminated.is_some())
    {
        // The runtime has forgotten the container that the status remembers.
        last_state = Some(ended.clone());
    } else if let (Some(latest), Some(old)) = (view.latest, view.old)
        && let Some(running) = old_state.and_then(|old| old.running.as_ref())
        && i64::from(latest.attempt) > i64::from(old.restart_count)
    {
        // It was reported to run, was lost, and was started again before anyone could tell.
        let exit = life::lost(running.started_at.as_ref().map(|time| time.0), input.now);
        last_state = Some(terminated(input, &exit, None));
    }
    let running = view.running();
    let done = matches!(&view.life, Life::Exited(exit) if exit.success());
    ContainerStatus {
        name: view.spec.name.clone(),
        image: match (view.latest, view.old) {
            (Some(latest), _) => latest.image.to_string(),
            (None, Some(old)) if view.life != Life::New => old.image.clone(),
            (None, _) => view.image().to_owned(),
        },
        image_id: view.latest.map_or_else(
            || view.old.map(|old| old.image_id.clone()).unwrap_or_default(),
            |latest| latest.image_id.to_string(),
        ),
        container_id: view
            .latest
            .map(|latest| id(input, latest))
            .or_else(|| view.old.and_then(|old| old.container_id.clone())),
        ready: match view.role {
            Role::Init => done,
            Role::Main | Role::Sidecar => running && view.probe.started && view.probe.ready,
            Role::Ephemeral => false,
        },
        started: (view.role != Role::Ephemeral).then_some(running && view.probe.started),
        restart_count: i32::try_from(view.attempt()).unwrap_or(i32::MAX),
        state: Some(state),
        last_state: last_state.filter(|last| *last != ContainerState::default()),
        ..view.old.cloned().unwrap_or_default()
    }
}

/// The phase, by what the containers of the spec do.
fn phase(input: &Input<'_>, views: &[View<'_>], progress: &Progress, course: Course) -> &'static str {
    match input.pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Succeeded") => return "Succeeded",
        Some("Failed") => return "Failed",
        _ => {}
    }
    let mains = || views.iter().filter(|view| view.role == Role::Main);
    // An end is reported only when nothing runs any more.
    if let (Course::Stop(why), true) = (course, stop::ended(views)) {
        let well = || mains().all(|view| matches!(&view.life, Life::Exited(exit) if exit.success()));
        return match why {
            Why::Finished { failed: false } => "Succeeded",
            Why::Deleted | Why::Gone | Why::Reported if well() => "Succeeded",
            _ => "Failed",
        };
    }
    let first = |view: &View<'_>| match view.life {
        Life::New => true,
        Life::Created => view.attempt() == 0,
        Life::Running { .. } | Life::Exited(_) => false,
    };
    let begun = mains().any(|view| view.life != Life::New);
    if (!progress.initialized && !begun) || mains().any(first) { "Pending" } else { "Running" }
}

fn addresses(input: &Input<'_>) -> Vec<IpAddr> {
    let host_network = input.pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or_default();
    if host_network {
        return input.node.ips.clone();
    }
    let sandbox = input.observed.pod.as_ref().and_then(|pod| pod.sandbox.as_ref());
    sandbox.map(|sandbox| sandbox.ips.clone()).unwrap_or_default()
}

/// The whole status; what others write into it is kept.
pub(super) fn status(
    input: &Input<'_>,
    views: &[View<'_>],
    progress: &Progress,
    course: Course,
) -> PodStatus {
    let mut status = input.pod.status.clone().unwrap_or_default();
    if never_here(input, course, &mut status) {
        return status;
    }
    let phase = phase(input, views, progress, course);
    let ended = matches!(course, Course::Stop(_)) && stop::ended(views);
    if ended && let Course::Stop(why) = course {
        reason(input, why, &mut status);
    }
    let lost = ended && !matches!(course, Course::Stop(Why::Finished { .. } | Why::Reported));
    let inits = views.iter().any(View::initial);
    let idle = if inits { "PodInitializing" } else { "ContainerCreating" };
    let of = |wanted: fn(&View<'_>) -> bool| -> Option<Vec<ContainerStatus>> {
        let chosen = views.iter().enumerate().filter(|(_, view)| wanted(view));
        let all: Vec<_> = chosen
            .map(|(at, view)| {
                let gate = progress.gates.get(at).unwrap_or(&Gate::Open);
                container(input, view, gate, lost, idle)
            })
            .collect();
        (!all.is_empty()).then_some(all)
    };
    status.init_container_statuses = of(|view| view.initial());
    status.container_statuses = of(|view| view.role == Role::Main);
    status.ephemeral_container_statuses = of(|view| view.role == Role::Ephemeral);
    status.phase = Some(phase.to_owned());
    status.start_time.get_or_insert_with(|| time(input.now));
    status.observed_generation = input.pod.metadata.generation.or(status.observed_generation);
    if let Some(host) = input.node.ips.first() {
        status.host_ip = Some(host.to_string());
        status.host_ips = Some(input.node.ips.iter().map(|ip| HostIP { ip: ip.to_string() }).collect());
    }
    let ips = addresses(input);
    // The addresses of a pod that has ended stay in its status.
    if let Some(first) = ips.first() {
        status.pod_ip = Some(first.to_string());
        status.pod_ips = Some(ips.iter().map(|ip| PodIP { ip: ip.to_string() }).collect());
    }
    conditions::set(input, progress.initialized, &mut status);
    status
}

/// The status of a pod that the node has not taken, or that had ended before it came: there is nothing of
/// it to tell but that.
fn never_here(input: &Input<'_>, course: Course, status: &mut PodStatus) -> bool {
    match (course, &input.memory.rejection) {
        (Course::Stop(Why::Rejected), Some(rejection)) => {
            status.phase = Some("Failed".into());
            status.reason = Some(rejection.reason.clone());
            status.message = Some(format!("Pod was rejected: {}", rejection.message));
            status.start_time.get_or_insert_with(|| time(input.now));
            status.observed_generation = input.pod.metadata.generation.or(status.observed_generation);
            true
        }
        (Course::Stop(Why::Reported), _) => {
            status.container_statuses.is_none() && input.observed.pod.is_none()
        }
        _ => false,
    }
}

fn reason(input: &Input<'_>, why: Why, status: &mut PodStatus) {
    match (why, &input.memory.eviction) {
        (Why::Deadline, _) => {
            status.reason = Some("DeadlineExceeded".into());
            status.message = Some("Pod was active on the node longer than the specified deadline".into());
        }
        (Why::Evicted, Some(eviction)) => {
            status.reason = Some(eviction.reason.clone());
            status.message = Some(eviction.message.clone());
        }
        _ => {}
    }
}
