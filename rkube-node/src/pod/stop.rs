//! The end of a pod: containers, then sidecars in reverse order, then the sandbox, then the object.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::{
    Action, Input,
    life::{Life, View},
    plan::Why,
};
use crate::runtime::Role;

/// What Kubernetes gives a pod that does not say.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// What a sidecar gets even if the containers have used up the grace (KEP-753).
const SIDECAR_GRACE: Duration = Duration::from_secs(2);

/// The next actions towards the end.
#[derive(Debug, Default)]
pub(super) struct Stopping {
    pub(super) actions: Vec<Action>,
    /// Nothing is left at all.
    pub(super) finished: bool,
}

pub(super) fn seconds(seconds: i64) -> Duration {
    // A grace of zero would be no request at all.
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default().max(1))
}

pub(super) fn grace_of_spec(pod: &Pod) -> Duration {
    let asked = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    asked.map_or(DEFAULT_GRACE, seconds)
}

fn grace(input: &Input<'_>, why: Why) -> Duration {
    let of_deletion = input.pod.metadata.deletion_grace_period_seconds.map(seconds);
    match why {
        Why::Evicted => {
            let asked = input.memory.eviction.as_ref().and_then(|eviction| eviction.grace);
            asked.unwrap_or_else(|| grace_of_spec(input.pod))
        }
        Why::Gone | Why::Deleted | Why::Reported => of_deletion.unwrap_or_else(|| grace_of_spec(input.pod)),
        Why::Deadline | Why::Rejected | Why::Finished { .. } => {
            let own = grace_of_spec(input.pod);
            of_deletion.map_or(own, |asked| asked.min(own))
        }
    }
}

/// How a container is to be stopped.
pub(super) struct Request {
    pub(super) grace: Duration,
    /// For people.
    pub(super) reason: String,
    /// It starts again afterwards.
    pub(super) restart: bool,
}

/// A request to stop, unless one that ends no later was made.
pub(super) fn request(input: &Input<'_>, view: &View<'_>, how: Request) -> Option<Action> {
    let Request { grace, reason, restart } = how;
    let latest = view.latest?;
    let made = input.memory.container(view.name()).and_then(|memory| memory.stop);
    let deadline = super::later(input.now, grace);
    if made.is_some_and(|made| made.attempt == latest.attempt && made.deadline <= deadline) {
        return None;
    }
    Some(Action::Stop {
        container: view.name().to_owned(),
        id: latest.id.clone(),
        attempt: latest.attempt,
        grace,
        restart,
        reason,
    })
}

fn stop_containers(input: &Input<'_>, views: &[View<'_>], grace: Duration) -> Option<Vec<Action>> {
    let stop = |view: &View<'_>, grace| {
        let reason = format!("Stopping container {}", view.name());
        request(input, view, Request { grace, reason, restart: false })
    };
    let alive = |view: &&View<'_>| view.alive();
    let first: Vec<&View<'_>> =
        views.iter().filter(|view| view.role != Role::Sidecar).filter(alive).collect();
    if !first.is_empty() {
        return Some(first.iter().filter_map(|view| stop(view, grace)).collect());
    }
    let last = views.iter().rev().filter(|view| view.role == Role::Sidecar).find(alive)?;
    let left = left(input, views).map_or(grace, |left| left.clamp(SIDECAR_GRACE, grace.max(SIDECAR_GRACE)));
    Some(stop(last, left).into_iter().collect())
}

/// What is left of the grace that the other containers got.
fn left(input: &Input<'_>, views: &[View<'_>]) -> Option<Duration> {
    let deadline: Option<Timestamp> = views
        .iter()
        .filter(|view| view.role != Role::Sidecar)
        .filter_map(|view| Some((view, input.memory.container(view.name())?.stop?)))
        .filter(|(view, stop)| view.latest.is_some_and(|latest| latest.attempt == stop.attempt))
        .map(|(_, stop)| stop.deadline)
        .max();
    deadline.map(|deadline| Duration::try_from(deadline.duration_since(input.now)).unwrap_or_default())
}

pub(super) fn stop(input: &Input<'_>, views: &[View<'_>], why: Why) -> Stopping {
    if let Some(actions) = stop_containers(input, views, grace(input, why)) {
        return Stopping { actions, finished: false };
    }
    let act = |action| Stopping { actions: vec![action], finished: false };
    let runtime = input.observed.pod.as_ref();
    if why == Why::Gone {
        return match runtime {
            Some(_) => act(Action::RemovePod),
            None => Stopping { finished: true, ..Stopping::default() },
        };
    }
    if runtime.is_some_and(|pod| pod.ready()) {
        return act(Action::StopSandbox);
    }
    let meta = &input.pod.metadata;
    // With a grace of zero the API has deleted it, or finalizers hold it: there is nothing to add.
    if meta.deletion_timestamp.is_some() && meta.deletion_grace_period_seconds != Some(0) {
        return act(Action::DeleteObject);
    }
    Stopping::default()
}

/// Whether every container that is to end has ended.
pub(super) fn ended(views: &[View<'_>]) -> bool {
    views.iter().all(|view| matches!(view.life, Life::New | Life::Exited(_)))
}
