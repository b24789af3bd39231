use super::*;
use crate::fields::schema_of;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

fn writer(manager: &str, second: i64) -> Writer<'_> {
    let now = Timestamp::from_second(second).unwrap();
    Writer { manager, api_version: "apps/v1", subresource: "", now, ignored: None }
}

fn schema() -> SchemaRef<'static> {
    schema_of("io.k8s.api.apps.v1.Deployment").unwrap().root()
}

fn run(live: &Applied, config: Value, manager: &str, force: bool) -> Result<Applied, ApplyError> {
    apply(Some(&live.object), &config, &live.entries, schema(), &writer(manager, 9), force)
}

fn first(config: Value, manager: &str) -> Applied {
    apply(None, &config, &[], schema(), &writer(manager, 1), false).unwrap()
}

#[test]
fn a_conflict_names_manager_and_field() {
    let live = first(json!({"spec": {"replicas": 1, "paused": true}}), "a");
    let refused = run(&live, json!({"spec": {"replicas": 2}}), "b", false).unwrap_err();
    assert_eq!(refused.to_string(), "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
    let both = run(&live, json!({"spec": {"replicas": 2, "paused": false}}), "b", false).unwrap_err();
    assert_eq!(
        both.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.paused\n- .spec.replicas"
    );
    let forced = run(&live, json!({"spec": {"replicas": 2}}), "b", true).unwrap();
    assert_eq!(forced.object["spec"]["replicas"], 2);
    // The old owner no longer wants it, so it may let go of it without taking it back.
    let released = run(&forced, json!({"spec": {"paused": true}}), "a", false).unwrap();
    assert_eq!(released.object["spec"], json!({"replicas": 2, "paused": true}));
}

#[test]
fn an_updater_conflicts_with_its_version() {
    let live = json!({"spec": {"replicas": 1}});
    let updater = Writer { subresource: "scale", ..writer("hpa", 1) };
    let entries = managed::update(None, &live, Vec::new(), schema(), &updater);
    let config = json!({"spec": {"replicas": 2}});
    let refused = apply(Some(&live), &config, &entries, schema(), &writer("b", 2), false).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Apply failed with 1 conflict: conflict with \"hpa\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
}

#[test]
fn what_is_dropped_goes_unless_shared() {
    let live = first(json!({"metadata": {"labels": {"a": "1", "b": "2"}}}), "x");
    let live = run(&live, json!({"metadata": {"labels": {"b": "2"}}}), "y", false).unwrap();
    let live = run(&live, json!({"metadata": {}}), "x", false).unwrap();
    assert_eq!(live.object["metadata"]["labels"], json!({"b": "2"}));
    let live = run(&live, json!({}), "y", false).unwrap();
    assert!(
        live.object["metadata"].get("labels").is_none() || live.object["metadata"]["labels"] == json!({})
    );
}

#[test]
fn keyed_items_come_and_go() {
    let container = |name: &str, image: &str| json!({"name": name, "image": image});
    let spec = |items: Value| json!({"spec": {"template": {"spec": {"containers": items}}}});
    let live = first(spec(json!([container("a", "1"), container("b", "2")])), "x");
    let live = run(&live, spec(json!([container("c", "3")])), "y", false).unwrap();
    let names = |a: &Applied| -> Vec<String> {
        let items = a.object["spec"]["template"]["spec"]["containers"].as_array().unwrap().clone();
        items.iter().map(|c| c["name"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(names(&live), ["c", "a", "b"]);
    let live = run(&live, spec(json!([container("b", "2")])), "x", false).unwrap();
    assert_eq!(names(&live), ["c", "b"]);
    let twice = spec(json!([container("b", "2"), container("b", "3")]));
    assert!(matches!(run(&live, twice, "x", false), Err(ApplyError::Duplicate(_))));
}

#[test]
fn a_no_op_moves_nothing() {
    let config = json!({"spec": {"replicas": 1}});
    let live = first(config.clone(), "a");
    let again = run(&live, config, "a", false).unwrap();
    assert!(!again.changed);
    assert_eq!(again.entries, live.entries);
}

#[test]
fn an_object_without_a_book_belongs_to_those_before() {
    let live = json!({"spec": {"replicas": 1}});
    let config = json!({"spec": {"replicas": 2}});
    let refused = apply(Some(&live), &config, &[], schema(), &writer("a", 1), false).unwrap_err();
    assert!(refused.to_string().contains("\"before-first-apply\" using apps/v1: .spec.replicas"));
}

#[test]
fn what_the_strategy_resets_is_neither_owned_nor_in_conflict() {
    let ignored = FieldSet::of_paths(&[&["status"]]);
    let live = first(json!({"spec": {"replicas": 1}, "status": {"replicas": 1}}), "a");
    let writer = Writer { ignored: Some(&ignored), ..writer("b", 2) };
    let config = json!({"spec": {"replicas": 1}, "status": {"replicas": 2}});
    let applied = apply(Some(&live.object), &config, &live.entries, schema(), &writer, false).unwrap();
    let mine = applied.entries.iter().find(|e| e.manager.as_deref() == Some("b")).unwrap();
    assert_eq!(mine.fields_v1.as_ref().unwrap().0, json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn refusals() {
    let sent = json!({"metadata": {"managedFields": []}});
    assert_eq!(apply(None, &sent, &[], schema(), &writer("a", 1), false), Err(ApplyError::ManagedFields));
    assert_eq!(apply(None, &json!([]), &[], schema(), &writer("a", 1), false), Err(ApplyError::NotAnObject));
}

fn config() -> impl Strategy<Value = Value> {
    let labels = prop::collection::btree_map("[abc]", "[01]", 0..3);
    let images = prop::collection::btree_map("[xyz]", "[01]", 0..3);
    (labels, images, prop::option::of(0..3)).prop_map(|(labels, images, replicas)| {
        let items: Value = images.iter().map(|(n, i)| json!({"name": n, "image": i})).collect();
        let mut object =
            json!({"metadata": {"labels": labels}, "spec": {"template": {"spec": {"containers": items}}}});
        if let Some(replicas) = replicas {
            object["spec"]["replicas"] = json!(replicas);
        }
        object
    })
}

/// Labels and images as flat pairs, which is the slow model's view of an object.
fn flat(object: &Value) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    for (k, v) in object["metadata"]["labels"].as_object().into_iter().flatten() {
        out.insert(format!("label {k}"), v.clone());
    }
    for c in object.pointer("/spec/template/spec/containers").and_then(Value::as_array).into_iter().flatten()
    {
        out.insert(format!("container {}", c["name"]), json!(true));
        if let Some(image) = c.get("image") {
            out.insert(format!("image {}", c["name"]), image.clone());
        }
    }
    if let Some(replicas) = object["spec"].get("replicas") {
        out.insert("replicas".into(), replicas.clone());
    }
    out
}

proptest! {
    /// Model: with force, the object is what each manager wanted last, the latest winning; a field is there
    /// as long as somebody who set it and didn't lose it wants it.
    #[test]
    fn forced_applies_agree_with_a_map_of_owners(steps in prop::collection::vec((0..3usize, config()), 1..6)) {
        let names = ["m0", "m1", "m2"];
        let mut live = Applied { object: json!({}), entries: Vec::new(), changed: false };
        let mut values: BTreeMap<String, Value> = BTreeMap::new();
        let mut owned: Vec<std::collections::BTreeSet<String>> = vec![Default::default(); 3];
        for (i, (who, config)) in steps.into_iter().enumerate() {
            let got = if i == 0 {
                apply(None, &config, &[], schema(), &writer(names[who], 1), true)
            } else {
                run(&live, config.clone(), names[who], true)
            };
            live = got.unwrap();
            let wanted = flat(&config);
            let before = std::mem::take(&mut owned[who]);
            for (key, value) in &wanted {
                let taken = values.get(key).is_some_and(|old| old != value);
                if taken {
                    owned.iter_mut().for_each(|o| { o.remove(key); });
                }
                values.insert(key.clone(), value.clone());
            }
            owned[who] = wanted.keys().cloned().collect();
            for key in before {
                if !owned.iter().any(|o| o.contains(&key)) {
                    values.remove(&key);
                }
            }
            prop_assert_eq!(flat(&live.object), values.clone());
        }
    }

    #[test]
    fn applying_twice_changes_nothing(config in config()) {
        let live = first(config.clone(), "a");
        let again = run(&live, config, "a", false).unwrap();
        prop_assert!(!again.changed);
    }
}

/// A deployment that kubectl's client-side apply made: its configuration is in the annotation.
fn applied_by_the_client(config: &Value) -> Applied {
    let mut object = config.clone();
    let annotations = json!({"kubectl.kubernetes.io/last-applied-configuration": config.to_string()});
    object["metadata"]["annotations"] = annotations;
    let entries =
        managed::update(None, &object, Vec::new(), schema(), &writer("kubectl-client-side-apply", 1));
    Applied { object, entries, changed: true }
}

#[test]
fn kubectl_takes_over_what_its_client_applied() {
    let config = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 1, "paused": true},
    });
    let live = applied_by_the_client(&config);
    let mut next = config.clone();
    next["spec"]["replicas"] = json!(2);
    let refused = run(&live, next.clone(), "somebody", false).unwrap_err();
    assert!(matches!(refused, ApplyError::Conflict(_)), "{refused}");
    let taken = run(&live, next.clone(), "kubectl", false).unwrap();
    assert_eq!(taken.object["spec"], json!({"replicas": 2, "paused": true}));
    let last = &taken.object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
    assert_eq!(serde_json::from_str::<Value>(last.as_str().unwrap()).unwrap(), next, "it follows");

    // What somebody else has changed since then is theirs.
    let mut scaled = live.clone();
    scaled.object["spec"]["replicas"] = json!(5);
    let entries = live.entries.clone();
    let hpa = writer("hpa", 3);
    scaled.entries = managed::update(Some(&live.object), &scaled.object, entries, schema(), &hpa);
    let refused = run(&scaled, next.clone(), "kubectl", false).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Apply failed with 1 conflict: conflict with \"hpa\" using apps/v1: .spec.replicas"
    );

    // Without the annotation it is as for everybody.
    let mut bare = live;
    bare.object["metadata"]["annotations"] = json!({});
    assert!(run(&bare, next, "kubectl", false).is_err());
}

#[test]
fn unknown_fields_are_nobodys() {
    let config = json!({"spec": {"replicas": 1, "replicass": 2, "template": {"spec": {"nodeNam": "n"}}}});
    let live = first(config, "a");
    let fields = &live.entries[0].fields_v1.as_ref().unwrap().0;
    assert_eq!(*fields, json!({"f:spec": {"f:replicas": {}}}));
}
