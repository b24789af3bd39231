//! What the disruption budgets of a namespace say to an eviction.
//! <https://kubernetes.io/docs/tasks/run-application/configure-pdb/>

use k8s_openapi::{
    api::{
        core::v1::Pod,
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::{
    error::{ApiError, Cause},
    helpers::{disruption, pod as pods},
    object::Object,
    pipeline::{Call, rewrite},
};

/// So many pods that are about to go a budget lists at most: Kubernetes' figure.
const MAX_DISRUPTED: usize = 2000;
/// So many seconds later to come again, where the controller has yet to look: Kubernetes' figure.
const SOON: u32 = 10;
const VIOLATED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// What the budgets allow.
pub(super) enum Allowed {
    /// The pod may go: no budget is about it, or one has given a disruption.
    Freely,
    /// It may go as it is now, unhealthy: it doesn't count for the budget of this name.
    Unhealthy(String),
}

/// Asks the budgets of a pod, and takes a disruption of the one that guards it. A dry run takes none.
pub(super) async fn ask(call: &Call<'_>, pod: &Pod, dry_run: bool) -> Result<Allowed, ApiError> {
    loop {
        let mut budgets = call.server.reader().list::<PodDisruptionBudget>(call.namespace()).await?;
        budgets.retain(|budget| disruption::selects(budget, pod.metadata.labels.as_ref()));
        let budget = match budgets.as_slice() {
            [] => return Ok(Allowed::Freely),
            [budget] => budget,
            _ => return Err(several()),
        };
        let name = budget.metadata.name.as_deref().unwrap_or_default();
        if spares(budget, pod) {
            return Ok(Allowed::Unhealthy(name.to_owned()));
        }
        let Some(mut write) = call.beside("policy", "poddisruptionbudgets", name) else {
            return Ok(Allowed::Freely);
        };
        write.options.dry_run = dry_run;
        let (evicted, now) = (call.name(), call.server.context().clock.now());
        match rewrite(&write, |object| taken(object, evicted, &now)).await {
            Ok(_) => return Ok(Allowed::Freely),
            // It went in between: the others are asked.
            Err(ApiError::NotFound { .. }) => {}
            Err(ApiError::Conflict { .. }) => {
                let message =
                    format!("Timeout: couldn't update PodDisruptionBudget {name:?} due to conflicts");
                return Err(ApiError::Timeout { message });
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether the pod may go without a disruption being taken: it is unhealthy, and the budget lets those go,
/// always or as long as enough others are healthy.
fn spares(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    if pods::is_ready(pod) {
        return false;
    }
    let policy = budget.spec.as_ref().and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref());
    let status = budget.status.as_ref();
    let healthy = status.and_then(|status| status.current_healthy).unwrap_or(0);
    let desired = status.and_then(|status| status.desired_healthy).unwrap_or(0);
    policy == Some("AlwaysAllow") || (desired > 0 && healthy >= desired)
}

fn taken(object: &Object, pod: &str, now: &Time) -> Result<Object, ApiError> {
    let mut object = object.clone();
    let Some(budget) = object.as_kind_mut::<PodDisruptionBudget>() else {
        return Err(ApiError::internal("a disruption budget is stored as another kind"));
    };
    take(budget, pod, now)?;
    Ok(object)
}

/// Takes a disruption for a pod, or says why there is none. The pod is listed, so that the controller doesn't
/// count it before it is seen to go. Pure.
fn take(budget: &mut PodDisruptionBudget, pod: &str, now: &Time) -> Result<(), ApiError> {
    let name = budget.metadata.name.clone().unwrap_or_default();
    let status = budget.status.get_or_insert_default();
    if status.observed_generation.unwrap_or(0) < budget.metadata.generation.unwrap_or(0) {
        return Err(unknown_yet(&name));
    }
    let left = status.disruptions_allowed.unwrap_or(0);
    if left < 0 {
        return Err(forbidden(&name, "pdb disruptions allowed is negative"));
    }
    if status.disrupted_pods.as_ref().is_some_and(|pods| pods.len() > MAX_DISRUPTED) {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(forbidden(&name, why));
    }
    if left == 0 {
        return Err(exhausted(&name, status));
    }
    status.disruptions_allowed = Some(left - 1);
    if left == 1 {
        disruption::set_condition(status, now.0);
    }
    status.disrupted_pods.get_or_insert_default().insert(pod.to_owned(), now.clone());
    Ok(())
}

/// 429: the controller has yet to see the budget, or the pod, as it is.
pub(super) fn unknown_yet(name: &str) -> ApiError {
    let why = format!("The disruption budget {name} is still being processed by the server.");
    violated(SOON, why)
}

/// 429, without a time to come again: nobody knows it, and clients that follow it by themselves would hide
/// from their users what they wait for.
fn exhausted(name: &str, status: &PodDisruptionBudgetStatus) -> ApiError {
    let (desired, healthy) = (status.desired_healthy.unwrap_or(0), status.current_healthy.unwrap_or(0));
    let why =
        format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently");
    violated(0, why)
}

fn violated(retry_after: u32, why: String) -> ApiError {
    let causes = vec![Cause::new("DisruptionBudget", "", why)];
    ApiError::TooManyRequests { message: VIOLATED.into(), retry_after, causes }
}

fn forbidden(name: &str, why: &str) -> ApiError {
    ApiError::Forbidden {
        group: "policy".into(),
        resource: "poddisruptionbudget".into(),
        name: name.to_owned(),
        message: format!("poddisruptionbudget.policy {name:?} is forbidden: {why}"),
        causes: Vec::new(),
    }
}

/// 500, a Status that has no reason.
fn several() -> ApiError {
    let message =
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
    ApiError::sentence(500, None, message, Vec::new())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
    use serde_json::{Value, json};

    use super::*;

    fn budget(generation: i64, status: Value) -> PodDisruptionBudget {
        let metadata = json!({"name": "b", "generation": generation});
        serde_json::from_value(json!({"metadata": metadata, "spec": {}, "status": status})).unwrap()
    }

    fn refused(generation: i64, status: Value) -> Status {
        let mut budget = budget(generation, status);
        let before = budget.clone();
        let error = take(&mut budget, "p", &Time(jiff::Timestamp::UNIX_EPOCH)).unwrap_err();
        assert_eq!(budget, before);
        error.to_status()
    }

    fn cause(status: &Status) -> (&str, Option<i32>) {
        let details = status.details.as_ref().unwrap();
        let cause = &details.causes.as_ref().unwrap()[0];
        assert_eq!((cause.reason.as_deref(), cause.field.as_deref()), (Some("DisruptionBudget"), None));
        assert_eq!((status.code, status.message.as_deref()), (Some(429), Some(VIOLATED)));
        (cause.message.as_deref().unwrap(), details.retry_after_seconds)
    }

    #[test]
    fn what_is_left_is_taken_and_told() {
        let status = json!({
            "observedGeneration": 1, "disruptionsAllowed": 2, "currentHealthy": 5, "desiredHealthy": 3,
            "expectedPods": 5
        });
        let mut budget = budget(1, status);
        take(&mut budget, "p", &Time(jiff::Timestamp::UNIX_EPOCH)).unwrap();
        let status = budget.status.as_ref().unwrap();
        assert_eq!((status.disruptions_allowed, status.current_healthy), (Some(1), Some(5)));
        assert!(status.conditions.is_none(), "it still allows one");
        take(&mut budget, "q", &Time(jiff::Timestamp::UNIX_EPOCH)).unwrap();
        let status = budget.status.as_ref().unwrap();
        assert_eq!(status.disruptions_allowed, Some(0));
        assert!(status.disrupted_pods.as_ref().unwrap().keys().eq(["p", "q"]));
        let condition = &status.conditions.as_ref().unwrap()[0];
        assert_eq!((&*condition.status, &*condition.reason), ("False", "InsufficientPods"));
    }

    #[test]
    fn what_is_not_there_is_not_taken() {
        let none = refused(
            1,
            json!({"observedGeneration": 1, "desiredHealthy": 3, "currentHealthy": 3, "disruptionsAllowed": 0}),
        );
        let told = ("The disruption budget b needs 3 healthy pods and has 3 currently", None);
        assert_eq!(cause(&none), told);
        let unseen = refused(2, json!({"observedGeneration": 1, "disruptionsAllowed": 1}));
        assert_eq!(
            cause(&unseen),
            ("The disruption budget b is still being processed by the server.", Some(10))
        );
        let negative = refused(1, json!({"observedGeneration": 1, "disruptionsAllowed": -1}));
        let told = "poddisruptionbudget.policy \"b\" is forbidden: pdb disruptions allowed is negative";
        assert_eq!((negative.code, negative.message.as_deref()), (Some(403), Some(told)));
        let many: serde_json::Map<String, Value> =
            (0..=MAX_DISRUPTED).map(|at| (at.to_string(), json!("2026-01-01T00:00:00Z"))).collect();
        let many =
            refused(1, json!({"observedGeneration": 1, "disruptionsAllowed": 1, "disruptedPods": many}));
        assert!(many.message.unwrap().contains("too many evictions not confirmed"));
    }

    #[test]
    fn the_unhealthy_are_spared_where_nothing_suffers() {
        let pod = |ready: &str| -> Pod {
            let conditions = json!([{"type": "Ready", "status": ready}]);
            serde_json::from_value(json!({"metadata": {}, "status": {"conditions": conditions}})).unwrap()
        };
        let with = |policy: Option<&str>, healthy: i32, desired: i32| {
            let mut budget = budget(1, json!({"currentHealthy": healthy, "desiredHealthy": desired}));
            budget.spec.as_mut().unwrap().unhealthy_pod_eviction_policy = policy.map(Into::into);
            budget
        };
        assert!(!spares(&with(Some("AlwaysAllow"), 3, 3), &pod("True")), "it is healthy");
        assert!(spares(&with(Some("AlwaysAllow"), 1, 3), &pod("False")));
        for policy in [None, Some("IfHealthyBudget")] {
            assert!(spares(&with(policy, 3, 3), &pod("False")));
            assert!(!spares(&with(policy, 2, 3), &pod("False")));
            assert!(!spares(&with(policy, 0, 0), &pod("False")), "nothing is known to be desired");
        }
    }
}
