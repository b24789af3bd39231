//! Strategic merge patch: a merge patch that knows which lists have keys.
//!
//! Semantics: the document `strategic-merge-patch.md` of SIG API Machinery. Directives: `$patch: delete |
//! replace | merge`, `$retainKeys`, `$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`.
//!
//! ```
//! use rkube_api::fields::schema_of;
//! use rkube_api::patch::strategic::apply;
//! use serde_json::json;
//! let pod = schema_of("io.k8s.api.core.v1.Pod").expect("a pod").root();
//! let object = json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b"}]}});
//! let patch = json!({"spec": {"containers": [{"name": "a", "image": "y"}, {"name": "b", "$patch": "delete"}]}});
//! assert_eq!(apply(object, patch, pod)?, json!({"spec": {"containers": [{"name": "a", "image": "y"}]}}));
//! # Ok::<(), rkube_api::patch::strategic::StrategicError>(())
//! ```

use serde_json::{Map, Value};

use super::strategic_list::{delete_values, merge_list, set_element_order};
use crate::fields::{Field, SchemaRef};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

pub(super) type Object = Map<String, Value>;

/// Why a patch can't be applied. The texts are those that Kubernetes shows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategicError {
    /// The patch or the object is no JSON object.
    #[error("invalid JSON document")]
    NotAnObject,
    /// A `$patch` that isn't known.
    #[error("unknown patch type: {directive} in map: {map}")]
    Directive {
        /// What it says.
        directive: String,
        /// Where it says it.
        map: String,
    },
    /// An item of a keyed list has no key.
    #[error("map: {map} does not contain declared merge key: {key}")]
    NoMergeKey {
        /// The item.
        map: String,
        /// The key.
        key: String,
    },
    /// A list of objects that has no key should merge.
    #[error("cannot merge lists without merge key for {0}")]
    NoKeyDeclared(String),
    /// A list in a list.
    #[error("lists of lists are not supported")]
    ListOfLists,
    /// A list with different kinds of items.
    #[error("list element types are not identical: {0}")]
    MixedList(String),
    /// `$deleteFromPrimitiveList` is no list.
    #[error("invalid patch format of primitive list")]
    PrimitiveList,
    /// `$retainKeys` is no list, or the patch sets what it doesn't retain.
    #[error("invalid patch format of retainKeys")]
    RetainKeys,
    /// `$setElementOrder` is no list.
    #[error("invalid patch format of setElementOrder list")]
    SetElementOrder,
    /// The list of the patch is in another order than `$setElementOrder`.
    #[error("The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n")]
    OrderMismatch {
        /// The list in the patch.
        patch: String,
        /// The order.
        order: String,
    },
}

/// What `$patch` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Directive {
    Merge,
    Replace,
    Delete,
}

/// The object with the patch applied.
pub fn apply(object: Value, patch: Value, schema: SchemaRef<'_>) -> Result<Value, StrategicError> {
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => merge_map(object, patch, schema).map(Value::Object),
        _ => Err(StrategicError::NotAnObject),
    }
}

/// Takes the directive out of a map of the patch.
pub(super) fn take_directive(map: &mut Object) -> Result<Option<Directive>, StrategicError> {
    let Some(directive) = map.remove(DIRECTIVE) else { return Ok(None) };
    match directive.as_str() {
        Some("merge") => Ok(Some(Directive::Merge)),
        Some("replace") => Ok(Some(Directive::Replace)),
        Some("delete") => Ok(Some(Directive::Delete)),
        _ => {
            let shown = go_text(&directive);
            map.insert(DIRECTIVE.to_string(), directive);
            Err(StrategicError::Directive { directive: shown, map: go_map(map) })
        }
    }
}

pub(super) fn merge_map(
    mut original: Object,
    mut patch: Object,
    schema: SchemaRef<'_>,
) -> Result<Object, StrategicError> {
    match take_directive(&mut patch)? {
        Some(Directive::Replace) => return Ok(without_directives_map(patch)),
        Some(Directive::Delete) => return Ok(Object::new()),
        Some(Directive::Merge) | None => {}
    }
    retain_keys(&mut original, &mut patch)?;
    let ordered: Vec<String> = patch.keys().filter(|k| k.starts_with(SET_ORDER)).cloned().collect();
    for directive in ordered {
        let order = patch.remove(&directive).unwrap_or_default();
        set_order(&mut original, &mut patch, &directive[SET_ORDER.len()..], order, schema)?;
    }
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix(DELETE_FROM) {
            let Value::Array(values) = value else { return Err(StrategicError::PrimitiveList) };
            if let Some(Value::Array(items)) = original.get_mut(list) {
                delete_values(items, &values);
            }
            continue;
        }
        let old = original.remove(&key);
        if value.is_null() {
            continue;
        }
        if let Some(new) = merge_value(old, value, &key, schema)? {
            original.insert(key, new);
        }
    }
    Ok(original)
}

fn merge_value(
    old: Option<Value>,
    new: Value,
    key: &str,
    schema: SchemaRef<'_>,
) -> Result<Option<Value>, StrategicError> {
    static PLAIN: std::sync::LazyLock<Field> = std::sync::LazyLock::new(Field::default);
    let patch = &schema.field(key).unwrap_or(&PLAIN).patch;
    let child = schema.child(key).unwrap_or(schema.unknown());
    match (old, new) {
        (Some(Value::Object(_)), new @ Value::Object(_)) if patch.replace => Ok(Some(new)),
        (Some(Value::Object(old)), Value::Object(new)) => {
            merge_map(old, new, child).map(|map| Some(Value::Object(map)))
        }
        (Some(Value::Array(old)), Value::Array(new)) if patch.merge => {
            let item = child.item().unwrap_or(schema.unknown());
            merge_list(old, new, patch.merge_key.as_deref(), item).map(|list| Some(Value::Array(list)))
        }
        (Some(Value::Array(_)), new @ Value::Array(_)) => Ok(Some(new)),
        (_, new) => Ok(without_directives(new)),
    }
}

/// Removes what `$retainKeys` doesn't name.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), StrategicError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(keys) = keys else { return Err(StrategicError::RetainKeys) };
    let keeps = |key: &str| keys.iter().any(|k| k.as_str() == Some(key));
    let foreign = patch.iter().any(|(key, value)| {
        !value.is_null() && !key.starts_with(DELETE_FROM) && !key.starts_with(SET_ORDER) && !keeps(key)
    });
    if foreign {
        return Err(StrategicError::RetainKeys);
    }
    original.retain(|key, _| keeps(key));
    Ok(())
}

/// Merges one list and puts it into the order asked for.
fn set_order(
    original: &mut Object,
    patch: &mut Object,
    list: &str,
    order: Value,
    schema: SchemaRef<'_>,
) -> Result<(), StrategicError> {
    let Value::Array(order) = order else { return Err(StrategicError::SetElementOrder) };
    let array = |value: Option<Value>| match value {
        None => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(_) => Err(StrategicError::SetElementOrder),
    };
    let old = array(original.get(list).cloned())?;
    let new = array(patch.get(list).cloned())?;
    let strategy = schema.field(list).map(|f| f.patch.clone()).unwrap_or_default();
    let key = strategy.merge_key.as_deref();
    let item = schema.child(list).and_then(SchemaRef::item).unwrap_or(schema.unknown());
    let merged = match (&old, new) {
        (None, None) => return Ok(()),
        (Some(old), None) => old.clone(),
        (None, Some(new)) => {
            check_order(&new, &order, key)?;
            new.into_iter().filter_map(without_directives).collect()
        }
        (Some(old), Some(new)) => {
            check_order(&new, &order, key)?;
            if strategy.merge { merge_list(old.clone(), new, key, item)? } else { new }
        }
    };
    patch.remove(list);
    let ordered = set_element_order(merged, &order, old.as_deref().unwrap_or_default(), key)?;
    original.insert(list.to_string(), Value::Array(ordered));
    Ok(())
}

/// The items of the patch must come in the order asked for.
fn check_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), StrategicError> {
    if order.is_empty() || patch.is_empty() {
        return Ok(());
    }
    let mut wanted = order.iter();
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let same = |candidate: &Value| match key {
            Some(key) => candidate.get(key) == item.get(key),
            None => candidate == item,
        };
        if !wanted.any(same) {
            return Err(StrategicError::OrderMismatch { patch: go_list(patch), order: go_list(order) });
        }
    }
    Ok(())
}

/// A value of the patch as it enters the object: no nulls, no directives; none if it was to be deleted.
pub(super) fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(DIRECTIVE) => None,
        Value::Object(map) => Some(Value::Object(without_directives_map(map))),
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

fn without_directives_map(map: Object) -> Object {
    map.into_iter()
        .filter(|(key, value)| {
            !value.is_null()
                && key != RETAIN_KEYS
                && !key.starts_with(SET_ORDER)
                && !key.starts_with(DELETE_FROM)
        })
        .filter_map(|(key, value)| without_directives(value).map(|value| (key, value)))
        .collect()
}

/// A value as Go prints it (`map[a:1 b:[x y]]`), which is what messages show.
fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_string(),
        Value::String(s) => s.clone(),
        Value::Array(items) => go_list(items),
        Value::Object(map) => go_map(map),
        other => other.to_string(),
    }
}

pub(super) fn go_map(map: &Object) -> String {
    let entries: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_text(v))).collect();
    format!("map[{}]", entries.join(" "))
}

pub(super) fn go_list(items: &[Value]) -> String {
    let items: Vec<String> = items.iter().map(go_text).collect();
    format!("[{}]", items.join(" "))
}

#[cfg(test)]
#[path = "strategic_tests.rs"]
mod tests;
