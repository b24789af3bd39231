//! When a pod that was to be disrupted is no more to be.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use rkube_api::{helpers::pod as pods, meta::conditions};

use crate::facts;

/// How long after the condition its pod may go on without being deleted: Kubernetes' figure.
pub const TIMEOUT: SignedDuration = SignedDuration::from_secs(120);

const DISRUPTION_TARGET: &str = "DisruptionTarget";

/// How long until the condition `DisruptionTarget` of a pod that lives on is stale; `None` if it never is: the
/// pod goes, has ended, or its node agent ends it, which may take any time.
pub fn until_stale(pod: &Pod, now: Timestamp) -> Option<Duration> {
    if pods::is_deleting(pod) || pods::is_terminal(pod) {
        return None;
    }
    let condition = conditions::get(pods::conditions_of(pod), DISRUPTION_TARGET)?;
    if condition.status != "True" || condition.reason.as_deref() == Some("TerminationByKubelet") {
        return None;
    }
    let since = condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let end = since.checked_add(TIMEOUT).unwrap_or(Timestamp::MAX);
    Some(Duration::try_from(end.duration_since(now)).unwrap_or_default())
}

/// The pod without the mark; `None` if it has none.
pub(super) fn unmarked(pod: &Pod, now: &Time) -> Option<Pod> {
    let condition =
        PodCondition { type_: DISRUPTION_TARGET.into(), status: "False".into(), ..PodCondition::default() };
    facts::with_condition(pod, condition, now)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn left(phase: &str, condition: Value) -> Option<u64> {
        let pod = json!({"metadata": {}, "status": {"phase": phase, "conditions": [condition]}});
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        until_stale(&serde_json::from_value(pod).unwrap(), now).map(|left| left.as_secs())
    }

    #[test]
    fn two_minutes_of_a_pod_that_lives_on() {
        let marked = |status: &str, reason: &str, time: &str| json!({"type": "DisruptionTarget", "status": status, "reason": reason, "lastTransitionTime": time});
        let evicted = marked("True", "EvictionByEvictionAPI", "2026-01-01T00:00:00Z");
        assert_eq!(left("Running", evicted.clone()), Some(60));
        assert_eq!(left("Pending", marked("True", "PreemptionByScheduler", "2025-12-31T23:00:00Z")), Some(0));
        assert_eq!(left("Failed", evicted), None);
        assert_eq!(left("Running", marked("False", "", "2026-01-01T00:00:00Z")), None);
        assert_eq!(left("Running", marked("True", "TerminationByKubelet", "2026-01-01T00:00:00Z")), None);
    }
}
