//! CSIStorageCapacity: how much storage is left where.
//! Semantics: <https://kubernetes.io/docs/concepts/storage/storage-capacity/>

use k8s_openapi::{api::storage::v1::CSIStorageCapacity, apimachinery::pkg::api::resource::Quantity as Api};
use serde_json::json;

use crate::{
    kinds::shared::{checks, pod::quantity, quantities, semantic},
    meta::{ErrorList, FieldError, FieldPath, object_meta::validate_label_selector},
    registry::Definition,
};

/// The definition of CSIStorageCapacity.
pub fn definition() -> Definition {
    Definition::of::<CSIStorageCapacity>()
        .returns_deleted()
        .unconditional_update(false)
        .default(|capacity| {
            for size in [&mut capacity.capacity, &mut capacity.maximum_volume_size].into_iter().flatten() {
                quantities::canonicalize(size);
            }
        })
        .validate(validate)
        .validate_update(validate_update)
        .column("StorageClassName", "string", "The class of volumes that it is about.", |capacity, _| {
            json!(capacity.storage_class_name)
        })
        .column("Capacity", "string", "How much is left.", |capacity, _| {
            json!(capacity.capacity.as_ref().map_or("<unset>", |size| &size.0))
        })
        .build()
}

fn validate(capacity: &CSIStorageCapacity) -> ErrorList {
    let mut errors = ErrorList::new();
    checks::subdomain(&capacity.storage_class_name, &FieldPath::new("storageClassName"), &mut errors);
    let mut size = |field: &str, size: &Option<Api>| {
        if let Some(size) = size {
            quantity("storage", size, &FieldPath::new(field), &mut errors);
        }
    };
    size("capacity", &capacity.capacity);
    size("maximumVolumeSize", &capacity.maximum_volume_size);
    if let Some(selector) = &capacity.node_topology {
        validate_label_selector(selector, &FieldPath::new("nodeTopology"), &mut errors);
    }
    errors
}

fn validate_update(new: &CSIStorageCapacity, old: &CSIStorageCapacity) -> ErrorList {
    let mut errors = ErrorList::new();
    if !semantic::equal(&new.node_topology, &old.node_topology) {
        let path = FieldPath::new("nodeTopology");
        errors.push(FieldError::invalid(&path, &new.node_topology, "field is immutable"));
    }
    let path = FieldPath::new("storageClassName");
    errors.immutable(&path, &new.storage_class_name, &old.storage_class_name);
    errors
}
