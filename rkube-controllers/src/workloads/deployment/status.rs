//! What a deployment's status says, and when a rollout is complete, moving or stuck.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet, ReplicaSetCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use rkube_api::meta::conditions;

use super::size::{self, max_unavailable, replicas, size};
use crate::facts::nonzero;

pub(crate) const AVAILABLE: &str = "Available";
pub(crate) const PROGRESSING: &str = "Progressing";
pub(crate) const REPLICA_FAILURE: &str = "ReplicaFailure";
pub(crate) const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
pub(crate) const TIMED_OUT: &str = "ProgressDeadlineExceeded";
pub(crate) const PAUSED: &str = "DeploymentPaused";
pub(crate) const RESUMED: &str = "DeploymentResumed";

/// The deadline, unless it is absent or so large that it stands for none.
pub(crate) fn progress_deadline(deployment: &Deployment) -> Option<Duration> {
    let seconds = deployment.spec.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX)?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// A condition that begins now.
pub(crate) fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: &Time,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(kind.into()),
        status: Some(status.into()),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(now.clone()),
        last_transition_time: Some(now.clone()),
    }
}

/// The condition of a type.
pub(crate) fn get<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    conditions::get(status.conditions.as_deref().unwrap_or_default(), kind)
}

/// Whether the condition of a type has this reason.
pub(crate) fn has_reason(status: &DeploymentStatus, kind: &str, reason: &str) -> bool {
    get(status, kind).is_some_and(|condition| condition.reason.as_deref() == Some(reason))
}

/// Puts a condition in. One of the same status and reason stays as it is, with its times.
pub(crate) fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    let kind = condition.type_.clone().unwrap_or_default();
    if let Some(old) = get(status, &kind) {
        if old.status == condition.status && old.reason == condition.reason {
            return;
        }
        if old.status == condition.status {
            condition.last_transition_time.clone_from(&old.last_transition_time);
        }
    }
    remove(status, &kind);
    status.conditions.get_or_insert_default().push(condition);
}

/// Takes a condition out.
pub(crate) fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(list) = &mut status.conditions {
        conditions::remove(list, kind);
    }
    status.conditions = status.conditions.take().filter(|list| !list.is_empty());
}

fn sum(sets: &[&ReplicaSet], count: impl Fn(&ReplicaSet) -> i32) -> i32 {
    size::sum(sets.iter().map(|set| count(set)))
}

/// How many pods of a set are available.
pub(crate) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// How many available pods of a set are to stay.
pub(crate) fn staying(set: &ReplicaSet) -> i32 {
    available(set).min(size(set))
}

/// Whether a set's status is of an earlier spec.
pub(crate) fn is_behind(set: &ReplicaSet) -> bool {
    set.metadata.generation > set.status.as_ref().and_then(|status| status.observed_generation)
}

/// How many pods a set has.
pub(crate) fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

/// The counts and the condition Available, over what the status said before.
pub(crate) fn counted(
    deployment: &Deployment,
    all: &[&ReplicaSet],
    new: Option<&ReplicaSet>,
    now: &Time,
) -> DeploymentStatus {
    let before = deployment.status.clone().unwrap_or_default();
    let ready = |set: &ReplicaSet| set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    let terminating: Vec<i32> =
        all.iter().filter_map(|set| set.status.as_ref()?.terminating_replicas).collect();
    let available_count = sum(all, available);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: nonzero(sum(all, actual)),
        updated_replicas: nonzero(new.map_or(0, actual)),
        ready_replicas: nonzero(sum(all, ready)),
        available_replicas: nonzero(available_count),
        unavailable_replicas: nonzero(sum(all, size).saturating_sub(available_count).max(0)),
        collision_count: before.collision_count,
        terminating_replicas: (terminating.len() == all.len()).then(|| size::sum(terminating)),
        conditions: before.conditions,
    };
    let enough = available_count >= replicas(deployment) - max_unavailable(deployment);
    let (value, reason, message) = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut status, condition(AVAILABLE, value, reason, message.into(), now));
    status
}

/// Whether all pods asked for exist, are of the newest template, and are available.
pub(crate) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = replicas(deployment);
    status.updated_replicas.unwrap_or(0) == wanted
        && status.replicas.unwrap_or(0) == wanted
        && status.available_replicas.unwrap_or(0) == wanted
        && status.observed_generation >= deployment.metadata.generation
}

/// Whether the status shows a step forward.
fn is_moving(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let outdated = |status: &DeploymentStatus| {
        status.replicas.unwrap_or(0).saturating_sub(status.updated_replicas.unwrap_or(0))
    };
    new.updated_replicas > old.updated_replicas
        || outdated(new) < outdated(old)
        || new.ready_replicas > old.ready_replicas
        || new.available_replicas > old.available_replicas
}

/// How long until the deadline, zero once it has passed; `None` if nothing is being waited for.
fn time_left(deployment: &Deployment, progressing: &DeploymentCondition, now: &Time) -> Option<Duration> {
    let deadline = progress_deadline(deployment)?;
    let from = progressing.last_update_time.as_ref()?;
    let end = from.0.checked_add(SignedDuration::try_from(deadline).ok()?).ok()?;
    Some(Duration::try_from(end.duration_since(now.0)).unwrap_or(Duration::ZERO))
}

fn is_timed_out(deployment: &Deployment, status: &DeploymentStatus, now: &Time) -> bool {
    let Some(progressing) = get(status, PROGRESSING) else { return false };
    match progressing.reason.as_deref() {
        Some(NEW_SET_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => time_left(deployment, progressing, now).is_some_and(|left| left.is_zero()),
    }
}

/// The whole status while a rollout goes on.
pub(crate) fn rolling(
    deployment: &Deployment,
    all: &[&ReplicaSet],
    new: Option<&ReplicaSet>,
    now: &Time,
) -> DeploymentStatus {
    let old = deployment.status.clone().unwrap_or_default();
    let mut status = counted(deployment, all, new, now);
    if progress_deadline(deployment).is_none() {
        remove(&mut status, PROGRESSING);
    }
    let done_before =
        status.replicas == status.updated_replicas && has_reason(&old, PROGRESSING, NEW_SET_AVAILABLE);
    if progress_deadline(deployment).is_some() && !done_before {
        progress(deployment, &old, &mut status, new, now);
    }
    match failure(all, new) {
        Some(failure) => set(&mut status, failure),
        None => remove(&mut status, REPLICA_FAILURE),
    }
    status
}

fn progress(
    deployment: &Deployment,
    old: &DeploymentStatus,
    status: &mut DeploymentStatus,
    new: Option<&ReplicaSet>,
    now: &Time,
) {
    let name = |set: &ReplicaSet| set.metadata.name.clone().unwrap_or_default();
    let subject = new.map_or_else(
        || format!("Deployment {:?}", deployment.metadata.name.as_deref().unwrap_or_default()),
        |set| format!("ReplicaSet {:?}", name(set)),
    );
    if is_complete(deployment, status) {
        let message = format!("{subject} has successfully progressed.");
        set(status, condition(PROGRESSING, "True", NEW_SET_AVAILABLE, message, now));
    } else if is_moving(old, status) {
        let message = format!("{subject} is progressing.");
        let mut moving = condition(PROGRESSING, "True", "ReplicaSetUpdated", message, now);
        // Each step forward restarts the deadline, so the update time moves even if nothing else does.
        if let Some(before) = get(old, PROGRESSING).filter(|before| before.status == moving.status) {
            moving.last_transition_time.clone_from(&before.last_transition_time);
        }
        remove(status, PROGRESSING);
        set(status, moving);
    } else if is_timed_out(deployment, status, now) {
        let message = format!("{subject} has timed out progressing.");
        set(status, condition(PROGRESSING, "False", TIMED_OUT, message, now));
    }
}

/// What keeps a replica set from making pods, the newest one's first.
fn failure(all: &[&ReplicaSet], new: Option<&ReplicaSet>) -> Option<DeploymentCondition> {
    let of = |set: &ReplicaSet| {
        let list = set.status.as_ref()?.conditions.as_deref()?;
        conditions::get::<ReplicaSetCondition>(list, REPLICA_FAILURE).cloned()
    };
    let found = new.and_then(of).or_else(|| all.iter().find_map(|set| of(set)))?;
    Some(DeploymentCondition {
        type_: found.type_,
        status: found.status,
        reason: found.reason,
        message: found.message,
        last_update_time: found.last_transition_time.clone(),
        last_transition_time: found.last_transition_time,
    })
}

/// When to look again at a rollout that may get stuck.
pub(crate) fn look_again(deployment: &Deployment, status: &DeploymentStatus, now: &Time) -> Option<Duration> {
    let progressing = get(status, PROGRESSING)?;
    let over = is_complete(deployment, status)
        || matches!(progressing.reason.as_deref(), Some(TIMED_OUT | NEW_SET_AVAILABLE));
    if over {
        return None;
    }
    // Times are whole seconds: a second more makes sure that the deadline has passed.
    Some(time_left(deployment, progressing, now)? + Duration::from_secs(1))
}
