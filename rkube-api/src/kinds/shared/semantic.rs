//! Equality as Kubernetes means it: an absent list, map or text equals an empty one.

use serde::Serialize;
use serde_json::Value;

/// Whether both mean the same. The plain comparison comes first, so that equals cost nothing.
pub(crate) fn equal<T: PartialEq + Serialize>(a: &T, b: &T) -> bool {
    a == b || matches!((pruned(a), pruned(b)), (Some(a), Some(b)) if a == b)
}

fn pruned<T: Serialize>(value: &T) -> Option<Value> {
    let mut value = serde_json::to_value(value).ok()?;
    prune(&mut value);
    Some(value)
}

/// Takes out what is empty, from the inside out.
fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(prune);
            fields.retain(|_, value| !is_empty(value));
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// What differs, one field a line, at most twenty lines.
pub(crate) fn difference<T: Serialize>(new: &T, old: &T) -> String {
    let mut lines = Vec::new();
    if let (Some(new), Some(old)) = (pruned(new), pruned(old)) {
        compare("", &new, &old, &mut lines);
    }
    lines.truncate(20);
    lines.join("\n")
}

fn compare(path: &str, new: &Value, old: &Value, lines: &mut Vec<String>) {
    let nothing = Value::Null;
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            let added = new.keys().filter(|key| !old.contains_key(*key));
            for key in old.keys().chain(added) {
                let (new, old) = (new.get(key).unwrap_or(&nothing), old.get(key).unwrap_or(&nothing));
                compare(&format!("{path}.{key}"), new, old, lines);
            }
        }
        (Value::Array(new), Value::Array(old)) if new.len() == old.len() => {
            for (at, (new, old)) in new.iter().zip(old).enumerate() {
                compare(&format!("{path}[{at}]"), new, old, lines);
            }
        }
        (new, old) if new != old => {
            lines.push(format!("  {}: {old} -> {new}", path.trim_start_matches('.')));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn empty_is_absent() {
        assert!(equal(&json!({"a": 1, "b": [], "c": {"d": ""}}), &json!({"a": 1})));
        assert!(!equal(&json!({"a": false}), &json!({"a": true})));
        assert!(!equal(&json!({"a": [""]}), &json!({"a": []})));
    }

    #[test]
    fn differences_name_fields() {
        let (new, old) = (json!({"a": [{"b": 1}], "c": 1}), json!({"a": [{"b": 2}], "d": true}));
        assert_eq!(difference(&new, &old), "  a[0].b: 2 -> 1\n  d: true -> null\n  c: null -> 1");
    }
}
