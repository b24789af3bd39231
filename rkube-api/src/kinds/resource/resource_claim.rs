//! ResourceClaim. Semantics: <https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/>

use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimStatus};
use serde_json::{Value, json};

use crate::{
    kinds::shared::{
        devices::{IMMUTABLE, allocation, claim},
        semantic,
    },
    meta::{ErrorList, FieldError, FieldPath},
    registry::Definition,
};

/// The definition of ResourceClaim.
pub fn definition() -> Definition {
    Definition::of::<ResourceClaim>()
        .default(|it| claim::default(it.spec.as_mut()))
        .prepare_create(prepare_create)
        .prepare_update(|new, old| new.status.clone_from(&old.status))
        .validate_create(validate)
        .validate_update(validate_update)
        .status(prepare_status, allocation::validate_status)
        .column("State", "string", "Whether devices are allocated, and reserved for somebody.", |it, _| {
            state(it)
        })
        .age()
        .build()
}

fn prepare_create(claim: &mut ResourceClaim) {
    claim.status = Some(ResourceClaimStatus::default());
    claim::without_alpha(claim.spec.as_mut());
}

fn validate(claim: &ResourceClaim) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(spec) = &claim.spec {
        claim::validate(spec, &FieldPath::new("spec"), &mut errors);
    }
    errors
}

/// A change of the spec is the one thing that can be wrong with it.
fn validate_update(new: &ResourceClaim, old: &ResourceClaim) -> ErrorList {
    let mut errors = ErrorList::new();
    if !semantic::equal(&new.spec, &old.spec) {
        errors.push(FieldError::invalid(&FieldPath::new("spec"), &new.spec, IMMUTABLE));
    }
    errors
}

/// What a driver said of devices goes with their allocation.
fn prepare_status(new: &mut ResourceClaim, old: &ResourceClaim) {
    new.spec.clone_from(&old.spec);
    let allocated =
        |claim: &ResourceClaim| claim.status.as_ref().is_some_and(|status| status.allocation.is_some());
    if allocated(old)
        && !allocated(new)
        && let Some(status) = &mut new.status
    {
        status.devices = None;
    }
}

fn state(claim: &ResourceClaim) -> Value {
    let deleted = claim.metadata.deletion_timestamp.is_some();
    let status = claim.status.as_ref();
    let allocated = status.is_some_and(|status| status.allocation.is_some());
    let reserved =
        status.and_then(|status| status.reserved_for.as_ref()).is_some_and(|list| !list.is_empty());
    let states = [
        (deleted, "deleted"),
        (!allocated && !deleted, "pending"),
        (allocated, "allocated"),
        (allocated && reserved, "reserved"),
    ];
    let said: Vec<&str> = states.iter().filter(|(is, _)| *is).map(|(_, state)| *state).collect();
    json!(said.join(","))
}
