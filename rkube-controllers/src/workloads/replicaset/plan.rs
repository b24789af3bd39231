//! What to do about a replica set, as a pure function of what is there.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use rkube_api::meta::{conditions, names, owners};

use crate::facts::{self, count, nonzero};

/// How many pods are made or deleted at most in one go.
pub const BURST: usize = 500;
/// The annotation by which users say which pods to spare: the lower, the sooner deleted.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// What is there.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The replica set.
    pub set: &'a ReplicaSet,
    /// All pods that it manages, those that have ended or are ending too.
    pub pods: &'a [Arc<Pod>],
    /// The pods of all replica sets of the same owner, its own too: where they run matters.
    pub related: &'a [Arc<Pod>],
    /// The time.
    pub now: Time,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make so many pods of the template.
    Create(usize),
    /// Delete these pods.
    Delete(Vec<Arc<Pod>>),
}

/// Makes the number of active pods what is asked for.
pub fn plan(observed: &Observed<'_>) -> Vec<Action> {
    let set = observed.set;
    if set.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let wanted = usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or(0);
    let active: Vec<&Arc<Pod>> = observed.pods.iter().filter(|pod| facts::is_active(pod)).collect();
    match active.len().cmp(&wanted) {
        Ordering::Less => vec![Action::Create((wanted - active.len()).min(BURST))],
        Ordering::Greater => {
            let surplus = (active.len() - wanted).min(BURST);
            vec![Action::Delete(least_wanted(&active, observed.related, surplus, &observed.now))]
        }
        Ordering::Equal => Vec::new(),
    }
}

/// The pods to delete first. Source: `ActivePodsWithRanks` of Kubernetes.
fn least_wanted(active: &[&Arc<Pod>], related: &[Arc<Pod>], surplus: usize, now: &Time) -> Vec<Arc<Pod>> {
    let mut crowd: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in related.iter().filter(|pod| facts::is_active(pod)) {
        *crowd.entry(facts::node(pod)).or_default() += 1;
    }
    let mut ranked: Vec<(Rank, &Arc<Pod>)> =
        active.iter().map(|pod| (Rank::of(pod, &crowd, now), *pod)).collect();
    ranked.sort_by(|(a, _), (b, _)| a.cmp(b));
    ranked.into_iter().take(surplus).map(|(_, pod)| pod.clone()).collect()
}

/// The order of deletion: fields from the weightiest to the least, the smallest goes first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    assigned: bool,
    phase: u8,
    ready: bool,
    cost: i32,
    /// Pods that share their node with more of their kind go first.
    crowd: std::cmp::Reverse<usize>,
    /// For how long the pod has been ready, on a scale of powers of two: the shortest goes first.
    ready_age: i64,
    restarts: std::cmp::Reverse<i32>,
    age: i64,
    /// Random, so that among equals no one is preferred; the name if even that is absent.
    uid: String,
    name: String,
}

impl Rank {
    fn of(pod: &Pod, crowd: &BTreeMap<&str, usize>, now: &Time) -> Self {
        let node = facts::node(pod);
        let ready = facts::is_ready(pod);
        let since = facts::ready_condition(pod).and_then(|condition| condition.last_transition_time.as_ref());
        Self {
            assigned: !node.is_empty(),
            phase: match facts::phase(pod) {
                "Pending" => 0,
                "Unknown" => 1,
                _ => 2,
            },
            ready,
            cost: deletion_cost(pod),
            crowd: std::cmp::Reverse(crowd.get(node).copied().unwrap_or(0)),
            ready_age: if ready { magnitude(since, now) } else { 0 },
            restarts: std::cmp::Reverse(restarts(pod)),
            age: magnitude(pod.metadata.creation_timestamp.as_ref(), now),
            uid: facts::uid(&pod.metadata).to_owned(),
            name: facts::name(&pod.metadata).to_owned(),
        }
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(DELETION_COST)).and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref());
    statuses.unwrap_or_default().iter().map(|status| status.restart_count).max().unwrap_or(0)
}

/// The power of two of nanoseconds since `time`; -1 if it is absent or not past.
fn magnitude(time: Option<&Time>, now: &Time) -> i64 {
    let nanoseconds = time.map_or(0, |time| now.0.duration_since(time.0).as_nanos());
    u128::try_from(nanoseconds).ok().and_then(u128::checked_ilog2).map_or(-1, i64::from)
}

/// The status that shows these pods; `failure` is what kept the last actions from succeeding.
pub fn status(observed: &Observed<'_>, failure: Option<&str>) -> ReplicaSetStatus {
    let (set, now) = (observed.set, &observed.now);
    let active: Vec<&Arc<Pod>> = observed.pods.iter().filter(|pod| facts::is_active(pod)).collect();
    let terminating = observed
        .pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_some() && !facts::is_finished(pod));
    let template = set.spec.template.as_ref().and_then(|template| template.metadata.as_ref());
    let labels = template.and_then(|meta| meta.labels.as_ref());
    let labelled = |pod: &Pod| {
        let has = pod.metadata.labels.as_ref();
        labels.into_iter().flatten().all(|(key, value)| has.and_then(|has| has.get(key)) == Some(value))
    };
    let seconds = set.spec.min_ready_seconds.unwrap_or(0);
    let number = |test: &dyn Fn(&Pod) -> bool| count(active.iter().filter(|pod| test(pod)).count());
    let mut list = set.status.clone().and_then(|status| status.conditions).unwrap_or_default();
    note_failure(&mut list, set, active.len(), failure, now);
    ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: nonzero(number(&labelled)),
        ready_replicas: nonzero(number(&facts::is_ready)),
        available_replicas: nonzero(number(&|pod| facts::is_available(pod, seconds, now))),
        terminating_replicas: Some(count(terminating.count())),
        observed_generation: set.metadata.generation,
        conditions: (!list.is_empty()).then_some(list),
    }
}

fn note_failure(
    list: &mut Vec<ReplicaSetCondition>,
    set: &ReplicaSet,
    active: usize,
    failure: Option<&str>,
    now: &Time,
) {
    let Some(message) = failure else {
        conditions::remove(list, REPLICA_FAILURE);
        return;
    };
    if conditions::get(list, REPLICA_FAILURE).is_some() {
        return;
    }
    let few = count(active) < set.spec.replicas.unwrap_or(1);
    list.push(ReplicaSetCondition {
        type_: Some(REPLICA_FAILURE.into()),
        status: Some("True".into()),
        reason: Some(if few { "FailedCreate" } else { "FailedDelete" }.into()),
        message: Some(message.into()),
        last_transition_time: Some(now.clone()),
    });
}

/// When the next pod becomes available by being ready long enough, if any will.
pub fn look_again(observed: &Observed<'_>) -> Option<Duration> {
    let seconds = observed.set.spec.min_ready_seconds.unwrap_or(0);
    let waits = observed.pods.iter().filter(|pod| facts::is_active(pod));
    waits
        .filter_map(|pod| facts::until_available(pod, seconds, &observed.now))
        .filter(|wait| !wait.is_zero())
        .min()
}

/// A pod of the set's template. `None` if the template has no labels to find it again by.
pub fn new_pod(set: &ReplicaSet) -> Option<Pod> {
    let template = set.spec.template.as_ref()?;
    let meta = template.metadata.clone().unwrap_or_default();
    if meta.labels.as_ref().is_none_or(BTreeMap::is_empty) {
        return None;
    }
    let name = facts::name(&set.metadata);
    let prefix = format!("{name}-");
    let valid = names::name_is_subdomain(&prefix, true).is_empty();
    Some(Pod {
        metadata: ObjectMeta {
            namespace: set.metadata.namespace.clone(),
            generate_name: Some(if valid { prefix } else { name.to_owned() }),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: owners::controller_ref(set).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    })
}
