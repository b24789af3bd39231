//! Lease. Semantics: <https://kubernetes.io/docs/concepts/architecture/leases/>

use k8s_openapi::api::coordination::v1::Lease;
use serde_json::json;

use crate::{kinds::shared::text, registry::Definition};

/// The definition of Lease.
pub fn definition() -> Definition {
    Definition::of::<Lease>()
        .unconditional_update(false)
        .create_on_update()
        .column("Holder", "string", "Who holds the lease.", |lease, _| {
            json!(lease.spec.as_ref().map_or("", |spec| text(&spec.holder_identity)))
        })
        .age()
        .build()
}
