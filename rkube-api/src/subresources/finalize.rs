//! `namespaces/finalize`: changes what holds a namespace in its spec; with the last one gone, it goes.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Namespace;

use super::Handler;
use crate::{
    error::ApiError,
    meta::{ErrorList, FieldPath, names, object_meta::check_finalizer_qualified},
    object::Object,
    pipeline::{Call, Rules, update},
    registry::{Definition, Hook2},
    request::{ApiResponse, Body},
};

/// The handler.
pub(super) struct FinalizeNamespace;

#[async_trait]
impl Handler for FinalizeNamespace {
    fn serves(&self) -> (&str, &str, &str) {
        ("", "namespaces", "finalize")
    }

    async fn serve(&self, call: &Call<'_>, body: Body) -> Result<ApiResponse, ApiError> {
        update(call, body, &Rules { prepare: Some(&PREPARE), validate, moves_generation: true }).await
    }
}

static PREPARE: LazyLock<Hook2> = LazyLock::new(|| {
    Arc::new(|new: &mut Object, old: &Object| {
        if let (Some(new), Some(old)) = (new.as_kind_mut::<Namespace>(), old.as_kind::<Namespace>()) {
            new.status.clone_from(&old.status);
        }
    })
});

fn validate(definition: &Definition, new: &Object, old: &Object) -> ErrorList {
    let mut errors = definition.validate_metadata_update(new, old);
    let spec = FieldPath::new("spec");
    let path = spec.child("finalizers");
    let namespace = new.as_kind::<Namespace>().and_then(|namespace| namespace.spec.as_ref());
    for (index, name) in namespace.and_then(|spec| spec.finalizers.as_ref()).into_iter().flatten().enumerate()
    {
        errors.push_messages(&path.index(index), name, names::qualified_name(name));
        check_finalizer_qualified(name, &path.index(index), &mut errors);
    }
    errors
}
