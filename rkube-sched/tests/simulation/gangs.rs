//! Gangs. The pods of one are all alike and ask for nothing but room, so that it can be said whether they fit.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rkube_api::{
    client::{Api, DeleteParams, PostParams},
    context::Rng,
    helpers::pod::is_terminal,
    k8s_openapi::api::{core::v1::Pod, scheduling::v1beta1::PodGroup},
};
use rkube_sched::testing::reference::{Cluster, Verdict, verdict};
use serde_json::{Value, json};

use crate::{
    checks::Broken,
    cluster::{World, from},
    shapes::{chance, pick},
};

/// Pods join one of so many groups that came last.
const YOUNG: usize = 4;

/// A group by its namespace and name.
type Key = (String, String);

fn namespace(number: usize) -> &'static str {
    if number.is_multiple_of(3) { "other" } else { "default" }
}

/// A group.
pub(crate) fn group(rng: &Rng, number: usize) -> Value {
    let gang = json!({"gang": {"minCount": 1 + rng.below(4)}});
    let policy = if chance(rng, 1, 6) { json!({"basic": {}}) } else { gang };
    json!({
        "metadata": {"name": format!("g{number}"), "namespace": namespace(number)},
        "spec": {"schedulingPolicy": policy}
    })
}

/// The number of a group that came not long ago.
pub(crate) fn young(rng: &Rng, groups: usize) -> usize {
    groups.saturating_sub(1 + rng.below(YOUNG.min(groups.max(1))))
}

/// A pod of a group. All that scheduling looks at, but for gates, follows from the group's number.
pub(crate) fn member(rng: &Rng, number: usize, name: &str, schedulers: &[&str]) -> Value {
    let cpu = ["500m", "1", "2"][number % 3];
    let requests = json!({"cpu": cpu, "memory": "256Mi"});
    let mut spec = json!({
        "containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}],
        "schedulerName": schedulers[number % schedulers.len()],
        "schedulingGroup": {"podGroupName": format!("g{number}")},
        "terminationGracePeriodSeconds": pick(rng, &[0, 5])
    });
    if number.is_multiple_of(2) {
        spec["priorityClassName"] = json!("high");
    }
    if chance(rng, 1, 10) {
        spec["schedulingGates"] = json!([{"name": "example.com/gate"}]);
    }
    json!({"metadata": {"name": name, "namespace": namespace(number)}, "spec": spec})
}

impl World {
    pub(crate) async fn add_group(&self, group: Value) {
        let groups =
            Api::<PodGroup>::namespaced(self.admin.clone(), group["metadata"]["namespace"].as_str().unwrap());
        let _ = groups.create(&PostParams::default(), from(group)).await;
    }

    pub(crate) async fn remove_group(&self, number: usize) {
        let groups = Api::<PodGroup>::namespaced(self.admin.clone(), namespace(number));
        let _ = groups.delete(&format!("g{number}"), &DeleteParams::now()).await;
    }

    /// Nobody in a gang waits for one that is gated.
    pub(crate) async fn ungate_members(&self) {
        for pod in self.all::<Pod>().await {
            if key_of(&pod).is_some() {
                self.change_pod(&pod, json!({"spec": {"schedulingGates": null}})).await;
            }
        }
    }
}

/// The group of a pod.
fn key_of(pod: &Pod) -> Option<Key> {
    let name = pod.spec.as_ref()?.scheduling_group.as_ref()?.pod_group_name.clone()?;
    Some((pod.metadata.namespace.clone().unwrap_or_default(), name))
}

fn lives(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !is_terminal(pod)
}

/// What is known of the gangs of a run.
#[derive(Default)]
pub(crate) struct Gangs {
    members: BTreeMap<String, Key>,
    /// Those to which something has happened: they may be there in part.
    disturbed: BTreeSet<Key>,
}

impl Gangs {
    /// Looks who is there; `calm` says that nothing goes wrong.
    pub(crate) fn watch(&mut self, pods: &[Arc<Pod>], calm: bool) {
        let uid = |pod: &Pod| pod.metadata.uid.clone().unwrap_or_default();
        let living: BTreeSet<String> = pods.iter().filter(|pod| lives(pod)).map(|pod| uid(pod)).collect();
        for pod in pods {
            if let Some(key) = key_of(pod) {
                self.members.insert(uid(pod), key);
            }
        }
        for (uid, key) in &self.members {
            if !calm || !living.contains(uid) {
                self.disturbed.insert(key.clone());
            }
        }
    }

    /// What must hold at rest: no gang to which nothing has happened is there in part, and none that fits waits.
    pub(crate) fn check_rest(
        &self,
        cluster: &Cluster,
        groups: &[Arc<PodGroup>],
        waiting: &[Arc<Pod>],
    ) -> Broken {
        let mut broken = Broken::new();
        for group in groups {
            let Some(standing) = Standing::of(group, cluster, waiting) else { continue };
            let Standing { key, placed, waiting, least } = &standing;
            if !self.disturbed.contains(key) && (1..*least).contains(placed) {
                broken.push(format!("gang {key:?} of {least} is there in part: {placed}"));
            }
            if let Some(first) = waiting.first()
                && placed < least
                && placed + waiting.len() >= *least
                && room(cluster, first, least - placed)
            {
                broken
                    .push(format!("gang {key:?} of {least} was forgotten: {placed} are placed, others fit"));
            }
        }
        broken
    }
}

/// How a gang stands.
struct Standing {
    key: Key,
    placed: usize,
    waiting: Vec<Arc<Pod>>,
    least: usize,
}

impl Standing {
    fn of(group: &PodGroup, cluster: &Cluster, waiting: &[Arc<Pod>]) -> Option<Self> {
        let least = group.spec.scheduling_policy.gang.as_ref()?.min_count as usize;
        let meta = &group.metadata;
        let key = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
        let mine = |pod: &Pod| key_of(pod).as_ref() == Some(&key) && lives(pod);
        let placed = cluster.pods.iter().filter(|pod| mine(pod)).count();
        let waiting = waiting.iter().filter(|pod| mine(pod)).cloned().collect();
        Some(Self { key, placed, waiting, least })
    }
}

/// Whether so many copies of a pod fit at once.
fn room(cluster: &Cluster, pod: &Pod, count: usize) -> bool {
    let mut cluster = cluster.clone();
    let mut found = 0;
    for node in cluster.nodes.clone() {
        while found < count && verdict(&cluster, pod, &node) == Verdict::Fits {
            let mut copy = pod.clone();
            copy.metadata.uid = Some(format!("copy {found}"));
            copy.spec.as_mut().unwrap().node_name.clone_from(&node.metadata.name);
            cluster.pods.push(copy);
            found += 1;
        }
    }
    found == count
}

/// What a pod's group says of it while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    /// It is on its own.
    None,
    /// Its gang has all it needs.
    Complete,
    /// It must find its node together with others that are there.
    Together,
    /// Others must come first.
    Missing,
}

/// How a waiting pod stands to its group.
pub(crate) fn company(
    pod: &Pod,
    groups: &[Arc<PodGroup>],
    cluster: &Cluster,
    waiting: &[Arc<Pod>],
) -> Company {
    let Some((namespace, name)) = key_of(pod) else { return Company::None };
    let same = |group: &&Arc<PodGroup>| {
        group.metadata.namespace.as_ref() == Some(&namespace) && group.metadata.name.as_ref() == Some(&name)
    };
    let Some(group) = groups.iter().find(same) else { return Company::Missing };
    match Standing::of(group, cluster, waiting) {
        None => Company::Complete,
        Some(it) if it.placed >= it.least => Company::Complete,
        Some(it) if it.placed + it.waiting.len() >= it.least => Company::Together,
        Some(_) => Company::Missing,
    }
}
