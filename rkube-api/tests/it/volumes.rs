//! What admission makes of claims and volumes.

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use rkube_api::{
    client::{DeleteParams, Patch, PatchParams, PostParams},
    request::{ApiResponse, Body, Options, Target, Verb},
};
use serde_json::{Value, from_value, json};

use crate::support::{World, refused};

async fn class(world: &World, name: &str, fields: Value) {
    let mut value = json!({"metadata": {"name": name}, "provisioner": "example.com/disks"});
    value.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    value["metadata"]["name"] = json!(name);
    world.all().create(&PostParams::default(), from_value::<StorageClass>(value).unwrap()).await.unwrap();
}

fn claim(name: &str, class: Value) -> PersistentVolumeClaim {
    let resources = json!({"requests": {"storage": "1Gi"}});
    from_value(json!({"metadata": {"name": name}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": resources, "storageClassName": class,
    }}))
    .unwrap()
}

async fn named(world: &World, wanted: PersistentVolumeClaim) -> Option<String> {
    let made = world.api().create(&PostParams::default(), wanted).await.unwrap();
    made.spec.as_ref().unwrap().storage_class_name.clone()
}

#[tokio::test(start_paused = true)]
async fn a_claim_without_a_class_gets_the_default_one() {
    let world = World::new().await;
    let default = |yes: &str| json!({"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": yes}}});
    class(&world, "other", default("false")).await;
    assert_eq!(named(&world, claim("before", Value::Null)).await, None);
    class(&world, "standard", default("true")).await;
    assert_eq!(named(&world, claim("after", Value::Null)).await.as_deref(), Some("standard"));
    assert_eq!(named(&world, claim("none", json!(""))).await.as_deref(), Some(""));
    assert_eq!(named(&world, claim("other", json!("other"))).await.as_deref(), Some("other"));
    // What the plugin has added belongs to nobody.
    let target = Target {
        version: "v1".into(),
        resource: "persistentvolumeclaims".into(),
        namespace: Some("default".into()),
        name: Some("after".into()),
        ..Target::default()
    };
    let made = world.send(Verb::Get, target, Options::default(), Body::Empty).await.unwrap();
    let ApiResponse::Object { object: made, .. } = made else { panic!("{made:?}") };
    let managed = serde_json::to_string(made.managed_fields()).unwrap();
    assert!(managed.contains("f:accessModes"), "{managed}");
    assert!(!managed.contains("f:storageClassName") && !managed.contains("f:finalizers"), "{managed}");
}

#[tokio::test(start_paused = true)]
async fn claims_and_volumes_stay_until_their_finalizers_go() {
    let world = World::new().await;
    let claims = world.api::<PersistentVolumeClaim>();
    let made = claims.create(&PostParams::default(), claim("c", Value::Null)).await.unwrap();
    assert_eq!(made.metadata.finalizers, Some(vec!["kubernetes.io/pvc-protection".into()]));
    claims.delete("c", &DeleteParams::default()).await.unwrap();
    assert!(claims.get("c").await.unwrap().metadata.deletion_timestamp.is_some());
    let freed = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    claims.patch("c", &PatchParams::default(), &freed).await.unwrap();
    assert!(claims.get_opt("c").await.unwrap().is_none());
    let volume: PersistentVolume = from_value(json!({"metadata": {"name": "v"}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"},
    }}))
    .unwrap();
    let made = world.all().create(&PostParams::default(), volume).await.unwrap();
    assert_eq!(made.metadata.finalizers, Some(vec!["kubernetes.io/pv-protection".into()]));
}

#[tokio::test(start_paused = true)]
async fn only_a_bound_claim_of_a_class_that_allows_it_grows() {
    let world = World::new().await;
    class(&world, "fixed", json!({})).await;
    class(&world, "grows", json!({"allowVolumeExpansion": true})).await;
    let claims = world.api::<PersistentVolumeClaim>();
    let more = Patch::Merge(json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}}));
    let bound = Patch::Merge(json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}));
    let params = PatchParams::default();
    for name in ["fixed", "grows"] {
        claims.create(&PostParams::default(), claim(name, json!(name))).await.unwrap();
        let (code, why) = refused(claims.patch(name, &params, &more).await);
        assert_eq!(code, 422, "the spec of an unbound claim is fixed: {why}");
        claims.patch_status(name, &params, &bound).await.unwrap();
    }
    let (code, why) = refused(claims.patch("fixed", &params, &more).await);
    assert_eq!(code, 403);
    assert!(why.contains("only dynamically provisioned pvc can be resized"), "{why}");
    let grown = claims.patch("grows", &params, &more).await.unwrap();
    let size =
        &grown.spec.as_ref().unwrap().resources.as_ref().unwrap().requests.as_ref().unwrap()["storage"];
    assert_eq!(size.0, "2Gi");
}
