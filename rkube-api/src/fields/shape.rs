//! Fits a value to a schema: unknown fields go, defaults come.

use serde_json::Value;

use super::schema::{Kind, Schema, SchemaRef};

impl Schema {
    /// Removes the fields that the schema doesn't know.
    pub fn prune(&self, value: &mut Value) {
        prune(self.root(), value);
    }

    /// Puts the defaults in where a field is absent, or null where it may not be.
    pub fn default(&self, value: &mut Value) {
        default(self.root(), value);
    }
}

fn prune(schema: SchemaRef<'_>, value: &mut Value) {
    match (schema.kind(), value) {
        (Kind::Any, _) => {}
        (Kind::Object(_) | Kind::Map { .. }, Value::Object(map)) => {
            map.retain(|key, value| match schema.child(key) {
                Some(child) => {
                    prune(child, value);
                    true
                }
                None => false,
            });
        }
        (Kind::List { .. }, Value::Array(items)) => {
            let Some(item) = schema.item() else { return };
            items.iter_mut().for_each(|value| prune(item, value));
        }
        _ => {}
    }
}

fn default(schema: SchemaRef<'_>, value: &mut Value) {
    match (schema.kind(), value) {
        (Kind::Object(object), Value::Object(map)) => {
            for (name, field) in &object.fields {
                let Some(child) = schema.child(name) else { continue };
                let missing = match map.get(name) {
                    None => true,
                    Some(Value::Null) => !child.node().rules.as_ref().is_some_and(|r| r.nullable),
                    Some(_) => false,
                };
                if let Some(value) = field.default.as_ref().filter(|_| missing) {
                    map.insert(name.clone(), value.clone());
                }
                if let Some(value) = map.get_mut(name) {
                    default(child, value);
                }
            }
        }
        (Kind::Map { .. }, Value::Object(map)) => {
            for (key, value) in map {
                if let Some(child) = schema.child(key) {
                    default(child, value);
                }
            }
        }
        (Kind::List { .. }, Value::Array(items)) => {
            let Some(item) = schema.item() else { return };
            items.iter_mut().for_each(|value| default(item, value));
        }
        _ => {}
    }
}
