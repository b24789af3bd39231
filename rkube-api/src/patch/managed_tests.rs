use super::*;
use crate::fields::schema_of;
use serde_json::json;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn writer(manager: &str, second: i64) -> Writer<'_> {
    Writer { manager, api_version: "apps/v1", subresource: "", now: at(second), ignored: None }
}

fn deployment() -> SchemaRef<'static> {
    schema_of("io.k8s.api.apps.v1.Deployment").unwrap().root()
}

fn fields(entries: &[ManagedFieldsEntry], manager: &str) -> Value {
    let entry = entries.iter().find(|e| e.manager.as_deref() == Some(manager));
    entry.and_then(|e| e.fields_v1.clone()).map_or(Value::Null, |f| f.0)
}

fn created() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "d", "uid": "u", "labels": {"app": "web"}},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
                {"name": "c", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}], "resources": {}},
            ]}},
        },
    })
}

/// What `kubectl create deployment` gives on a real cluster.
#[test]
fn a_create_reads_as_on_a_real_cluster() {
    let entries = update(None, &created(), Vec::new(), deployment(), &writer("kubectl-create", 1));
    assert_eq!(entries.len(), 1);
    assert_eq!(
        fields(&entries, "kubectl-create"),
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {
                "f:replicas": {}, "f:selector": {},
                "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}},
                "f:template": {
                    "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                    "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {
                        ".": {}, "f:image": {}, "f:name": {}, "f:resources": {},
                        "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {
                            ".": {}, "f:containerPort": {}, "f:protocol": {},
                        }},
                    }}},
                },
            },
        })
    );
    assert_eq!(entries[0].time, Some(Time(at(1))));
}

#[test]
fn an_update_takes_what_it_changes() {
    let old = created();
    let entries = update(None, &old, Vec::new(), deployment(), &writer("a", 1));
    let mut new = old.clone();
    new["spec"]["replicas"] = json!(3);
    new["metadata"]["labels"] = json!({"app": "web", "x": "y"});
    let entries = update(Some(&old), &new, entries, deployment(), &writer("b", 2));
    assert_eq!(
        fields(&entries, "b"),
        json!({"f:spec": {"f:replicas": {}}, "f:metadata": {"f:labels": {"f:x": {}}}})
    );
    assert!(fields(&entries, "a")["f:spec"].get("f:replicas").is_none());
    assert_eq!(entries[0].time, Some(Time(at(1))));

    // What goes is nobody's; an entry that owns nothing goes.
    let entries = update(Some(&new), &old, entries, deployment(), &writer("a", 3));
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].time, Some(Time(at(3))));
}

#[test]
fn nothing_moves_without_a_change() {
    let old = created();
    let entries = update(None, &old, Vec::new(), deployment(), &writer("a", 1));
    assert_eq!(update(Some(&old), &old, entries.clone(), deployment(), &writer("b", 2)), entries);
    let mut new = old.clone();
    new["metadata"]["resourceVersion"] = json!("7");
    new["metadata"]["generation"] = json!(2);
    assert_eq!(update(Some(&old), &new, entries.clone(), deployment(), &writer("b", 2)), entries);
    assert!(update(Some(&old), &old, Vec::new(), deployment(), &writer("b", 2)).is_empty());
}

#[test]
fn what_the_strategy_resets_is_not_counted() {
    let ignored = FieldSet::of_paths(&[&["status"]]);
    let writer = Writer { ignored: Some(&ignored), ..writer("a", 1) };
    let mut object = created();
    object["status"] = json!({"replicas": 3});
    let entries = update(None, &object, Vec::new(), deployment(), &writer);
    assert!(fields(&entries, "a").get("f:status").is_none());
}

#[test]
fn subresources_keep_their_own_entry() {
    let old = created();
    let entries = update(None, &old, Vec::new(), deployment(), &writer("a", 1));
    let mut new = old.clone();
    new["status"] = json!({"replicas": 1});
    let status = Writer { subresource: "status", ..writer("a", 2) };
    let entries = update(Some(&old), &new, entries, deployment(), &status);
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1].subresource.as_deref(), Some("status"));
    assert_eq!(entries[1].fields_v1.as_ref().unwrap().0, json!({"f:status": {".": {}, "f:replicas": {}}}));
}

#[test]
fn which_entries_a_write_starts_from() {
    let live = update(None, &created(), Vec::new(), deployment(), &writer("a", 1));
    let sent = update(None, &created(), Vec::new(), deployment(), &writer("b", 1));
    assert_eq!(starting_entries(&live, &sent, false), sent);
    assert_eq!(starting_entries(&live, &sent, true), live);
    assert_eq!(starting_entries(&live, &[], false), live);
    assert_eq!(starting_entries(&live, &[ManagedFieldsEntry::default()], false), []);
    let wrong = [ManagedFieldsEntry { operation: Some("Jump".into()), ..Default::default() }];
    assert_eq!(starting_entries(&live, &wrong, false), live);
}

#[test]
fn old_updaters_are_put_together() {
    let names: Vec<String> = (0..20).map(|i| format!("m{i:02}")).collect();
    let mut object = created();
    let mut entries = update(None, &object, Vec::new(), deployment(), &writer("m", 0));
    for (i, name) in names.iter().enumerate() {
        let old = object.clone();
        object["metadata"]["labels"][name] = json!("x");
        entries = update(Some(&old), &object, entries, deployment(), &writer(name, i as i64 + 1));
    }
    assert_eq!(entries.len(), MAX_UPDATE_MANAGERS);
    assert_eq!(entries[0].manager.as_deref(), Some("ancient-changes"));
    let all = entries.iter().fold(FieldSet::default(), |mut all, e| {
        all.add(&FieldSet::from_json(&e.fields_v1.as_ref().unwrap().0).unwrap());
        all
    });
    assert!(names.iter().all(|n| all.paths().contains(&format!(".metadata.labels.{n}"))));
}
