//! What happens to a cluster, one step at a time.

use std::{sync::atomic::Ordering, time::Duration};

use rkube_api::{
    client::DeleteParams,
    context::Rng,
    helpers::pod::{is_terminal, node_name},
    k8s_openapi::api::{core::v1::Node, core::v1::Pod, policy::v1::PodDisruptionBudget},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    Run, devices, gangs,
    shapes::{self, chance, pick},
    storage,
    weather::Storm,
};

/// More nodes there are not.
const NODES: usize = 10;
/// No more pods come if so many are there.
const PODS: usize = 70;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    AddNode(Value),
    RemoveNode(String),
    ChangeNode(String, Value),
    ChangeNodeStatus(String, Value),
    AddPods(Vec<Value>),
    /// To the pod at this place of the list.
    DeletePod(usize),
    DeletePodAtOnce(usize),
    Finish(usize),
    Ungate(usize),
    RelabelPod(usize, &'static str),
    Budget(i32),
    /// A group of pods comes, or more pods of one that is there.
    Gang(Option<Value>, Vec<Value>),
    RemoveGroup(usize),
    Storage(storage::Change),
    Devices(devices::Change),
    /// A word about one that Permit holds, of the scheduler at this place: whether it may go.
    Decide(usize, bool),
    Arm(bool),
    Storm(Storm),
    Cut,
    Stop(usize),
    Kill(usize),
    Start(usize),
}

/// Draws the next step.
pub(crate) fn draw(rng: &Rng, run: &mut Run) -> Step {
    if chance(rng, 1, 3)
        && let Some(step) = draw_special(rng, run)
    {
        return step;
    }
    let node = || format!("n{}", rng.below(NODES));
    let at = rng.below(1000);
    let process = rng.below(run.processes.len());
    match rng.below(100) {
        0..=9 => Step::AddNode(shapes::node(rng, rng.below(NODES))),
        10..=12 => Step::RemoveNode(node()),
        13..=15 => Step::ChangeNodeStatus(node(), json!({"status": {"allocatable": shapes::capacity(rng)}})),
        16..=18 => {
            Step::ChangeNode(node(), json!({"metadata": {"labels": {"disk": pick(rng, &["ssd", "hdd"])}}}))
        }
        19..=20 => Step::ChangeNode(node(), json!({"spec": {"taints": shapes::taints(rng)}})),
        21..=22 => Step::ChangeNode(node(), json!({"spec": {"unschedulable": chance(rng, 1, 2)}})),
        23..=54 => Step::AddPods(new_pods(rng, run)),
        55..=63 => Step::DeletePod(at),
        64..=65 => Step::DeletePodAtOnce(at),
        66..=69 => Step::Finish(at),
        70..=73 => Step::Ungate(at),
        74..=75 => Step::RelabelPod(at, pick(rng, &["1", "2"])),
        76 => Step::Budget(pick(rng, &[0, 1, 3])),
        77..=81 => Step::Decide(process, chance(rng, 1, 2)),
        82 => Step::Arm(chance(rng, 2, 3)),
        _ if !run.plan.stormy => Step::AddPods(new_pods(rng, run)),
        83..=86 => Step::Storm(Storm {
            refused: pick(rng, &[0, 10, 30, 100]),
            lost: pick(rng, &[0, 10, 30]),
            slow: pick(rng, &[0, 20]),
            lag: pick(rng, &[0, 0, 50, 500]),
        }),
        87..=90 => Step::Storm(Storm::default()),
        91..=93 => Step::Cut,
        94 => Step::Stop(process),
        95..=96 => Step::Kill(process),
        _ => Step::Start(process),
    }
}

/// A step of what not every run has.
fn draw_special(rng: &Rng, run: &mut Run) -> Option<Step> {
    let palette = run.plan.palette;
    match rng.below(3) {
        0 if palette.gangs => Some(match rng.below(10) {
            0 => Step::RemoveGroup(gangs::young(rng, run.groups)),
            1..=5 => {
                let group = gangs::group(rng, run.groups);
                run.groups += 1;
                // At times its pods come first.
                let group = (!chance(rng, 1, 6)).then_some(group);
                Step::Gang(group, members(rng, run, run.groups - 1))
            }
            _ => {
                let number = gangs::young(rng, run.groups);
                let group = chance(rng, 1, 3).then(|| gangs::group(rng, number));
                Step::Gang(group, members(rng, run, number))
            }
        }),
        1 if palette.volumes => Some(Step::Storage(storage::draw(rng))),
        2 if palette.devices => Some(Step::Devices(devices::draw(rng))),
        _ => None,
    }
}

fn members(rng: &Rng, run: &mut Run, number: usize) -> Vec<Value> {
    let names: Vec<&str> = run.processes.iter().map(|process| process.identity.name).collect();
    let member = |_| {
        run.pods += 1;
        gangs::member(rng, number, &format!("p{}", run.pods), &names)
    };
    (0..1 + rng.below(5)).map(member).collect()
}

fn new_pods(rng: &Rng, run: &mut Run) -> Vec<Value> {
    let count = if chance(rng, 1, 6) { 1 + rng.below(12) } else { 1 };
    let names: Vec<&str> =
        run.processes.iter().map(|process| process.identity.name).chain(["nobody"]).collect();
    // Few ask for a scheduler that is not there.
    let names = if chance(rng, 1, 20) { &names[..] } else { &names[..names.len() - 1] };
    (0..count)
        .map(|_| {
            run.pods += 1;
            shapes::pod(rng, run.plan.palette, &format!("p{}", run.pods), names)
        })
        .collect()
}

impl Step {
    pub(crate) async fn take(self, run: &mut Run) {
        let world = &run.world;
        match self {
            Self::AddNode(node) => world.add_node(node).await,
            Self::RemoveNode(name) => world.remove_node(&name).await,
            Self::ChangeNode(name, change) => {
                if has_node(run, &name).await {
                    run.world.change_node(&name, change).await;
                }
            }
            Self::ChangeNodeStatus(name, change) => {
                if has_node(run, &name).await {
                    run.world.change_node_status(&name, change).await;
                }
            }
            Self::AddPods(pods) => run.add_pods(pods).await,
            Self::Gang(group, pods) => {
                if let Some(group) = group {
                    world.add_group(group).await;
                }
                run.add_pods(pods).await;
            }
            Self::RemoveGroup(number) => world.remove_group(number).await,
            Self::Storage(change) => world.change_storage(change).await,
            Self::Devices(change) => world.change_devices(change).await,
            Self::DeletePod(at) => with_pod(run, at, |_| true, Deed::Delete(DeleteParams::default())).await,
            Self::DeletePodAtOnce(at) => with_pod(run, at, |_| true, Deed::Delete(DeleteParams::now())).await,
            Self::Finish(at) => {
                let ends = |pod: &Pod| node_name(pod).is_some() && !is_terminal(pod);
                with_pod(run, at, ends, Deed::Status(json!({"status": {"phase": "Succeeded"}}))).await;
            }
            Self::Ungate(at) => {
                let gated = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.scheduling_gates.is_some());
                with_pod(run, at, gated, Deed::Change(json!({"spec": {"schedulingGates": null}}))).await;
            }
            Self::RelabelPod(at, version) => {
                let change = json!({"metadata": {"labels": {"version": version}}});
                with_pod(run, at, |_| true, Deed::Change(change)).await;
            }
            Self::Budget(allowed) => {
                let status = json!({"status": {"disruptionsAllowed": allowed}});
                let budgets =
                    rkube_api::client::Api::<PodDisruptionBudget>::namespaced(world.admin.clone(), "default");
                let patch = rkube_api::client::Patch::Merge(status);
                budgets.patch_status("b", &Default::default(), &patch).await.unwrap();
            }
            other => other.take_on_schedulers(run).await,
        }
    }

    async fn take_on_schedulers(self, run: &mut Run) {
        match self {
            Self::Decide(at, allowed) => run.decide(at, allowed),
            Self::Arm(armed) => run.arm(armed),
            Self::Storm(storm) => run.world.weather.change(storm),
            Self::Cut => run.world.weather.cut(),
            Self::Stop(at) => run.processes[at].stop().await,
            Self::Kill(at) => run.processes[at].kill().await,
            Self::Start(at) => {
                let armed = run.armed;
                run.processes[at].start(&run.world, armed);
            }
            other => panic!("{other:?}"),
        }
    }
}

impl Run {
    async fn add_pods(&self, pods: Vec<Value>) {
        if self.world.all::<Pod>().await.len() < PODS {
            for pod in pods {
                self.world.add_pod(pod).await;
            }
        }
    }

    fn decide(&self, at: usize, allowed: bool) {
        let Some(running) = &self.processes[at].running else { return };
        if let Some(uid) = running.waiting.uids().first() {
            if allowed {
                running.waiting.allow(uid, crate::probe::NAME);
            } else {
                running.waiting.reject(uid, crate::probe::NAME, "somebody says no");
            }
        }
    }

    pub(crate) fn arm(&mut self, armed: bool) {
        self.armed = armed;
        for running in self.processes.iter().filter_map(|process| process.running.as_ref()) {
            running.probe.armed.store(armed, Ordering::Relaxed);
        }
    }

    /// Lets some time pass; often none.
    pub(crate) async fn pause(&self, rng: &Rng) {
        let wait = match rng.below(4) {
            0 => Duration::ZERO,
            1 => Duration::from_millis(rng.below(1000) as u64),
            _ => Duration::from_millis(rng.below(30_000) as u64),
        };
        sleep(wait).await;
    }
}

/// Half of all pods go, so that there is room for others.
pub(crate) async fn sweep(rng: &Rng, run: &Run) {
    for pod in run.world.all::<Pod>().await {
        if chance(rng, 1, 2) {
            run.world.delete_pod(&pod, &DeleteParams::now()).await;
        }
    }
}

async fn has_node(run: &Run, name: &str) -> bool {
    run.world.all::<Node>().await.iter().any(|node| node.metadata.name.as_deref() == Some(name))
}

enum Deed {
    Delete(DeleteParams),
    Change(Value),
    Status(Value),
}

/// Does something to one of the pods for which it makes sense.
async fn with_pod(run: &Run, at: usize, sensible: impl Fn(&Pod) -> bool, deed: Deed) {
    let mut pods = run.world.all::<Pod>().await;
    pods.retain(|pod| sensible(pod));
    let Some(pod) = (!pods.is_empty()).then(|| &pods[at % pods.len()]) else { return };
    match deed {
        Deed::Delete(params) => run.world.delete_pod(pod, &params).await,
        Deed::Change(change) => run.world.change_pod(pod, change).await,
        Deed::Status(change) => run.world.change_pod_status(pod, change).await,
    }
}
