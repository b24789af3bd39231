//! The controller against a server in this process.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Event, Namespace, Node};
use rkube_api::{
    client::{Api, Client, DeleteParams, Informers, ListParams, PostParams},
    context::Context,
    kinds,
    object::Object,
    pipeline::Server,
    registry::Registry,
    request::UserInfo,
};
use rkube_net::ipam::{NodeAddresses, RangeConfig, RangeController};
use rkube_store::Memory;
use serde_json::json;

struct World {
    server: Arc<Server>,
    client: Client,
}

impl World {
    async fn new() -> Self {
        let registry = Arc::new(Registry::new(kinds::all()).unwrap());
        let store = Arc::new(Memory::<Object>::builder().build());
        let server = Server::builder(store, registry, Context::simulated(1)).build().unwrap();
        let client = server.client(UserInfo::admin("admin"), "test");
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("default".into());
        Api::all(client.clone()).create(&PostParams::default(), namespace).await.unwrap();
        Self { server, client }
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    async fn node(&self, name: &str) {
        let mut node = Node::default();
        node.metadata.name = Some(name.into());
        self.nodes().create(&PostParams::default(), node).await.unwrap();
    }

    fn informers(&self) -> Informers {
        let user = UserInfo::component("system:serviceaccount:kube-system:node-controller");
        Informers::new(self.server.client(user, "node-ipam"))
    }

    /// A controller at work; it ends with the task.
    fn start(&self, config: serde_json::Value) -> rkube_api::context::Task {
        let config: RangeConfig = serde_json::from_value(config).unwrap();
        let controller = RangeController::new(&self.informers(), &config).unwrap();
        self.server.context().spawner.spawn("test", async move { controller.run().await })
    }

    async fn ranges(&self) -> Vec<String> {
        let nodes = self.nodes().list(&ListParams::default()).await.unwrap().items;
        let all = nodes.iter().filter_map(|node| node.spec.as_ref()?.pod_cidr.clone());
        all.collect()
    }
}

fn four() -> serde_json::Value {
    json!({"ranges": [{"cidr": "10.244.0.0/22", "nodePrefix": 24}]})
}

async fn while_time_passes() {
    tokio::time::sleep(Duration::from_secs(20)).await;
}

#[tokio::test(start_paused = true)]
async fn nodes_get_ranges_and_pods_get_addresses() {
    let world = World::new().await;
    let addresses = NodeAddresses::default();
    addresses.follow(&world.informers().get());
    world.node("a").await;
    let _running = world.start(json!({"ranges": [
        {"cidr": "10.244.0.0/16", "nodePrefix": 24},
        {"cidr": "fd00:10:244::/56", "nodePrefix": 64},
    ]}));
    world.node("b").await;
    while_time_passes().await;
    let spec = world.nodes().get("b").await.unwrap().spec.clone().unwrap();
    assert_eq!(spec.pod_cidr.as_ref(), spec.pod_cidrs.as_ref().unwrap().first());
    assert_eq!(spec.pod_cidrs.unwrap().len(), 2);
    assert_eq!(world.ranges().await.iter().collect::<BTreeSet<_>>().len(), 2);
    let ips = addresses.allocate("a", "uid").unwrap();
    assert_eq!(ips.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.244.0.2", "fd00:10:244::2"]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_gives_no_range_twice() {
    let world = World::new().await;
    let first = world.start(four());
    for name in ["b", "c"] {
        world.node(name).await;
    }
    while_time_passes().await;
    first.abort();
    let before = world.ranges().await;
    // A node that sorts first is seen first, and must not get what another has.
    world.node("a").await;
    let _second = world.start(four());
    while_time_passes().await;
    let after = world.ranges().await;
    assert_eq!(after[1..], before);
    assert_eq!(after.iter().collect::<BTreeSet<_>>().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_node_too_many_waits_for_a_range() {
    let world = World::new().await;
    let _running = world.start(four());
    for name in ["a", "b", "c", "d", "e"] {
        world.node(name).await;
        while_time_passes().await;
    }
    assert_eq!(world.ranges().await.len(), 4);
    let events: Api<Event> = Api::namespaced(world.client.clone(), "default");
    let event = &events.list(&ListParams::default()).await.unwrap().items[0];
    assert_eq!(event.reason.as_deref(), Some("CIDRNotAvailable"));
    assert_eq!(event.involved_object.name.as_deref(), Some("e"));
    let freed = world.nodes().get("b").await.unwrap().spec.clone().unwrap().pod_cidr;
    world.nodes().delete("b", &DeleteParams::default()).await.unwrap();
    while_time_passes().await;
    assert_eq!(world.nodes().get("e").await.unwrap().spec.clone().unwrap().pod_cidr, freed);
}
