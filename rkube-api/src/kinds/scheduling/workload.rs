//! Workload: the pod groups that a controller makes of a whole job. Semantics:
//! <https://kubernetes.io/docs/concepts/workloads/workload-api/>, KEP-4671.

use k8s_openapi::api::scheduling::v1beta1::{PodGroupTemplate, Workload, WorkloadSpec};

use super::pod_group::{Shared, off, policy, shared};
use crate::{
    kinds::shared::{checks, items, seen::Seen, semantic, text},
    meta::{ErrorList, FieldError, FieldPath},
    registry::Definition,
};

const MAX_TEMPLATES: usize = 8;

/// The definition of Workload.
pub fn definition() -> Definition {
    Definition::of::<Workload>()
        .validate(|workload| validate(&workload.spec))
        .validate_update(|new, old| unchanged(&new.spec, &old.spec))
        .generation(|new, old| !semantic::equal(&new.spec, &old.spec))
        .age()
        .build()
}

fn validate(spec: &WorkloadSpec) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = FieldPath::new("spec");
    if let Some(owner) = &spec.controller_ref {
        let path = path.child("controllerRef");
        checks::required(&owner.kind, &path.child("kind"), &mut errors);
        checks::required(&owner.name, &path.child("name"), &mut errors);
    }
    off(spec.composite_pod_group_templates.is_some(), &path.child("compositePodGroupTemplates"), &mut errors);
    let templates = items(&spec.pod_group_templates);
    let path = path.child("podGroupTemplates");
    if templates.is_empty() {
        errors.push(FieldError::required(&path, "must have at least one item"));
    }
    if templates.len() > MAX_TEMPLATES {
        errors.push(FieldError::too_many(&path, templates.len(), MAX_TEMPLATES));
    }
    let mut seen = Seen::new();
    for (at, template) in templates.iter().enumerate() {
        if !seen.insert(template.name.as_str()) {
            errors.push(FieldError::duplicate(&path.index(at).child("name"), &template.name));
        }
        check(template, &path.index(at), &mut errors);
    }
    errors
}

fn check(template: &PodGroupTemplate, path: &FieldPath<'_>, errors: &mut ErrorList) {
    checks::label(&template.name, &path.child("name"), errors);
    policy(&template.scheduling_policy, &path.child("schedulingPolicy"), errors);
    let common = Shared {
        claims: items(&template.resource_claims),
        mode: template.disruption_mode.as_ref(),
        class: text(&template.priority_class_name),
        priority: template.priority,
    };
    shared(common, path, errors);
    off(template.scheduling_constraints.is_some(), &path.child("schedulingConstraints"), errors);
    off(template.preemption_policy.is_some(), &path.child("preemptionPolicy"), errors);
}

/// Checks that only the sizes of gangs change.
fn unchanged(new: &WorkloadSpec, old: &WorkloadSpec) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = FieldPath::new("spec");
    errors.immutable(&path.child("controllerRef"), &new.controller_ref, &old.controller_ref);
    let fixed = |spec: &WorkloadSpec| -> Vec<PodGroupTemplate> {
        let mut templates = items(&spec.pod_group_templates).to_vec();
        for gang in templates.iter_mut().filter_map(|template| template.scheduling_policy.gang.as_mut()) {
            gang.min_count = 0;
        }
        templates
    };
    errors.immutable(&path.child("podGroupTemplates"), &fixed(new), &fixed(old));
    errors
}
