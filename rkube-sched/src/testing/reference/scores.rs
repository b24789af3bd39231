//! How well a pod would be placed, one function a plugin: a score from 0 to 100 for each node.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node, Pod};
use rkube_api::helpers::{affinity::PreferredNodeAffinity, taints::tolerated};

use super::{
    Cluster,
    filters::{asked, has},
    label, name,
    peers::{constraints, count, eligible, means, preferred, required, together},
    tolerations,
};
use crate::snapshot::Requests;

/// The scores of some nodes, in their order.
pub(super) type Score = fn(&Cluster, &Pod, &[&Node]) -> Vec<i64>;

/// Scaled so that the highest becomes 100; `reverse`: the lowest raw score is best.
fn scaled(raw: Vec<i64>, reverse: bool) -> Vec<i64> {
    let most = raw.iter().copied().max().unwrap_or(0);
    let one = |score: i64| if most == 0 { 0 } else { 100 * score / most };
    raw.into_iter().map(|score| if reverse { 100 - one(score) } else { one(score) }).collect()
}

pub(super) fn taint_toleration(_: &Cluster, pod: &Pod, nodes: &[&Node]) -> Vec<i64> {
    let gentle: Vec<_> = (tolerations(pod).iter())
        .filter(|toleration| matches!(toleration.effect.as_deref(), None | Some("" | "PreferNoSchedule")))
        .cloned()
        .collect();
    let disliked = |node: &&Node| {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let taints = taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
        taints.filter(|taint| !tolerated(taint, &gentle)).count() as i64
    };
    scaled(nodes.iter().map(disliked).collect(), true)
}

pub(super) fn node_affinity(_: &Cluster, pod: &Pod, nodes: &[&Node]) -> Vec<i64> {
    let preferred = pod.spec.as_ref().map(PreferredNodeAffinity::of).unwrap_or_default();
    let raw = nodes.iter().map(|node| preferred.score(name(node), node.metadata.labels.as_ref()));
    scaled(raw.collect(), false)
}

/// What a pod is taken to need of CPU and memory: a little even if it does not say.
fn needed(pod: &Pod) -> [i64; 2] {
    let requests = Requests::of_pod(pod);
    [requests.nonzero_cpu, requests.nonzero_memory]
}

pub(super) fn node_resources_fit(cluster: &Cluster, pod: &Pod, nodes: &[&Node]) -> Vec<i64> {
    let score = |node: &&Node| {
        let mut scores = Vec::new();
        for (index, resource) in ["cpu", "memory"].into_iter().enumerate() {
            let taken: i64 = cluster.pods_on(node).map(|other| needed(other)[index]).sum();
            let (there, wanted) = (has(node, resource), taken + needed(pod)[index]);
            if there != 0 {
                scores.push(if wanted > there { 0 } else { (there - wanted) * 100 / there });
            }
        }
        if scores.is_empty() { 0 } else { scores.iter().sum::<i64>() / scores.len() as i64 }
    };
    nodes.iter().map(score).collect()
}

pub(super) fn node_resources_balanced_allocation(cluster: &Cluster, pod: &Pod, nodes: &[&Node]) -> Vec<i64> {
    let of = |pod: &Pod, resource: &str| asked(pod).get(resource).copied().unwrap_or(0);
    if ["cpu", "memory"].iter().all(|resource| of(pod, resource) == 0) {
        return vec![0; nodes.len()];
    }
    // Of two fractions, the deviation is half their difference.
    let balance = |fractions: &[f64]| {
        let deviation = match fractions {
            [cpu, memory] => {
                let mean = (cpu + memory) / 2.0;
                (((cpu - mean).powi(2) + (memory - mean).powi(2)) / 2.0).sqrt()
            }
            _ => 0.0,
        };
        ((1.0 - deviation) * 100.0) as i64
    };
    let score = |node: &&Node| {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for resource in ["cpu", "memory"] {
            let there = has(node, resource);
            if there != 0 {
                let taken: i64 = cluster.pods_on(node).map(|other| of(other, resource)).sum();
                let fraction = |amount: i64| (amount as f64 / there as f64).min(1.0);
                with.push(fraction(taken + of(pod, resource)));
                without.push(fraction(taken));
            }
        }
        50 + (50 + balance(&with) - balance(&without)) / 2
    };
    nodes.iter().map(score).collect()
}

pub(super) fn image_locality(cluster: &Cluster, pod: &Pod, nodes: &[&Node]) -> Vec<i64> {
    const MEBIBYTE: i64 = 1 << 20;
    let images_of = |node: &Node| node.status.clone().and_then(|status| status.images).unwrap_or_default();
    let size = |node: &Node, wanted: &str| {
        let images = images_of(node);
        let found = images.iter().find(|image| image.names.iter().flatten().any(|name| name == wanted));
        found.map(|image| image.size_bytes.unwrap_or(0))
    };
    let containers =
        pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    let wanted: Vec<String> = containers
        .map(|container| {
            let image = container.image.clone().unwrap_or_default();
            if image.rfind(':') > image.rfind('/') { image } else { format!("{image}:latest") }
        })
        .collect();
    let score = |node: &&Node| {
        let mut sum = 0;
        for image in &wanted {
            if let Some(size) = size(node, image) {
                let nodes = cluster.nodes.iter().filter(|node| image_there(node, image)).count();
                sum += (size as f64 * (nodes as f64 / cluster.nodes.len() as f64)) as i64;
            }
        }
        let (least, most) = (23 * MEBIBYTE, 1000 * MEBIBYTE * wanted.len() as i64);
        if most == 0 { 0 } else { 100 * (sum.clamp(least, most) - least) / (most - least) }
    };
    nodes.iter().map(score).collect()
}

fn image_there(node: &Node, wanted: &str) -> bool {
    let images = node.status.iter().flat_map(|status| status.images.iter().flatten());
    images.flat_map(|image| image.names.iter().flatten()).any(|name| name == wanted)
}

pub(super) fn pod_topology_spread(cluster: &Cluster, pod: &Pod, nodes: &[&Node]) -> Vec<i64> {
    let constraints = constraints(pod, "ScheduleAnyway");
    if constraints.is_empty() {
        return vec![0; nodes.len()];
    }
    let has_all =
        |node: &&Node| constraints.iter().all(|constraint| label(node, &constraint.topology_key).is_some());
    let scored: Vec<&Node> = nodes.iter().copied().filter(|node| has_all(node)).collect();
    let mut raw = vec![0.0; nodes.len()];
    for constraint in &constraints {
        let key = constraint.topology_key.as_str();
        let domains: BTreeSet<Option<&str>> = scored.iter().map(|node| label(node, key)).collect();
        let by_node = key == "kubernetes.io/hostname";
        let size = if by_node { scored.len() } else { domains.len() };
        for (raw, node) in raw.iter_mut().zip(nodes) {
            let in_domain = |other: &&Node| label(other, key) == label(node, key);
            let counted = cluster
                .nodes
                .iter()
                .filter(|other| has_all(other) && eligible(constraint, pod, other) && in_domain(other));
            let pods: i64 = match by_node {
                true => count(cluster, constraint, pod, node),
                false => counted.map(|other| count(cluster, constraint, pod, other)).sum(),
            };
            *raw += pods as f64 * ((size + 2) as f64).ln() + f64::from(constraint.max_skew - 1);
        }
    }
    let raw: Vec<Option<i64>> =
        raw.iter().zip(nodes).map(|(raw, node)| has_all(node).then(|| raw.round() as i64)).collect();
    let (least, most) = (raw.iter().flatten().min(), raw.iter().flatten().max());
    let (least, most) = (least.copied().unwrap_or(0), most.copied().unwrap_or(0));
    let one = |raw: &Option<i64>| match raw {
        None => 0,
        Some(_) if most == 0 => 100,
        Some(raw) => 100 * (most + least - raw) / most,
    };
    raw.iter().map(one).collect()
}

pub(super) fn inter_pod_affinity(cluster: &Cluster, pod: &Pod, nodes: &[&Node]) -> Vec<i64> {
    let score = |node: &&Node| {
        let mut score = 0;
        for (other, there) in cluster.pods.iter().filter_map(|other| Some((other, cluster.node_of(other)?))) {
            // What each of two pods thinks of being beside the other.
            for (one, two, hard) in [(pod, other, 0), (other, pod, 1)] {
                let (demands, _) = required(one);
                let (likes, dislikes) = preferred(one);
                let demands = demands.into_iter().map(|term| (term, hard));
                let likes = likes.into_iter().map(|term| (term.pod_affinity_term, i64::from(term.weight)));
                let dislikes =
                    dislikes.into_iter().map(|term| (term.pod_affinity_term, -i64::from(term.weight)));
                for (term, worth) in demands.chain(likes).chain(dislikes) {
                    if means(cluster, &term, one, two) && together(&term.topology_key, node, there) {
                        score += worth;
                    }
                }
            }
        }
        score
    };
    let raw: Vec<i64> = nodes.iter().map(score).collect();
    let (least, most) = (raw.iter().min().copied().unwrap_or(0), raw.iter().max().copied().unwrap_or(0));
    let one = |raw: &i64| match most - least {
        0 => 0,
        range => (100.0 * ((raw - least) as f64 / range as f64)) as i64,
    };
    raw.iter().map(one).collect()
}
