//! What must hold: after every step, and once everything has come to rest.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rkube_api::{
    helpers::pod::{is_terminal, node_name},
    k8s_openapi::api::{
        core::v1::{Namespace, Node, Pod},
        policy::v1::PodDisruptionBudget,
    },
};
use rkube_sched::{
    driver::Inspection,
    snapshot::{PlacedPod, Snapshot},
    testing::{
        differences,
        reference::{Cluster, Verdict, best_sacrifices, verdict},
    },
};
use tokio::time::timeout;

use crate::{
    Run,
    binds::owned,
    cluster::{nominated, scheduled},
    schedulers::{Process, Running},
};

/// Something that must hold does not.
pub(crate) type Broken = Vec<String>;

/// Where each pod was seen, by UID.
#[derive(Default)]
pub(crate) struct Places(BTreeMap<String, String>);

impl Places {
    /// A pod that has a node keeps it.
    pub(crate) fn check(&mut self, pods: &[Arc<Pod>]) -> Broken {
        let mut broken = Broken::new();
        for pod in pods {
            let (uid, name) = (pod.metadata.uid.clone().unwrap_or_default(), pod.metadata.name.as_deref());
            match (self.0.get(&uid), node_name(pod)) {
                (Some(before), now) if now != Some(before) => {
                    broken.push(format!("pod {name:?} was on {before} and is on {now:?}"));
                }
                (None, Some(now)) => drop(self.0.insert(uid, now.to_owned())),
                _ => {}
            }
        }
        broken
    }
}

impl Run {
    /// What must hold at any time.
    pub(crate) async fn check(&mut self) -> Broken {
        let pods = self.world.all::<Pod>().await;
        let mut broken = self.places.check(&pods);
        broken.extend(self.world.watchman.wrong());
        for Process { identity, running, .. } in &self.processes {
            if running.as_ref().is_some_and(Running::has_ended) {
                broken.push(format!("{} has ended by itself", identity.process));
            }
        }
        if self.world.weather.is_settled() {
            broken.extend(self.check_snapshots(&pods).await);
        }
        broken
    }

    /// Every scheduler believes what is so, but for the pods that Permit holds.
    async fn check_snapshots(&self, pods: &[Arc<Pod>]) -> Broken {
        let mut real = Snapshot::default();
        for node in self.world.all::<Node>().await {
            real.set_node(node);
        }
        for pod in pods.iter().filter(|pod| !is_terminal(pod)) {
            if let Some(node) = node_name(pod) {
                real.set_pod(PlacedPod::of(pod), node);
            }
        }
        let mut broken = Broken::new();
        for Process { identity, running, .. } in &self.processes {
            let Some(running) = running else { continue };
            let Some(seen) = look(running).await else {
                broken.push(format!("{} cannot be looked into", identity.process));
                continue;
            };
            let mut held = seen.snapshot;
            for uid in running.waiting.uids() {
                held.forget(&uid);
            }
            let found = differences(&held, &real);
            broken.extend(found.into_iter().map(|it| format!("{} is wrong of {it}", identity.process)));
        }
        broken
    }

    /// What must hold once nothing has happened for long and all schedulers work.
    pub(crate) async fn check_rest(&mut self) -> Broken {
        let mut broken = self.check().await;
        let pods = self.world.all::<Pod>().await;
        let (placed, waiting): (Vec<Arc<Pod>>, Vec<Arc<Pod>>) =
            pods.into_iter().filter(|pod| !is_terminal(pod)).partition(|pod| node_name(pod).is_some());
        let cluster = Cluster {
            nodes: owned(self.world.all::<Node>().await),
            namespaces: owned(self.world.all::<Namespace>().await),
            budgets: owned(self.world.all::<PodDisruptionBudget>().await),
            pods: owned(placed),
            ..Cluster::default()
        };
        for Process { identity, running, .. } in &self.processes {
            let Some(running) = running else { continue };
            let own = waiting.iter().map(|pod| &**pod).filter(|pod| asks_for(pod, identity.name));
            let own: Vec<&Pod> = own.collect();
            for pod in &own {
                broken.extend(check_waiting(&cluster, pod));
            }
            let found = check_books(running, &own).await;
            broken.extend(found.into_iter().map(|text| format!("{}: {text}", identity.process)));
        }
        broken
    }
}

/// What a scheduler believes; `None` if it does not say so soon.
async fn look(running: &Running) -> Option<Inspection> {
    timeout(Duration::from_secs(60), running.inspector.look()).await.ok().flatten()
}

fn asks_for(pod: &Pod, scheduler: &str) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref()) == Some(scheduler)
}

fn gated(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty())
}

/// A pod that waits has no node to go to, nor anybody to send away, and it says why.
fn check_waiting(cluster: &Cluster, pod: &Pod) -> Broken {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let (status, reason, message) = scheduled(pod);
    let mut broken = Broken::new();
    if gated(pod) {
        if (&*status, &*reason) != ("False", "SchedulingGated") {
            broken.push(format!("pod {name} is gated and says {status} {reason}"));
        }
        return broken;
    }
    for node in cluster.nodes.iter().filter(|node| verdict(cluster, pod, node) == Verdict::Fits) {
        broken.push(format!("pod {name} was forgotten: {:?} has room", node.metadata.name));
    }
    if let Some(sacrifice) = best_sacrifices(cluster, pod).first() {
        broken.push(format!("pod {name} was forgotten: it could make room on {}", sacrifice.node));
    }
    if let Some(node) = nominated(pod) {
        broken.push(format!("pod {name} is nominated to {node} still"));
    }
    let said = message.contains("nodes are available") || message.contains("no nodes available");
    if (&*status, &*reason) != ("False", "Unschedulable") || !said {
        broken.push(format!("pod {name} waits and says {status} {reason} {message:?}"));
    }
    broken
}

/// Nothing is left of what is over: all that wait are parked, nothing is reserved or held.
async fn check_books(running: &Running, waiting: &[&Pod]) -> Broken {
    let mut broken = Broken::new();
    let Some(seen) = look(running).await else { return vec!["cannot be looked into".into()] };
    let gated = waiting.iter().filter(|pod| gated(pod)).count();
    let queue = seen.queue;
    let there = (queue.active, queue.backoff, queue.in_flight, queue.unschedulable, queue.gated);
    if there != (0, 0, 0, waiting.len(), gated) {
        broken.push(format!("{} pods wait, {gated} of them gated; the queue has {queue:?}", waiting.len()));
    }
    if !seen.nominator.is_empty() {
        broken.push(format!("room is held: {:?}", seen.nominator));
    }
    let reserved = running.probe.reserved.lock();
    if !reserved.is_empty() {
        broken.push(format!("reserved is {reserved:?}"));
    }
    if !running.waiting.uids().is_empty() {
        broken.push(format!("Permit holds {:?}", running.waiting.uids()));
    }
    broken
}
