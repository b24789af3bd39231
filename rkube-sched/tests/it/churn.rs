//! Pods and nodes come, go and change at random, by a seed; what must hold is checked after every step.

use std::collections::BTreeMap;

use rkube_api::{
    client::{DeleteParams, ListParams, Patch, PatchParams},
    context::Rng,
    k8s_openapi::api::core::v1::{Node, Pod},
};
use rkube_sched::{Config, snapshot::Requests};
use serde_json::json;

use crate::support::{World, after};

/// What the API server has.
struct Seen {
    /// Node: CPU in thousandths, and whether it takes pods.
    nodes: BTreeMap<String, (i64, bool)>,
    /// Pod: CPU in thousandths, and its node.
    pods: BTreeMap<String, (i64, Option<String>)>,
}

impl Seen {
    async fn of(world: &World) -> Self {
        let nodes = world.api::<Node>().list(&ListParams::default()).await.unwrap().items;
        let pods = world.pods().list(&ListParams::default()).await.unwrap().items;
        let node = |node: &Node| {
            let cpu = node.status.as_ref()?.allocatable.as_ref()?.get("cpu")?.0.parse::<i64>().ok()?;
            let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or_default();
            Some((node.metadata.name.clone()?, (cpu * 1000, !cordoned)))
        };
        let pod = |pod: &Pod| {
            let node = pod.spec.as_ref()?.node_name.clone();
            Some((pod.metadata.name.clone()?, (Requests::of_pod(pod).cpu_milli, node)))
        };
        Self {
            nodes: nodes.iter().filter_map(|found| node(found)).collect(),
            pods: pods.iter().filter_map(|found| pod(found)).collect(),
        }
    }

    fn used(&self, node: &str) -> i64 {
        self.pods.values().filter(|(_, at)| at.as_deref() == Some(node)).map(|(cpu, _)| cpu).sum()
    }

    /// No node is over capacity; no pod has moved.
    fn check(&self, before: &Self) {
        for (name, (cpu, _)) in &self.nodes {
            assert!(self.used(name) <= *cpu, "{name} holds {} of {cpu}", self.used(name));
        }
        for (name, (_, node)) in &before.pods {
            if let (Some(node), Some((_, now))) = (node, self.pods.get(name)) {
                assert_eq!(Some(node), now.as_ref(), "{name} has moved");
            }
        }
    }

    /// No pod waits that would fit somewhere.
    fn check_settled(&self) {
        for (pod, (wanted, _)) in self.pods.iter().filter(|(_, (_, node))| node.is_none()) {
            for (node, (cpu, _)) in self.nodes.iter().filter(|(_, (_, open))| *open) {
                assert!(self.used(node) + wanted > *cpu, "{pod} was forgotten: {node} has room");
            }
        }
    }
}

async fn step(world: &World, rng: &Rng, seen: &Seen, index: usize) {
    fn pick<T>(rng: &Rng, map: &BTreeMap<String, T>) -> Option<String> {
        map.keys().nth(rng.below(map.len())).cloned()
    }
    match rng.below(12) {
        0..=5 => drop(world.pod(&format!("p{index}"), &(1 + rng.below(3)).to_string()).await),
        6 | 7 => {
            if let Some(pod) = pick(rng, &seen.pods) {
                world.delete_pod(&pod).await;
            }
        }
        8 | 9 => world.node(&format!("n{index}"), &(1 + rng.below(8)).to_string()).await,
        10 => {
            if let Some(node) = pick(rng, &seen.nodes) {
                let cordon = Patch::Merge(json!({"spec": {"unschedulable": rng.below(2) == 0}}));
                world.api::<Node>().patch(&node, &PatchParams::default(), &cordon).await.unwrap();
            }
        }
        _ => {
            // Only an empty node goes: pods of a vanished one would never end without their controller.
            if let Some(node) = pick(rng, &seen.nodes).filter(|node| seen.used(node) == 0) {
                world.api::<Node>().delete(&node, &DeleteParams::default()).await.unwrap();
            }
        }
    }
    if rng.below(3) == 0 {
        after(rng.below(5) as u64).await;
    }
}

async fn run(seed: u64) -> BTreeMap<String, (i64, Option<String>)> {
    let world = World::new(seed).await;
    let rng = Rng::seeded(seed).fork("churn");
    world.scheduler(Config::default());
    let mut before = Seen::of(&world).await;
    for index in 0..250 {
        step(&world, &rng, &before, index).await;
        let seen = Seen::of(&world).await;
        seen.check(&before);
        before = seen;
    }
    after(400).await;
    let seen = Seen::of(&world).await;
    seen.check(&before);
    seen.check_settled();
    seen.pods
}

#[tokio::test(start_paused = true)]
async fn nothing_is_overfull_moved_or_forgotten() {
    for seed in 0..6 {
        run(seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_can_be_replayed() {
    assert_eq!(run(42).await, run(42).await);
}
