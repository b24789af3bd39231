//! Several servers on one etcd, which these tests start: the program `etcd` must be in the path.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod together;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt, future::join_all};
use rkube::{
    api::{client::WatchParams, error::ApiError},
    config::{Election, NodeGroup},
    k8s_openapi::api::core::v1::{ServicePort, ServiceSpec},
    prelude::*,
    store::{backend::etcd::Etcd, testing::etcd::Server},
};

/// A server that only serves, or works too where it has a name.
async fn server(etcd: &Server, name: Option<&str>) -> Cluster {
    let builder = Cluster::builder().etcd(Etcd::builder([etcd.endpoint()]));
    let builder = match name {
        None => builder.without_scheduler().retain_controllers(|_| false),
        Some(name) => builder.elect(Election {
            lease_duration: Duration::from_secs(3),
            renew_deadline: Duration::from_secs(2),
            retry_period: Duration::from_millis(500),
            ..Election::new(name)
        }),
    };
    builder.start().await.unwrap()
}

fn map(name: &str, text: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.into());
    map.data = Some([("text".to_owned(), text.to_owned())].into());
    map
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_server_acknowledged_the_other_serves() {
    let etcd = Server::start().unwrap();
    let servers = [server(&etcd, None).await, server(&etcd, None).await];
    let maps = servers.each_ref().map(|server| Api::<ConfigMap>::namespaced(server.client(), "default"));
    let created = maps[0].create(&PostParams::default(), map("shared", "new")).await.unwrap();
    let mut last = created.metadata.resource_version.clone().unwrap();
    let params = WatchParams { resource_version: Some(last.clone()), ..WatchParams::default() };
    let mut watch = maps[1].watch(&params).await.unwrap();
    for round in 0..60 {
        let (writes, reads) = (&maps[round % 2], &maps[(round + 1) % 2]);
        let mut next = Arc::unwrap_or_clone(writes.get("shared").await.unwrap());
        assert_eq!(next.metadata.resource_version.as_deref(), Some(&*last), "the read before a write");
        next.data = Some([("text".to_owned(), format!("{round}"))].into());
        let written = writes.update(&PostParams::default(), next).await.unwrap();
        let version = written.metadata.resource_version.clone().unwrap();
        assert_eq!(*reads.get("shared").await.unwrap(), *written, "a read after the write");
        let newest = ListParams { resource_version: Some(version.clone()), ..ListParams::default() };
        let listed = reads.list(&newest).await.unwrap().items;
        assert!(listed.iter().any(|map| **map == *written), "a list at the write's version");
        let mut stale = map("shared", "stale");
        stale.metadata.resource_version = Some(last);
        let refused = reads.update(&PostParams::default(), stale).await;
        assert!(matches!(refused, Err(ApiError::Conflict { .. })), "{refused:?}");
        last = version;
    }
    let mut seen = 0;
    while seen < 60 {
        let event = tokio::time::timeout(Duration::from_secs(30), watch.next()).await.unwrap();
        event.unwrap().unwrap();
        seen += 1;
    }
    join_all(servers.map(Cluster::stop)).await;
}

fn service(name: &str, node_port: Option<i32>, address: Option<&str>) -> Service {
    let mut service = Service::default();
    service.metadata.name = Some(name.into());
    service.spec = Some(ServiceSpec {
        type_: Some("NodePort".into()),
        cluster_ip: address.map(Into::into),
        ports: Some(vec![ServicePort { port: 80, node_port, ..ServicePort::default() }]),
        ..ServiceSpec::default()
    });
    service
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_and_ports_are_never_given_twice() {
    let etcd = Server::start().unwrap();
    let servers = [server(&etcd, None).await, server(&etcd, None).await];
    let services = servers.each_ref().map(|server| Api::<Service>::namespaced(server.client(), "default"));
    let params = PostParams::default();
    let created = join_all(
        (0..60).map(|at| services[at % 2].create(&params, service(&format!("any-{at}"), None, None))),
    );
    let created: Vec<_> = created.await.into_iter().map(Result::unwrap).collect();
    let specs = || created.iter().filter_map(|service| service.spec.as_ref());
    let addresses: BTreeSet<_> = specs().filter_map(|spec| spec.cluster_ip.clone()).collect();
    let ports: BTreeSet<_> = specs().filter_map(|spec| spec.ports.as_ref()?[0].node_port).collect();
    assert_eq!((addresses.len(), ports.len()), (60, 60));

    // Both servers are asked for the same ones at once: one of them gets each. Nobody has them by chance: these
    // addresses are given only to who asks, and ports are drawn no more.
    let free = (30_000..).filter(|port| !ports.contains(port));
    for (round, port) in free.take(10).enumerate() {
        let address = format!("10.96.0.{}", round + 101);
        let of = |name: String, port: Option<i32>, address: Option<&str>, at: usize| {
            let mut service = service(&name, port, address);
            if port.is_none() {
                service.spec.as_mut().unwrap().type_ = None;
            }
            let services = services[at].clone();
            async move { services.create(&PostParams::default(), service).await.is_ok() }
        };
        let won = join_all([0, 1].map(|at| of(format!("port-{round}-{at}"), Some(port), None, at))).await;
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "port {port}");
        let name = |at| format!("address-{round}-{at}");
        let won = join_all([0, 1].map(|at| of(name(at), None, Some(&address), at))).await;
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "address {address}");
    }
    join_all(servers.map(Cluster::stop)).await;
}

async fn deploys(cluster: &Cluster, name: &str) {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client(), "default");
    deployments.create(&PostParams::default(), rkube::deployment(name, "nginx", 3)).await.unwrap();
    let ready = |found: Option<&Deployment>| {
        let status = found.and_then(|found| found.status.as_ref());
        status.is_some_and(|status| status.ready_replicas == Some(3))
    };
    cluster.wait_for(&deployments, name, ready).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controllers_and_scheduler_fail_over() {
    let etcd = Server::start().unwrap();
    // The nodes are a process of their own, which goes on.
    let nodes =
        Cluster::builder().etcd(Etcd::builder([etcd.endpoint()])).node_group(NodeGroup::new("node", 2));
    let nodes = nodes.without_scheduler().retain_controllers(|_| false).start().await.unwrap();
    let one = server(&etcd, Some("one")).await;
    deploys(&one, "first").await;
    let two = server(&etcd, Some("two")).await;
    deploys(&two, "second").await;
    one.stop().await;
    deploys(&two, "third").await;
    let three = server(&etcd, Some("three")).await;
    // Without a word: the others have to wait for its leases to end.
    drop(two);
    deploys(&three, "fourth").await;
    join_all([three, nodes].map(Cluster::stop)).await;
}
