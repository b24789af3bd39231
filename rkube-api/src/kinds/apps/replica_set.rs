//! ReplicaSet. Semantics: <https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/>

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use serde_json::json;

use crate::{
    kinds::shared::{printing, semantic, workload},
    meta::{ErrorList, FieldPath},
    registry::Definition,
};

/// The definition of ReplicaSet.
pub fn definition() -> Definition {
    Definition::of::<ReplicaSet>()
        .short(&["rs"])
        .categories(&["all"])
        .default(default)
        .prepare_create(|new| new.status = Some(ReplicaSetStatus::default()))
        .prepare_update(|new, old| new.status.clone_from(&old.status))
        .validate(validate)
        .validate_update(validate_update)
        .warnings(|set| workload::warnings(set.spec.template.as_ref()))
        .generation(|new, old| !semantic::equal(&new.spec, &old.spec))
        .status(prepare_status, validate_status)
        .scale(scale, |set, replicas| set.spec.replicas = Some(replicas))
        .selectable("status.replicas", |set| {
            Some(set.status.as_ref().map_or(0, |status| status.replicas).to_string())
        })
        .column("Desired", "integer", "How many pods are wanted.", |set, _| {
            json!(set.spec.replicas.unwrap_or(1))
        })
        .column("Current", "integer", "How many pods there are.", |set, _| {
            json!(set.status.as_ref().map_or(0, |status| status.replicas))
        })
        .column("Ready", "integer", "How many of them are ready.", |set, _| {
            json!(set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0))
        })
        .age()
        .wide("Containers", "string", "Names of the template's containers.", |set, _| {
            printing::container_names(set.spec.template.as_ref().and_then(|template| template.spec.as_ref()))
        })
        .wide("Images", "string", "Images of the template's containers.", |set, _| {
            printing::images(set.spec.template.as_ref().and_then(|template| template.spec.as_ref()))
        })
        .wide("Selector", "string", "Which pods belong to it.", |set, _| {
            printing::selector(&set.spec.selector)
        })
        .build()
}

fn scale(set: &ReplicaSet) -> (i32, i32, String) {
    let replicas = set.status.as_ref().map_or(0, |status| status.replicas);
    (set.spec.replicas.unwrap_or(1), replicas, printing::selector_text(&set.spec.selector))
}

fn default(set: &mut ReplicaSet) {
    set.spec.replicas.get_or_insert(1);
    if let Some(template) = &mut set.spec.template {
        workload::default_template(template);
    }
}

fn prepare_status(new: &mut ReplicaSet, old: &ReplicaSet) {
    new.spec.clone_from(&old.spec);
}

fn validate(set: &ReplicaSet) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (&set.spec, FieldPath::new("spec"));
    for (field, number) in [("replicas", spec.replicas), ("minReadySeconds", spec.min_ready_seconds)] {
        errors.non_negative(&path.child(field), i64::from(number.unwrap_or(0)));
    }
    workload::validate(&spec.selector, spec.template.as_ref(), "ReplicaSet", &path, &mut errors);
    errors
}

fn validate_update(new: &ReplicaSet, old: &ReplicaSet) -> ErrorList {
    let mut errors = ErrorList::new();
    if !semantic::equal(&new.spec.selector, &old.spec.selector) {
        let path = FieldPath::new("spec");
        errors.immutable(&path.child("selector"), &new.spec.selector, &old.spec.selector);
    }
    errors
}

fn validate_status(new: &ReplicaSet, _old: &ReplicaSet) -> ErrorList {
    let mut errors = ErrorList::new();
    let Some(status) = &new.status else { return errors };
    let path = FieldPath::new("status");
    let counts = [
        ("fullyLabeledReplicas", status.fully_labeled_replicas, true),
        ("readyReplicas", status.ready_replicas, true),
        ("availableReplicas", status.available_replicas, true),
        ("terminatingReplicas", status.terminating_replicas, false),
    ];
    workload::counts(status.replicas, &counts, &path, &mut errors);
    errors.non_negative(&path.child("observedGeneration"), status.observed_generation.unwrap_or(0));
    workload::available_are_ready(status.available_replicas, status.ready_replicas, &path, &mut errors);
    errors
}
