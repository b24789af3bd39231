//! PodDisruptionBudget. Semantics: <https://kubernetes.io/docs/tasks/run-application/configure-pdb/>

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::{Value, json};

use crate::{
    kinds::shared::{
        checks::{int_or_percent, not_above_everything, supported},
        semantic,
    },
    meta::{ErrorList, FieldError, FieldPath, object_meta::validate_label_selector},
    registry::Definition,
};

/// The definition of PodDisruptionBudget.
pub fn definition() -> Definition {
    Definition::of::<PodDisruptionBudget>()
        .short(&["pdb"])
        .prepare_create(|new| new.status = Some(unknown()))
        .prepare_update(|new, old| new.status.clone_from(&old.status))
        .validate(validate)
        .generation(|new, old| !semantic::equal(&new.spec, &old.spec))
        .unconditional_update(false)
        .status(prepare_status, validate_status)
        .column("Min Available", "string", "How many pods must stay.", |budget, _| {
            amount(budget.spec.as_ref().and_then(|spec| spec.min_available.as_ref()))
        })
        .column("Max Unavailable", "string", "How many pods may be gone.", |budget, _| {
            amount(budget.spec.as_ref().and_then(|spec| spec.max_unavailable.as_ref()))
        })
        .column("Allowed Disruptions", "integer", "How many pods may go now.", |budget, _| {
            json!(budget.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or(0))
        })
        .age()
        .build()
}

/// What its controller has yet to look at allows nothing, and says so.
fn unknown() -> PodDisruptionBudgetStatus {
    PodDisruptionBudgetStatus {
        current_healthy: Some(0),
        desired_healthy: Some(0),
        disruptions_allowed: Some(0),
        expected_pods: Some(0),
        ..PodDisruptionBudgetStatus::default()
    }
}

fn amount(value: Option<&IntOrString>) -> Value {
    match value {
        None => json!("N/A"),
        Some(IntOrString::Int(number)) => json!(number.to_string()),
        Some(IntOrString::String(text)) => json!(text),
    }
}

fn validate(budget: &PodDisruptionBudget) -> ErrorList {
    let mut errors = ErrorList::new();
    let Some(spec) = &budget.spec else { return errors };
    let path = FieldPath::new("spec");
    let (least, most) = (spec.min_available.as_ref(), spec.max_unavailable.as_ref());
    if least.is_some() && most.is_some() {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        errors.push(FieldError::invalid(&path, spec, detail));
    }
    for (field, value) in [("minAvailable", least), ("maxUnavailable", most)] {
        if let Some(value) = value {
            let path = path.child(field);
            int_or_percent(value, &path, &mut errors);
            not_above_everything(value, &path, &mut errors);
        }
    }
    if let Some(selector) = &spec.selector {
        validate_label_selector(selector, &path.child("selector"), &mut errors);
    }
    if let Some(policy) = &spec.unhealthy_pod_eviction_policy {
        let path = path.child("unhealthyPodEvictionPolicy");
        supported(policy, &["AlwaysAllow", "IfHealthyBudget"], &path, &mut errors);
    }
    errors
}

fn prepare_status(new: &mut PodDisruptionBudget, old: &PodDisruptionBudget) {
    new.spec.clone_from(&old.spec);
}

fn validate_status(new: &PodDisruptionBudget, _: &PodDisruptionBudget) -> ErrorList {
    let mut errors = ErrorList::new();
    let Some(status) = &new.status else { return errors };
    let path = FieldPath::new("status");
    for (field, number) in [
        ("disruptionsAllowed", status.disruptions_allowed),
        ("currentHealthy", status.current_healthy),
        ("desiredHealthy", status.desired_healthy),
        ("expectedPods", status.expected_pods),
    ] {
        errors.non_negative(&path.child(field), i64::from(number.unwrap_or(0)));
    }
    errors
}
