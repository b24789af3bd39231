//! A whole cluster: API server, memory store, scheduler.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use parking_lot::Mutex;
use rkube::{
    api::client::{KindWatchEvent, KindWatchStream, WatchParams},
    k8s_openapi::api::{core::v1::ServiceAccount, scheduling::v1::PriorityClass},
    prelude::*,
};
use serde_json::json;
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    volumes,
    workloads::{self, HIGH, HIGH_PRIORITY, NAMESPACES, Workload},
};

/// So many pods are made before the clock starts.
const MADE_BEFORE: usize = 100_000;
/// How many requests are under way while a cluster is filled.
const AT_ONCE: usize = 64;
/// So many pods may wait for their nodes before no more are created: a watch that is further behind than the
/// store's history of 50,000 revisions ends.
const AHEAD: usize = 20_000;

/// Runs on all cores, on the runtime's own threads: a watcher on another one would have to be woken for each
/// event.
fn on_all_cores<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let task = runtime.spawn(work);
    runtime.block_on(task).unwrap()
}

async fn create(client: Client, pod: Pod) {
    let namespace = pod.metadata.namespace.clone().unwrap();
    Api::<Pod>::namespaced(client, namespace).create(&PostParams::default(), pod).await.unwrap();
}

async fn add_node(client: Client, node: Node) {
    let nodes: Api<Node> = Api::all(client);
    let made = nodes.create(&PostParams::default(), node.clone()).await.unwrap();
    let with_status = Node { status: node.status, ..(*made).clone() };
    nodes.update_status(&PostParams::default(), with_status).await.unwrap();
}

/// A cluster with the workload's nodes and the pods that are there before.
async fn filled(workload: &Workload, nodes: usize) -> Cluster {
    let cluster = Cluster::builder().retain_controllers(|_| false).start().await.unwrap();
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    for name in NAMESPACES {
        let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        namespaces.create(&PostParams::default(), namespace).await.unwrap();
        let account = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), name);
        accounts.create(&PostParams::default(), account).await.unwrap();
    }
    let classes: Api<PriorityClass> = Api::all(cluster.client());
    let class = json!({"metadata": {"name": HIGH}, "value": HIGH_PRIORITY});
    classes.create(&PostParams::default(), serde_json::from_value(class).unwrap()).await.unwrap();
    let adding = stream::iter(workload.nodes(nodes));
    adding.for_each_concurrent(AT_ONCE, |node| add_node(cluster.client(), node)).await;
    volumes::make(cluster.client(), workload, nodes).await;
    let mut bound = watch(&cluster).await;
    let first = workload.sizes(nodes).first;
    let gated = stream::iter(workload.gated_pods());
    gated.for_each_concurrent(AT_ONCE, |pod| create(cluster.client(), pod)).await;
    let ahead = Arc::new(Semaphore::new(AHEAD));
    let creating = stream::iter(workload.first_pods(nodes)).for_each_concurrent(AT_ONCE, |pod| {
        let (ahead, client) = (ahead.clone(), cluster.client());
        async move {
            ahead.acquire_owned().await.unwrap().forget();
            create(client, pod).await;
        }
    });
    futures::join!(creating, until_bound(&mut bound, "first", first, |_, _| ahead.add_permits(1)));
    cluster
}

async fn watch(cluster: &Cluster) -> KindWatchStream<Pod> {
    Api::<Pod>::all(cluster.client()).watch(&WatchParams::default()).await.unwrap()
}

/// Waits until so many pods of a name have a node; `seen` is told the number of each, and when.
async fn until_bound(
    events: &mut KindWatchStream<Pod>,
    prefix: &str,
    count: usize,
    mut seen: impl FnMut(usize, Instant),
) {
    let mut bound = 0;
    while bound < count {
        let pod = match events.next().await {
            Some(Ok(KindWatchEvent::Modified(pod))) if rkube::node_of(&pod).is_some() => pod,
            Some(Ok(_)) => continue,
            other => panic!("the watch ended: {other:?}"),
        };
        let name = pod.metadata.name.as_deref().unwrap_or_default().strip_prefix(prefix);
        if let Some(number) = name.and_then(|rest| rest.get(1..)?.parse().ok()) {
            bound += 1;
            seen(number, Instant::now());
        }
    }
}

/// Creates the measured pods one after the other, and among them what goes on beside.
async fn create_all(
    client: Client,
    new: impl Iterator<Item = Pod>,
    ahead: Arc<Semaphore>,
    beside: Option<(usize, Pod)>,
    churns_nodes: bool,
) {
    let nodes: Api<Node> = Api::all(client.clone());
    for (number, pod) in new.enumerate() {
        ahead.clone().acquire_owned().await.unwrap().forget();
        create(client.clone(), pod).await;
        let Some((every, shape)) = &beside else { continue };
        if number % every != every - 1 {
            continue;
        }
        create(client.clone(), workloads::named(shape, "beside", number, 0)).await;
        if churns_nodes {
            let node = workloads::node(1_000_000 + number / every, &[]);
            let name = node.metadata.name.clone().unwrap();
            add_node(client.clone(), node).await;
            let _ = nodes.delete(&name, &DeleteParams::default()).await;
        }
    }
}

/// What came of a run.
pub(crate) struct Rates {
    /// Created pods a second.
    pub(crate) created: f64,
    /// Bound pods a second, creation included.
    pub(crate) bound: f64,
    /// What each pod took of all cores together, in microseconds.
    pub(crate) each: f64,
    /// The memory that a node of the filled cluster takes, with its share of all else, in bytes.
    pub(crate) a_node: u64,
    /// The memory that a measured pod takes once all are bound.
    pub(crate) a_pod: u64,
}

/// Runs a workload in a cluster of its own.
pub(crate) fn run(workload: &Arc<Workload>, nodes: usize) -> Rates {
    let workload = workload.clone();
    on_all_cores(async move {
        let empty = crate::resident();
        let cluster = filled(&workload, nodes).await;
        let full = crate::resident();
        let count = workload.sizes(nodes).measured;
        let new = workload.measured_pods(nodes);
        // Made before they are needed, unless there are too many.
        let new: Box<dyn Iterator<Item = Pod> + Send> = match count > MADE_BEFORE {
            true => Box::new(new),
            false => Box::new(new.collect::<Vec<_>>().into_iter()),
        };
        let beside = workload.beside.as_ref().map(|(every, shape)| (*every, workloads::parsed(shape)));
        let mut events = watch(&cluster).await;
        let (start, before) = (Instant::now(), crate::process_time());
        let (client, churns_nodes) = (cluster.client(), workload.churns_nodes);
        let created = Arc::new(Mutex::new(Duration::ZERO));
        let done = created.clone();
        let ahead = Arc::new(Semaphore::new(AHEAD));
        let gate = ahead.clone();
        let creating = cluster.context().spawner.spawn("creator", async move {
            create_all(client, new, gate, beside, churns_nodes).await;
            *done.lock() = start.elapsed();
        });
        until_bound(&mut events, "measured", count, |_, _| ahead.add_permits(1)).await;
        let (took, worked) = (start.elapsed(), crate::process_time() - before);
        creating.join().await;
        let a_pod = crate::resident().saturating_sub(full) / count as u64;
        cluster.stop().await;
        let (count, created) = (count as f64, created.lock().as_secs_f64());
        Rates {
            created: count / created,
            bound: count / took.as_secs_f64(),
            each: worked.as_secs_f64() * 1e6 / count,
            a_node: full.saturating_sub(empty) / nodes as u64,
            a_pod,
        }
    })
}

/// How long a pod waits for its node when pods come at a steady rate.
pub(crate) fn steady() {
    const SECONDS: usize = 3;
    println!("| workload | nodes | pods a second | p50 | p99 | longest |");
    println!("|---|---|---|---|---|---|");
    for workload in workloads::all().into_iter().filter(|workload| workload.name == "SchedulingBasic") {
        let workload = Arc::new(workload);
        for rate in [1_000, 5_000, 10_000] {
            let mut waits = on_all_cores(waits(workload.clone(), 5_000, rate, rate * SECONDS));
            waits.sort_unstable();
            let at = |share: usize| waits[(waits.len() - 1) * share / 100];
            println!(
                "| {} | 5000 | {rate} | {:.2?} | {:.2?} | {:.2?} |",
                workload.name,
                at(50),
                at(99),
                at(100)
            );
        }
    }
}

async fn waits(workload: Arc<Workload>, nodes: usize, rate: usize, count: usize) -> Vec<Duration> {
    let cluster = filled(&workload, nodes).await;
    let new: Vec<Pod> = workload.measured_pods(nodes).take(count).collect();
    let began = Arc::new(Mutex::new(vec![Instant::now(); count]));
    let (client, noted) = (cluster.client(), began.clone());
    let mut events = watch(&cluster).await;
    let creating = async move {
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        let (start, mut new) = (Instant::now(), new.into_iter().enumerate().peekable());
        while new.peek().is_some() {
            tick.tick().await;
            let due = (start.elapsed().as_secs_f64() * rate as f64) as usize;
            while let Some((number, pod)) = new.next_if(|(number, _)| *number < due) {
                // From when it was due: a creator that falls behind hides nothing.
                noted.lock()[number] = start + Duration::from_secs_f64(number as f64 / rate as f64);
                create(client.clone(), pod).await;
            }
        }
    };
    let creating = cluster.context().spawner.spawn("creator", creating);
    let mut waits = Vec::with_capacity(count);
    until_bound(&mut events, "measured", count, |number, at| waits.push(at - began.lock()[number])).await;
    creating.join().await;
    cluster.stop().await;
    waits
}
