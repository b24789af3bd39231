//! Pods and their volumes in a whole cluster: scheduler, controllers and nodes together.

use std::time::Duration;

use rkube::{
    k8s_openapi::api::{
        core::v1::{PersistentVolume, PersistentVolumeClaim},
        storage::v1::StorageClass,
    },
    prelude::*,
};
use serde_json::{Value, from_value, json};

fn class(name: &str) -> StorageClass {
    from_value(json!({"metadata": {"name": name}, "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer"}))
    .unwrap()
}

/// A disk of a node.
fn disk(name: &str, size: &str, node: &str) -> PersistentVolume {
    let here = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node]});
    from_value(json!({"metadata": {"name": name}, "spec": {
        "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "disks",
        "local": {"path": "/disk"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
    }}))
    .unwrap()
}

fn claim(name: &str, size: &str) -> PersistentVolumeClaim {
    from_value(json!({"metadata": {"name": name}, "spec": {"storageClassName": "disks",
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}}))
    .unwrap()
}

fn pod(name: &str, claim: &str) -> Pod {
    let volumes = json!([{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]);
    from_value(json!({"metadata": {"name": name}, "spec": {"volumes": volumes,
        "containers": [{"name": "c", "image": "nginx"}]}}))
    .unwrap()
}

fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

fn said(pod: Option<&Pod>, text: &str) -> bool {
    let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_deref()).unwrap_or_default();
    let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled");
    scheduled.is_some_and(|it| it.message.as_deref().unwrap_or_default().contains(text))
}

#[tokio::test(start_paused = true)]
async fn pods_run_where_their_disks_are() {
    let cluster = Cluster::builder().simulated(3).nodes(3).start().await.unwrap();
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "default");
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(cluster.client(), "default");
    let volumes: Api<PersistentVolume> = Api::all(cluster.client());
    let params = PostParams::default();
    Api::all(cluster.client()).create(&params, class("disks")).await.unwrap();
    volumes.create(&params, disk("disk-2", "1Gi", "node-2")).await.unwrap();
    volumes.create(&params, disk("disk-3", "5Gi", "node-3")).await.unwrap();
    claims.create(&params, claim("large", "2Gi")).await.unwrap();
    let running = |pod: Option<&Pod>| pod.is_some_and(rkube::is_ready);

    pods.create(&params, pod("db", "large")).await.unwrap();
    let db = cluster.wait_for(&pods, "db", running).await.unwrap();
    assert_eq!(node_of(&db), "node-3");
    let large = claims.get("large").await.unwrap();
    let phase = large.status.as_ref().unwrap().phase.as_deref();
    assert_eq!((phase, large.spec.as_ref().unwrap().volume_name.as_deref()), (Some("Bound"), Some("disk-3")));

    // A pod whose claim is not there says so, and is scheduled once it is.
    pods.create(&params, pod("web", "small")).await.unwrap();
    let missing = |pod: Option<&Pod>| said(pod, "persistentvolumeclaim \"small\" not found");
    cluster.wait_for(&pods, "web", missing).await.unwrap();
    claims.create(&params, claim("small", "1Gi")).await.unwrap();
    let web = cluster.wait_for(&pods, "web", running).await.unwrap();
    assert_eq!(node_of(&web), "node-2");

    // No disk is left: the pod says what is wrong, and waits for one.
    claims.create(&params, claim("third", "1Gi")).await.unwrap();
    pods.create(&params, pod("late", "third")).await.unwrap();
    let none = |pod: Option<&Pod>| said(pod, "3 node(s) didn't find available persistent volumes to bind");
    cluster.wait_for(&pods, "late", none).await.unwrap();
    volumes.create(&params, disk("disk-1", "1Gi", "node-1")).await.unwrap();
    let late = cluster.wait_for(&pods, "late", running).await.unwrap();
    assert_eq!(node_of(&late), "node-1");

    // A pod made anew goes back to its disk.
    pods.delete("db", &DeleteParams::default()).await.unwrap();
    cluster.wait_gone(&pods, "db").await.unwrap();
    pods.create(&params, pod("db", "large")).await.unwrap();
    let db = cluster.wait_for(&pods, "db", running).await.unwrap();
    assert_eq!(node_of(&db), "node-3");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_a_volume_that_is_made_for_it() {
    let cluster = Cluster::builder().simulated(4).nodes(2).start().await.unwrap();
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "default");
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(cluster.client(), "default");
    let params = PostParams::default();
    let mut made = class("disks");
    made.provisioner = "example.com/disks".into();
    Api::all(cluster.client()).create(&params, made).await.unwrap();
    claims.create(&params, claim("c", "1Gi")).await.unwrap();
    pods.create(&params, pod("p", "c")).await.unwrap();
    let annotation = |claim: &PersistentVolumeClaim, name: &str| -> Option<String> {
        claim.metadata.annotations.as_ref()?.get(name).cloned()
    };
    let asked = |claim: Option<&PersistentVolumeClaim>| {
        let provisioner = claim.and_then(|it| annotation(it, "volume.kubernetes.io/storage-provisioner"));
        provisioner.is_some_and(|it| it == "example.com/disks")
    };
    let asking = cluster.wait_for(&claims, "c", asked).await.unwrap();
    let node = annotation(&asking, "volume.kubernetes.io/selected-node").unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(node_of(&pods.get("p").await.unwrap()), "", "it waits");
    let mut volume = disk("pvc-1", "1Gi", &node);
    let reference: Value = json!({"namespace": "default", "name": "c", "uid": asking.metadata.uid});
    volume.spec.as_mut().unwrap().claim_ref = from_value(reference).unwrap();
    Api::all(cluster.client()).create(&params, volume).await.unwrap();
    let p = cluster.wait_for(&pods, "p", |pod| pod.is_some_and(rkube::is_ready)).await.unwrap();
    assert_eq!(node_of(&p), node);
    cluster.stop().await;
}
