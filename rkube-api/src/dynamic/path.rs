//! Paths to a field, as printer columns and selectable fields name them: `.spec.replicas`.

use serde_json::Value;

use super::whole;
use crate::object::Object;

/// A path of plain names. Other JSONPath (filters, slices) finds nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path(Option<Vec<String>>);

impl Path {
    pub(super) fn parse(text: &str) -> Self {
        let names = text.strip_prefix('.').map(|text| text.split('.').map(str::to_owned).collect::<Vec<_>>());
        Self(names.filter(|names| names.iter().all(|name| is_plain(name))))
    }

    /// The field's value, if it is there.
    pub(super) fn of(&self, object: &Object) -> Option<Value> {
        let names = self.0.as_ref()?;
        let mut value = whole(object);
        for name in names {
            value = value.get_mut(name)?.take();
        }
        Some(value)
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains(['[', ']', '*', '?', '(', ')', '\\', '@'])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_paths_find_their_field() {
        let object = json!({"apiVersion": "a/v1", "kind": "A", "spec": {"size": 3}});
        let object = Object::dynamic_from_value(object).unwrap();
        assert_eq!(Path::parse(".spec.size").of(&object), Some(json!(3)));
        for nothing in [".spec.other", "spec.size", ".spec.list[0]", ".", ""] {
            assert_eq!(Path::parse(nothing).of(&object), None, "{nothing}");
        }
    }
}
