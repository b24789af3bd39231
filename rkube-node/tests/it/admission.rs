//! What a node does not take.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, PodStatus};
use rkube_api::client::{Api, DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::world::World;

fn asks(resource: &str, amount: &str) -> Value {
    json!({"containers": [{
        "name": "c", "image": "nginx:1.27", "resources": {"requests": {resource: amount}},
    }]})
}

async fn status(world: &World, name: &str) -> PodStatus {
    world.get(name).await.unwrap().status.clone().unwrap()
}

async fn rejected(world: &World, name: &str) -> (String, String) {
    world.until_phase(name, "Failed").await;
    let status = status(world, name).await;
    assert!(status.start_time.is_some() && status.container_statuses.is_none(), "{status:?}");
    (status.reason.unwrap(), status.message.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_node_takes_no_more_than_it_has() {
    let world = World::new(1).await;
    world.pod("first", "node-0", "default", asks("cpu", "20")).await;
    world.until_phase("first", "Running").await;
    world.pod("second", "node-0", "default", asks("cpu", "12500m")).await;
    let (reason, message) = rejected(&world, "second").await;
    assert_eq!(reason, "OutOfcpu");
    assert_eq!(
        message,
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 12500, used: 20000, capacity: 32000"
    );
    world.pod("large", "node-0", "default", asks("memory", "257Gi")).await;
    assert_eq!(rejected(&world, "large").await.0, "OutOfmemory");
    // It is told, nothing of it runs, and it stays as it is.
    tokio::time::sleep(Duration::from_secs(1000)).await;
    let events: Api<Event> = Api::namespaced(world.client.clone(), "default");
    let told = events.list(&ListParams::default().fields("involvedObject.name=second")).await.unwrap().items;
    let told: Vec<_> = told.iter().map(|one| (one.type_.as_deref(), one.reason.as_deref())).collect();
    assert_eq!(told, [(Some("Warning"), Some("OutOfcpu"))]);
    assert_eq!(rejected(&world, "second").await.0, "OutOfcpu");
    // What has gone leaves room.
    world.delete("second", &Default::default()).await;
    world.until_phase("second", "Gone").await;
    world.delete("first", &Default::default()).await;
    world.until_phase("first", "Gone").await;
    world.pod("third", "node-0", "default", asks("cpu", "32")).await;
    world.until_phase("third", "Running").await;
    world.delete("third", &Default::default()).await;
    // Nor do those hold room that go before anything of them was written.
    for round in 0..20 {
        let name = format!("short-{round}");
        world.pod(&name, "node-0", "default", asks("cpu", "32")).await;
        world.delete(&name, &DeleteParams::now()).await;
        world.until_phase(&name, "Gone").await;
    }
    tokio::time::sleep(Duration::from_secs(300)).await;
    world.pod("last", "node-0", "default", asks("cpu", "32")).await;
    world.until_phase("last", "Running").await;
}

#[tokio::test(start_paused = true)]
async fn the_number_of_pods_is_bounded_and_ended_pods_do_not_count() {
    let world = World::new(1).await;
    for number in 0..110 {
        let profile = if number == 0 { "complete" } else { "default" };
        world.pod(&format!("p{number}"), "node-0", profile, json!({"restartPolicy": "Never"})).await;
    }
    world.pod("more", "node-0", "default", json!({})).await;
    let (reason, message) = rejected(&world, "more").await;
    assert_eq!(reason, "OutOfpods");
    let text =
        "Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: 110, capacity: 110";
    assert_eq!(message, text);
    world.until_phase("p0", "Succeeded").await;
    world.pod("again", "node-0", "default", json!({})).await;
    world.until_phase("again", "Running").await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_bound_by_hand_must_still_fit_the_node() {
    let world = World::new(1).await;
    world.pod("picky", "node-0", "default", json!({"nodeSelector": {"disk": "ssd"}})).await;
    let (reason, message) = rejected(&world, "picky").await;
    assert_eq!(reason, "NodeAffinity");
    let text =
        "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    assert_eq!(message, text);
}

#[tokio::test(start_paused = true)]
async fn a_port_of_the_node_is_taken_once() {
    let world = World::new(1).await;
    let listens = |ip: &str, protocol: &str| {
        let port = json!({"containerPort": 80, "hostPort": 8080, "hostIP": ip, "protocol": protocol});
        json!({"containers": [{"name": "c", "image": "nginx:1.27", "ports": [port]}]})
    };
    world.pod("first", "node-0", "default", listens("10.0.0.1", "TCP")).await;
    for (name, ip, protocol) in [("other-ip", "10.0.0.2", "TCP"), ("other-protocol", "", "UDP")] {
        world.pod(name, "node-0", "default", listens(ip, protocol)).await;
        world.until_phase(name, "Running").await;
    }
    world.until_phase("first", "Running").await;
    world.pod("second", "node-0", "default", listens("", "TCP")).await;
    let (reason, message) = rejected(&world, "second").await;
    assert_eq!(reason, "NodePorts");
    let text = "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
    assert_eq!(message, text);
    world.delete("first", &Default::default()).await;
    world.delete("other-ip", &Default::default()).await;
    world.until_phase("first", "Gone").await;
    world.until_phase("other-ip", "Gone").await;
    world.pod("third", "node-0", "default", listens("", "TCP")).await;
    world.until_phase("third", "Running").await;
}

/// The agent that comes after takes what the one before has taken.
#[tokio::test(start_paused = true)]
async fn an_agent_that_restarts_rejects_nothing_that_runs() {
    let world = World::new(1).await;
    for name in ["a", "b"] {
        world.pod(name, "node-0", "default", asks("cpu", "16")).await;
        world.until_phase(name, "Running").await;
    }
    world.nodes[0].node.stop();
    world.pod("c", "node-0", "default", asks("cpu", "1")).await;
    world.nodes[0].node.start();
    assert_eq!(rejected(&world, "c").await.0, "OutOfcpu");
    tokio::time::sleep(Duration::from_secs(60)).await;
    for name in ["a", "b"] {
        assert_eq!(
            (world.phase(name).await, world.container(name).await.restart_count),
            ("Running".into(), 0)
        );
    }
}
