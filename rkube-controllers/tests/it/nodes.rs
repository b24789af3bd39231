//! A node falls silent.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use rkube_api::client::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::{World, deployment, until};

async fn taints(world: &World, node: &str) -> Vec<String> {
    let node = world.all::<Node>().get(node).await.unwrap();
    let taints: Vec<Taint> = node.spec.clone().and_then(|spec| spec.taints).unwrap_or_default();
    taints.iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_loses_its_pods_after_five_minutes() {
    let world = World::new().await;
    world.node("n2").await;
    world.create(deployment("web", 2, "a:1")).await;
    world.rolled_out("web").await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    let keys = taints(&world, "n1").await;
    assert!(keys.is_empty(), "a node that renews its lease is left alone: {keys:?}");

    world.silent.cancel();
    let began = tokio::time::Instant::now();
    until("the node is tainted", async || taints(&world, "n1").await.len() == 2).await;
    assert!(began.elapsed() >= Duration::from_secs(40) && began.elapsed() <= Duration::from_secs(70));
    let node = world.all::<Node>().get("n1").await.unwrap();
    let ready = &node.status.as_ref().unwrap().conditions.as_ref().unwrap()[0];
    assert_eq!((&*ready.status, ready.reason.as_deref()), ("Unknown", Some("NodeStatusUnknown")));
    let pods = world.list::<Pod>().await;
    assert!(pods.iter().all(|pod| {
        let list = pod.status.as_ref().unwrap().conditions.as_ref().unwrap();
        list.iter().any(|it| it.type_ == "Ready" && it.status == "False")
    }));
    assert!(
        pods.iter().all(|pod| pod.metadata.deletion_timestamp.is_none()),
        "they are tolerated for a while"
    );
    until("pods are told to go", async || {
        let pods = world.list::<Pod>().await;
        pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()).count() == 2
    })
    .await;
    assert!(began.elapsed() >= Duration::from_secs(340));
    assert_eq!(
        world.list::<Pod>().await.len(),
        4,
        "others take their place; the old ones wait for their agent"
    );

    world.all::<Node>().delete("n1", &DeleteParams::default()).await.unwrap();
    until("pods of a node that is gone are removed", async || {
        let pods = world.list::<Pod>().await;
        pods.iter().all(|pod| pod.metadata.deletion_timestamp.is_none())
    })
    .await;
}

/// As `kubectl taint` does: without a time.
async fn taint(world: &World, node: &str, taints: Value) {
    let patch = Patch::Merge(json!({"spec": {"taints": taints}}));
    world.all::<Node>().patch(node, &PatchParams::default(), &patch).await.unwrap();
}

async fn patient(world: &World, seconds: u32) {
    world.create(deployment("web", 1, "a:1")).await;
    let toleration = json!([{
        "key": "maintenance", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds
    }]);
    let patch = json!({"spec": {"template": {"spec": {"tolerations": toleration}}}});
    world.patch::<k8s_openapi::api::apps::v1::Deployment>("web", patch).await;
    world.rolled_out("web").await;
    until("the first pod is gone", async || world.list::<Pod>().await.len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_taint_without_a_time_is_tolerated_as_long_as_a_pod_says() {
    let world = World::new().await;
    patient(&world, 120).await;
    let name = world.list::<Pod>().await[0].metadata.name.clone().unwrap();
    let began = tokio::time::Instant::now();
    taint(&world, "n1", json!([{"key": "maintenance", "effect": "NoExecute"}])).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    // A change in between is a look, and moves nothing.
    let soft = json!({"key": "soft", "effect": "PreferNoSchedule"});
    taint(&world, "n1", json!([{"key": "maintenance", "effect": "NoExecute"}, soft])).await;
    until("the pod is evicted", async || {
        let pod = world.get::<Pod>(&name).await;
        pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some())
    })
    .await;
    let took = began.elapsed().as_secs();
    assert!((120..=121).contains(&took), "it took {took} s");
}

#[tokio::test(start_paused = true)]
async fn a_taint_that_goes_in_time_takes_no_pod_and_counts_anew() {
    let world = World::new().await;
    patient(&world, 120).await;
    let name = world.list::<Pod>().await[0].metadata.name.clone().unwrap();
    for _ in 0..2 {
        taint(&world, "n1", json!([{"key": "maintenance", "effect": "NoExecute"}])).await;
        tokio::time::sleep(Duration::from_secs(100)).await;
        taint(&world, "n1", Value::Null).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(300)).await;
    let pod = world.get::<Pod>(&name).await.unwrap();
    assert!(pod.metadata.deletion_timestamp.is_none());
    let told = world.events("TaintManagerEviction").await;
    assert_eq!(told, [format!("Cancelling deletion of Pod default/{name}")]);
}
