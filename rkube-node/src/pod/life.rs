//! A container's life as far as it can be told: from the runtime, or, where that has forgotten, from the
//! status that was reported.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerState as ApiState, ContainerStatus, Pod};

use super::Input;
use crate::runtime::{ContainerState, Exit, Probe, Role, RuntimeContainer};

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It was never started.
    New,
    /// It is being started.
    Created,
    /// It runs.
    Running { since: Timestamp },
    /// It has ended.
    Exited(Exit),
}

/// One container of the pod: what is asked for, and what is.
#[derive(Clone, Debug)]
pub(super) struct View<'a> {
    pub(super) spec: &'a Container,
    pub(super) role: Role,
    pub(super) life: Life,
    /// The newest container of the runtime.
    pub(super) latest: Option<&'a RuntimeContainer>,
    /// The one before it, if the runtime still has it.
    pub(super) previous: Option<&'a RuntimeContainer>,
    /// What was last reported.
    pub(super) old: Option<&'a ContainerStatus>,
    pub(super) probe: Probe,
    /// The agent stopped it so that it starts again.
    pub(super) replaced: bool,
}

impl View<'_> {
    pub(super) fn name(&self) -> &str {
        &self.spec.name
    }

    /// It runs, or is about to.
    pub(super) fn alive(&self) -> bool {
        matches!(self.life, Life::Created | Life::Running { .. })
    }

    /// Init container or sidecar.
    pub(super) fn initial(&self) -> bool {
        matches!(self.role, Role::Init | Role::Sidecar)
    }

    pub(super) fn running(&self) -> bool {
        matches!(self.life, Life::Running { .. })
    }

    pub(super) fn image(&self) -> &str {
        self.spec.image.as_deref().unwrap_or_default()
    }

    /// It was started with another image than the spec has by now.
    pub(super) fn changed(&self) -> bool {
        self.latest.is_some_and(|latest| *latest.image != *self.image())
    }

    /// How often it was started before the start that is being looked at.
    pub(super) fn attempt(&self) -> u32 {
        let reported = self.old.map_or(0, |old| u32::try_from(old.restart_count).unwrap_or_default());
        self.latest.map_or(reported, |latest| latest.attempt.max(reported))
    }

    /// The number of its next start.
    pub(super) fn next_attempt(&self) -> u32 {
        if self.life == Life::New { self.attempt() } else { self.attempt() + 1 }
    }

    /// Whether it is to be started again after an end with this code.
    pub(super) fn restarts(&self, pod: &Pod, code: i32) -> bool {
        if self.role == Role::Sidecar || self.replaced {
            return true;
        }
        let rules = self.spec.restart_policy_rules.iter().flatten();
        let mut matching = rules.filter(|rule| {
            rule.exit_codes.as_ref().is_some_and(|on| {
                let listed = on.values.iter().flatten().any(|value| *value == code);
                listed == (on.operator == "In")
            })
        });
        if matching.any(|rule| rule.action == "Restart") {
            return true;
        }
        let of_pod = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        match (self.spec.restart_policy.as_deref().or(of_pod).unwrap_or("Always"), self.role) {
            ("Never", _) => false,
            // An init container that ended well is done, whatever the policy.
            ("OnFailure", _) | (_, Role::Init) => code != 0,
            _ => true,
        }
    }
}

/// A lost container: it was to run, or was reported to run, and the runtime has none.
pub(super) fn lost(since: Option<Timestamp>, now: Timestamp) -> Exit {
    Exit {
        started_at: since,
        finished_at: now,
        code: 137,
        reason: Some("ContainerStatusUnknown".into()),
        message: Some("The container could not be located when the pod was terminated".into()),
    }
}

fn reported_exit(state: &ApiState, now: Timestamp) -> Option<Exit> {
    let ended = state.terminated.as_ref()?;
    Some(Exit {
        started_at: ended.started_at.as_ref().map(|time| time.0),
        finished_at: ended.finished_at.as_ref().map_or(now, |time| time.0),
        code: ended.exit_code,
        reason: ended.reason.as_deref().map(Into::into),
        message: ended.message.as_deref().map(Into::into),
    })
}

fn reported(old: Option<&ContainerStatus>, now: Timestamp) -> Life {
    let Some(old) = old else { return Life::New };
    let last = old.last_state.as_ref().and_then(|last| reported_exit(last, now));
    match &old.state {
        Some(state) if state.running.is_some() => {
            let since = state.running.as_ref().and_then(|running| running.started_at.as_ref());
            Life::Exited(lost(since.map(|time| time.0), now))
        }
        Some(state) => reported_exit(state, now).or(last).map_or(Life::New, Life::Exited),
        None => last.map_or(Life::New, Life::Exited),
    }
}

fn view<'a>(input: &Input<'a>, spec: &'a Container, role: Role, olds: &'a [ContainerStatus]) -> View<'a> {
    let old = olds.iter().find(|old| old.name == spec.name);
    let mut all: Vec<&RuntimeContainer> = input
        .observed
        .pod
        .iter()
        .flat_map(|pod| &pod.containers)
        .filter(|container| *container.name == *spec.name)
        .collect();
    all.sort_by_key(|container| container.attempt);
    let (latest, previous) = (all.pop(), all.pop());
    let life = match latest.map(|latest| &latest.state) {
        Some(ContainerState::Created) => Life::Created,
        Some(ContainerState::Running { since }) => Life::Running { since: *since },
        Some(ContainerState::Exited(exit)) => Life::Exited(exit.clone()),
        None => reported(old, input.now),
    };
    let stop = input.memory.container(&spec.name).and_then(|memory| memory.stop);
    let replaced =
        stop.zip(latest).is_some_and(|(stop, latest)| stop.restart && stop.attempt == latest.attempt);
    View { spec, role, life, latest, previous, old, probe: input.observed.probe(&spec.name), replaced }
}

/// The pod's containers: init containers and sidecars first, each group in the order of the spec.
/// `ephemeral` are the ephemeral containers as containers; they come last.
pub(super) fn views<'a>(input: &Input<'a>, ephemeral: &'a [Container]) -> Vec<View<'a>> {
    let Some(spec) = &input.pod.spec else { return Vec::new() };
    let status = input.pod.status.as_ref();
    let inits_reported =
        status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    let ephemeral_reported =
        status.and_then(|status| status.ephemeral_container_statuses.as_deref()).unwrap_or_default();
    let mains_reported = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let inits = spec.init_containers.iter().flatten().map(|container| {
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        let role = if sidecar { Role::Sidecar } else { Role::Init };
        view(input, container, role, inits_reported)
    });
    let mains = spec.containers.iter().map(|container| view(input, container, Role::Main, mains_reported));
    let ephemeral =
        ephemeral.iter().map(|container| view(input, container, Role::Ephemeral, ephemeral_reported));
    inits.chain(mains).chain(ephemeral).collect()
}
