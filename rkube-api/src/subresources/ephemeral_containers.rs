//! `pods/ephemeralcontainers`: adds containers for debugging to a pod that runs.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;

use super::Handler;
use crate::{
    error::ApiError,
    kinds::core::pod::{prepare_ephemeral_containers, validate_ephemeral_containers},
    meta::ErrorList,
    object::Object,
    pipeline::{Call, Rules, get, patch, update},
    registry::{Definition, Hook2},
    request::{ApiResponse, Body, Verb},
};

/// The handler.
pub(super) struct EphemeralContainers;

#[async_trait]
impl Handler for EphemeralContainers {
    fn serves(&self) -> (&str, &str, &str) {
        ("", "pods", "ephemeralcontainers")
    }

    async fn serve(&self, call: &Call<'_>, body: Body) -> Result<ApiResponse, ApiError> {
        let rules = Rules { prepare: Some(&PREPARE), validate, moves_generation: true };
        match call.verb {
            Verb::Get => get(call).await,
            Verb::Update => update(call, body, &rules).await,
            Verb::Patch => patch(call, body, &rules).await,
            _ => Err(ApiError::MethodNotAllowed),
        }
    }
}

static PREPARE: LazyLock<Hook2> = LazyLock::new(|| {
    Arc::new(|new: &mut Object, old: &Object| {
        if let (Some(new), Some(old)) = (new.as_kind_mut::<Pod>(), old.as_kind::<Pod>()) {
            let version = new.metadata.resource_version.take();
            prepare_ephemeral_containers(new, old);
            new.metadata = old.metadata.clone();
            new.metadata.resource_version = version;
        }
    })
});

fn validate(definition: &Definition, new: &Object, old: &Object) -> ErrorList {
    let mut errors = definition.validate_metadata_update(new, old);
    if let Some(validate) = &definition.strategy.validate {
        errors.extend(validate(new));
    }
    if let (Some(new), Some(old)) = (new.as_kind::<Pod>(), old.as_kind::<Pod>()) {
        errors.extend(validate_ephemeral_containers(new, old));
    }
    errors
}
