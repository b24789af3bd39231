//! Where a pod can run, one function a plugin.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use rkube_api::helpers::{
    affinity::RequiredNodeAffinity,
    taints::{keeps_pods_away, tolerated, untolerated},
};

use super::{
    Cluster, Verdict, label, labels, name, node_of,
    peers::{constraints, count, eligible, means, required, selected, together},
    tolerations,
};
use crate::{
    matching::HostPort,
    snapshot::{Column, Requests, Snapshot},
};

fn hopeless_unless(fits: bool) -> Verdict {
    if fits { Verdict::Fits } else { Verdict::Hopeless }
}

fn refused_unless(fits: bool) -> Verdict {
    if fits { Verdict::Fits } else { Verdict::Refused }
}

pub(super) fn node_unschedulable(_: &Cluster, pod: &Pod, node: &Node) -> Verdict {
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    hopeless_unless(!cordoned || tolerated(&taint, tolerations(pod)))
}

pub(super) fn node_name(_: &Cluster, pod: &Pod, node: &Node) -> Verdict {
    hopeless_unless(node_of(pod).is_none_or(|wanted| wanted.is_empty() || wanted == name(node)))
}

pub(super) fn taint_toleration(_: &Cluster, pod: &Pod, node: &Node) -> Verdict {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    hopeless_unless(untolerated(taints, tolerations(pod), keeps_pods_away).is_none())
}

pub(super) fn node_affinity(_: &Cluster, pod: &Pod, node: &Node) -> Verdict {
    hopeless_unless(pod.spec.as_ref().is_none_or(|spec| RequiredNodeAffinity::of(spec).matches_node(node)))
}

pub(super) fn node_ports(cluster: &Cluster, pod: &Pod, node: &Node) -> Verdict {
    let wanted = HostPort::of(pod);
    let taken = cluster.pods_on(node).flat_map(HostPort::of);
    let taken: Vec<HostPort> = taken.collect();
    refused_unless(!wanted.iter().any(|port| taken.iter().any(|other| port.conflicts(other))))
}

/// What a pod asks for, by resource.
pub(super) fn asked(pod: &Pod) -> BTreeMap<String, i64> {
    let requests = Requests::of_pod(pod);
    let mut asked: BTreeMap<String, i64> =
        requests.scalars.iter().map(|(name, amount)| (name.to_string(), *amount)).collect();
    asked.insert("cpu".into(), requests.cpu_milli);
    asked.insert("memory".into(), requests.memory);
    asked.insert("ephemeral-storage".into(), requests.ephemeral);
    asked
}

/// What a node has of a resource, in the units of [`asked`].
pub(super) fn has(node: &Node, resource: &str) -> i64 {
    let mut snapshot = Snapshot::default();
    let id = snapshot.set_node(std::sync::Arc::new(node.clone()));
    snapshot.columns().find(resource).map_or(0, |column: Column| snapshot.view(id).allocatable(column))
}

pub(super) fn node_resources_fit(cluster: &Cluster, pod: &Pod, node: &Node) -> Verdict {
    let mut verdict = refused_unless((cluster.pods_on(node).count() as i64) < has(node, "pods"));
    for (resource, wanted) in asked(pod).into_iter().filter(|(_, wanted)| *wanted > 0) {
        let taken: i64 =
            cluster.pods_on(node).map(|other| asked(other).get(&resource).copied().unwrap_or(0)).sum();
        let there = has(node, &resource);
        if wanted > there - taken {
            let never = wanted > there || verdict == Verdict::Hopeless;
            verdict = if never { Verdict::Hopeless } else { Verdict::Refused };
        }
    }
    verdict
}

pub(super) fn pod_topology_spread(cluster: &Cluster, pod: &Pod, node: &Node) -> Verdict {
    let constraints = constraints(pod, "DoNotSchedule");
    let has_all =
        |node: &Node| constraints.iter().all(|constraint| label(node, &constraint.topology_key).is_some());
    for constraint in &constraints {
        let Some(here) = label(node, &constraint.topology_key) else { return Verdict::Hopeless };
        let mut domains = BTreeMap::<&str, i64>::new();
        for node in cluster.nodes.iter().filter(|node| has_all(node) && eligible(constraint, pod, node)) {
            if let Some(domain) = label(node, &constraint.topology_key) {
                *domains.entry(domain).or_default() += count(cluster, constraint, pod, node);
            }
        }
        let enough = domains.len() as i64 >= i64::from(constraint.min_domains.unwrap_or(1));
        let fewest = if enough { domains.values().min().copied().unwrap_or(i32::MAX.into()) } else { 0 };
        let itself = i64::from(selected(constraint, pod, &labels(pod)));
        let there = domains.get(here).copied().unwrap_or(0) + itself;
        if there - fewest > i64::from(constraint.max_skew) {
            return Verdict::Refused;
        }
    }
    Verdict::Fits
}

pub(super) fn inter_pod_affinity(cluster: &Cluster, pod: &Pod, node: &Node) -> Verdict {
    let (affinity, anti_affinity) = required(pod);
    let placed = || cluster.pods.iter().filter_map(|other| Some((other, cluster.node_of(other)?)));
    let all_mean = |other: &Pod| affinity.iter().all(|term| means(cluster, term, pod, other));
    // Company is a pod that all terms mean, in the same part for each; the first of its kind needs none.
    let has_labels = affinity.iter().all(|term| label(node, &term.topology_key).is_some());
    let beside = |key: &str| placed().any(|(other, there)| all_mean(other) && together(key, node, there));
    let somewhere = placed().any(|(other, there)| {
        all_mean(other) && affinity.iter().any(|term| label(there, &term.topology_key).is_some())
    });
    let company = affinity.iter().all(|term| beside(&term.topology_key)) || (!somewhere && all_mean(pod));
    if !has_labels || !company {
        return Verdict::Hopeless;
    }
    let unwanted = anti_affinity.iter().any(|term| {
        placed().any(|(other, there)| {
            means(cluster, term, pod, other) && together(&term.topology_key, node, there)
        })
    });
    let unwelcome = placed().any(|(other, there)| {
        let (_, terms) = required(other);
        terms.iter().any(|term| means(cluster, term, other, pod) && together(&term.topology_key, node, there))
    });
    refused_unless(!unwanted && !unwelcome)
}
