use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::fields::schema_of;

fn pod(object: Value, patch: Value) -> Result<Value, StrategicError> {
    apply(object, patch, schema_of("io.k8s.api.core.v1.Pod").unwrap().root())
}

fn deployment(object: Value, patch: Value) -> Result<Value, StrategicError> {
    apply(object, patch, schema_of("io.k8s.api.apps.v1.Deployment").unwrap().root())
}

fn containers(items: Value) -> Value {
    json!({"spec": {"containers": items}})
}

#[test]
fn keyed_lists_merge_item_by_item() {
    let object = containers(json!([{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "2"}]));
    for (patch, want) in [
        (
            json!([{"name": "b", "image": "3"}]),
            json!([{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "3"}]),
        ),
        (
            json!([{"name": "c"}]),
            json!([{"name": "c"}, {"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "2"}]),
        ),
        (
            json!([{"name": "a", "args": ["y"], "image": null}]),
            json!([{"name": "a", "args": ["y"]}, {"name": "b", "image": "2"}]),
        ),
        (json!([{"name": "a", "$patch": "delete"}]), json!([{"name": "b", "image": "2"}])),
        (json!([{"name": "z"}, {"$patch": "replace"}]), json!([{"name": "z"}])),
        (
            json!([{"name": "a", "$patch": "merge", "image": "9"}]),
            json!([{"name": "a", "image": "9", "args": ["x"]}, {"name": "b", "image": "2"}]),
        ),
    ] {
        assert_eq!(pod(object.clone(), containers(patch.clone())), Ok(containers(want)), "{patch}");
    }
}

#[test]
fn maps_merge_replace_and_vanish() {
    let object = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"nodeSelector": {"x": "y"}}});
    for (patch, want) in [
        (json!({"metadata": {"labels": {"a": null, "c": "3"}}}), json!({"b": "2", "c": "3"})),
        (json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}}), json!({"c": "3"})),
        (json!({"metadata": {"labels": {"$patch": "delete"}}}), json!({})),
        (json!({"metadata": {"labels": {"$patch": "merge", "b": "5"}}}), json!({"a": "1", "b": "5"})),
    ] {
        assert_eq!(pod(object.clone(), patch.clone()).unwrap()["metadata"]["labels"], want, "{patch}");
    }
    let added = pod(json!({}), json!({"spec": {"hostAliases": [{"ip": "1", "x": null}], "y": null}}));
    assert_eq!(added, Ok(json!({"spec": {"hostAliases": [{"ip": "1"}]}})));
}

#[test]
fn retain_keys_drops_what_it_does_not_name() {
    let object = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(deployment(object.clone(), patch), Ok(json!({"spec": {"strategy": {"type": "Recreate"}}})));
    let wrong = json!({"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}}});
    assert_eq!(deployment(object, wrong), Err(StrategicError::RetainKeys));
    let volumes = json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}});
    let patch = json!({"spec": {"volumes": [{"$retainKeys": ["name", "hostPath"], "name": "v", "hostPath": {"path": "/"}}]}});
    assert_eq!(
        pod(volumes, patch),
        Ok(json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}))
    );
}

#[test]
fn lists_of_plain_values() {
    let object = json!({"metadata": {"finalizers": ["a", "b", "c"]}});
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"]}});
    assert_eq!(pod(object.clone(), patch), Ok(json!({"metadata": {"finalizers": ["a", "c"]}})));
    let patch = json!({"metadata": {"finalizers": ["d", "a"]}});
    assert_eq!(pod(object.clone(), patch), Ok(json!({"metadata": {"finalizers": ["d", "a", "b", "c"]}})));
    let patch = json!({"metadata": {"$setElementOrder/finalizers": ["c", "d", "b"], "finalizers": ["d"],
        "$deleteFromPrimitiveList/finalizers": ["a"]}});
    assert_eq!(pod(object, patch), Ok(json!({"metadata": {"finalizers": ["c", "d", "b"]}})));
}

#[test]
fn element_order() {
    let object = containers(json!([{"name": "a"}, {"name": "s"}, {"name": "b"}]));
    let patch = json!({"spec": {
        "$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}],
        "containers": [{"name": "c", "image": "x"}],
    }});
    let names = |v: &Value| -> Vec<String> {
        v["spec"]["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap().into())
            .collect()
    };
    assert_eq!(names(&pod(object.clone(), patch).unwrap()), ["s", "b", "c", "a"]);
    let wrong = json!({"spec": {
        "$setElementOrder/containers": [{"name": "b"}, {"name": "c"}],
        "containers": [{"name": "c"}, {"name": "b"}],
    }});
    assert!(matches!(pod(object, wrong), Err(StrategicError::OrderMismatch { .. })));
}

#[test]
fn refusals_read_as_upstream() {
    let object = containers(json!([{"name": "a"}]));
    for (patch, want) in [
        (containers(json!([{"image": "x"}])), "map: map[image:x] does not contain declared merge key: name"),
        (
            containers(json!([{"name": "a", "$patch": "jump"}])),
            "unknown patch type: jump in map: map[$patch:jump name:a]",
        ),
        (json!({"$patch": 5}), "unknown patch type: 5 in map: map[$patch:5]"),
        (containers(json!([["x"]])), "lists of lists are not supported"),
        (containers(json!(["x"])), "list element types are not identical: [[map[name:a]] [x]]"),
        (json!({"spec": {"$setElementOrder/containers": 1}}), "invalid patch format of setElementOrder list"),
        (json!({"spec": {"$deleteFromPrimitiveList/x": 1}}), "invalid patch format of primitive list"),
        (json!({"spec": {"$retainKeys": 1}}), "invalid patch format of retainKeys"),
        (json!([]), "invalid JSON document"),
    ] {
        assert_eq!(pod(object.clone(), patch).unwrap_err().to_string(), want);
    }
}

#[test]
fn a_service_port_merges_by_port() {
    let schema = schema_of("io.k8s.api.core.v1.Service").unwrap().root();
    let object =
        json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 90}], "selector": {"a": "b"}}});
    let patch = json!({"spec": {"ports": [{"port": 80, "nodePort": 3}], "selector": {"c": "d"}}});
    assert_eq!(
        apply(object, patch, schema),
        Ok(json!({"spec": {"ports": [{"port": 80, "name": "a", "nodePort": 3}, {"port": 90}],
            "selector": {"a": "b", "c": "d"}}}))
    );
}

type ByName = BTreeMap<String, (Option<String>, BTreeMap<String, String>)>;

/// Containers as the model sees them.
fn by_name(items: &[Value]) -> ByName {
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let item = |item: &Value| {
        let vars = item["env"].as_array().into_iter().flatten();
        let vars = vars.map(|v| (text(&v["name"]), text(&v["value"]))).collect();
        (text(&item["name"]), (item.get("image").map(text), vars))
    };
    items.iter().map(item).collect()
}

type Env = BTreeMap<String, Option<String>>;

/// The slow model: a keyed list is a map from key to fields, a patch item sets, drops or deletes.
#[derive(Clone, Debug)]
enum Change {
    Delete,
    Set { image: Option<Option<String>>, env: Env },
}

fn change() -> impl Strategy<Value = Change> {
    let image = prop::option::of(prop::option::of("[xyz]"));
    prop_oneof![
        1 => Just(Change::Delete),
        4 => (image, prop::collection::btree_map("[EFG]", prop::option::of("[01]"), 0..3))
            .prop_map(|(image, env)| Change::Set { image, env }),
    ]
}

fn start() -> impl Strategy<Value = Vec<(String, String, BTreeMap<String, String>)>> {
    let item = ("[xyz]", prop::collection::btree_map("[EFG]", "[01]", 0..3));
    prop::collection::btree_map("[abcd]", item, 0..4).prop_shuffled()
}

trait Shuffled {
    fn prop_shuffled(self) -> BoxedStrategy<Vec<(String, String, BTreeMap<String, String>)>>;
}

impl<S> Shuffled for S
where
    S: Strategy<Value = BTreeMap<String, (String, BTreeMap<String, String>)>> + 'static,
{
    fn prop_shuffled(self) -> BoxedStrategy<Vec<(String, String, BTreeMap<String, String>)>> {
        self.prop_map(|m| m.into_iter().map(|(k, (i, e))| (k, i, e)).collect::<Vec<_>>())
            .prop_shuffle()
            .boxed()
    }
}

proptest! {
    #[test]
    fn merging_agrees_with_a_map_of_maps(
        start in start(),
        changes in prop::collection::btree_map("[abcd]", change(), 0..4).prop_map(|m| m.into_iter().collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut model: ByName =
            start.iter().map(|(n, i, e)| (n.clone(), (Some(i.clone()), e.clone()))).collect();
        let env = |e: &BTreeMap<String, String>| -> Value {
            e.iter().map(|(k, v)| json!({"name": k, "value": v})).collect()
        };
        let object: Value = start.iter().map(|(n, i, e)| json!({"name": n, "image": i, "env": env(e)})).collect();
        let mut patch = Vec::new();
        for (name, change) in &changes {
            match change {
                Change::Delete => {
                    patch.push(json!({"name": name, "$patch": "delete"}));
                    model.remove(name);
                }
                Change::Set { image, env } => {
                    let entry = model.entry(name.clone()).or_default();
                    let mut item = json!({"name": name});
                    if let Some(image) = image {
                        item["image"] = json!(image);
                        entry.0 = image.clone();
                    }
                    let mut list = Vec::new();
                    for (k, v) in env {
                        match v {
                            Some(v) => {
                                list.push(json!({"name": k, "value": v}));
                                entry.1.insert(k.clone(), v.clone());
                            }
                            None => {
                                list.push(json!({"name": k, "$patch": "delete"}));
                                entry.1.remove(k);
                            }
                        }
                    }
                    item["env"] = list.into();
                    patch.push(item);
                }
            }
        }
        let got = pod(containers(object), containers(patch.into())).unwrap();
        let items = got["spec"]["containers"].as_array().unwrap();
        let seen = by_name(items);
        prop_assert_eq!(items.len(), seen.len());
        prop_assert_eq!(seen, model);
        // Order: what the patch names comes in its order, what only the server has in the server's.
        let names: Vec<&str> = items.iter().map(|i| i["name"].as_str().unwrap()).collect();
        let patched: Vec<&str> = changes.iter().map(|(n, _)| n.as_str()).filter(|n| names.contains(n)).collect();
        let kept: Vec<&str> = start.iter().map(|(n, ..)| n.as_str())
            .filter(|n| names.contains(n) && !patched.contains(n)).collect();
        prop_assert_eq!(names.iter().filter(|n| patched.contains(n)).copied().collect::<Vec<_>>(), patched);
        prop_assert_eq!(names.iter().filter(|n| kept.contains(n)).copied().collect::<Vec<_>>(), kept);
    }
}
