//! Puts values into the one form in which the API server stores them: quantities canonical, times in UTC
//! and whole seconds (microseconds where the type says so).
//!
//! ```
//! use rkube_api::fields::{normalize, schema_of};
//! let pod = schema_of("io.k8s.api.core.v1.Pod").expect("a pod").root();
//! let mut object = serde_json::json!({
//!     "metadata": {"deletionTimestamp": "2026-01-01T02:00:00.5+02:00"},
//!     "spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}]},
//! });
//! assert!(normalize(pod, &mut object).is_empty());
//! assert_eq!(object["metadata"]["deletionTimestamp"], "2026-01-01T00:00:00Z");
//! assert_eq!(
//!     object["spec"]["containers"][0]["resources"]["limits"],
//!     serde_json::json!({"cpu": "500m", "memory": "1Gi"})
//! );
//! ```

use jiff::Timestamp;
use serde_json::Value;

use super::schema::{Kind, SchemaRef};
use crate::meta::Quantity;
use crate::meta::validation::{ErrorList, FieldError, FieldPath};

/// Normalizes all that can be; what can't is left as it is, and told.
pub fn normalize(schema: SchemaRef<'_>, object: &mut Value) -> ErrorList {
    let mut errors = ErrorList::new();
    walk(schema, object, &FieldPath::root(), &mut errors);
    errors
}

fn walk(schema: SchemaRef<'_>, value: &mut Value, path: &FieldPath<'_>, errors: &mut ErrorList) {
    match (schema.kind(), value) {
        (Kind::Object(_) | Kind::Map { .. }, Value::Object(map)) => {
            for (key, value) in map {
                if let Some(child) = schema.child(key) {
                    walk(child, value, &path.child(key), errors);
                }
            }
        }
        (Kind::List { .. }, Value::Array(items)) => {
            let Some(item) = schema.item() else { return };
            for (i, value) in items.iter_mut().enumerate() {
                walk(item, value, &path.index(i), errors);
            }
        }
        (Kind::Quantity, value) => quantity(value, path, errors),
        (Kind::Time, Value::String(text)) => time(text, schema, path, errors),
        _ => {}
    }
}

fn quantity(value: &mut Value, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let text = match value {
        Value::String(text) => text.trim().to_string(),
        Value::Number(number) => number.to_string(),
        _ => return,
    };
    match text.parse::<Quantity>() {
        Ok(quantity) => *value = Value::String(quantity.to_string()),
        Err(error) => errors.push(FieldError::invalid(path, &*value, error.to_string())),
    }
}

fn time(text: &mut String, schema: SchemaRef<'_>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let Ok(time) = text.parse::<Timestamp>() else {
        errors.push(FieldError::invalid(path, &*text, "must be a time in the form of RFC 3339"));
        return;
    };
    let micro = schema.type_name().is_some_and(|name| name.ends_with(".MicroTime"));
    *text = if micro { format!("{time:.6}") } else { format!("{time:.0}") };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::schema_of;
    use serde_json::json;

    #[test]
    fn times_have_the_precision_of_their_type() {
        let lease = schema_of("io.k8s.api.coordination.v1.Lease").unwrap().root();
        for (text, micro, second) in [
            ("2026-01-01T00:00:00.1234567Z", "2026-01-01T00:00:00.123456Z", "2026-01-01T00:00:00Z"),
            ("2026-01-01T00:00:00.9999999Z", "2026-01-01T00:00:00.999999Z", "2026-01-01T00:00:00Z"),
            ("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:00Z"),
        ] {
            let mut object = json!({"metadata": {"creationTimestamp": text}, "spec": {"renewTime": text}});
            assert!(normalize(lease, &mut object).is_empty());
            assert_eq!(object["spec"]["renewTime"], micro);
            assert_eq!(object["metadata"]["creationTimestamp"], second);
        }
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let pod = schema_of("io.k8s.api.core.v1.Pod").unwrap().root();
        let mut object = json!({"metadata": {"creationTimestamp": null, "deletionTimestamp": "now"},
            "spec": {"overhead": {"cpu": "x", "memory": 1}}});
        let errors: Vec<String> = normalize(pod, &mut object).iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "metadata.deletionTimestamp: Invalid value: \"now\": must be a time in the form of RFC 3339",
                "spec.overhead.cpu: Invalid value: \"x\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ]
        );
        assert_eq!(object["spec"]["overhead"], json!({"cpu": "x", "memory": "1"}));
    }
}
