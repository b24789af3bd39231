//! From created to bound, through the API in process: nodes are objects without agents, as in upstream's
//! scheduler_perf, and the only components are the server and the scheduler.

use std::sync::Arc;

use futures::StreamExt;
use rkube::{
    api::client::{KindWatchEvent, WatchParams},
    k8s_openapi::{api::core::v1::NodeStatus, apimachinery::pkg::api::resource::Quantity},
    prelude::*,
};
use tokio::time::Instant;

use crate::report::{line, median, on_all_cores};

fn node(number: usize) -> Node {
    let mut node = Node::default();
    node.metadata.name = Some(format!("node-{number:06}"));
    let amounts = [("cpu", "32"), ("memory", "256Gi"), ("pods", "110")];
    let amounts = amounts.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())));
    node.status = Some(NodeStatus {
        capacity: Some(amounts.clone().into()),
        allocatable: Some(amounts.into()),
        ..NodeStatus::default()
    });
    node
}

fn pod(number: usize) -> Pod {
    let mut pod = crate::api::small_pod(format!("pod-{number:07}"));
    let requests = [("cpu", "100m"), ("memory", "500Mi")];
    let requests = requests.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())));
    pod.spec.as_mut().unwrap().containers[0].resources.get_or_insert_default().requests =
        Some(requests.into());
    pod
}

async fn measure(nodes: usize, pods: usize) -> (f64, f64) {
    let cluster = Cluster::builder().retain_controllers(|_| false).start().await.unwrap();
    let node_api: Api<Node> = Api::all(cluster.client());
    for number in 0..nodes {
        let wanted = node(number);
        let made = node_api.create(&PostParams::default(), wanted.clone()).await.unwrap();
        let with_status = Node { status: wanted.status, ..(*made).clone() };
        node_api.update_status(&PostParams::default(), with_status).await.unwrap();
    }
    let pod_api: Api<Pod> = Api::namespaced(cluster.client(), "default");
    let mut events = pod_api.watch(&WatchParams::default()).await.unwrap();
    let new: Vec<Pod> = (0..pods).map(pod).collect();
    let start = Instant::now();
    let creator = pod_api.clone();
    let created = Arc::new(parking_lot::Mutex::new(0.0));
    let done = created.clone();
    let creating = cluster.context().spawner.spawn("creator", async move {
        for pod in new {
            creator.create(&PostParams::default(), pod).await.unwrap();
        }
        *done.lock() = start.elapsed().as_secs_f64();
    });
    let mut bound = 0;
    while bound < pods {
        match events.next().await {
            Some(Ok(KindWatchEvent::Modified(pod))) if rkube::node_of(&pod).is_some() => bound += 1,
            Some(Ok(_)) => {}
            other => panic!("the watch ended: {other:?}"),
        }
    }
    let took = start.elapsed().as_secs_f64();
    creating.join().await;
    let created = *created.lock();
    cluster.stop().await;
    (pods as f64 / took, pods as f64 / created)
}

pub(crate) fn run() {
    for (nodes, pods) in [(500, 5_000), (5_000, 10_000)] {
        let samples: Vec<_> = (0..3).map(|_| on_all_cores(measure(nodes, pods))).collect();
        let bound = median(samples.iter().map(|sample| sample.0).collect());
        let created = median(samples.iter().map(|sample| sample.1).collect());
        let target = if nodes == 5_000 { ">= 50,000/s (the scheduler's own issue)" } else { "" };
        line(
            &format!("scheduling: {pods} basic pods, {nodes} nodes: created, bound"),
            &format!("{created:.0}/s, {bound:.0}/s"),
            target,
        );
    }
}
