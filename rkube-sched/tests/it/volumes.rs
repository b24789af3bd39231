//! Pods that wait for volumes. Nobody makes or binds any here but the tests themselves.

use rkube_api::{
    client::{Api, Patch, PatchParams, PostParams},
    k8s_openapi::api::{
        core::v1::{PersistentVolume, PersistentVolumeClaim},
        storage::v1::StorageClass,
    },
    kinds,
};
use rkube_sched::{Config, framework::ProfileConfig};
use serde_json::{Value, json};

use crate::support::{Running, World, after, from};

fn claims(world: &World) -> Api<PersistentVolumeClaim> {
    Api::namespaced(world.client.clone(), "default")
}

async fn class(world: &World, name: &str, provisioner: &str) {
    let class = json!({"metadata": {"name": name}, "provisioner": provisioner,
        "volumeBindingMode": "WaitForFirstConsumer"});
    world.api::<StorageClass>().create(&PostParams::default(), from(class)).await.unwrap();
}

async fn claim(world: &World, name: &str, class: &str) {
    let spec = json!({"storageClassName": class, "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}});
    let claim = json!({"metadata": {"name": name}, "spec": spec});
    claims(world).create(&PostParams::default(), from(claim)).await.unwrap();
}

async fn volume(world: &World, name: &str, class: &str) {
    let spec = json!({"storageClassName": class, "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/data"}});
    let volumes = world.api::<PersistentVolume>();
    let volume = json!({"metadata": {"name": name}, "spec": spec});
    volumes.create(&PostParams::default(), from(volume)).await.unwrap();
    let free = Patch::Merge(json!({"status": {"phase": "Available"}}));
    volumes.patch_status(name, &PatchParams::default(), &free).await.unwrap();
}

/// What the controller does in the end.
async fn bind(world: &World, claim: &str, volume: &str) {
    let bound = Patch::Merge(json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": volume}}));
    claims(world).patch(claim, &PatchParams::default(), &bound).await.unwrap();
}

fn using(claim: &str) -> Value {
    json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]})
}

/// A scheduler with room for one binding at a time, which waits 30 seconds for volumes.
fn scheduler(world: &World) -> Running {
    let profile = ProfileConfig::standard().args("VolumeBinding", json!({"bindTimeoutSeconds": 30}));
    world.scheduler(Config { profiles: vec![profile], max_bindings: 1, ..Config::default() })
}

async fn selected(world: &World, claim: &str) -> Option<String> {
    let claim = claims(world).get(claim).await.unwrap();
    claim.metadata.annotations.as_ref()?.get("volume.kubernetes.io/selected-node").cloned()
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_waits_for_its_volume_keeps_no_other_waiting() {
    let world = World::new(1).await;
    world.node("a", "4").await;
    class(&world, "made", "example.com/disks").await;
    claim(&world, "c", "made").await;
    scheduler(&world);
    world.pod_with("p", "1", using("c")).await;
    after(5).await;
    assert_eq!(selected(&world, "c").await.as_deref(), Some("a"));
    world.pod("q", "1").await;
    after(1).await;
    assert_eq!(world.placed().await.into_iter().collect::<Vec<_>>(), [("q".into(), "a".into())]);
    // The wait has an end, and begins anew.
    after(30).await;
    let condition = world.condition("p").await;
    assert_eq!(condition.reason.as_deref(), Some("SchedulerError"));
    assert_eq!(condition.message.as_deref(), Some("binding volumes: context deadline exceeded"));
    volume(&world, "made", "made").await;
    bind(&world, "c", "made").await;
    after(5).await;
    assert_eq!(world.node_of("p").await.as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn a_volume_is_promised_once_and_is_free_again_when_its_pod_goes() {
    let world = World::new(2).await;
    world.node("a", "4").await;
    class(&world, "there", "kubernetes.io/no-provisioner").await;
    volume(&world, "v", "there").await;
    for name in ["c", "d"] {
        claim(&world, name, "there").await;
    }
    scheduler(&world);
    world.pod_with("p", "1", using("c")).await;
    world.pod_with("q", "1", using("d")).await;
    after(2).await;
    let kept = world.api::<PersistentVolume>().get("v").await.unwrap();
    let reference = kept.spec.as_ref().unwrap().claim_ref.as_ref().unwrap();
    let (first, second) = if reference.name.as_deref() == Some("c") { ("p", "q") } else { ("q", "p") };
    let none = "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind.";
    let said = world.condition(second).await.message.unwrap();
    assert!(said.starts_with(none), "{said}");
    // Who waits for the volume is gone; nobody is bound without it.
    world.delete_pod(first).await;
    after(20).await;
    assert_eq!(world.placed().await.len(), 0);
    // The controller finds that the claim is gone, too, and frees the volume.
    let free = Patch::Merge(json!({"metadata": {"annotations": null}, "spec": {"claimRef": null}}));
    world.api::<PersistentVolume>().patch("v", &PatchParams::default(), &free).await.unwrap();
    after(20).await;
    let claim = if second == "q" { "d" } else { "c" };
    bind(&world, claim, "v").await;
    after(5).await;
    assert_eq!(world.node_of(second).await.as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn a_provisioner_that_gives_up_is_taken_at_its_word() {
    let world = World::new(3).await;
    world.node("a", "4").await;
    class(&world, "made", "example.com/disks").await;
    claim(&world, "c", "made").await;
    scheduler(&world);
    world.pod_with("p", "1", using("c")).await;
    after(2).await;
    let gives_up =
        Patch::Merge(json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": null}}}));
    claims(&world).patch("c", &PatchParams::default(), &gives_up).await.unwrap();
    after(1).await;
    let said = world.condition("p").await.message;
    assert_eq!(said.as_deref(), Some("binding volumes: provisioning failed for PVC \"c\""));
    after(5).await;
    assert_eq!(selected(&world, "c").await.as_deref(), Some("a"), "another try");
}

#[tokio::test(start_paused = true)]
async fn a_server_without_volumes_is_no_hindrance() {
    let kinds = kinds::all().into_iter().filter(|kind| {
        kind.names.group != "storage.k8s.io" && !kind.names.plural.starts_with("persistentvolume")
    });
    let world = World::of_kinds(4, kinds.collect()).await;
    world.node("a", "4").await;
    scheduler(&world);
    world.pod("p", "1").await;
    world.pod_with("q", "1", using("c")).await;
    after(5).await;
    assert_eq!(world.node_of("p").await.as_deref(), Some("a"));
    let said = world.condition("q").await.message.unwrap();
    assert!(said.contains("persistentvolumeclaim \"c\" not found"), "{said}");
}
