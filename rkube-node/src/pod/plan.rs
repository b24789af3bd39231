//! The plan: whether the pod goes on or ends, and the next actions.

use jiff::Timestamp;

use super::{
    Action, Input, Plan, containers,
    image::{self, ImageGate},
    later,
    life::{self, Life, View},
    status, stop,
};
use crate::runtime::Role;

/// Where the pod is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// It goes on.
    Run,
    /// It ends.
    Stop(Why),
}

/// Why a pod ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The object is gone.
    Gone,
    /// The object is being deleted.
    Deleted,
    /// It was reported to have ended, which is never taken back.
    Reported,
    /// `activeDeadlineSeconds` are over.
    Deadline,
    /// The agent evicts it.
    Evicted,
    /// The node has not taken it.
    Rejected,
    /// Its containers have ended and are not started again.
    Finished { failed: bool },
}

/// What keeps a container from starting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Gate {
    /// Nothing, or it is not to start.
    #[default]
    Open,
    /// It ended too often: wait.
    CrashLoop { wait: std::time::Duration },
    /// Its image.
    Image { reason: &'static str, message: String },
}

/// How far the containers are.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    pub(super) actions: Vec<Action>,
    /// By the index of the view.
    pub(super) gates: Vec<Gate>,
    /// The init containers are done, the sidecars started.
    pub(super) initialized: bool,
    /// All has ended: with failure, or not.
    pub(super) finished: Option<bool>,
    wake: Option<Timestamp>,
}

impl Progress {
    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |earlier| earlier.min(at)));
    }
}

/// What is to be done for a pod, and what its status is. Pure: the same input gives the same plan.
///
/// ```
/// use k8s_openapi::api::core::v1::Pod;
/// use rkube_node::pod::{Action, Input, Memory, NodeFacts, Observed, plan};
///
/// let pod: Pod = serde_json::from_value(serde_json::json!({
///     "metadata": {"name": "a", "namespace": "default", "uid": "1"},
///     "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "nginx:1.27"}]},
/// })).unwrap();
/// let plan = plan(&Input {
///     pod: &pod,
///     gone: false,
///     observed: &Observed::default(),
///     memory: &Memory::default(),
///     node: &NodeFacts::default(),
///     now: jiff::Timestamp::UNIX_EPOCH,
/// });
/// assert_eq!(plan.actions, [Action::RunSandbox { attempt: 0 }]);
/// assert_eq!(plan.status.phase.as_deref(), Some("Pending"));
/// ```
pub fn plan(input: &Input<'_>) -> Plan {
    let ephemeral = input.pod.spec.as_ref().map(containers::ephemeral).unwrap_or_default();
    let views = life::views(input, &ephemeral);
    let mut progress = progress(input, &views);
    let course = course(input, &progress);
    let mut finished = false;
    if let Course::Stop(why) = course {
        let stopping = stop::stop(input, &views, why);
        (progress.actions, finished) = (stopping.actions, stopping.finished);
        progress.gates.iter_mut().for_each(|gate| *gate = Gate::Open);
        progress.wake = None;
    } else if let Some(deadline) = deadline(input) {
        progress.wake_at(deadline);
    }
    let status = status::status(input, &views, &progress, course);
    Plan { actions: progress.actions, status, wake: progress.wake, finished }
}

fn course(input: &Input<'_>, progress: &Progress) -> Course {
    let phase = input.pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if input.gone {
        return Course::Stop(Why::Gone);
    }
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return Course::Stop(Why::Reported);
    }
    if input.memory.rejection.is_some() {
        return Course::Stop(Why::Rejected);
    }
    if input.memory.eviction.is_some() {
        return Course::Stop(Why::Evicted);
    }
    if deadline(input).is_some_and(|deadline| deadline <= input.now) {
        return Course::Stop(Why::Deadline);
    }
    if input.pod.metadata.deletion_timestamp.is_some() {
        return Course::Stop(Why::Deleted);
    }
    match progress.finished {
        Some(failed) => Course::Stop(Why::Finished { failed }),
        None => Course::Run,
    }
}

/// When `activeDeadlineSeconds` are over.
fn deadline(input: &Input<'_>) -> Option<Timestamp> {
    let seconds = input.pod.spec.as_ref()?.active_deadline_seconds?;
    let start = input.pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let start = start.map_or(input.now, |start| start.0);
    Some(later(start, std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or_default())))
}

/// How far the containers are, and what would bring them further.
fn progress(input: &Input<'_>, views: &[View<'_>]) -> Progress {
    let mut progress = Progress { gates: vec![Gate::Open; views.len()], ..Progress::default() };
    let begun = views.iter().any(|view| view.role == Role::Main && view.life != Life::New);
    let mut wanted: Vec<usize> = Vec::new();
    progress.initialized = true;
    for (index, view) in views.iter().enumerate().filter(|(_, view)| view.initial()) {
        match init(input, view, begun) {
            Init::Done => {}
            Init::Start { and_go_on } => {
                wanted.push(index);
                if !and_go_on {
                    progress.initialized = false;
                    break;
                }
            }
            Init::Wait => {
                progress.initialized = false;
                break;
            }
            Init::Failed => {
                progress.initialized = false;
                progress.finished = Some(true);
                break;
            }
        }
    }
    if input.observed.pod.as_ref().is_some_and(|pod| pod.ready()) {
        // They start whether the pod is initialized or not, once.
        let new = |(_, view): &(usize, &View<'_>)| view.role == Role::Ephemeral && view.life == Life::New;
        wanted.extend(views.iter().enumerate().filter(new).map(|(index, _)| index));
    }
    if progress.initialized {
        mains(input, views, &mut wanted, &mut progress);
    }
    if progress.finished.is_none() {
        replace_unfit(views, input, &mut progress);
        start_all(input, views, &wanted, &mut progress);
    }
    progress
}

enum Init {
    Done,
    Start { and_go_on: bool },
    Wait,
    Failed,
}

fn init(input: &Input<'_>, view: &View<'_>, begun: bool) -> Init {
    match (&view.life, view.role) {
        (Life::Exited(_) | Life::New, Role::Sidecar) => Init::Start { and_go_on: begun },
        (Life::Created, Role::Sidecar) if !begun => Init::Wait,
        (Life::Running { .. }, Role::Sidecar) if !begun && !view.probe.started => Init::Wait,
        (_, Role::Sidecar) => Init::Done,
        // The other containers have begun: initialization was over, whatever is left of it.
        _ if begun => Init::Done,
        (Life::Created | Life::Running { .. }, _) => Init::Wait,
        (Life::New, _) => Init::Start { and_go_on: false },
        (Life::Exited(exit), _) if exit.success() => Init::Done,
        (Life::Exited(exit), _) if view.restarts(input.pod, exit.code) => Init::Start { and_go_on: false },
        (Life::Exited(_), _) => Init::Failed,
    }
}

fn mains(input: &Input<'_>, views: &[View<'_>], wanted: &mut Vec<usize>, progress: &mut Progress) {
    let (mut open, mut failed) = (false, false);
    for (index, view) in views.iter().enumerate().filter(|(_, view)| view.role == Role::Main) {
        match &view.life {
            Life::Exited(exit) if !view.restarts(input.pod, exit.code) => failed |= !exit.success(),
            Life::New | Life::Exited(_) => {
                open = true;
                wanted.push(index);
            }
            Life::Created | Life::Running { .. } => open = true,
        }
    }
    if !open {
        progress.finished = Some(failed);
    }
}

/// Why a running container cannot go on, in the kubelet's words, and whether it is to start again.
fn unfit(input: &Input<'_>, view: &View<'_>) -> Option<(String, bool)> {
    let what = if view.role == Role::Main { "Container" } else { "Init container" };
    // An init container that runs is left alone: it ends by itself.
    let (why, restart) = if view.role != Role::Init && view.changed() {
        ("definition changed", true)
    } else if !view.probe.alive {
        let policy = input.pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        ("failed liveness probe", view.role != Role::Main || policy != Some("Never"))
    } else {
        return None;
    };
    // That a sidecar starts again goes without saying.
    let after = if restart && view.role == Role::Main { ", will be restarted" } else { "" };
    Some((format!("{what} {} {why}{after}", view.name()), restart))
}

/// Containers that fail their probes, or whose image is another by now, are stopped to start anew.
fn replace_unfit(views: &[View<'_>], input: &Input<'_>, progress: &mut Progress) {
    for view in views.iter().filter(|view| view.running() && view.role != Role::Ephemeral) {
        let Some((reason, restart)) = unfit(input, view) else { continue };
        let of_probe = view.spec.liveness_probe.as_ref().filter(|_| !view.probe.alive);
        let grace = of_probe.and_then(|probe| probe.termination_grace_period_seconds);
        let grace = grace.map_or_else(|| stop::grace_of_spec(input.pod), stop::seconds);
        progress.actions.extend(stop::request(input, view, stop::Request { grace, reason, restart }));
    }
}

fn start_all(input: &Input<'_>, views: &[View<'_>], wanted: &[usize], progress: &mut Progress) {
    let mut starts = Vec::new();
    for &index in wanted {
        let Some(view) = views.get(index) else { continue };
        let (gate, look) = match start(input, view) {
            Start::Now(action) => {
                starts.push(action);
                continue;
            }
            Start::Wait => continue,
            Start::Gated { gate, look } => (gate, look),
        };
        progress.gates[index] = gate;
        if let Some(look) = look {
            progress.wake_at(look);
        }
    }
    let sandbox = input.observed.pod.as_ref().and_then(|pod| pod.sandbox.as_ref());
    let blocked =
        wanted.iter().all(|index| progress.gates.get(*index).is_some_and(|gate| *gate != Gate::Open));
    let waits = blocked && sandbox.is_some();
    if sandbox.is_some_and(|sandbox| sandbox.ready) {
        progress.actions.extend(starts);
        progress.actions.extend(outdated(input, views));
    } else if !wanted.is_empty() && !waits {
        let attempt = sandbox.map_or(0, |sandbox| sandbox.attempt + 1);
        progress.actions.push(Action::RunSandbox { attempt });
    }
}

enum Start {
    Now(Action),
    Wait,
    Gated { gate: Gate, look: Option<Timestamp> },
}

fn start(input: &Input<'_>, view: &View<'_>) -> Start {
    let attempt = view.next_attempt();
    let mut restart_after = None;
    if let Life::Exited(exit) = &view.life {
        restart_after = Some(exit.finished_at);
        let backoff = input.memory.of_image(view.name(), view.image()).and_then(|memory| memory.restart);
        let until = backoff.and_then(|backoff| {
            let until = backoff.until(&input.node.backoff, exit.finished_at)?;
            (input.now < until).then_some((backoff.wait, until))
        });
        if let Some((wait, until)) = until {
            return Start::Gated { gate: Gate::CrashLoop { wait }, look: Some(until) };
        }
    }
    let (container, image) = (view.name().to_owned(), view.image().to_owned());
    match image::gate(input, view, attempt) {
        ImageGate::Go => {
            Start::Now(Action::Start { container, role: view.role, attempt, image, restart_after })
        }
        ImageGate::Pull { failed } => Start::Now(Action::Pull { container, attempt, image, failed }),
        ImageGate::Wait => Start::Wait,
        ImageGate::Failed { reason, message, look, .. } => {
            Start::Gated { gate: Gate::Image { reason, message }, look }
        }
    }
}

/// Exited containers that neither the state nor the last state of a status shows.
fn outdated(input: &Input<'_>, views: &[View<'_>]) -> Vec<Action> {
    let all = input.observed.pod.iter().flat_map(|pod| &pod.containers);
    let shown = |container: &&crate::runtime::RuntimeContainer| {
        views.iter().filter(|view| view.name() == &*container.name).any(|view| {
            [view.latest, view.previous].into_iter().flatten().any(|kept| kept.attempt == container.attempt)
        })
    };
    all.filter(|container| !shown(container))
        .map(|container| Action::RemoveContainer { id: container.id.clone() })
        .collect()
}
