//! The garbage collector: dependents go when their last owner has gone, before it, or are set free.
//!
//! A monitor a resource feeds the [`graph`]; workers look at each object that the graph points out, ask the
//! server for the truth, and act by the [`plan`].

pub mod graph;
mod monitor;
pub mod plan;
#[cfg(test)]
mod tests;
mod worker;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::join_all;
use parking_lot::Mutex;
use rkube_api::{
    client::{Backoff, Client, Informers, WorkQueue},
    context::Task as Running,
    request::Verb,
};
use tokio::sync::{RwLock, watch};
use tokio_util::sync::CancellationToken;

use self::{
    graph::{Graph, Node, Task},
    monitor::{Monitor, Seen},
    worker::Worker,
};
use crate::{
    all::Deps,
    resources::{ApiResource, ByKind, ResourceLister},
    runtime::Component,
};

const WORKERS: usize = 20;
/// How often to look for resources that came or went.
const DISCOVERY: Duration = Duration::from_secs(30);
/// The longest pause before an object that could not be handled is tried again.
const LONGEST: Duration = Duration::from_secs(1000);

/// The garbage collector.
pub fn controller(deps: &Deps) -> GarbageCollector {
    GarbageCollector {
        client: deps.client().clone(),
        lister: deps.resources(),
        shared: Arc::new(Shared {
            graph: Mutex::default(),
            queue: WorkQueue::new(Backoff { max: LONGEST, ..Backoff::default() }),
            kinds: Mutex::default(),
            settled: RwLock::new(()),
        }),
        recorder: deps.recorder("garbage-collector-controller"),
    }
}

/// What monitors and workers share.
struct Shared {
    graph: Mutex<Graph>,
    queue: WorkQueue<Task>,
    kinds: Mutex<Arc<ByKind>>,
    /// Held by workers as readers; by discovery as the writer while new monitors see their resources for
    /// the first time: an owner must not go because its dependents are not known yet.
    settled: RwLock<()>,
}

/// See [`controller`].
pub struct GarbageCollector {
    client: Client,
    lister: Arc<dyn ResourceLister>,
    shared: Arc<Shared>,
    recorder: rkube_api::client::EventRecorder,
}

impl std::fmt::Debug for GarbageCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (known, waiting) = (self.shared.graph.lock().len(), self.shared.queue.len());
        write!(f, "GarbageCollector({known} objects known, {waiting} waiting)")
    }
}

#[async_trait]
impl Component for GarbageCollector {
    fn name(&self) -> &str {
        "garbagecollector"
    }

    fn prepare(&self, _: &Informers) {}

    async fn run(&self, token: CancellationToken) {
        let spawner = self.client.context().spawner.child();
        // Also if this future is dropped instead of being stopped in order.
        let _ended = spawner.token().clone().drop_guard();
        let worker = || Worker {
            client: self.client.clone(),
            shared: self.shared.clone(),
            recorder: self.recorder.clone(),
        };
        let mut monitors = BTreeMap::new();
        let mut workers = Vec::new();
        while !token.is_cancelled() {
            let found = token.run_until_cancelled(self.discover(&spawner, &mut monitors)).await;
            if found.is_some() && workers.is_empty() {
                workers.extend((0..WORKERS).map(|_| spawner.spawn("garbage-collector", worker().run())));
            }
            let _ = token.run_until_cancelled(tokio::time::sleep(DISCOVERY)).await;
        }
        self.shared.queue.shut_down();
        let ended = join_all(workers.into_iter().map(Running::join));
        let _ = tokio::time::timeout(Duration::from_secs(10), ended).await;
        spawner.stop().await;
    }
}

struct Monitored {
    task: Running,
    synced: watch::Receiver<bool>,
}

impl GarbageCollector {
    /// Starts monitors of resources that came, stops those of resources that went, and waits until all
    /// have seen their resources once.
    async fn discover(
        &self,
        spawner: &rkube_api::context::Spawner,
        monitors: &mut BTreeMap<ApiResource, Monitored>,
    ) {
        let served = match self.lister.resources().await {
            Ok(served) => served,
            // What is monitored stays so.
            Err(error) => return tracing::warn!(%error, "cannot tell which resources there are"),
        };
        // So does that of which nobody can tell whether it is there.
        let hidden = monitors.keys().filter(|resource| served.may_have(resource));
        *self.shared.kinds.lock() = Arc::new(ByKind::new(served.resources.iter().chain(hidden)));
        let stays = |resource: &ApiResource| {
            served.may_have(resource) || (served.resources.contains(resource) && is_monitored(resource))
        };
        let gone: Vec<_> = monitors.extract_if(.., |resource, _| !stays(resource)).collect();
        let wanted: Vec<ApiResource> = served.resources.into_iter().filter(is_monitored).collect();
        if gone.is_empty() && wanted.iter().all(|resource| monitors.contains_key(resource)) {
            return;
        }
        let _all_wait = self.shared.settled.write().await;
        for (resource, mut monitored) in gone {
            monitored.task.abort();
            monitored.task.ended().await;
            self.shared.forget(&resource);
        }
        for resource in wanted {
            monitors.entry(resource).or_insert_with_key(|resource| self.monitor(spawner, resource));
        }
        let all_synced = async {
            for monitored in monitors.values_mut() {
                // The sender lives as long as the monitor.
                let _ = monitored.synced.wait_for(|synced| *synced).await;
            }
        };
        // A resource that cannot be listed, or has just been taken away, must not hold up all others.
        if tokio::time::timeout(DISCOVERY, all_synced).await.is_err() {
            tracing::warn!("some resources could not be listed; their objects are not known yet");
        }
    }

    fn monitor(&self, spawner: &rkube_api::context::Spawner, resource: &ApiResource) -> Monitored {
        let shared = self.shared.clone();
        let (sender, synced) = watch::channel(false);
        let monitor = Monitor {
            client: self.client.clone(),
            resource: Arc::new(resource.clone()),
            synced: sender,
            tell: move |resource: &Arc<ApiResource>, seen: Seen<'_>| shared.see(resource, &seen),
        };
        Monitored { task: spawner.spawn("garbage-monitor", monitor.run()), synced }
    }
}

/// Events are many, own nothing and are owned by nothing.
fn is_monitored(resource: &ApiResource) -> bool {
    let can = |verb| resource.can(verb);
    resource.resource != "events" && can(Verb::List) && can(Verb::Watch) && can(Verb::Delete)
}

impl Shared {
    fn forget(&self, resource: &ApiResource) {
        let tasks = self.graph.lock().forget(resource);
        tasks.into_iter().for_each(|task| self.queue.add(task));
    }

    fn see(&self, resource: &Arc<ApiResource>, seen: &Seen<'_>) {
        let mut graph = self.graph.lock();
        let tasks = match seen {
            Seen::Put(object) => graph.put(Node::new(resource, object.meta())),
            Seen::Gone(uid) => graph.remove(uid),
        };
        drop(graph);
        tasks.into_iter().for_each(|task| self.queue.add(task));
    }
}
