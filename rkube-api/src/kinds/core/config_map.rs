//! ConfigMap. Semantics: <https://kubernetes.io/docs/concepts/configuration/configmap/>

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use crate::registry::Definition;

/// The definition of ConfigMap.
pub fn definition() -> Definition {
    Definition::of::<ConfigMap>()
        .short(&["cm"])
        .column("Data", "string", "The number of data entries.", |map, _| {
            let (text, binary) = (map.data.as_ref(), map.binary_data.as_ref());
            json!(text.map_or(0, |data| data.len()) + binary.map_or(0, |data| data.len()))
        })
        .age()
        .build()
}
