//! Services with many node ports, and many services that want some at once.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use rkube_api::{
    admission::{Admission, AdmissionRequest},
    client::{Api, DeleteParams, PostParams},
    context::{Context, Rng},
    error::ApiError,
    kinds,
    pipeline::Server,
    registry::Registry,
    request::UserInfo,
};
use rkube_store::{ListOptions, Prefix, Store};

use crate::support::{World, refused};

fn service(name: &str, kind: &str, ports: i32) -> Service {
    let port =
        |number| ServicePort { name: Some(format!("p{number}")), port: number, ..ServicePort::default() };
    let mut service = Service::default();
    service.metadata.name = Some(name.into());
    service.spec = Some(ServiceSpec {
        type_: Some(kind.into()),
        ports: Some((1..=ports).map(port).collect()),
        ..ServiceSpec::default()
    });
    service
}

fn node_ports(service: &Service) -> Vec<i32> {
    let ports = service.spec.as_ref().unwrap().ports.iter().flatten();
    ports.filter_map(|port| port.node_port).collect()
}

/// How many records of node ports there are.
async fn records(world: &World) -> usize {
    let folder = Prefix::new("/registry/ranges/servicenodeports/");
    world.store.list(&folder, ListOptions::default()).await.unwrap().entries.len()
}

#[tokio::test(start_paused = true)]
async fn a_service_may_have_as_many_node_ports_as_there_are() {
    let world = World::new().await;
    let api = world.api::<Service>();
    for count in [1, 127, 128, 300, 2768] {
        let name = format!("s{count}");
        let made = api.create(&PostParams::default(), service(&name, "NodePort", count)).await.unwrap();
        let ports: BTreeSet<i32> = node_ports(&made).into_iter().collect();
        assert_eq!(ports.len(), usize::try_from(count).unwrap());
        assert!(ports.iter().all(|port| (30000..=32767).contains(port)));

        // Each of them is taken, and free when the service is gone.
        let mut other = service("other", "NodePort", 1);
        other.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].node_port = ports.last().copied();
        let (code, text) = refused(api.create(&PostParams::default(), other.clone()).await);
        assert!(code == 422 && text.contains("provided port is already allocated"), "{code} {text}");
        api.delete(&name, &DeleteParams::default()).await.unwrap();
        assert_eq!(records(&world).await, 0, "{count} ports were given back");
        api.create(&PostParams::default(), other).await.unwrap();
        api.delete("other", &DeleteParams::default()).await.unwrap();
    }
    let (code, text) = refused(api.create(&PostParams::default(), service("x", "NodePort", 2769)).await);
    assert!(code == 500 && text.contains("range is full"), "{code} {text}");
    assert_eq!(records(&world).await, 0);
}

#[tokio::test(start_paused = true)]
async fn ports_are_given_back_by_a_change_and_not_taken_by_a_dry_run() {
    let world = World::new().await;
    let api = world.api::<Service>();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    assert_eq!(node_ports(&api.create(&dry, service("a", "NodePort", 300)).await.unwrap()).len(), 300);
    assert_eq!(records(&world).await, 0);
    let made = api.create(&PostParams::default(), service("a", "NodePort", 300)).await.unwrap();
    let mut fewer = (*made).clone();
    fewer.spec.as_mut().unwrap().ports.as_mut().unwrap().truncate(2);
    let left = api.update(&PostParams::default(), fewer).await.unwrap();
    assert_eq!(node_ports(&left), node_ports(&made)[..2]);
    let freed = node_ports(&made)[299];
    let mut other = service("b", "NodePort", 1);
    other.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].node_port = Some(freed);
    api.create(&PostParams::default(), other).await.unwrap();
    let mut none = (*left).clone();
    let spec = none.spec.as_mut().unwrap();
    spec.type_ = Some("ClusterIP".into());
    spec.ports.iter_mut().flatten().for_each(|port| port.node_port = None);
    api.update(&PostParams::default(), none).await.unwrap();
    api.delete("b", &DeleteParams::default()).await.unwrap();
    assert_eq!(records(&world).await, 0);
}

/// A write dwells between its choice of ports and its commit, for a time drawn from a seed.
struct Dwell(Rng);

#[async_trait]
impl Admission for Dwell {
    fn name(&self) -> &'static str {
        "Dwell"
    }

    async fn validate(&self, _: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        tokio::time::sleep(Duration::from_millis(self.0.below(10).try_into().unwrap())).await;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn two_servers_on_one_store_never_give_a_port_twice() {
    for seed in 0..5 {
        let rng = Rng::seeded(seed);
        let (first, second) = (Arc::new(Dwell(rng.fork("first"))), Arc::new(Dwell(rng.fork("second"))));
        let world = World::with(|builder| builder.admit(first)).await;
        let registry = Arc::new(Registry::new(kinds::all()).unwrap());
        // The same seed: both servers draw the same ports.
        let context = Context::simulated(1);
        let other = Server::builder(Arc::new(world.store.clone()), registry, context);
        let other = other.admit(second).build().unwrap();
        let clients = [world.client.clone(), other.client(UserInfo::admin("other"), "test/1.0")];
        let made = join_all((0..30_usize).map(|number| {
            let api: Api<Service> = Api::namespaced(clients[number % 2].clone(), "default");
            let ports = i32::try_from(1 + (number * 7) % 40).unwrap();
            async move {
                let name = format!("s{number}");
                let made =
                    api.create(&PostParams::default(), service(&name, "NodePort", ports)).await.unwrap();
                if number.is_multiple_of(3) {
                    api.delete(&name, &DeleteParams::default()).await.unwrap();
                    return Vec::new();
                }
                node_ports(&made)
            }
        }))
        .await;
        let all: Vec<i32> = made.into_iter().flatten().collect();
        let different: BTreeSet<i32> = all.iter().copied().collect();
        assert_eq!(all.len(), different.len(), "seed {seed}");
        let folder = Prefix::new("/registry/ranges/servicenodeports/");
        let blocks = world.store.list(&folder, ListOptions::default()).await.unwrap().entries;
        let taken = blocks.iter().flat_map(|block| {
            let value = block.value.to_value().unwrap();
            serde_json::from_value::<Vec<i32>>(value["spec"]["taken"].clone()).unwrap()
        });
        assert_eq!(taken.collect::<BTreeSet<i32>>(), different, "what is taken is what services have");
    }
}
