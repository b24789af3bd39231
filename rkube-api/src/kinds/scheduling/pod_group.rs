//! PodGroup: pods that are scheduled together. Semantics:
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/gang-scheduling/>, KEP-4671.
//!
//! Fields of features that are off by default in Kubernetes 1.37 (composite groups, topology constraints, a
//! preemption policy of its own) are refused, as there.

use k8s_openapi::api::scheduling::v1beta1::{
    DisruptionMode, PodGroup, PodGroupResourceClaim, PodGroupSchedulingPolicy, PodGroupSpec,
};
use serde_json::json;

use super::priority_class::HIGHEST_USER_PRIORITY;
use crate::{
    kinds::shared::{checks, items, seen::Seen, semantic, text},
    meta::{ErrorList, FieldError, FieldPath},
    registry::Definition,
};

const MAX_CLAIMS: usize = 4;

/// The definition of PodGroup.
pub fn definition() -> Definition {
    Definition::of::<PodGroup>()
        .prepare_create(|group| group.status = None)
        .prepare_update(|new, old| new.status.clone_from(&old.status))
        .validate(|group| validate(&group.spec))
        .validate_update(|new, old| unchanged(&new.spec, &old.spec))
        .generation(|new, old| !semantic::equal(&new.spec, &old.spec))
        .status(|new, old| new.spec.clone_from(&old.spec), |_, _| ErrorList::new())
        .column("Policy", "string", "How its pods are scheduled.", |group, _| {
            json!(if group.spec.scheduling_policy.gang.is_some() { "Gang" } else { "Basic" })
        })
        .column("Min Count", "integer", "How many pods must fit at once.", |group, _| {
            json!(group.spec.scheduling_policy.gang.as_ref().map(|gang| gang.min_count))
        })
        .age()
        .build()
}

fn validate(spec: &PodGroupSpec) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = FieldPath::new("spec");
    policy(&spec.scheduling_policy, &path.child("schedulingPolicy"), &mut errors);
    shared(
        Shared {
            claims: items(&spec.resource_claims),
            mode: spec.disruption_mode.as_ref(),
            class: text(&spec.priority_class_name),
            priority: spec.priority,
        },
        &path,
        &mut errors,
    );
    off(
        spec.parent_composite_pod_group_name.is_some(),
        &path.child("parentCompositePodGroupName"),
        &mut errors,
    );
    off(spec.scheduling_constraints.is_some(), &path.child("schedulingConstraints"), &mut errors);
    off(spec.preemption_policy.is_some(), &path.child("preemptionPolicy"), &mut errors);
    if let Some(workload) = &spec.workload_ref {
        let path = path.child("workloadRef");
        checks::subdomain(&workload.workload_name, &path.child("workloadName"), &mut errors);
        checks::label(&workload.template_name, &path.child("templateName"), &mut errors);
    }
    errors
}

/// What a group and its template have in common.
pub(super) struct Shared<'a> {
    pub(super) claims: &'a [PodGroupResourceClaim],
    pub(super) mode: Option<&'a DisruptionMode>,
    pub(super) class: &'a str,
    pub(super) priority: Option<i32>,
}

/// Checks it.
pub(super) fn shared(shared: Shared<'_>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let claims = path.child("resourceClaims");
    if shared.claims.len() > MAX_CLAIMS {
        errors.push(FieldError::too_many(&claims, shared.claims.len(), MAX_CLAIMS));
    }
    let mut seen = Seen::new();
    for (at, claim) in shared.claims.iter().enumerate() {
        let path = claims.index(at);
        checks::label(&claim.name, &path.child("name"), errors);
        if !seen.insert(claim.name.as_str()) {
            errors.push(FieldError::duplicate(&path.child("name"), &claim.name));
        }
        if claim.resource_claim_name.is_some() == claim.resource_claim_template_name.is_some() {
            let detail = "must specify exactly one of: `resourceClaimName`, `resourceClaimTemplateName`";
            errors.push(FieldError::invalid(&path, claim, detail));
        }
    }
    if let Some(mode) = shared.mode
        && mode.all.is_some() == mode.single.is_some()
    {
        let detail = "must specify exactly one of: `single`, `all`";
        errors.push(FieldError::invalid(&path.child("disruptionMode"), mode, detail));
    }
    if !shared.class.is_empty() {
        checks::subdomain(shared.class, &path.child("priorityClassName"), errors);
    }
    if let Some(priority) = shared.priority.filter(|priority| *priority > HIGHEST_USER_PRIORITY) {
        let detail = format!("must be less than or equal to {HIGHEST_USER_PRIORITY}");
        errors.push(FieldError::invalid(&path.child("priority"), priority, detail));
    }
}

/// Checks how pods of a group are scheduled.
pub(super) fn policy(policy: &PodGroupSchedulingPolicy, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if policy.basic.is_some() == policy.gang.is_some() {
        errors.push(FieldError::invalid(path, policy, "must specify exactly one of: `basic`, `gang`"));
    }
    if let Some(gang) = policy.gang.as_ref().filter(|gang| gang.min_count < 1) {
        let path = path.child("gang");
        let detail = "must be greater than or equal to 1";
        errors.push(FieldError::invalid(&path.child("minCount"), gang.min_count, detail));
    }
}

/// Refuses a field whose feature is off.
pub(super) fn off(present: bool, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if present {
        errors.push(FieldError::forbidden(path, "the feature of this field is not enabled"));
    }
}

/// Checks that only the size of a gang changes.
fn unchanged(new: &PodGroupSpec, old: &PodGroupSpec) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = FieldPath::new("spec");
    let kind = |spec: &PodGroupSpec| spec.scheduling_policy.gang.is_some();
    if kind(new) != kind(old) {
        errors.immutable(&path.child("schedulingPolicy"), &new.scheduling_policy, &old.scheduling_policy);
    }
    errors.immutable(&path.child("workloadRef"), &new.workload_ref, &old.workload_ref);
    errors.immutable(&path.child("resourceClaims"), &new.resource_claims, &old.resource_claims);
    errors.immutable(&path.child("disruptionMode"), &new.disruption_mode, &old.disruption_mode);
    errors.immutable(&path.child("priorityClassName"), &new.priority_class_name, &old.priority_class_name);
    errors.immutable(&path.child("priority"), &new.priority, &old.priority);
    errors
}
