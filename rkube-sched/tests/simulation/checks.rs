//! What must hold: after every step, and once everything has come to rest.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rkube_api::{
    helpers::{
        pod::{is_terminal, node_name},
        volumes::claims_of,
    },
    k8s_openapi::api::{
        core::v1::{Namespace, Node, Pod},
        policy::v1::PodDisruptionBudget,
        scheduling::v1beta1::PodGroup,
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
    cluster::{World, nominated, scheduled},
    devices::Devices,
    gangs::{self, Company},
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
        self.gangs.watch(&pods, !self.plan.stormy || self.world.weather.is_settled());
        broken.extend(self.world.check_storage().await);
        broken.extend(self.world.check_devices(self.processes.len() == 1).await);
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

    /// Every scheduler believes what is so, but for the pods that Permit holds or that wait for their volumes.
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
            let wait = |pod: &&Arc<Pod>| node_name(pod).is_none() && claims_of(pod).next().is_some();
            let wait = pods.iter().filter(wait).filter_map(|pod| pod.metadata.uid.as_deref());
            for uid in running.waiting.uids().iter().map(|uid| &**uid).chain(wait) {
                held.forget(uid);
            }
            let found = differences(&held, &real);
            broken.extend(found.into_iter().map(|it| format!("{} is wrong of {it}", identity.process)));
        }
        broken
    }

    /// What must hold once nothing has happened for long and all schedulers work.
    pub(crate) async fn check_rest(&mut self) -> Broken {
        let mut broken = self.check().await;
        let rest = Rest::of(&self.world).await;
        broken.extend(self.gangs.check_rest(&rest.cluster, &rest.groups, &rest.waiting));
        broken.extend(self.world.check_devices_at_rest().await);
        for Process { identity, running, .. } in &self.processes {
            let Some(running) = running else { continue };
            let own = rest.waiting.iter().map(|pod| &**pod).filter(|pod| asks_for(pod, identity.name));
            let own: Vec<&Pod> = own.collect();
            for pod in &own {
                broken.extend(rest.check_waiting(pod));
            }
            let found = rest.check_books(running, &own).await;
            broken.extend(found.into_iter().map(|text| format!("{}: {text}", identity.process)));
        }
        broken
    }
}

/// Everything, once it has come to rest.
struct Rest {
    cluster: Cluster,
    devices: Devices,
    groups: Vec<Arc<PodGroup>>,
    waiting: Vec<Arc<Pod>>,
}

impl Rest {
    async fn of(world: &World) -> Self {
        let pods = world.all::<Pod>().await;
        let (placed, waiting): (Vec<Arc<Pod>>, Vec<Arc<Pod>>) =
            pods.into_iter().filter(|pod| !is_terminal(pod)).partition(|pod| node_name(pod).is_some());
        let cluster = Cluster {
            nodes: owned(world.all::<Node>().await),
            namespaces: owned(world.all::<Namespace>().await),
            budgets: owned(world.all::<PodDisruptionBudget>().await),
            pods: owned(placed),
            storage: world.watchman.storage().await,
        };
        Self { cluster, devices: world.devices().await, groups: world.all().await, waiting }
    }

    /// Why a pod may be kept out of the queue, besides by its gates.
    fn is_kept_out(&self, pod: &Pod) -> bool {
        self.company(pod) == Company::Missing || (Devices::asked_by(pod) && !self.devices.are_claimed(pod))
    }

    fn company(&self, pod: &Pod) -> Company {
        gangs::company(pod, &self.groups, &self.cluster, &self.waiting)
    }

    fn has_devices(&self, pod: &Pod, node: &Node) -> bool {
        !Devices::asked_by(pod) || self.devices.can_serve(pod, node)
    }

    /// A pod that waits has no node to go to, nor anybody to send away, and it says why.
    fn check_waiting(&self, pod: &Pod) -> Broken {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let (status, reason, message) = scheduled(pod);
        let mut broken = Broken::new();
        if gated(pod) {
            if (&*status, &*reason) != ("False", "SchedulingGated") {
                broken.push(format!("pod {name} is gated and says {status} {reason}"));
            }
            return broken;
        }
        if let Some(node) = nominated(pod) {
            broken.push(format!("pod {name} is nominated to {node} still"));
        }
        if self.is_kept_out(pod) || self.company(pod) == Company::Together {
            return broken;
        }
        let nodes = self.cluster.nodes.iter();
        for node in nodes.filter(|node| verdict(&self.cluster, pod, node) == Verdict::Fits) {
            if self.has_devices(pod, node) {
                broken.push(format!("pod {name} was forgotten: {:?} has room", node.metadata.name));
            }
        }
        for sacrifice in best_sacrifices(&self.cluster, pod) {
            let there = |node: &&Node| node.metadata.name.as_ref() == Some(&sacrifice.node);
            let node = self.cluster.nodes.iter().find(there);
            if node.is_some_and(|node| self.has_devices(pod, node)) {
                broken.push(format!("pod {name} was forgotten: it could make room on {}", sacrifice.node));
            }
        }
        let said = message.contains("nodes are available") || message.contains("no nodes available");
        if (&*status, &*reason) != ("False", "Unschedulable") || !said {
            broken.push(format!("pod {name} waits and says {status} {reason} {message:?}"));
        }
        broken
    }

    /// Nothing is left of what is over: all that wait are parked, nothing is reserved or held.
    async fn check_books(&self, running: &Running, waiting: &[&Pod]) -> Broken {
        let mut broken = Broken::new();
        let Some(seen) = look(running).await else { return vec!["cannot be looked into".into()] };
        let gated = waiting.iter().filter(|pod| gated(pod)).count();
        let kept_out = waiting.iter().filter(|pod| self.is_kept_out(pod)).count();
        let queue = seen.queue;
        let there = (queue.active, queue.backoff, queue.in_flight, queue.unschedulable);
        if there != (0, 0, 0, waiting.len()) || !(gated..=gated + kept_out).contains(&queue.gated) {
            let count = waiting.len();
            broken.push(format!(
                "{count} pods wait, {gated} gated, {kept_out} kept out; the queue has {queue:?}"
            ));
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
