//! Sets of fields, in the format of managedFields (fieldsV1, structured-merge-diff).
//!
//! A set is a tree whose edges are the format's own keys: `f:name` (a field or map key), `k:{...}` (an item
//! of a keyed list), `v:...` (an item of a set), `i:n` (an item by position).
//!
//! ```
//! use rkube_api::patch::FieldSet;
//! use serde_json::json;
//! let set = FieldSet::from_json(&json!({"f:spec": {"f:ports": {"k:{\"port\": 80}": {".": {}, "f:port": {}}}}}))?;
//! let paths: Vec<String> = set.paths();
//! assert_eq!(paths, [".spec.ports[port=80]", ".spec.ports[port=80].port"]);
//! # Ok::<(), rkube_api::patch::field_set::FieldSetError>(())
//! ```

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::fields::{Kind, ListShape, SchemaRef};
use crate::meta::validation::go_quoted;

/// Why something is no fieldsV1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldSetError {
    /// A key of no known form.
    #[error("invalid key in fieldsV1: {0}")]
    Key(String),
    /// A value that is no object.
    #[error("fieldsV1 must be an object")]
    NotAnObject,
}

/// A set of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Is the place itself in the set?
    pub(super) member: bool,
    pub(super) children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// A set of field paths, each with all that is below it when used with [`FieldSet::without_below`].
    #[must_use]
    pub fn of_paths(paths: &[&[&str]]) -> Self {
        let mut set = FieldSet::default();
        for path in paths {
            let mut at = &mut set;
            for name in *path {
                at = at.children.entry(format!("f:{name}")).or_default();
            }
            at.member = true;
        }
        set
    }

    /// Every field that a value sets, as apply sees it.
    #[must_use]
    pub fn of(value: &Value, schema: SchemaRef<'_>) -> Self {
        let mut set = FieldSet::default();
        collect(value, schema, &mut set);
        set.member = false;
        set
    }

    /// Is nothing in it?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(FieldSet::is_empty)
    }

    pub(super) fn child(&mut self, element: String) -> &mut FieldSet {
        self.children.entry(element).or_default()
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &FieldSet) -> FieldSet {
        let mut out = self.clone();
        out.add(other);
        out
    }

    /// Adds what is in the other.
    pub fn add(&mut self, other: &FieldSet) {
        self.member |= other.member;
        for (element, theirs) in &other.children {
            self.children.entry(element.clone()).or_default().add(theirs);
        }
    }

    /// What is in this and not in the other.
    #[must_use]
    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        self.filtered(self.member && !other.member, |element, child| match other.children.get(element) {
            Some(theirs) => child.difference(theirs),
            None => child.clone(),
        })
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        self.filtered(self.member && other.member, |element, child| match other.children.get(element) {
            Some(theirs) => child.intersection(theirs),
            None => FieldSet::default(),
        })
    }

    /// What is in this, and neither in the other nor below something in it.
    #[must_use]
    pub fn without_below(&self, other: &FieldSet) -> FieldSet {
        if other.member {
            return FieldSet::default();
        }
        self.filtered(self.member, |element, child| match other.children.get(element) {
            Some(theirs) => child.without_below(theirs),
            None => child.clone(),
        })
    }

    fn filtered(&self, member: bool, keep: impl Fn(&str, &FieldSet) -> FieldSet) -> FieldSet {
        let children = self.children.iter().filter_map(|(element, child)| {
            let child = keep(element, child);
            (!child.is_empty()).then(|| (element.clone(), child))
        });
        FieldSet { member, children: children.collect() }
    }

    /// The set as fieldsV1.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        for (element, child) in &self.children {
            let mut below = child.to_json();
            if let Value::Object(below) = &mut below
                && child.member
                && !below.is_empty()
            {
                below.insert(".".to_string(), Value::Object(Map::new()));
            }
            map.insert(element.clone(), below);
        }
        Value::Object(map)
    }

    /// Reads fieldsV1. An empty object says that the place itself is in the set.
    pub fn from_json(value: &Value) -> Result<Self, FieldSetError> {
        let mut set = FieldSet::default();
        for (key, below) in value.as_object().ok_or(FieldSetError::NotAnObject)? {
            if key == "." {
                set.member = true;
                continue;
            }
            let mut child = FieldSet::from_json(below)?;
            child.member |= child.children.is_empty();
            set.child(normal(key)?).add(&child);
        }
        Ok(set)
    }

    /// The paths of all members, as messages show them: `.spec.containers[name="a"].image`.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.write_paths(&mut String::new(), &mut paths);
        paths
    }

    fn write_paths(&self, at: &mut String, paths: &mut Vec<String>) {
        if self.member {
            paths.push(at.clone());
        }
        for (element, child) in &self.children {
            let length = at.len();
            at.push_str(&shown(element));
            child.write_paths(at, paths);
            at.truncate(length);
        }
    }
}

/// A key in the form we write, however the client wrote it.
fn normal(key: &str) -> Result<String, FieldSetError> {
    let wrong = || FieldSetError::Key(key.to_string());
    let json = |text: &str| serde_json::from_str::<Value>(text).map_err(|_| wrong());
    match key.split_once(':').ok_or_else(wrong)? {
        ("f", _) => Ok(key.to_string()),
        ("k", text) => match json(text)? {
            value @ Value::Object(_) => Ok(format!("k:{value}")),
            _ => Err(wrong()),
        },
        ("v", text) => Ok(format!("v:{}", json(text)?)),
        ("i", text) => text.parse::<i64>().map(|i| format!("i:{i}")).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

/// One element as part of a path.
fn shown(element: &str) -> String {
    let text = |value: &Value| match value {
        Value::String(s) => go_quoted(s),
        other => other.to_string(),
    };
    match element.split_at_checked(2) {
        Some(("f:", name)) => format!(".{name}"),
        Some(("i:", index)) => format!("[{index}]"),
        Some(("v:", value)) => format!("[={value}]"),
        Some(("k:", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={}", text(v))).collect();
            format!("[{}]", keys.join(","))
        }
        _ => element.to_string(),
    }
}

/// What tells an item of a list from the others; none for a list that is one value.
pub(super) fn element_of(item: &Value, index: usize, list: SchemaRef<'_>) -> Option<String> {
    match list.list_shape() {
        ListShape::Atomic => None,
        ListShape::Set => Some(format!("v:{item}")),
        ListShape::Map(keys) => {
            let schema = list.item();
            let value = |key: &String| {
                let default = || schema.and_then(|s| s.field(key)).and_then(|f| f.default.clone());
                Some((key.clone(), item.get(key).cloned().or_else(default)?))
            };
            let found: Option<Map<String, Value>> = keys.iter().map(value).collect();
            match found {
                Some(found) => Some(format!("k:{}", Value::Object(found))),
                // An item that lacks a key can still be told by where it stands.
                None => Some(format!("i:{index}")),
            }
        }
    }
}

fn collect(value: &Value, schema: SchemaRef<'_>, set: &mut FieldSet) {
    match value {
        _ if schema.is_atomic() => set.member = true,
        Value::Object(map) if is_map(schema) => {
            for (key, value) in map {
                // What the kind does not know is not kept, so nobody owns it.
                let Some(below) = schema.child(key) else { continue };
                let mut child = FieldSet::default();
                collect(value, below, &mut child);
                let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                child.member |= empty || schema.field(key).is_none();
                if !child.is_empty() {
                    set.children.insert(format!("f:{key}"), child);
                }
            }
        }
        Value::Array(items) if matches!(schema.kind(), Kind::List { .. }) => {
            let Some(below) = schema.item() else { return };
            for (i, item) in items.iter().enumerate() {
                let Some(element) = element_of(item, i, schema) else { continue };
                let child = set.child(element);
                collect(item, below, child);
                child.member = true;
            }
        }
        _ => set.member = true,
    }
}

/// May a JSON object here be looked into?
pub(super) fn is_map(schema: SchemaRef<'_>) -> bool {
    matches!(schema.kind(), Kind::Object(_) | Kind::Map { .. } | Kind::Any)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::schema_of;
    use proptest::prelude::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    #[test]
    fn of_a_pod() {
        let pod = schema_of("io.k8s.api.core.v1.Pod").unwrap().root();
        let object = json!({
            "metadata": {"labels": {"a": "1"}, "finalizers": ["x/y"], "ownerReferences": [{"uid": "u", "name": "n"}]},
            "spec": {
                "containers": [{"name": "c", "ports": [{"containerPort": 80}], "args": ["x"], "resources": {}}],
                "nodeSelector": {"k": "v"}, "tolerations": [],
            },
        });
        assert_eq!(
            FieldSet::of(&object, pod).to_json(),
            json!({
                "f:metadata": {
                    "f:labels": {"f:a": {}},
                    "f:finalizers": {"v:\"x/y\"": {}},
                    "f:ownerReferences": {"k:{\"uid\":\"u\"}": {}},
                },
                "f:spec": {
                    "f:containers": {"k:{\"name\":\"c\"}": {
                        ".": {}, "f:name": {}, "f:args": {}, "f:resources": {},
                        "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                    }},
                    "f:nodeSelector": {}, "f:tolerations": {},
                },
            })
        );
    }

    #[test]
    fn refusals_and_normal_forms() {
        for bad in [json!([]), json!({"x": {}}), json!({"f:a": 1}), json!({"k:1": {}}), json!({"i:x": {}})] {
            assert!(FieldSet::from_json(&bad).is_err(), "{bad}");
        }
        let set = FieldSet::from_json(&json!({"k:{\"b\": 1, \"a\":\"x\"}": {}, "v: \"y\"": {}, "i:01": {}}))
            .unwrap();
        assert_eq!(set.to_json(), json!({"k:{\"a\":\"x\",\"b\":1}": {}, "v:\"y\"": {}, "i:1": {}}));
        assert_eq!(set.paths(), ["[1]", "[a=\"x\",b=1]", "[=\"y\"]"]);
    }

    fn set() -> impl Strategy<Value = FieldSet> {
        prop::collection::vec(prop::collection::vec("[abc]", 1..4), 0..8).prop_map(|paths| {
            let paths: Vec<Vec<&str>> =
                paths.iter().map(|p| p.iter().map(String::as_str).collect()).collect();
            FieldSet::of_paths(&paths.iter().map(Vec::as_slice).collect::<Vec<_>>())
        })
    }

    /// The slow model: a set of path texts.
    fn model(set: &FieldSet) -> BTreeSet<String> {
        set.paths().into_iter().collect()
    }

    proptest! {
        #[test]
        fn the_algebra_is_that_of_sets_of_paths(a in set(), b in set()) {
            let (x, y) = (model(&a), model(&b));
            prop_assert_eq!(model(&a.union(&b)), x.union(&y).cloned().collect());
            prop_assert_eq!(model(&a.difference(&b)), x.difference(&y).cloned().collect());
            prop_assert_eq!(model(&a.intersection(&b)), x.intersection(&y).cloned().collect());
            let below = |p: &String| y.iter().any(|q| p == q || p.starts_with(&format!("{q}.")));
            prop_assert_eq!(model(&a.without_below(&b)), x.iter().filter(|p| !below(p)).cloned().collect());
            prop_assert_eq!(a.is_empty(), x.is_empty());
        }

        #[test]
        fn the_format_reads_back(a in set()) {
            prop_assert_eq!(FieldSet::from_json(&a.to_json()).unwrap(), a);
        }
    }
}
