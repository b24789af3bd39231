//! Which pods a disruption budget is about, and its condition: what the controller that keeps its status and
//! the eviction that takes from it agree on.
//!
//! ```
//! use k8s_openapi::api::policy::v1::PodDisruptionBudgetStatus;
//! use rkube_api::helpers::disruption;
//! let mut status = PodDisruptionBudgetStatus { disruptions_allowed: Some(1), ..Default::default() };
//! assert!(disruption::set_condition(&mut status, jiff::Timestamp::UNIX_EPOCH));
//! assert_eq!(status.conditions.unwrap()[0].reason, "SufficientPods");
//! ```

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::Pod,
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time},
};

use crate::meta::{LabelSelector, conditions};

/// The type of the condition that tells whether a disruption is allowed.
pub const ALLOWED: &str = "DisruptionAllowed";

/// Whether the budget is about a pod. An absent selector, or one that makes no sense, is about none, an empty
/// one about every pod of the namespace.
pub fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    selects(budget, &pod.metadata)
}

/// As [`covers`], by the pod's metadata or that of a template.
pub fn selects(budget: &PodDisruptionBudget, meta: &ObjectMeta) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    budget.metadata.namespace == meta.namespace
        && LabelSelector::from_api(selector).is_ok_and(|selector| selector.matches_opt(meta.labels.as_ref()))
}

/// Says in the condition what `disruptions_allowed` says; whether that changed anything.
pub fn set_condition(status: &mut PodDisruptionBudgetStatus, now: Timestamp) -> bool {
    let allowed = status.disruptions_allowed.unwrap_or(0) > 0;
    let (state, reason) = if allowed { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    put_condition(status, state, reason, String::new(), now)
}

/// Says in the condition that the status could not be found out, and so allows no disruption; whether that
/// changed anything.
pub fn set_failed(status: &mut PodDisruptionBudgetStatus, why: String, now: Timestamp) -> bool {
    let allowed = status.disruptions_allowed.replace(0) != Some(0);
    put_condition(status, "False", "SyncFailed", why, now) || allowed
}

fn put_condition(
    status: &mut PodDisruptionBudgetStatus,
    state: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> bool {
    let condition = Condition {
        type_: ALLOWED.into(),
        status: state.into(),
        reason: reason.into(),
        message,
        observed_generation: status.observed_generation,
        last_transition_time: Time(now),
    };
    conditions::set(status.conditions.get_or_insert_default(), condition, now)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whom_it_is_about() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"namespace": "a", "labels": {"app": "web"}}}))
                .unwrap();
        let about = |namespace: &str, spec: serde_json::Value| {
            let budget = json!({"metadata": {"namespace": namespace}, "spec": spec});
            covers(&serde_json::from_value(budget).unwrap(), &pod)
        };
        let web = json!({"selector": {"matchLabels": {"app": "web"}}});
        assert!(about("a", web.clone()));
        assert!(!about("b", web));
        assert!(!about("a", json!({"selector": {"matchLabels": {"app": "db"}}})));
        assert!(about("a", json!({"selector": {}})) && !about("a", json!({})));
        let senseless = json!({"selector": {"matchExpressions": [{"key": "app", "operator": "Likes"}]}});
        assert!(!about("a", senseless));
    }
}
