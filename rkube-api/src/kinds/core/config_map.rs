//! ConfigMap. Semantics: <https://kubernetes.io/docs/concepts/configuration/configmap/>

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use crate::{
    kinds::shared::{semantic, yes},
    meta::{ErrorList, FieldError, FieldPath, names},
    registry::Definition,
};

/// All entries together may have this many bytes; those of a Secret too.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// Why what is immutable may not change.
pub(super) const IMMUTABLE: &str = "field is immutable when `immutable` is set";

/// The definition of ConfigMap.
pub fn definition() -> Definition {
    Definition::of::<ConfigMap>()
        .short(&["cm"])
        .validate(validate)
        .validate_update(validate_update)
        .column("Data", "string", "How many entries it has.", |map, _| {
            let (text, binary) = (map.data.as_ref(), map.binary_data.as_ref());
            json!(text.map_or(0, |data| data.len()) + binary.map_or(0, |data| data.len()))
        })
        .age()
        .build()
}

fn validate(map: &ConfigMap) -> ErrorList {
    let mut errors = ErrorList::new();
    let (data, binary) = (FieldPath::new("data"), FieldPath::new("binaryData"));
    let mut bytes = 0;
    for (key, value) in map.data.iter().flatten() {
        errors.push_messages(&data.key(key), key, names::config_map_key(key));
        if map.binary_data.as_ref().is_some_and(|binary| binary.contains_key(key)) {
            let detail = "duplicate of key present in binaryData";
            errors.push(FieldError::invalid(&data.key(key), key, detail));
        }
        bytes += value.len();
    }
    for (key, value) in map.binary_data.iter().flatten() {
        errors.push_messages(&binary.key(key), key, names::config_map_key(key));
        bytes += value.0.len();
    }
    if bytes > MAX_BYTES {
        errors.push(FieldError::too_long(&FieldPath::root(), MAX_BYTES));
    }
    errors
}

fn validate_update(new: &ConfigMap, old: &ConfigMap) -> ErrorList {
    let mut errors = ErrorList::new();
    if yes(&old.immutable) {
        for (field, changed) in [
            ("immutable", !yes(&new.immutable)),
            ("data", !semantic::equal(&new.data, &old.data)),
            ("binaryData", !semantic::equal(&new.binary_data, &old.binary_data)),
        ] {
            if changed {
                errors.push(FieldError::forbidden(&FieldPath::new(field), IMMUTABLE));
            }
        }
    }
    errors
}
