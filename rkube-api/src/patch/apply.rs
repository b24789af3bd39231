//! Server-side apply (KEP-555): a manager says all it wants of an object; what it wanted before and wants
//! no more goes, unless somebody else wants it.
//!
//! ```
//! use rkube_api::fields::schema_of;
//! use rkube_api::patch::{apply::apply, managed::Writer};
//! use serde_json::json;
//! let schema = schema_of("io.k8s.api.core.v1.ConfigMap").expect("a config map").root();
//! let now = jiff::Timestamp::UNIX_EPOCH;
//! let writer = Writer { manager: "me", api_version: "v1", subresource: "", now, ignored: None };
//! let first = apply(None, &json!({"data": {"a": "1", "b": "2"}}), &[], schema, &writer, false)?;
//! let second = apply(Some(&first.object), &json!({"data": {"a": "1"}}), &first.entries, schema, &writer, false)?;
//! assert_eq!(second.object, json!({"data": {"a": "1"}}));
//! # Ok::<(), rkube_api::patch::apply::ApplyError>(())
//! ```

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::{Map, Value};

use super::compare::compare;
use super::field_set::{FieldSet, element_of, is_map};
use super::last_applied;
use super::managed::{self, Operation, Owner, Writer};
use crate::fields::{Kind, SchemaRef};

/// The result of an apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The object, without managedFields.
    pub object: Value,
    /// Its managedFields.
    pub entries: Vec<ManagedFieldsEntry>,
    /// Is the object (managedFields apart) another than before?
    pub changed: bool,
}

/// A field that somebody else owns with another value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The owner, as messages name it: `"kubectl-edit" using apps/v1`.
    pub manager: String,
    /// The field: `.spec.replicas`.
    pub field: String,
}

/// Why an object can't be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others own some of the fields with other values (409, causes `FieldManagerConflict`).
    #[error("{}", conflict_message(.0))]
    Conflict(Vec<Conflict>),
    /// The client sent managedFields (400).
    #[error("metadata.managedFields must be nil")]
    ManagedFields,
    /// The object is no JSON object (400).
    #[error("the object applied must be a JSON object")]
    NotAnObject,
    /// A keyed list has one key twice (400).
    #[error("duplicate entries for key {0}")]
    Duplicate(String),
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", only.manager, only.field);
    }
    let mut by_manager: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for conflict in conflicts {
        by_manager.entry(&conflict.manager).or_default().push(&conflict.field);
    }
    let mut lines = Vec::new();
    for (manager, fields) in by_manager {
        lines.push(format!("conflicts with {manager}:"));
        lines.extend(fields.iter().map(|field| format!("- {field}")));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// Applies `config` to the live object (none: it is created).
pub fn apply(
    live: Option<&Value>,
    config: &Value,
    entries: &[ManagedFieldsEntry],
    schema: SchemaRef<'_>,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Applied, ApplyError> {
    if !config.is_object() {
        return Err(ApplyError::NotAnObject);
    }
    if config.pointer("/metadata/managedFields").is_some_and(|m| !m.is_null()) {
        return Err(ApplyError::ManagedFields);
    }
    no_duplicates(config, schema)?;
    let mut owners = owners_of(live, entries, schema, writer);
    let old = live.map_or_else(|| Value::Object(Map::new()), without_managed_fields);

    let mut wanted = FieldSet::of(config, schema);
    if let Some(ignored) = writer.ignored {
        wanted = wanted.without_below(ignored);
    }
    let me = Owner::new(writer, Operation::Apply, managed::without_server_fields(&wanted));
    let before = owners.iter().position(|o| o.is(&me)).map(|at| owners.remove(at));

    let mut new = merge(Some(&old), Some(config), schema);
    if let Some(before) = &before {
        let mut keep = wanted;
        owners.iter().for_each(|o| keep.add(&o.set));
        prune(&mut new, &before.set, &keep, schema);
    }

    let mut changes = compare(&old, &new, schema);
    if let Some(ignored) = writer.ignored {
        changes = changes.without(ignored);
    }
    let mut touched = changes.added.union(&changes.modified);
    if writer.manager == last_applied::MANAGER {
        touched = touched.difference(&last_applied::standing(&old, writer.api_version, schema));
    }
    let conflicts = conflicts(&owners, &touched);
    if !conflicts.is_empty() && !force {
        return Err(ApplyError::Conflict(conflicts));
    }
    managed::disown(&mut owners, &changes);
    let changed = live.is_none() || old != new;
    let time = before.filter(|b| !changed && b.set == me.set).map(|b| b.time);
    if writer.manager == last_applied::MANAGER {
        last_applied::follow(&mut new, config);
    }
    owners.push(Owner { time: time.unwrap_or_else(|| me.time.clone()), ..me });
    Ok(Applied { object: new, entries: managed::encode(owners), changed })
}

/// The owners so far. An object of which no book was kept belongs to those before the first apply.
fn owners_of(
    live: Option<&Value>,
    entries: &[ManagedFieldsEntry],
    schema: SchemaRef<'_>,
    writer: &Writer<'_>,
) -> Vec<Owner> {
    match (managed::decode(entries), live) {
        (Ok(owners), _) if !owners.is_empty() => owners,
        (_, Some(live)) => {
            let before = Writer { manager: "before-first-apply", ..*writer };
            let entries = managed::update(None, live, Vec::new(), schema, &before);
            managed::decode(&entries).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

fn without_managed_fields(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
    }
    object
}

fn conflicts(owners: &[Owner], touched: &FieldSet) -> Vec<Conflict> {
    let mut conflicts: Vec<Conflict> = owners
        .iter()
        .flat_map(|owner| {
            let manager = owner.shown();
            owner
                .set
                .intersection(touched)
                .paths()
                .into_iter()
                .map(move |field| Conflict { manager: manager.clone(), field })
        })
        .collect();
    conflicts.sort();
    conflicts
}

/// An applied list may name no key twice.
fn no_duplicates(value: &Value, schema: SchemaRef<'_>) -> Result<(), ApplyError> {
    match value {
        _ if schema.is_atomic() => Ok(()),
        Value::Object(map) => map
            .iter()
            .try_for_each(|(key, value)| no_duplicates(value, schema.child(key).unwrap_or(schema.unknown()))),
        Value::Array(items) if matches!(schema.kind(), Kind::List { .. }) => {
            let mut seen = std::collections::BTreeSet::new();
            for (i, item) in items.iter().enumerate() {
                if let Some(element) = element_of(item, i, schema)
                    && !seen.insert(element.clone())
                {
                    return Err(ApplyError::Duplicate(element));
                }
                no_duplicates(item, schema.item().unwrap_or(schema.unknown()))?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The live value with the applied one laid over it.
fn merge(live: Option<&Value>, config: Option<&Value>, schema: SchemaRef<'_>) -> Value {
    let (live, config) = match (live, config) {
        (live, None) => return live.cloned().unwrap_or_default(),
        (None, Some(config)) => return config.clone(),
        (Some(live), Some(config)) => (live, config),
    };
    match (live, config) {
        _ if schema.is_atomic() => config.clone(),
        (Value::Object(old), Value::Object(new)) if is_map(schema) => {
            let mut out = old.clone();
            for (key, value) in new {
                let below = schema.child(key).unwrap_or(schema.unknown());
                out.insert(key.clone(), merge(old.get(key), Some(value), below));
            }
            Value::Object(out)
        }
        (Value::Array(old), Value::Array(new)) if matches!(schema.kind(), Kind::List { .. }) => {
            Value::Array(merge_items(old, new, schema))
        }
        _ => config.clone(),
    }
}

/// The items of both: shared ones in the applied order, each live one where it stood among them.
fn merge_items(old: &[Value], new: &[Value], schema: SchemaRef<'_>) -> Vec<Value> {
    let item = schema.item().unwrap_or(schema.unknown());
    let keyed = |list: &[Value]| -> Vec<String> {
        list.iter().enumerate().filter_map(|(i, v)| element_of(v, i, schema)).collect()
    };
    let (old_keys, new_keys) = (keyed(old), keyed(new));
    let mut old_at: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, key) in old_keys.iter().enumerate() {
        old_at.entry(key).or_insert(i);
    }
    let in_new: std::collections::BTreeSet<&str> = new_keys.iter().map(String::as_str).collect();
    let mut merged = Vec::with_capacity(old.len() + new.len());
    let mut next = 0;
    for (key, value) in new_keys.iter().zip(new) {
        let at = old_at.get(key.as_str()).copied();
        // Live items that stand before this shared one come first.
        while let Some(at) = at
            && next < at
        {
            if !in_new.contains(old_keys[next].as_str()) {
                merged.push(old[next].clone());
            }
            next += 1;
        }
        next = at.map_or(next, |at| next.max(at + 1));
        merged.push(merge(at.map(|at| &old[at]), Some(value), item));
    }
    let rest = (next..old.len()).filter(|i| !in_new.contains(old_keys[*i].as_str()));
    merged.extend(rest.map(|i| old[i].clone()));
    merged
}

/// Removes what was wanted and is wanted by nobody any more.
fn prune(value: &mut Value, before: &FieldSet, keep: &FieldSet, schema: SchemaRef<'_>) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| {
                let element = format!("f:{key}");
                let Some(was) = before.children.get(&element) else { return true };
                let Some(kept) = keep.children.get(&element) else { return false };
                prune(value, was, kept, schema.child(key).unwrap_or(schema.unknown()));
                true
            });
        }
        Value::Array(items) => {
            let item_schema = schema.item().unwrap_or(schema.unknown());
            let mut index = 0;
            items.retain_mut(|item| {
                let element = element_of(item, index, schema);
                index += 1;
                let Some(element) = element else { return true };
                let Some(was) = before.children.get(&element) else { return true };
                let Some(kept) = keep.children.get(&element) else { return false };
                prune(item, was, kept, item_schema);
                true
            });
        }
        _ => {}
    }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
