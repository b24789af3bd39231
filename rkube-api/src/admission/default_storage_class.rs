//! DefaultStorageClass: a claim that names no class gets the default one.
//! <https://kubernetes.io/docs/concepts/storage/storage-classes/#default-storageclass>

use async_trait::async_trait;
use k8s_openapi::api::{core::v1::PersistentVolumeClaim, storage::v1::StorageClass};

use super::{Admission, AdmissionRequest, Operation, undo};
use crate::{
    error::ApiError,
    helpers::volumes::{default_class, has_class},
};

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultStorageClass;

#[async_trait]
impl Admission for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.operation() == Operation::Create && request.is("", "persistentvolumeclaims")
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if request.as_kind::<PersistentVolumeClaim>().is_none_or(has_class) {
            return Ok(());
        }
        let classes = request.reader().list::<StorageClass>("").await?;
        let Some(class) = default_class(&classes).and_then(|class| class.metadata.name.clone()) else {
            return Ok(());
        };
        if let Some(claim) = request.as_kind_mut::<PersistentVolumeClaim>() {
            claim.spec.get_or_insert_default().storage_class_name = Some(class);
            request.unowned(|claim| undo::fields(claim, "/spec", &["storageClassName"]));
        }
        Ok(())
    }
}
