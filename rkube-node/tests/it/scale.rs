//! Many nodes in one pool: no task a node, leases spread, the same seed the same run.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use rkube_api::client::ListParams;
use rkube_node::{
    agent::PoolConfig,
    runtime::sim::{Behaviour, ContainerBehaviour, Delay, Profiles},
};
use serde_json::json;

use crate::world::World;

fn jittered() -> Profiles {
    let start = Delay { duration: Duration::from_secs(1), jitter: Duration::from_secs(4) };
    let main = ContainerBehaviour { start, ..ContainerBehaviour::default() };
    Profiles::all(Behaviour { main, ..Behaviour::default() })
}

#[tokio::test(start_paused = true)]
async fn a_thousand_nodes_run_three_thousand_pods() {
    let config = PoolConfig { events: false, ..PoolConfig::default() };
    let world = World::with(1000, config, jittered()).await;
    for pod in 0..3000 {
        world.pod(&format!("p{pod}"), &format!("node-{}", pod % 1000), "default", json!({})).await;
    }
    let count = async |phase: &str| {
        let params = ListParams::default().fields(format!("status.phase={phase}"));
        world.pods().list(&params).await.unwrap().items.len()
    };
    world.until("all run", async || count("Running").await == 3000).await;
    assert_eq!(world.addresses.held(), 3000);
    // Leases of all nodes are renewed, and not all at once.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let mut seconds = std::collections::BTreeMap::new();
    let now = world.client.context().clock.timestamp();
    for node in 0..1000 {
        let lease = world.lease(&format!("node-{node}")).await.unwrap();
        let renewed = lease.spec.clone().unwrap().renew_time.unwrap().0;
        assert!(now.duration_since(renewed).as_secs() <= 10);
        *seconds.entry(renewed.as_second()).or_insert(0) += 1;
    }
    assert!(seconds.len() >= 9 && seconds.values().all(|count| *count < 250), "{seconds:?}");
}

/// How many tasks there are once so many nodes run two pods each: those of the components' spawner, and all.
async fn tasks(nodes: u32) -> (usize, usize) {
    let world = World::with(nodes, PoolConfig::default(), jittered()).await;
    for pod in 0..2 * nodes {
        world.pod(&format!("p{pod}"), &format!("node-{}", pod % nodes), "default", json!({})).await;
    }
    let running = ListParams::default().fields("status.phase=Running");
    let count = async || world.pods().list(&running).await.unwrap().items.len();
    world.until("all run", async || count().await == 2 * nodes as usize).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let all = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    (world.client.context().spawner.running(), all)
}

#[test]
fn there_is_no_task_a_node_nor_a_pod() {
    let of = |nodes| paused().block_on(tasks(nodes));
    let few = of(2);
    assert!(few.0 > 0 && few.1 >= few.0, "{few:?}");
    assert_eq!(few, of(200));
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// What a run leaves behind, without what only the store numbers.
async fn run() -> Vec<String> {
    let world = World::with(5, PoolConfig::default(), jittered()).await;
    for pod in 0..20 {
        let profile = ["default", "fail", "complete"][pod % 3];
        world.pod(&format!("p{pod}"), &format!("node-{}", pod % 5), profile, json!({})).await;
    }
    tokio::time::sleep(Duration::from_secs(200)).await;
    let pods: Vec<std::sync::Arc<Pod>> = world.pods().list(&ListParams::default()).await.unwrap().items;
    pods.iter().map(|pod| serde_json::to_string(&**pod).unwrap()).collect()
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let once = || paused().block_on(run());
    assert_eq!(once(), once());
}
