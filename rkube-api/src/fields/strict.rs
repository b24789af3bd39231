//! Unknown fields, for strict field validation (KEP-2885).
//!
//! ```
//! use rkube_api::fields::{schema_of, unknown_fields};
//! let deployment = schema_of("io.k8s.api.apps.v1.Deployment").expect("a deployment");
//! let object = serde_json::json!({"spec": {"replicass": 1, "template": {"spec": {"containers": [{"x": 1}]}}}});
//! assert_eq!(
//!     unknown_fields(deployment.root(), &object),
//!     ["unknown field \"spec.replicass\"", "unknown field \"spec.template.spec.containers[0].x\""]
//! );
//! ```

use serde_json::Value;

use super::schema::{Kind, SchemaRef};
use crate::meta::validation::FieldPath;

/// As many as are worth reporting.
const MAX: usize = 100;

/// The fields that the schema doesn't know, one message each: `unknown field "spec.replicass"`.
#[must_use]
pub fn unknown_fields(schema: SchemaRef<'_>, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(schema, object, &FieldPath::root(), &mut found);
    found
}

fn walk(schema: SchemaRef<'_>, value: &Value, path: &FieldPath<'_>, found: &mut Vec<String>) {
    match (schema.kind(), value) {
        (Kind::Any, _) => {}
        (Kind::Object(_) | Kind::Map { .. }, Value::Object(map)) => {
            for (key, value) in map {
                let path = path.child(key);
                match schema.child(key) {
                    Some(child) => walk(child, value, &path, found),
                    None if found.len() < MAX => found.push(format!("unknown field \"{path}\"")),
                    None => return,
                }
            }
        }
        (Kind::List { .. }, Value::Array(items)) => {
            let Some(item) = schema.item() else { return };
            for (i, value) in items.iter().enumerate() {
                walk(item, value, &path.index(i), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::schema_of;
    use serde_json::json;

    #[test]
    fn free_maps_take_any_key() {
        let pod = schema_of("io.k8s.api.core.v1.Pod").unwrap().root();
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"labels": {"any": "thing"}, "managedFields": [{"fieldsV1": {"f:x": {}}}]},
            "spec": {"containers": [{"name": "a", "resources": {"limits": {"example.com/x": 1}}}]},
        });
        assert_eq!(unknown_fields(pod, &object), [""; 0]);
        let object = json!({"Spec": {}, "spec": {"containers": 5}, "metadata": {"nam": 1}});
        assert_eq!(
            unknown_fields(pod, &object),
            ["unknown field \"Spec\"", "unknown field \"metadata.nam\""]
        );
    }

    #[test]
    fn the_report_is_bounded() {
        let pod = schema_of("io.k8s.api.core.v1.Pod").unwrap().root();
        let object: serde_json::Map<_, _> = (0..500).map(|i| (format!("x{i}"), json!(1))).collect();
        assert_eq!(unknown_fields(pod, &object.into()).len(), MAX);
    }
}
