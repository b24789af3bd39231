//! Takes fields back out of JSON: what plugins added belongs to nobody in managedFields.

use serde_json::Value;

/// Removes fields of the object at `at`.
pub(super) fn fields(value: &mut Value, at: &str, names: &[&str]) {
    if let Some(map) = value.pointer_mut(at).and_then(Value::as_object_mut) {
        for name in names {
            map.remove(*name);
        }
    }
}

/// Removes items of the list at `at`, and the list if nothing is left.
pub(super) fn items(value: &mut Value, at: &str, added: impl Fn(&Value) -> bool) {
    let Some(list) = value.pointer_mut(at).and_then(Value::as_array_mut) else { return };
    list.retain(|item| !added(item));
    if list.is_empty()
        && let Some((parent, name)) = at.rsplit_once('/')
    {
        fields(value, parent, &[name]);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_empty_list_goes_with_its_last_item() {
        let mut pod = json!({"spec": {"volumes": [{"name": "a"}, {"name": "b"}], "x": 1}});
        items(&mut pod, "/spec/volumes", |item| item["name"] == "a");
        assert_eq!(pod, json!({"spec": {"volumes": [{"name": "b"}], "x": 1}}));
        items(&mut pod, "/spec/volumes", |_| true);
        fields(&mut pod, "/spec", &["x", "y"]);
        assert_eq!(pod, json!({"spec": {}}));
    }
}
