//! `pods/ephemeralcontainers`: adds containers for debugging to a pod that runs.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{EphemeralContainer, Pod};

use super::Handler;
use crate::{
    error::ApiError,
    meta::{ErrorList, FieldError, FieldPath, validate_object_meta_update},
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
            let wanted = new.spec.take().and_then(|spec| spec.ephemeral_containers);
            let version = new.metadata.resource_version.take();
            *new = old.clone();
            new.metadata.resource_version = version;
            new.spec.get_or_insert_default().ephemeral_containers = wanted;
        }
    })
});

fn containers(object: &Object) -> &[EphemeralContainer] {
    let spec = object.as_kind::<Pod>().and_then(|pod| pod.spec.as_ref());
    spec.and_then(|spec| spec.ephemeral_containers.as_deref()).unwrap_or_default()
}

fn validate(definition: &Definition, new: &Object, old: &Object) -> ErrorList {
    let mut errors = validate_object_meta_update(new.meta(), old.meta(), &FieldPath::new("metadata"));
    if let Some(validate) = &definition.strategy.validate {
        errors.extend(validate(new));
    }
    let spec = FieldPath::new("spec");
    let path = spec.child("ephemeralContainers");
    let (new, old) = (containers(new), containers(old));
    for was in old {
        match new.iter().position(|container| container.name == was.name) {
            None => errors.push(FieldError::forbidden(
                &path,
                format!("existing ephemeral containers {:?} may not be removed\n", was.name),
            )),
            Some(at) if new[at] != *was => errors.push(FieldError::forbidden(
                &path,
                format!("existing ephemeral containers {:?} may not be changed\n", was.name),
            )),
            Some(_) => {}
        }
    }
    errors
}
