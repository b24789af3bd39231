//! StorageObjectInUseProtection: claims and volumes stay as long as somebody uses them. Their finalizers are
//! taken off by the controllers `pvc-protection` and `pv-protection`.
//! <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection>

use async_trait::async_trait;

use super::{Admission, AdmissionRequest, Operation, undo};
use crate::{
    error::ApiError,
    helpers::volumes::{CLAIM_PROTECTION, VOLUME_PROTECTION},
};

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct StorageObjectInUseProtection;

fn finalizer(request: &AdmissionRequest<'_>) -> Option<&'static str> {
    if request.is("", "persistentvolumeclaims") {
        Some(CLAIM_PROTECTION)
    } else if request.is("", "persistentvolumes") {
        Some(VOLUME_PROTECTION)
    } else {
        None
    }
}

#[async_trait]
impl Admission for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.operation() == Operation::Create && finalizer(request).is_some()
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        let Some(finalizer) = finalizer(request) else { return Ok(()) };
        let there = request.object().and_then(|object| object.meta().finalizers.as_ref());
        if there.is_some_and(|there| there.iter().any(|one| one == finalizer)) {
            return Ok(());
        }
        if let Some(object) = request.object_mut() {
            object.meta_mut().finalizers.get_or_insert_default().push(finalizer.into());
            request
                .unowned(move |object| undo::items(object, "/metadata/finalizers", |one| one == finalizer));
        }
        Ok(())
    }
}
