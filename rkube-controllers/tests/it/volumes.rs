//! Claims and volumes through a server: bound, kept while in use, released.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};
use rkube_api::{
    client::{DeleteParams, Patch, PatchParams, PostParams},
    helpers::volumes::{claim_phase, volume_name, volume_phase},
};
use serde_json::{Value, from_value, json};

use crate::support::{World, until};

fn volume(name: &str, size: &str, policy: &str) -> PersistentVolume {
    from_value(json!({"metadata": {"name": name}, "spec": {
        "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data"},
        "persistentVolumeReclaimPolicy": policy, "storageClassName": "disk",
    }}))
    .unwrap()
}

fn claim(name: &str, size: &str, class: Value) -> PersistentVolumeClaim {
    let resources = json!({"requests": {"storage": size}});
    let meta = json!({"name": name, "namespace": "default"});
    from_value(json!({"metadata": meta, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": resources, "storageClassName": class,
    }}))
    .unwrap()
}

fn class(name: &str, provisioner: &str, mode: &str, default: bool) -> StorageClass {
    let annotations = json!({"storageclass.kubernetes.io/is-default-class": default.to_string()});
    from_value(json!({"metadata": {"name": name, "annotations": annotations}, "provisioner": provisioner,
        "volumeBindingMode": mode}))
    .unwrap()
}

async fn is(world: &World, claim: &str, phase: &str, volume: &str) {
    let holds = async || {
        let claim = world.get::<PersistentVolumeClaim>(claim).await;
        claim.is_some_and(|claim| claim_phase(&claim) == phase && volume_name(&claim) == volume)
    };
    until(&format!("{claim} is {phase} with {volume:?}"), holds).await;
}

async fn volume_is(world: &World, name: &str, phase: &str) {
    let holds = async || {
        let volume = world.all::<PersistentVolume>().get_opt(name).await.unwrap();
        volume.is_some_and(|volume| volume_phase(&volume) == phase)
    };
    until(&format!("{name} is {phase}"), holds).await;
}

async fn gone<K: rkube_api::object::Kind>(world: &World, name: &str) {
    until(&format!("{name} is gone"), async || world.get::<K>(name).await.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn claims_get_volumes_and_give_them_back() {
    let world = World::without_agents().await;
    world.create(claim("web", "2Gi", json!("disk"))).await;
    world.create(claim("more", "2Gi", json!("disk"))).await;
    is(&world, "web", "Pending", "").await;
    world.create(volume("small", "1Gi", "Retain")).await;
    volume_is(&world, "small", "Available").await;
    world.create(volume("fits", "3Gi", "Retain")).await;
    let either = async || {
        let mut names = Vec::new();
        for name in ["web", "more"] {
            let claim = world.get::<PersistentVolumeClaim>(name).await.unwrap();
            names.push((claim_phase(&claim).to_owned(), volume_name(&claim).to_owned()));
        }
        names.sort();
        names == [("Bound".into(), "fits".into()), ("Pending".into(), String::new())]
    };
    until("one of the two has it", either).await;
    world.create(volume("late", "9Gi", "Delete")).await;
    let both = async || {
        let claims = world.list::<PersistentVolumeClaim>().await;
        claims.iter().all(|claim| claim_phase(claim) == "Bound")
    };
    until("both have one", both).await;
    let claim = world.get::<PersistentVolumeClaim>("web").await.unwrap();
    let name = volume_name(&claim).to_owned();
    let bound = world.all::<PersistentVolume>().get(&name).await.unwrap();
    let capacity = claim.status.as_ref().unwrap().capacity.clone();
    assert_eq!(capacity, bound.spec.as_ref().unwrap().capacity);
    assert!(bound.status.as_ref().unwrap().last_phase_transition_time.is_some());

    for claim in world.list::<PersistentVolumeClaim>().await {
        let name = claim.metadata.name.clone().unwrap();
        world.api::<PersistentVolumeClaim>().delete(&name, &DeleteParams::default()).await.unwrap();
        gone::<PersistentVolumeClaim>(&world, &name).await;
    }
    volume_is(&world, "fits", "Released").await;
    // Nobody can delete it: whoever made it is not known.
    volume_is(&world, "late", "Failed").await;
    world.create(self::claim("again", "1Gi", json!("disk"))).await;
    is(&world, "again", "Bound", "small").await;
    world.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn what_is_in_use_stays() {
    let world = World::without_agents().await;
    world.create(volume("v", "1Gi", "Retain")).await;
    world.create(claim("c", "1Gi", json!("disk"))).await;
    is(&world, "c", "Bound", "v").await;
    let pod = |node: Value| -> Pod {
        let source = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "c"}}]);
        let meta = json!({"name": "p", "namespace": "default"});
        from_value(json!({"metadata": meta, "spec": {"nodeName": node, "volumes": source,
            "containers": [{"name": "c", "image": "i"}]}}))
        .unwrap()
    };
    world.node("n1").await;
    world.create(pod(json!("n1"))).await;
    world.all::<PersistentVolume>().delete("v", &DeleteParams::default()).await.unwrap();
    world.api::<PersistentVolumeClaim>().delete("c", &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert!(world.get::<PersistentVolumeClaim>("c").await.unwrap().metadata.deletion_timestamp.is_some());
    world.api::<Pod>().delete("p", &DeleteParams::now()).await.unwrap();
    gone::<PersistentVolumeClaim>(&world, "c").await;
    let volumes = async || world.all::<PersistentVolume>().get_opt("v").await.unwrap().is_none();
    until("the volume goes after its claim", volumes).await;
    world.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_provisioner_from_outside_is_asked_and_its_volume_bound() {
    let world = World::without_agents().await;
    world.create(claim("c", "1Gi", Value::Null)).await;
    is(&world, "c", "Pending", "").await;
    // A default class that comes later is given to claims that have none.
    world.create(class("made", "example.com/disks", "Immediate", true)).await;
    let asked = async || {
        let claim = world.get::<PersistentVolumeClaim>("c").await.unwrap();
        let annotations = claim.metadata.annotations.as_ref();
        let asked = annotations.and_then(|all| all.get("volume.kubernetes.io/storage-provisioner"));
        asked.is_some_and(|asked| asked == "example.com/disks")
    };
    until("the provisioner is asked", asked).await;
    let claim = world.get::<PersistentVolumeClaim>("c").await.unwrap();
    let mut made = volume("pvc-1", "1Gi", "Delete");
    made.metadata.annotations =
        from_value(json!({"pv.kubernetes.io/provisioned-by": "example.com/disks"})).unwrap();
    let spec = made.spec.as_mut().unwrap();
    spec.storage_class_name = Some("made".into());
    spec.claim_ref =
        from_value(json!({"name": "c", "namespace": "default", "uid": claim.metadata.uid})).unwrap();
    world.create(made).await;
    is(&world, "c", "Bound", "pvc-1").await;
    world.api::<PersistentVolumeClaim>().delete("c", &DeleteParams::default()).await.unwrap();
    // Its provisioner sees that it may delete it.
    volume_is(&world, "pvc-1", "Released").await;
    let waiting = world.events("ExternalProvisioning").await;
    assert!(waiting[0].contains("'example.com/disks'"), "{waiting:?}");
    world.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_waits_for_its_pod_gets_what_the_scheduler_chooses() {
    let world = World::without_agents().await;
    world.create(class("late", "kubernetes.io/no-provisioner", "WaitForFirstConsumer", false)).await;
    let mut there = volume("v", "1Gi", "Retain");
    there.spec.as_mut().unwrap().storage_class_name = Some("late".into());
    world.create(there).await;
    world.create(claim("c", "1Gi", json!("late"))).await;
    let told = async || !world.events("WaitForFirstConsumer").await.is_empty();
    until("the user is told", told).await;
    is(&world, "c", "Pending", "").await;
    let claim = world.get::<PersistentVolumeClaim>("c").await.unwrap();
    let chosen =
        Patch::Merge(json!({"spec": {"claimRef": {"kind": "PersistentVolumeClaim", "namespace": "default",
        "name": "c", "uid": claim.metadata.uid}}}));
    world.all::<PersistentVolume>().patch("v", &PatchParams::default(), &chosen).await.unwrap();
    is(&world, "c", "Bound", "v").await;
    // A volume that is deleted by force is lost, with a word.
    let freed = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    world.all::<PersistentVolume>().delete("v", &DeleteParams::default()).await.unwrap();
    world.all::<PersistentVolume>().patch("v", &PatchParams::default(), &freed).await.unwrap();
    is(&world, "c", "Lost", "v").await;
    let lost = async || world.events("ClaimLost").await.len() == 1;
    until("the user is told that it is lost", lost).await;
    world.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_pod_s_own_claim_is_made_and_goes_with_it() {
    let world = World::without_agents().await;
    let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "disk",
        "resources": {"requests": {"storage": "1Gi"}}});
    let volume = json!({"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": spec}}});
    let pod: Pod = from_value(json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {
        "volumes": [volume], "containers": [{"name": "c", "image": "i"}]}}))
    .unwrap();
    let made: Arc<Pod> = world.api().create(&PostParams::default(), pod).await.unwrap();
    let there = async || world.get::<PersistentVolumeClaim>("p-data").await.is_some();
    until("the claim is made", there).await;
    let claim = world.get::<PersistentVolumeClaim>("p-data").await.unwrap();
    assert!(rkube_api::helpers::volumes::is_made_for(&claim, &made));
    world.api::<Pod>().delete("p", &DeleteParams::now()).await.unwrap();
    gone::<PersistentVolumeClaim>(&world, "p-data").await;
    world.stop.cancel();
}
