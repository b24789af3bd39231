//! ResourceClaimTemplate. Semantics:
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/>

use k8s_openapi::api::resource::v1::{ResourceClaimSpec, ResourceClaimTemplate};

use crate::{
    kinds::shared::{
        devices::{IMMUTABLE, claim},
        semantic,
    },
    meta::{
        ErrorList, FieldError, FieldPath,
        object_meta::{validate_annotations, validate_labels},
    },
    registry::Definition,
};

/// The definition of ResourceClaimTemplate.
pub fn definition() -> Definition {
    Definition::of::<ResourceClaimTemplate>()
        .default(|template| claim::default(claim_of(template)))
        .prepare_create(|template| claim::without_alpha(claim_of(template)))
        .validate_create(validate)
        .validate_update(validate_update)
        .build()
}

fn claim_of(template: &mut ResourceClaimTemplate) -> Option<&mut ResourceClaimSpec> {
    template.spec.as_mut()?.spec.as_mut()
}

fn validate(template: &ResourceClaimTemplate) -> ErrorList {
    let mut errors = ErrorList::new();
    let Some(spec) = &template.spec else { return errors };
    let path = FieldPath::new("spec");
    if let Some(meta) = &spec.metadata {
        let path = path.child("metadata");
        if let Some(labels) = &meta.labels {
            validate_labels(labels, &path.child("labels"), &mut errors);
        }
        if let Some(annotations) = &meta.annotations {
            validate_annotations(annotations, &path.child("annotations"), &mut errors);
        }
    }
    if let Some(spec) = &spec.spec {
        claim::validate(spec, &path.child("spec"), &mut errors);
    }
    errors
}

fn validate_update(new: &ResourceClaimTemplate, old: &ResourceClaimTemplate) -> ErrorList {
    let mut errors = ErrorList::new();
    if !semantic::equal(&new.spec, &old.spec) {
        errors.push(FieldError::invalid(&FieldPath::new("spec"), &new.spec, IMMUTABLE));
    }
    errors
}
