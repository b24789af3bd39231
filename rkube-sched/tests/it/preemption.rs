//! Room made by the built-in plugin, through the API.

use std::sync::Arc;

use rkube_api::{
    client::PostParams,
    k8s_openapi::api::{
        core::v1::{Event, Pod},
        policy::v1::PodDisruptionBudget,
    },
};
use rkube_sched::Config;
use serde_json::json;

use crate::support::{World, after, from};

const URGENT: &str = "system-node-critical";

#[tokio::test(start_paused = true)]
async fn a_pod_gets_the_room_of_lesser_pods_and_the_world_hears_why() {
    let world = World::new(1).await;
    world.node("a", "2").await;
    world.node("b", "2").await;
    let scheduler = world.scheduler(Config::default());
    world.pod("x", "2").await;
    world.pod("y", "2").await;
    after(1).await;
    let placed = world.placed().await;
    let budget = json!({
        "metadata": {"name": "keep", "namespace": "default"},
        "spec": {"minAvailable": 1, "selector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}
    });
    world.api::<PodDisruptionBudget>().create(&PostParams::default(), from(budget)).await.unwrap();

    world.pod_with("high", "1", json!({"priorityClassName": URGENT})).await;
    after(1).await;
    let high = world.pods().get("high").await.unwrap();
    let node = high.status.clone().unwrap().nominated_node_name.unwrap();
    let message = world.condition("high").await.message.unwrap();
    assert_eq!(message, "0/2 nodes are available: 2 Insufficient cpu.");
    let (victim, _) = placed.iter().find(|(_, place)| **place == node).unwrap();
    let gone = world.pods().get(victim).await.unwrap();
    assert!(gone.metadata.deletion_timestamp.is_some());
    let conditions = gone.status.clone().unwrap().conditions.unwrap();
    let target = conditions.iter().find(|condition| condition.type_ == "DisruptionTarget").unwrap();
    assert_eq!(target.reason.as_deref(), Some("PreemptionByScheduler"));
    let text = "default-scheduler: preempting to accommodate a higher priority pod";
    assert_eq!(target.message.as_deref(), Some(text));
    let events = world.api::<Event>().list(&Default::default()).await.unwrap();
    let told = events.items.iter().find(|event| event.reason.as_deref() == Some("Preempted")).unwrap();
    assert_eq!(told.involved_object.name.as_deref(), Some(victim.as_str()));
    let note = format!("Preempted by pod {} on node {node}", high.metadata.uid.clone().unwrap());
    assert_eq!(told.message, Some(note));

    // While the victim takes its time, nobody else has to go, however often the pod is tried.
    after(30).await;
    let pods = world.pods().list(&Default::default()).await.unwrap();
    let leaving = pods.items.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some());
    assert_eq!(leaving.count(), 1);
    world.delete_pod(victim).await;
    after(30).await;
    assert_eq!(world.node_of("high").await, Some(node));
    assert_eq!(scheduler.stats.errors(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_higher_pod_takes_the_room_that_a_lesser_one_waits_for() {
    let world = World::new(1).await;
    world.node("a", "2").await;
    world.scheduler(Config::default());
    world.pod("low", "2").await;
    after(1).await;
    world.pod_with("middle", "2", json!({"priorityClassName": "system-cluster-critical"})).await;
    after(1).await;
    world.pod_with("high", "2", json!({"priorityClassName": URGENT})).await;
    after(1).await;
    let nominated = |pod: Arc<Pod>| pod.status.clone().and_then(|status| status.nominated_node_name);
    assert_eq!(nominated(world.pods().get("high").await.unwrap()).as_deref(), Some("a"));
    assert_eq!(nominated(world.pods().get("middle").await.unwrap()), None);
    world.delete_pod("low").await;
    after(30).await;
    assert_eq!(world.node_of("high").await.as_deref(), Some("a"));
    assert_eq!(world.node_of("middle").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_room_would_not_have_helped_looks_again_when_it_would() {
    let world = World::new(1).await;
    world.node_with("a", "2", json!({"kubernetes.io/hostname": "a"}), json!({})).await;
    world.scheduler(Config::default());
    world.pod("low", "2").await;
    after(1).await;
    let beside =
        json!({"labelSelector": {"matchLabels": {"app": "c"}}, "topologyKey": "kubernetes.io/hostname"});
    let affinity = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [beside]}});
    world.pod_with("high", "1", json!({"priorityClassName": URGENT, "affinity": affinity})).await;
    after(1).await;
    let message = world.condition("high").await.message.unwrap();
    assert!(message.starts_with("0/1 nodes are available: 1 Insufficient cpu."), "{message}");
    assert!(message.ends_with("1 node(s) didn't match pod affinity rules."), "{message}");

    // It was for the CPU that the pod was refused; what has come makes room worth while.
    let friend = json!({
        "metadata": {"name": "friend", "namespace": "default", "labels": {"app": "c"}},
        "spec": {"nodeName": "a", "priorityClassName": URGENT, "containers": [{"name": "c", "image": "i"}]}
    });
    world.pods().create(&PostParams::default(), from(friend)).await.unwrap();
    after(30).await;
    assert!(world.pods().get("low").await.unwrap().metadata.deletion_timestamp.is_some());
    world.delete_pod("low").await;
    after(30).await;
    assert_eq!(world.node_of("high").await.as_deref(), Some("a"));
}
