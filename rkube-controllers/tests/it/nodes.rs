//! A node falls silent.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use rkube_api::client::DeleteParams;

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
