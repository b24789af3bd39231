//! Who has to go for a pod.

use std::cmp::Reverse;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use rkube_api::{helpers::pod::priority, meta::labels::LabelSelector};

use super::{Cluster, Verdict, labels, name, namespace, node_of, verdict};

/// A node where a pod fits once others are gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Sacrifice {
    /// The node.
    pub node: String,
    /// Who has to go, the most important first.
    pub victims: Vec<Pod>,
    /// How many of them a disruption budget would have kept.
    pub violations: usize,
}

/// One that has not started yet is the youngest.
fn started(pod: &Pod) -> Timestamp {
    let start = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    start.map_or(Timestamp::MAX, |time| time.0)
}

fn by_importance(pods: &mut [Pod]) {
    pods.sort_by_key(|pod| (Reverse(priority(pod)), started(pod), pod.metadata.uid.clone()));
}

/// Parts pods by whether budgets keep them, each counted as one more to go.
fn kept(cluster: &Cluster, pods: Vec<Pod>) -> (Vec<Pod>, Vec<Pod>) {
    let allowed = |budget: &k8s_openapi::api::policy::v1::PodDisruptionBudget| {
        budget.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or(0)
    };
    let mut left: Vec<i32> = cluster.budgets.iter().map(allowed).collect();
    pods.into_iter().partition(|pod| {
        let mut keeps = false;
        for (budget, left) in cluster.budgets.iter().zip(&mut left) {
            let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            let selector = LabelSelector::from_api(selector).unwrap_or_else(|_| LabelSelector::nothing());
            let here = budget.metadata.namespace.as_deref() == Some(namespace(pod));
            let means =
                !selector.is_everything() && selector.matches(&labels(pod)) && !labels(pod).is_empty();
            if here && means {
                *left -= 1;
                keeps |= *left < 0;
            }
        }
        keeps
    })
}

/// Who has to go from a node; `None` if it does not help.
pub fn sacrifice(cluster: &Cluster, pod: &Pod, node: &Node) -> Option<Sacrifice> {
    let lower = |other: &Pod| node_of(other) == Some(name(node)) && priority(other) < priority(pod);
    if verdict(cluster, pod, node) != Verdict::Refused {
        return None;
    }
    let (mut gone, rest): (Vec<Pod>, Vec<Pod>) = cluster.pods.iter().cloned().partition(lower);
    let mut without = Cluster { pods: rest, ..cluster.clone() };
    if gone.is_empty() || verdict(&without, pod, node) != Verdict::Fits {
        return None;
    }
    by_importance(&mut gone);
    let (kept, others) = kept(cluster, gone);
    let (mut victims, mut violations) = (Vec::new(), 0);
    for (other, is_kept) in kept.into_iter().map(|pod| (pod, 1)).chain(others.into_iter().map(|pod| (pod, 0)))
    {
        without.pods.push(other);
        if verdict(&without, pod, node) != Verdict::Fits {
            victims.extend(without.pods.pop());
            violations += is_kept;
        }
    }
    by_importance(&mut victims);
    Some(Sacrifice { node: name(node).to_owned(), victims, violations })
}

/// The nodes where least is lost, all alike; none for a pod that never preempts.
pub fn best_sacrifices(cluster: &Cluster, pod: &Pod) -> Vec<Sacrifice> {
    if pod.spec.as_ref().and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never") {
        return Vec::new();
    }
    let all: Vec<Sacrifice> = cluster.nodes.iter().filter_map(|node| sacrifice(cluster, pod, node)).collect();
    let loss = |sacrifice: &Sacrifice| {
        let highest = sacrifice.victims.first().map(priority);
        let sum: i64 =
            sacrifice.victims.iter().map(|pod| i64::from(priority(pod)) - i64::from(i32::MIN)).sum();
        let of_highest = sacrifice.victims.iter().filter(|pod| Some(priority(pod)) == highest);
        (sacrifice.violations, highest, sum, sacrifice.victims.len(), Reverse(of_highest.map(started).min()))
    };
    let least = all.iter().map(loss).min();
    all.into_iter().filter(|sacrifice| Some(loss(sacrifice)) == least).collect()
}
