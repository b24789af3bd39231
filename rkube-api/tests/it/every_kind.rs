//! One test over the whole registry: every kind is made, read, listed, watched, changed and deleted in every
//! version that it is served in.

use futures::StreamExt;
use rkube_api::{
    object::Object,
    registry::{Definition, Scope},
    request::{ApiResponse, Body, FieldValidation, Options, Target, Verb, WatchEvent, patch_type},
};
use serde_json::{Value, json};

use crate::support::{World, short};

/// What a kind needs at least, if more than a name.
fn sample(kind: &str, api_version: &str) -> Value {
    let template = json!({
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    match (kind, api_version) {
        ("Pod", _) => json!({"spec": template["spec"]}),
        ("Deployment" | "ReplicaSet", _) => {
            json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}})
        }
        ("Service", _) => json!({"spec": {"ports": [{"port": 80}]}}),
        ("EndpointSlice", _) => json!({"addressType": "IPv4", "endpoints": [], "ports": []}),
        ("PriorityClass", _) => json!({"value": 1}),
        ("PersistentVolume", _) => json!({"spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data"},
        }}),
        ("PersistentVolumeClaim", _) => json!({"spec": {
            "resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"],
        }}),
        ("StorageClass", _) => json!({"provisioner": "example.com/disks"}),
        ("CSINode", _) => json!({"spec": {"drivers": []}}),
        ("CSIDriver", _) => json!({"spec": {}}),
        ("CSIStorageCapacity", _) => json!({"storageClassName": "c"}),
        ("VolumeAttachment", _) => json!({"spec": {
            "attacher": "example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"},
        }}),
        ("PodGroup", _) => json!({"spec": {"schedulingPolicy": {"gang": {"minCount": 2}}}}),
        ("Workload", _) => json!({"spec": {"podGroupTemplates": [
            {"name": "t", "schedulingPolicy": {"basic": {}}},
        ]}}),
        ("DeviceTaintRule", _) => json!({"spec": {"taint": {"key": "k", "effect": "NoSchedule"}}}),
        ("ResourceSlice", _) => json!({"spec": {
            "driver": "example.com", "nodeName": "n", "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1},
        }}),
        ("Event", "v1") => json!({"involvedObject": {"namespace": "default", "name": "x", "kind": "Pod"}}),
        ("Event", _) => json!({
            "regarding": {"namespace": "default", "name": "x", "kind": "Pod"},
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "example.com/c",
            "reportingInstance": "c-1", "action": "A", "reason": "R", "type": "Normal",
        }),
        _ => json!({}),
    }
}

fn json_body(content_type: &str, value: &Value) -> Body {
    Body::Bytes { content_type: content_type.into(), bytes: value.to_string().into() }
}

async fn object(world: &World, verb: Verb, target: &Target, body: Body) -> Object {
    let options = Options { field_validation: FieldValidation::Strict, ..Options::default() };
    match world.send(verb, target.clone(), options, body).await {
        Ok(ApiResponse::Object { object, .. }) => object,
        other => panic!("{verb} {target:?}: {other:?}"),
    }
}

async fn drive(world: &World, definition: &Definition, group: &str, version: &str) {
    let names = &definition.names;
    let namespaced = definition.scope == Scope::Namespaced;
    let all = Target {
        group: group.into(),
        version: version.into(),
        resource: names.plural.clone(),
        namespace: namespaced.then(|| "default".into()),
        ..Target::default()
    };
    let one = Target { name: Some("one".into()), ..all.clone() };
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut body = sample(&names.kind, &api_version);
    body["metadata"] = json!({"name": "one", "labels": {"first": "yes"}});
    body["kind"] = names.kind.clone().into();
    body["apiVersion"] = api_version.clone().into();

    let options = Options { timeout: Some(std::time::Duration::from_secs(1)), ..Options::default() };
    let watch = world.send(Verb::Watch, all.clone(), options, Body::Empty).await.unwrap();
    let ApiResponse::Watch(stream) = watch else { panic!("{watch:?}") };

    let made = object(world, Verb::Create, &all, json_body("application/json", &body)).await;
    assert_eq!((made.kind(), made.api_version()), (names.kind.as_str(), api_version.as_str()));
    assert!(!made.uid().is_empty() && made.meta().creation_timestamp.is_some());
    let read = object(world, Verb::Get, &one, Body::Empty).await;
    assert_eq!(read, made);
    let list = world.send(Verb::List, all.clone(), Options::default(), Body::Empty).await.unwrap();
    let ApiResponse::List(list) = list else { panic!("{list:?}") };
    assert_eq!(list.kind, names.list_kind);
    assert!(list.items.contains(&made));

    // Nothing here takes the finalizers off with which claims and volumes are made.
    let labels = json!({"metadata": {"labels": {"changed": "yes"}, "finalizers": null}});
    let patched = object(world, Verb::Patch, &one, json_body(patch_type::MERGE, &labels)).await;
    assert_eq!(patched.meta().labels.as_ref().unwrap()["changed"], "yes", "{names:?}");
    let whole: Value = serde_json::from_slice(&patched.encode().unwrap()).unwrap();
    assert!(whole["metadata"]["managedFields"].is_array());
    let same = object(world, Verb::Update, &one, json_body("application/json", &whole)).await;
    assert_eq!(
        same.resource_version(),
        patched.resource_version(),
        "what was read can be put back: {names:?}"
    );

    world.send(Verb::Delete, one.clone(), Options::default(), Body::Empty).await.unwrap();
    let seen: Vec<WatchEvent> = stream.collect().await;
    let seen: Vec<String> = seen.iter().map(short).filter(|text| text.ends_with(" one")).collect();
    assert_eq!(seen[..2], ["ADDED one", "MODIFIED one"], "{names:?}");
    assert_eq!(seen.len(), 3, "{names:?}: {seen:?}");
    if definition.strategy.holds_deletion.is_none() {
        assert_eq!(seen[2], "DELETED one", "{names:?}");
        let gone = world.send(Verb::Get, one, Options::default(), Body::Empty).await.unwrap_err();
        assert_eq!(gone.code(), 404);
    }
}

#[tokio::test(start_paused = true)]
async fn every_kind_is_made_read_changed_and_deleted() {
    let world = World::new().await;
    let snapshot = world.server.registry().snapshot();
    // Questions are never stored.
    for definition in snapshot.definitions().filter(|it| it.answer.is_none()) {
        for version in &definition.versions {
            let group = version.group.as_deref().unwrap_or(&definition.names.group);
            drive(&world, definition, group, &version.name).await;
        }
    }
}
