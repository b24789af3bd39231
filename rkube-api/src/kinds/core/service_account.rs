//! ServiceAccount. Semantics: <https://kubernetes.io/docs/concepts/security/service-accounts/>

use k8s_openapi::api::core::v1::{ObjectReference, ServiceAccount};

use crate::{kinds::shared::items_mut, registry::Definition, request::Verb};

/// The definition of ServiceAccount.
pub fn definition() -> Definition {
    Definition::of::<ServiceAccount>()
        .returns_deleted()
        .short(&["sa"])
        .prepare_create(keep_names)
        .prepare_update(|new, _| keep_names(new))
        .handler("token", ("authentication.k8s.io", "v1", "TokenRequest"), &[Verb::Create])
        .age()
        .build()
}

/// Of a reference to a secret only the name counts.
fn keep_names(account: &mut ServiceAccount) {
    for secret in items_mut(&mut account.secrets) {
        *secret = ObjectReference { name: secret.name.take(), ..Default::default() };
    }
}
