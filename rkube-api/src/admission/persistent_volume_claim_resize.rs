//! PersistentVolumeClaimResize: only a claim that is bound, and whose class says so, may ask for more.
//! <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#expanding-persistent-volumes-claims>

use async_trait::async_trait;
use k8s_openapi::api::{core::v1::PersistentVolumeClaim, storage::v1::StorageClass};

use super::{Admission, AdmissionRequest, Operation};
use crate::{
    error::ApiError,
    helpers::volumes::{claim_class, claim_phase, requested},
};

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct PersistentVolumeClaimResize;

#[async_trait]
impl Admission for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.operation() == Operation::Update && request.is("", "persistentvolumeclaims")
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        let old = request.old().and_then(|old| old.as_kind::<PersistentVolumeClaim>());
        let (Some(claim), Some(old)) = (request.as_kind::<PersistentVolumeClaim>(), old) else {
            return Ok(());
        };
        if requested(claim) <= requested(old) {
            return Ok(());
        }
        if claim_phase(old) != "Bound" {
            return Err(request.forbidden("only bound persistent volume claims can be expanded"));
        }
        let class = claim_class(claim);
        let class = match class == claim_class(old) && !class.is_empty() {
            true => request.reader().get::<StorageClass>("", class).await?,
            false => None,
        };
        if class.is_some_and(|class| class.allow_volume_expansion == Some(true)) {
            return Ok(());
        }
        Err(request.forbidden(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc \
             must support resize",
        ))
    }
}
