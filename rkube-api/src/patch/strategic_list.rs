//! The lists of a strategic merge: merged by key or as sets, in an order that respects the server's.
//!
//! Items are found through an index of their identities, so a long patch costs no more than sorting it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::strategic::{
    Directive, StrategicError, go_list, go_map, merge_map, take_directive, without_directives,
};
use crate::fields::SchemaRef;

type Result<T> = std::result::Result<T, StrategicError>;

/// Takes the values out of a list.
pub(super) fn delete_values(items: &mut Vec<Value>, values: &[Value]) {
    let gone: BTreeSet<String> = values.iter().map(ToString::to_string).collect();
    items.retain(|item| !gone.contains(&item.to_string()));
}

/// What tells an item from the others: its key, or itself.
fn identity(item: &Value, key: Option<&str>) -> Result<String> {
    let Some(key) = key else { return Ok(item.to_string()) };
    item.get(key).map(ToString::to_string).ok_or_else(|| StrategicError::NoMergeKey {
        map: item.as_object().map(go_map).unwrap_or_default(),
        key: key.to_string(),
    })
}

/// Where each identity first stands.
fn positions(list: &[Value], key: Option<&str>) -> Result<BTreeMap<String, usize>> {
    let mut places = BTreeMap::new();
    for (i, item) in list.iter().enumerate() {
        places.entry(identity(item, key)?).or_insert(i);
    }
    Ok(places)
}

/// Merges a list of the patch into the object's.
pub(super) fn merge_list(
    original: Vec<Value>,
    patch: Vec<Value>,
    key: Option<&str>,
    item: SchemaRef<'_>,
) -> Result<Vec<Value>> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    if !holds_objects(&original, &patch)? {
        let mut seen = BTreeSet::new();
        let merged: Vec<Value> =
            original.iter().chain(&patch).filter(|v| seen.insert(v.to_string())).cloned().collect();
        return set_element_order(merged, &patch, &original, None);
    }
    let Some(key) = key else {
        return Err(StrategicError::NoKeyDeclared(item.type_name().unwrap_or_default().to_string()));
    };
    let (original, patch) = special_items(original, patch, key)?;
    let merged = merge_items(original.clone(), &patch, key, item)?;
    set_element_order(merged, &patch, &original, Some(key))
}

/// All items must be of one kind; says whether it is objects.
fn holds_objects(original: &[Value], patch: &[Value]) -> Result<bool> {
    let mut first: Option<&Value> = None;
    for item in original.iter().chain(patch) {
        if item.is_array() {
            return Err(StrategicError::ListOfLists);
        }
        let like = *first.get_or_insert(item);
        if std::mem::discriminant(like) != std::mem::discriminant(item) {
            let lists = format!("[{} {}]", go_list(original), go_list(patch));
            return Err(StrategicError::MixedList(lists));
        }
    }
    Ok(first.is_some_and(Value::is_object))
}

/// Carries out the items that hold a directive; what is left merges.
fn special_items(mut original: Vec<Value>, patch: Vec<Value>, key: &str) -> Result<(Vec<Value>, Vec<Value>)> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut gone = BTreeSet::new();
    let mut replace = false;
    for item in patch {
        let Value::Object(mut map) = item else { continue };
        let directive = take_directive(&mut map)?;
        let item = Value::Object(map);
        match directive {
            None | Some(Directive::Merge) => plain.push(item),
            Some(Directive::Replace) => replace = true,
            Some(Directive::Delete) => {
                gone.insert(identity(&item, Some(key))?);
            }
        }
    }
    if replace {
        return Ok((plain.into_iter().filter_map(without_directives).collect(), Vec::new()));
    }
    original.retain(|item| identity(item, Some(key)).is_ok_and(|id| !gone.contains(&id)) || gone.is_empty());
    Ok((original, plain))
}

fn merge_items(
    mut merged: Vec<Value>,
    patch: &[Value],
    key: &str,
    schema: SchemaRef<'_>,
) -> Result<Vec<Value>> {
    let mut places = positions(&merged, Some(key))?;
    for item in patch {
        let id = identity(item, Some(key))?;
        match places.get(&id).and_then(|at| merged.get_mut(*at)) {
            Some(slot) => {
                if let (Value::Object(old), Value::Object(new)) = (slot.take(), item.clone()) {
                    *slot = Value::Object(merge_map(old, new, schema)?);
                }
            }
            None => {
                places.insert(id, merged.len());
                merged.extend(without_directives(item.clone()));
            }
        }
    }
    Ok(merged)
}

/// Puts the merged items in order: those of the patch as it has them, those only the server has as it had
/// them, and between the two the server's order where it knew both.
pub(super) fn set_element_order(
    merged: Vec<Value>,
    order: &[Value],
    server: &[Value],
    key: Option<&str>,
) -> Result<Vec<Value>> {
    let (order, server) = (positions(order, key)?, positions(server, key)?);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for item in merged {
        let id = identity(&item, key)?;
        let known = server.get(&id).copied();
        match order.get(&id) {
            Some(place) => ours.push((*place, known, item)),
            None => theirs.push((known.unwrap_or(usize::MAX), known, item)),
        }
    }
    ours.sort_by_key(|(place, ..)| *place);
    theirs.sort_by_key(|(place, ..)| *place);

    let mut sorted = Vec::with_capacity(ours.len() + theirs.len());
    let (mut ours, mut theirs) = (ours.into_iter().peekable(), theirs.into_iter().peekable());
    loop {
        let theirs_first = match (theirs.peek(), ours.peek()) {
            (None, None) => return Ok(sorted),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some((_, theirs, _)), Some((_, ours, _))) => {
                matches!((theirs, ours), (Some(theirs), Some(ours)) if theirs < ours)
            }
        };
        let next = if theirs_first { theirs.next() } else { ours.next() };
        sorted.extend(next.map(|(_, _, item)| item));
    }
}
