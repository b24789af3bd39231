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

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};

use crate::meta::{LabelSelector, conditions};

/// The type of the condition that tells whether a disruption is allowed.
pub const ALLOWED: &str = "DisruptionAllowed";

/// Whether the budget is about pods of its namespace with these labels. An absent selector, or one that makes
/// no sense, is about none, an empty one about all.
pub fn selects(budget: &PodDisruptionBudget, labels: Option<&BTreeMap<String, String>>) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    LabelSelector::from_api(selector).is_ok_and(|selector| selector.matches_opt(labels))
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
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let about = |spec: serde_json::Value| {
            let budget = json!({"metadata": {}, "spec": spec});
            selects(&serde_json::from_value(budget).unwrap(), Some(&labels))
        };
        assert!(about(json!({"selector": {"matchLabels": {"app": "web"}}})));
        assert!(!about(json!({"selector": {"matchLabels": {"app": "db"}}})));
        assert!(about(json!({"selector": {}})) && !about(json!({})));
        assert!(!about(json!({"selector": {"matchExpressions": [{"key": "app", "operator": "Likes"}]}})));
    }
}
