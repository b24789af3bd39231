//! Devices that are made ready for the node that was chosen, before the pod is bound (KEP-5007): whoever does so
//! says how it goes in the claim's status.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::resource::v1::{
    AllocatedDeviceStatus, AllocationResult, DeviceRequestAllocationResult, ResourceClaim,
};

/// How far the devices of a claim are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// All its binding conditions are true; it may have none.
    Ready,
    Pending,
    /// A failure condition is true: why, in kube-scheduler's words.
    Failed(String),
}

fn items<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}

/// The devices of an allocation that are to be waited for.
fn awaited(allocation: &AllocationResult) -> impl Iterator<Item = &DeviceRequestAllocationResult> {
    let results = allocation.devices.iter().flat_map(|devices| items(&devices.results));
    results.filter(|result| !items(&result.binding_conditions).is_empty())
}

/// Whether some device of an allocation has to be made ready.
pub(super) fn has_conditions(allocation: &AllocationResult) -> bool {
    awaited(allocation).next().is_some()
}

pub(super) fn readiness(claim: &ResourceClaim) -> Readiness {
    let Some(status) = &claim.status else { return Readiness::Pending };
    let Some(allocation) = &status.allocation else { return Readiness::Pending };
    for result in awaited(allocation) {
        // As in kube-scheduler, all shares of a device are ready together.
        let is_it = |it: &&AllocatedDeviceStatus| {
            (&it.driver, &it.pool, &it.device) == (&result.driver, &result.pool, &result.device)
        };
        let Some(device) = items(&status.devices).iter().find(is_it) else { return Readiness::Pending };
        let find = |type_: &String| {
            items(&device.conditions).iter().find(|it| it.type_ == *type_ && it.status == "True")
        };
        if let Some(failed) = items(&result.binding_failure_conditions).iter().find_map(find) {
            let name = claim.metadata.name.as_deref().unwrap_or_default();
            let (reason, message) = (&failed.reason, &failed.message);
            return Readiness::Failed(format!(
                "claim {name} binding failed: reason={reason}, message={message:?}"
            ));
        }
        if !items(&result.binding_conditions).iter().all(|type_| find(type_).is_some()) {
            return Readiness::Pending;
        }
    }
    Readiness::Ready
}

/// Whether a claim has waited for its devices for too long.
pub(super) fn is_overdue(claim: &ResourceClaim, patience: Duration, now: Timestamp) -> bool {
    let allocation = claim.status.as_ref().and_then(|status| status.allocation.as_ref());
    allocation.filter(|allocation| has_conditions(allocation)).is_some_and(|allocation| {
        let since = allocation.allocation_timestamp.as_ref();
        since.is_some_and(|since| since.0.checked_add(patience).is_ok_and(|end| end < now))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(conditions: Value) -> ResourceClaim {
        let name = json!({"driver": "d", "pool": "p", "device": "x"});
        let (mut result, mut device) = (name.clone(), name);
        result["request"] = json!("r");
        result["bindingConditions"] = json!(["Attached", "Ready"]);
        result["bindingFailureConditions"] = json!(["Broken"]);
        device["conditions"] = conditions;
        let allocation =
            json!({"devices": {"results": [result]}, "allocationTimestamp": "2026-01-01T00:00:00Z"});
        let status = json!({"allocation": allocation, "devices": [device]});
        serde_json::from_value(json!({"metadata": {"name": "c"}, "spec": {}, "status": status})).unwrap()
    }

    fn said(type_: &str, status: &str) -> Value {
        json!({"type": type_, "status": status, "reason": "R", "message": "a \"b\"", "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    #[test]
    fn a_claim_is_ready_once_all_conditions_are_true_and_none_says_that_it_failed() {
        let of = |conditions: Value| readiness(&claim(conditions));
        assert_eq!(of(json!([])), Readiness::Pending);
        assert_eq!(of(json!([said("Attached", "True"), said("Ready", "False")])), Readiness::Pending);
        let both = [said("Attached", "True"), said("Ready", "True")];
        assert_eq!(of(json!(both)), Readiness::Ready);
        let text = "claim c binding failed: reason=R, message=\"a \\\"b\\\"\"";
        assert_eq!(of(json!([both[0], both[1], said("Broken", "True")])), Readiness::Failed(text.into()));
        assert_eq!(of(json!([both[0], both[1], said("Broken", "False")])), Readiness::Ready);
        let mut unknown = claim(json!(both));
        unknown.status.as_mut().unwrap().devices = None;
        assert_eq!(readiness(&unknown), Readiness::Pending, "nobody has said anything");
        unknown.status.as_mut().unwrap().allocation = Some(AllocationResult::default());
        assert_eq!(readiness(&unknown), Readiness::Ready, "nothing has to be made ready");
    }

    #[test]
    fn patience_ends_after_the_allocation() {
        let patience = Duration::from_secs(60);
        let at = |time: &str| is_overdue(&claim(json!([])), patience, time.parse().unwrap());
        assert!(!at("2026-01-01T00:01:00Z"));
        assert!(at("2026-01-01T00:01:01Z"));
    }
}
