//! What a write changed: the fields it added, modified and removed.
//!
//! ```
//! use rkube_api::fields::schema_of;
//! use rkube_api::patch::compare;
//! use serde_json::json;
//! let service = schema_of("io.k8s.api.core.v1.Service").expect("a service").root();
//! let changes = compare(
//!     &json!({"spec": {"type": "ClusterIP", "ports": [{"port": 80}]}}),
//!     &json!({"spec": {"type": "NodePort", "ports": [{"port": 90}]}}),
//!     service,
//! );
//! assert_eq!(changes.modified.paths(), [".spec.type"]);
//! assert_eq!(changes.removed.paths()[0], ".spec.ports[port=80,protocol=\"TCP\"]");
//! ```

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::field_set::{FieldSet, element_of, is_map};
use crate::fields::{Kind, SchemaRef};

/// The difference of two objects, as sets of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// In the new one alone.
    pub added: FieldSet,
    /// In both, with another value.
    pub modified: FieldSet,
    /// In the old one alone.
    pub removed: FieldSet,
}

impl Comparison {
    /// Is there no difference?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// Without what is ignored and all below it.
    #[must_use]
    pub fn without(self, ignored: &FieldSet) -> Self {
        Comparison {
            added: self.added.without_below(ignored),
            modified: self.modified.without_below(ignored),
            removed: self.removed.without_below(ignored),
        }
    }
}

/// Compares two objects.
#[must_use]
pub fn compare(old: &Value, new: &Value, schema: SchemaRef<'_>) -> Comparison {
    if old == new {
        return Comparison::default();
    }
    let mut out = Changes::default();
    walk(Some(old), Some(new), schema, &mut out);
    Comparison {
        added: out.added.unwrap_or_default(),
        modified: out.modified.unwrap_or_default(),
        removed: out.removed.unwrap_or_default(),
    }
}

/// The changes at one place; absent where there is none, so that an equal subtree costs nothing.
#[derive(Default)]
struct Changes {
    added: Option<FieldSet>,
    modified: Option<FieldSet>,
    removed: Option<FieldSet>,
}

impl Changes {
    fn mark(set: &mut Option<FieldSet>) {
        set.get_or_insert_default().member = true;
    }

    fn put(&mut self, element: &str, below: Changes) {
        for (set, below) in [
            (&mut self.added, below.added),
            (&mut self.modified, below.modified),
            (&mut self.removed, below.removed),
        ] {
            if let Some(below) = below {
                set.get_or_insert_default().children.insert(element.to_string(), below);
            }
        }
    }
}

/// Compares two values that are known to differ.
fn walk(old: Option<&Value>, new: Option<&Value>, schema: SchemaRef<'_>, out: &mut Changes) {
    let structured = !schema.is_atomic()
        && match (shape(old, schema), shape(new, schema)) {
            (Shape::Map, Shape::Map | Shape::Nothing) | (Shape::Nothing, Shape::Map) => {
                maps(old, new, schema, out)
            }
            (Shape::List, Shape::List | Shape::Nothing) | (Shape::Nothing, Shape::List) => {
                lists(old, new, schema, out)
            }
            _ => false,
        };
    match (old, new) {
        (None, _) => Changes::mark(&mut out.added),
        (_, None) => Changes::mark(&mut out.removed),
        _ if !structured => Changes::mark(&mut out.modified),
        _ => {}
    }
}

enum Shape {
    Map,
    List,
    Scalar,
    Nothing,
}

fn shape(value: Option<&Value>, schema: SchemaRef<'_>) -> Shape {
    match value {
        None | Some(Value::Null) => Shape::Nothing,
        Some(Value::Object(_)) if is_map(schema) => Shape::Map,
        Some(Value::Array(_)) if matches!(schema.kind(), Kind::List { .. }) => Shape::List,
        Some(_) => Shape::Scalar,
    }
}

/// Compares entry by entry; false if both are empty, which makes them one value.
fn maps(old: Option<&Value>, new: Option<&Value>, schema: SchemaRef<'_>, out: &mut Changes) -> bool {
    let none = Map::new();
    let old = old.and_then(Value::as_object).unwrap_or(&none);
    let new = new.and_then(Value::as_object).unwrap_or(&none);
    if old.is_empty() && new.is_empty() {
        return false;
    }
    let fresh = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(fresh) {
        let (old, new) = (old.get(key), new.get(key));
        if old == new {
            continue;
        }
        let mut below = Changes::default();
        walk(old, new, schema.child(key).unwrap_or(schema.unknown()), &mut below);
        out.put(&format!("f:{key}"), below);
    }
    true
}

/// Compares item by item, told apart by their keys; false if both are empty.
fn lists(old: Option<&Value>, new: Option<&Value>, schema: SchemaRef<'_>, out: &mut Changes) -> bool {
    let Some(item) = schema.item() else { return false };
    let (old, new) = (items(old, schema), items(new, schema));
    if old.is_empty() && new.is_empty() {
        return false;
    }
    let fresh = new.keys().filter(|element| !old.contains_key(*element));
    for element in old.keys().chain(fresh) {
        let mut below = Changes::default();
        match (old.get(element).map(Vec::as_slice), new.get(element).map(Vec::as_slice)) {
            (old, new) if old == new => continue,
            (Some([old]), Some([new])) => walk(Some(old), Some(new), item, &mut below),
            (Some([old]), None) => walk(Some(old), None, item, &mut below),
            (None, Some([new])) => walk(None, Some(new), item, &mut below),
            // Several items of one key are one value.
            (None, _) => Changes::mark(&mut below.added),
            (_, None) => Changes::mark(&mut below.removed),
            _ => Changes::mark(&mut below.modified),
        }
        out.put(element, below);
    }
    true
}

fn items<'a>(list: Option<&'a Value>, schema: SchemaRef<'_>) -> BTreeMap<String, Vec<&'a Value>> {
    let mut items: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for (i, item) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
        if let Some(element) = element_of(item, i, schema) {
            items.entry(element).or_default().push(item);
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::schema_of;
    use proptest::prelude::*;
    use serde_json::json;

    fn pods(old: Value, new: Value) -> Comparison {
        compare(&old, &new, schema_of("io.k8s.api.core.v1.Pod").unwrap().root())
    }

    #[test]
    fn what_changes_shows_in_the_right_set() {
        let c = pods(
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"nodeSelector": {"x": "1"}}}),
            json!({"metadata": {"labels": {"a": "9", "c": "3"}}, "spec": {"nodeSelector": {"x": "2"}}}),
        );
        assert_eq!(c.added.paths(), [".metadata.labels.c"]);
        assert_eq!(c.removed.paths(), [".metadata.labels.b"]);
        assert_eq!(c.modified.paths(), [".metadata.labels.a", ".spec.nodeSelector"]);
    }

    #[test]
    fn what_appears_whole_is_a_member_itself() {
        let c = pods(json!({"spec": {"containers": null}}), json!({"spec": {"containers": [{"name": "a"}]}}));
        assert_eq!(
            c.added.to_json(),
            json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}}}}})
        );
        let c = pods(json!({"metadata": {}}), json!({"metadata": {"labels": {"a": "1"}}}));
        assert_eq!(c.added.to_json(), json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}));
        let c = pods(json!({"spec": {"volumes": []}}), json!({"spec": {}}));
        assert_eq!(c.removed.paths(), [".spec.volumes"]);
    }

    fn value() -> impl Strategy<Value = Value> {
        let labels = prop::collection::btree_map("[ab]", "[01]", 0..3);
        let names = prop::collection::btree_map("[ab]", prop::option::of("[xy]"), 0..3);
        let args = prop::collection::vec("[01]", 0..3);
        (labels, names, args, prop::option::of("[np]")).prop_map(|(labels, names, args, node)| {
            let containers: Value =
                names.iter().map(|(n, i)| json!({"name": n, "image": i, "args": args})).collect();
            json!({"metadata": {"labels": labels}, "spec": {"containers": containers, "nodeName": node}})
        })
    }

    proptest! {
        /// Exchanging the two exchanges added and removed; no field is in two sets; equal objects differ in nothing.
        #[test]
        fn comparison_is_symmetric(a in value(), b in value()) {
            let (ab, ba) = (pods(a.clone(), b.clone()), pods(b.clone(), a.clone()));
            prop_assert_eq!(&ab.added, &ba.removed);
            prop_assert_eq!(&ab.modified, &ba.modified);
            prop_assert!(ab.added.intersection(&ab.modified).is_empty());
            prop_assert!(ab.added.intersection(&ab.removed).is_empty());
            prop_assert_eq!(ab.is_empty(), a == b);
        }
    }
}
