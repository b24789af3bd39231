//! One way through the API for every kind that is served: create, get, list, watch, patch, delete, tables
//! and metadata alone. Line 55.

use rkube_api::registry::{Definition, Resolved, Scope};
use serde_json::{Value, json};

use crate::http_support::{Wire, lamps};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

/// The least that makes a valid object of a kind, in the version asked for.
fn body(resolved: &Resolved) -> Value {
    let pod = json!({"containers": [{"name": "c", "image": "nginx"}]});
    let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": pod});
    let workload =
        json!({"spec": {"replicas": 0, "selector": {"matchLabels": {"app": "a"}}, "template": template}});
    let mut body = match (resolved.group(), resolved.definition.names.kind.as_str()) {
        ("", "Pod") => json!({"spec": pod}),
        ("", "Service") => json!({"spec": {"ports": [{"port": 80}], "selector": {"app": "a"}}}),
        ("", "Event") => json!({"involvedObject": {"kind": "Pod", "namespace": "default"}, "reason": "R"}),
        ("events.k8s.io", "Event") => json!({
            "regarding": {"kind": "Pod", "namespace": "default"}, "reason": "R", "action": "A",
            "type": "Normal", "eventTime": "2026-01-01T00:00:00.000001Z",
            "reportingController": "x.io/y", "reportingInstance": "z",
        }),
        ("apps", "Deployment" | "ReplicaSet") => workload,
        ("discovery.k8s.io", "EndpointSlice") => json!({"addressType": "IPv4", "endpoints": []}),
        ("scheduling.k8s.io", "PriorityClass") => json!({"value": 7}),
        ("scheduling.k8s.io", "PodGroup") => json!({"spec": {"schedulingPolicy": {"gang": {"minCount": 2}}}}),
        ("scheduling.k8s.io", "Workload") => json!({"spec": {"podGroupTemplates": [
            {"name": "t", "schedulingPolicy": {"basic": {}}},
        ]}}),
        ("", "PersistentVolume") => json!({"spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data"},
        }}),
        ("", "PersistentVolumeClaim") => json!({"spec": {
            "resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"],
        }}),
        ("storage.k8s.io", "StorageClass") => json!({"provisioner": "example.com/disks"}),
        ("storage.k8s.io", "CSINode") => json!({"spec": {"drivers": []}}),
        ("storage.k8s.io", "CSIDriver") => json!({"spec": {}}),
        ("storage.k8s.io", "CSIStorageCapacity") => json!({"storageClassName": "c"}),
        ("storage.k8s.io", "VolumeAttachment") => json!({"spec": {
            "attacher": "example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"},
        }}),
        ("resource.k8s.io", "DeviceTaintRule") => {
            json!({"spec": {"taint": {"key": "k", "effect": "NoSchedule"}}})
        }
        ("resource.k8s.io", "ResourceSlice") => json!({"spec": {
            "driver": "example.com", "nodeName": "n", "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1},
        }}),
        _ => json!({}),
    };
    body["apiVersion"] = resolved.api_version().into();
    body["kind"] = resolved.definition.names.kind.clone().into();
    body["metadata"] = json!({"name": "thing", "labels": {"test": "yes"}});
    body
}

fn collection(resolved: &Resolved) -> String {
    let api_version = resolved.api_version();
    let root = if resolved.group().is_empty() { "/api" } else { "/apis" };
    let space = if resolved.definition.scope == Scope::Namespaced { "/namespaces/default" } else { "" };
    format!("{root}/{api_version}{space}/{}", resolved.definition.names.plural)
}

/// Every version of every kind, and one that was defined at run time.
fn everything(wire: &Wire) -> Vec<Resolved> {
    wire.world.server.registry().add(lamps(json!({"type": "object"}))).unwrap();
    let snapshot = wire.world.server.registry().snapshot();
    let versions = snapshot.groups().iter().flat_map(|(group, versions)| {
        versions.iter().flat_map(move |(version, resources)| {
            resources.keys().map(move |plural| (group.clone(), version.clone(), plural.clone()))
        })
    });
    let resolved =
        versions.filter_map(|(group, version, plural)| snapshot.resolve(&group, &version, &plural));
    // Questions are never stored.
    resolved.filter(|resolved| resolved.definition.answer.is_none()).collect()
}

#[tokio::test(start_paused = true)]
async fn every_kind_is_created_read_watched_changed_and_deleted() {
    let wire = Wire::new().await;
    for resolved in everything(&wire) {
        let all = collection(&resolved);
        let one = format!("{all}/thing");
        let selected = format!("{all}?labelSelector=test%3Dyes");

        let made = wire.post(&all, &body(&resolved)).await;
        assert_eq!(made.code, 201, "{all}: {made:?}");
        let made = made.json();
        assert_eq!(made["apiVersion"], resolved.api_version());
        assert!(made["metadata"]["uid"].is_string() && made["metadata"]["creationTimestamp"].is_string());
        assert_eq!(wire.post(&all, &body(&resolved)).await.refused(), (409, "AlreadyExists".into()));
        assert_eq!(wire.get(&one).await.json(), made);

        let list = wire.get(&selected).await.json();
        assert_eq!(list["kind"], resolved.definition.names.list_kind);
        assert_eq!(list["apiVersion"], resolved.api_version());
        assert_eq!(list["items"], json!([made]), "{all}");

        // Nothing here takes the finalizers off with which claims and volumes are made.
        let patch = json!({"metadata": {"annotations": {"a": "b"}, "finalizers": null}});
        let patched = wire.patch(&one, "application/merge-patch+json", &patch).await;
        assert_eq!(patched.code, 200, "{one}: {patched:?}");
        assert_eq!(patched.json()["metadata"]["annotations"]["a"], "b");
        let replaced = wire.ask("PUT", &one, &[], patched.bytes.clone()).await;
        assert_eq!(replaced.json(), patched.json(), "a replacement by the same changes nothing");
        let stale = wire.ask("PUT", &one, &[], made.to_string()).await;
        assert_eq!(stale.refused(), (409, "Conflict".into()), "{one}");

        let deleted = wire.ask("DELETE", &one, &[], "{\"gracePeriodSeconds\":0}").await;
        assert_eq!(deleted.code, 200, "{one}: {deleted:?}");
        watch_shows(&wire, &resolved, &made).await;
    }
}

/// What was made, changed and deleted is seen by a watcher from before.
async fn watch_shows(wire: &Wire, resolved: &Resolved, made: &Value) {
    let before: u64 = made["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    let all = collection(resolved);
    let uri =
        format!("{all}?watch=1&timeoutSeconds=1&resourceVersion={}&labelSelector=test%3Dyes", before - 1);
    let watched = wire.get(&uri).await;
    let text = String::from_utf8(watched.bytes.to_vec()).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    // A namespace goes when its contents have gone: until then it is changed, not deleted.
    let wanted: &[&str] = match resolved.definition.names.kind.as_str() {
        "Namespace" => &["ADDED", "MODIFIED", "MODIFIED"],
        _ => &["ADDED", "MODIFIED", "DELETED"],
    };
    assert_eq!(kinds, wanted, "{all}");
    assert_eq!(events[0]["object"], *made);
    assert!(events.iter().all(|event| event["object"]["kind"] == resolved.definition.names.kind));
}

#[tokio::test(start_paused = true)]
async fn line_55_every_kind_is_shown_as_a_table_and_as_metadata() {
    let wire = Wire::new().await;
    for resolved in everything(&wire) {
        let all = collection(&resolved);
        let one = format!("{all}/thing");
        let made = wire.post(&all, &body(&resolved)).await;
        assert_eq!(made.code, 201, "{all}: {made:?}");
        let made = made.json();
        for uri in [all.clone(), one.clone()] {
            let table = wire.accept(&uri, TABLE).await;
            assert_eq!(table.code, 200, "{table:?}");
            table_shows(&table.json(), &resolved.definition, &made);
        }
        let bare = wire.accept(&format!("{one}?includeObject=None"), TABLE).await.json();
        assert_eq!(bare["rows"][0].get("object"), None);
        let full = wire.accept(&format!("{one}?includeObject=Object"), TABLE).await.json();
        assert_eq!(full["rows"][0]["object"], made);

        let partial = json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": made["metadata"],
        });
        assert_eq!(wire.accept(&one, METADATA).await.json(), partial);
        let list = wire.accept(&format!("{all}?labelSelector=test%3Dyes"), METADATA_LIST).await.json();
        assert_eq!((&list["kind"], &list["items"]), (&json!("PartialObjectMetadataList"), &json!([partial])));
        assert_eq!(wire.accept(&all, METADATA).await.refused().0, 406);
        assert_eq!(wire.accept(&one, METADATA_LIST).await.refused().0, 406);
        // A kind that is served in two versions is one.
        wire.ask("DELETE", &one, &[], "{\"gracePeriodSeconds\":0}").await;
    }
}

fn table_shows(table: &Value, definition: &Definition, made: &Value) {
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert!(table["metadata"]["resourceVersion"].is_string());
    let columns: Vec<_> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    let wanted: Vec<_> = definition.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(columns, wanted);
    let name = &made["metadata"]["name"];
    let row = table["rows"].as_array().unwrap().iter().find(|row| row["object"]["metadata"]["name"] == *name);
    let row = row.unwrap();
    assert_eq!(row["cells"].as_array().unwrap().len(), columns.len());
    let name_column = columns.iter().position(|column| *column == "Name").unwrap();
    assert_eq!(row["cells"][name_column], *name);
    assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
}
