//! JSON patch (RFC 6902), with Kubernetes' bounds.
//!
//! ```
//! use rkube_api::patch::json::{apply, JsonPatch};
//! use serde_json::json;
//! let patch = JsonPatch::parse(br#"[{"op": "replace", "path": "/spec/replicas", "value": 3}]"#)?;
//! assert_eq!(apply(json!({"spec": {"replicas": 1}}), &patch)?, json!({"spec": {"replicas": 3}}));
//! # Ok::<(), rkube_api::patch::json::JsonPatchError>(())
//! ```

use json_patch::{Patch, PatchErrorKind, PatchOperation, jsonptr::Pointer};
use serde_json::Value;

use crate::codec::MAX_DEPTH;

/// As many operations as a patch may have.
pub const MAX_OPERATIONS: usize = 10_000;
/// As many bytes as all `copy` operations together may add, so that a short patch can't make a huge object.
pub const MAX_COPIED_BYTES: usize = 3 * 1024 * 1024;

/// What is wrong with a patch. [`Malformed`](JsonPatchError::Malformed) is the client's syntax (400), too
/// many operations, bytes or levels are too large a request (413), the others don't fit the object (422).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonPatchError {
    /// Not a JSON patch.
    #[error("error decoding patch: {0}")]
    Malformed(String),
    /// More than [`MAX_OPERATIONS`].
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooManyOperations(usize),
    /// More than [`MAX_COPIED_BYTES`].
    #[error(
        "Unable to complete the copy, the accumulated size increase of copy is {0}, exceeding the limit {MAX_COPIED_BYTES}"
    )]
    TooMuchCopied(usize),
    /// The object would nest deeper than [`MAX_DEPTH`], or it takes too long to see that it does not.
    #[error("Unable to complete the {op}, the object would nest too deep, exceeding the limit {MAX_DEPTH}")]
    TooDeep {
        /// The operation, such as `move`.
        op: &'static str,
    },
    /// A `test` operation found something else.
    #[error("testing value {0} failed: test failed")]
    TestFailed(String),
    /// An operation names a place that isn't there.
    #[error("{op} operation does not apply: doc is missing path: \"{path}\": missing value")]
    Missing {
        /// The operation, such as `remove`.
        op: &'static str,
        /// The place.
        path: String,
    },
}

/// A JSON patch that can be read and is not too long.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPatch(Patch);

impl JsonPatch {
    /// Reads a patch.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonPatchError> {
        let patch: Patch =
            serde_json::from_slice(bytes).map_err(|e| JsonPatchError::Malformed(e.to_string()))?;
        JsonPatch::checked(patch)
    }

    /// Reads a patch that is JSON already.
    pub fn from_value(value: Value) -> Result<Self, JsonPatchError> {
        let patch: Patch =
            serde_json::from_value(value).map_err(|e| JsonPatchError::Malformed(e.to_string()))?;
        JsonPatch::checked(patch)
    }

    fn checked(patch: Patch) -> Result<Self, JsonPatchError> {
        match patch.0.len() {
            n if n > MAX_OPERATIONS => Err(JsonPatchError::TooManyOperations(n)),
            _ => Ok(JsonPatch(patch)),
        }
    }
}

/// The object with the patch applied; all of it or nothing.
pub fn apply(mut object: Value, patch: &JsonPatch) -> Result<Value, JsonPatchError> {
    let mut copied = 0;
    let mut depth = Depth::of(&object);
    for operation in &patch.0.0 {
        if let PatchOperation::Copy(copy) = operation
            && let Some(source) = object.pointer(copy.from.as_str())
        {
            copied += source.to_string().len();
            if copied > MAX_COPIED_BYTES {
                return Err(JsonPatchError::TooMuchCopied(copied));
            }
        }
        depth.admit(&object, operation)?;
        // One at a time: the whole is a copy already, so the crate needs not keep an undo log.
        json_patch::patch_unsafe(&mut object, std::slice::from_ref(operation))
            .map_err(|e| refusal(operation, &e.kind))?;
    }
    Ok(object)
}

/// How deep an object nests at most while a patch is applied: a short one can double its depth again and
/// again, and whoever walks through it (even to drop it) needs stack for each level.
struct Depth {
    bound: usize,
    /// How many values may still be looked at to find out.
    looks: usize,
}

impl Depth {
    fn of(object: &Value) -> Self {
        let mut looks = MAX_COPIED_BYTES;
        let bound = nesting(object, MAX_DEPTH, &mut looks).unwrap_or(MAX_DEPTH);
        Self { bound, looks }
    }

    /// Refuses what would nest too deep; the object never does, so that it can be walked through.
    fn admit(&mut self, object: &Value, operation: &PatchOperation) -> Result<(), JsonPatchError> {
        let (path, source, at_most) = match operation {
            PatchOperation::Add(add) => (&add.path, Some(&add.value), usize::MAX),
            PatchOperation::Replace(replace) => (&replace.path, Some(&replace.value), usize::MAX),
            PatchOperation::Move(moved) => (&moved.path, find(object, &moved.from), self.below(&moved.from)),
            PatchOperation::Copy(copy) => (&copy.path, find(object, &copy.from), self.below(&copy.from)),
            PatchOperation::Remove(_) | PatchOperation::Test(_) => return Ok(()),
        };
        let above = path.count();
        let room = MAX_DEPTH.saturating_sub(above);
        // What is known may do; only where it does not is the value itself looked through.
        let deep = match source {
            None => return Ok(()),
            Some(_) if at_most <= room => at_most,
            Some(source) => nesting(source, room, &mut self.looks)
                .ok_or(JsonPatchError::TooDeep { op: name(operation) })?,
        };
        self.bound = self.bound.max(above + deep);
        Ok(())
    }

    /// How deep at most what lies there nests.
    fn below(&self, place: &Pointer) -> usize {
        self.bound.saturating_sub(place.count())
    }
}

fn find<'a>(object: &'a Value, place: &Pointer) -> Option<&'a Value> {
    object.pointer(place.as_str())
}

/// How many lists and objects lie within each other; nothing if more than `room`, or than can be looked at.
fn nesting(value: &Value, room: usize, looks: &mut usize) -> Option<usize> {
    *looks = looks.checked_sub(1)?;
    match value {
        Value::Array(items) => within(items, room, looks),
        Value::Object(fields) => within(fields.values(), room, looks),
        _ => Some(0),
    }
}

fn within<'a>(
    children: impl IntoIterator<Item = &'a Value>,
    room: usize,
    looks: &mut usize,
) -> Option<usize> {
    let room = room.checked_sub(1)?;
    children
        .into_iter()
        .try_fold(1, |deepest: usize, child| Some(deepest.max(1 + nesting(child, room, looks)?)))
}

fn name(operation: &PatchOperation) -> &'static str {
    match operation {
        PatchOperation::Test(_) => "test",
        PatchOperation::Add(_) => "add",
        PatchOperation::Remove(_) => "remove",
        PatchOperation::Replace(_) => "replace",
        PatchOperation::Move(_) => "move",
        PatchOperation::Copy(_) => "copy",
    }
}

fn refusal(operation: &PatchOperation, kind: &PatchErrorKind) -> JsonPatchError {
    let path = operation.path().to_string();
    let op = name(operation);
    if let PatchOperation::Test(_) = operation {
        return JsonPatchError::TestFailed(path);
    }
    let from = match operation {
        PatchOperation::Move(m) => Some(m.from.to_string()),
        PatchOperation::Copy(c) => Some(c.from.to_string()),
        _ => None,
    };
    match (kind, from) {
        (PatchErrorKind::InvalidFromPointer, Some(from)) => JsonPatchError::Missing { op, path: from },
        _ => JsonPatchError::Missing { op, path },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn run(object: Value, patch: Value) -> Result<Value, JsonPatchError> {
        apply(object, &JsonPatch::from_value(patch)?)
    }

    #[test]
    fn operations() {
        let object = json!({"a": [1, 2], "b": {"c~/": 1}});
        for (patch, want) in [
            (json!([{"op": "add", "path": "/a/-", "value": 3}]), json!({"a": [1, 2, 3], "b": {"c~/": 1}})),
            (json!([{"op": "remove", "path": "/b/c~0~1"}]), json!({"a": [1, 2], "b": {}})),
            (json!([{"op": "move", "from": "/a", "path": "/b/x"}]), json!({"b": {"c~/": 1, "x": [1, 2]}})),
            (json!([{"op": "copy", "from": "/a/0", "path": "/b"}]), json!({"a": [1, 2], "b": 1})),
            (json!([{"op": "test", "path": "/a/0", "value": 1}]), object.clone()),
        ] {
            assert_eq!(run(object.clone(), patch.clone()), Ok(want), "{patch}");
        }
    }

    #[test]
    fn refusals() {
        let object = json!({"a": 1});
        let test = json!([{"op": "test", "path": "/a", "value": 2}]);
        assert_eq!(run(object.clone(), test), Err(JsonPatchError::TestFailed("/a".into())));
        let absent = json!([{"op": "test", "path": "/z", "value": 2}]);
        assert_eq!(run(object.clone(), absent), Err(JsonPatchError::TestFailed("/z".into())));
        let missing = json!([{"op": "remove", "path": "/b"}]);
        assert_eq!(
            run(object.clone(), missing).unwrap_err().to_string(),
            "remove operation does not apply: doc is missing path: \"/b\": missing value"
        );
        for bad in [json!({}), json!([{"op": "jump", "path": "/a"}]), json!([{"op": "add", "path": "a"}])] {
            assert!(matches!(run(object.clone(), bad), Err(JsonPatchError::Malformed(_))));
        }
        let many: Value = (0..=MAX_OPERATIONS).map(|_| json!({"op": "remove", "path": "/a"})).collect();
        assert_eq!(run(object, many), Err(JsonPatchError::TooManyOperations(MAX_OPERATIONS + 1)));
    }

    #[test]
    fn copies_cannot_grow_without_bound() {
        let object = json!({"a": ["x".repeat(1000)]});
        let bomb: Value = (0..64).map(|_| json!({"op": "copy", "from": "/a", "path": "/a/-"})).collect();
        assert!(matches!(run(object, bomb), Err(JsonPatchError::TooMuchCopied(_))));
    }

    fn nested(depth: usize) -> Value {
        (0..depth).fold(json!(1), |inner, _| json!([inner]))
    }

    #[test]
    fn nothing_nests_without_bound() {
        // Each round puts a copy of the whole to the bottom of the other: its depth doubles.
        let bottom = |depth: usize| format!("/a{}", "/0".repeat(depth));
        let mut bomb = vec![json!({"op": "add", "path": "/a", "value": nested(60)})];
        for round in 0..12 {
            let depth = 60 << round;
            bomb.push(json!({"op": "copy", "from": "/a", "path": "/b"}));
            bomb.push(json!({"op": "move", "from": "/b", "path": bottom(depth)}));
        }
        assert_eq!(run(json!({}), bomb.into()), Err(JsonPatchError::TooDeep { op: "move" }));
        for (op, patch) in [
            ("add", json!({"op": "add", "path": "/a/0/0", "value": nested(MAX_DEPTH - 2)})),
            ("replace", json!({"op": "replace", "path": "/a/0/0", "value": nested(MAX_DEPTH - 2)})),
            ("copy", json!({"op": "copy", "from": "/deep", "path": "/a/0/0"})),
        ] {
            let object = json!({"a": [[0]], "deep": nested(MAX_DEPTH - 1)});
            assert_eq!(run(object, json!([patch])), Err(JsonPatchError::TooDeep { op }), "{op}");
        }
        let fits = json!([{"op": "add", "path": "/a/0/0", "value": nested(MAX_DEPTH - 3)}]);
        assert!(run(json!({"a": [[0]]}), fits).is_ok());
    }

    #[test]
    fn a_shallow_object_may_be_moved_about_for_long() {
        let there = json!({"op": "move", "from": "/a", "path": "/b/c/d"});
        let back = json!({"op": "move", "from": "/b/c/d", "path": "/a"});
        let patch: Value = (0..MAX_OPERATIONS / 2).flat_map(|_| [there.clone(), back.clone()]).collect();
        let object = json!({"a": [1, 2], "b": {"c": {}}});
        assert_eq!(run(object.clone(), patch), Ok(object));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..4i64).prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[abc]", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    /// A plain difference: keys come, go or change; lists are cut and grown at their end.
    fn difference(at: &str, from: &Value, to: &Value, out: &mut Vec<Value>) {
        match (from, to) {
            _ if from == to => out.push(json!({"op": "test", "path": at, "value": to})),
            (Value::Object(a), Value::Object(b)) => {
                for key in a.keys().filter(|k| !b.contains_key(*k)) {
                    out.push(json!({"op": "remove", "path": format!("{at}/{key}")}));
                }
                for (key, value) in b {
                    match a.get(key) {
                        Some(old) => difference(&format!("{at}/{key}"), old, value, out),
                        None => out.push(json!({"op": "add", "path": format!("{at}/{key}"), "value": value})),
                    }
                }
            }
            (Value::Array(a), Value::Array(b)) => {
                for (i, (old, new)) in a.iter().zip(b).enumerate() {
                    difference(&format!("{at}/{i}"), old, new, out);
                }
                for i in (b.len()..a.len()).rev() {
                    out.push(json!({"op": "remove", "path": format!("{at}/{i}")}));
                }
                for value in b.iter().skip(a.len()) {
                    out.push(json!({"op": "add", "path": format!("{at}/-"), "value": value}));
                }
            }
            _ => out.push(json!({"op": "replace", "path": at, "value": to})),
        }
    }

    proptest! {
        #[test]
        fn the_difference_leads_to_the_target(from in value(), to in value()) {
            let mut patch = Vec::new();
            difference("", &from, &to, &mut patch);
            prop_assert_eq!(run(from, patch.into()), Ok(to));
        }
    }
}
