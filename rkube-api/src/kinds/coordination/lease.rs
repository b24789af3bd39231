//! Lease. Semantics: <https://kubernetes.io/docs/concepts/architecture/leases/>

use k8s_openapi::api::coordination::v1::Lease;
use serde_json::json;

use crate::{
    kinds::shared::{checks, text},
    meta::{ErrorList, FieldError, FieldPath},
    registry::Definition,
};

/// The definition of Lease.
pub fn definition() -> Definition {
    Definition::of::<Lease>()
        .unconditional_update(false)
        .create_on_update()
        .validate(validate)
        .column("Holder", "string", "Who holds the lease.", |lease, _| {
            json!(lease.spec.as_ref().map_or("", |spec| text(&spec.holder_identity)))
        })
        .age()
        .build()
}

fn validate(lease: &Lease) -> ErrorList {
    let mut errors = ErrorList::new();
    let Some(spec) = &lease.spec else { return errors };
    let path = FieldPath::new("spec");
    if let Some(seconds) = spec.lease_duration_seconds.filter(|&seconds| seconds <= 0) {
        let field = path.child("leaseDurationSeconds");
        errors.push(FieldError::invalid(&field, seconds, "must be greater than 0"));
    }
    errors.non_negative(&path.child("leaseTransitions"), i64::from(spec.lease_transitions.unwrap_or(0)));
    if let Some(strategy) = &spec.strategy {
        let field = path.child("strategy");
        let field = field.child("strategy");
        if strategy.contains('/') {
            checks::qualified(strategy, &field, &mut errors);
        } else {
            checks::supported(strategy, &["OldestEmulationVersion"], &field, &mut errors);
        }
    }
    if !text(&spec.preferred_holder).is_empty() && text(&spec.strategy).is_empty() {
        let detail = "may only be specified if `strategy` is defined";
        errors.push(FieldError::forbidden(&path.child("preferredHolder"), detail));
    }
    errors
}
