//! The reference engine: the default profile over plain objects.
//!
//! Not in it: default constraints of spreading (they need services and controllers), profiles other
//! than the default.

#[cfg(feature = "dra")]
pub mod devices;
mod filters;
mod peers;
mod preemption;
mod scores;
#[cfg(test)]
mod storage;
mod volumes;

use std::collections::BTreeMap;

use k8s_openapi::api::{
    core::v1::{Namespace, Node, Pod, Toleration},
    policy::v1::PodDisruptionBudget,
};

pub use preemption::{Sacrifice, best_sacrifices, sacrifice};
pub use volumes::{Storage, Volumes, volumes_on};

/// A cluster as its objects.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The pods that have a node.
    pub pods: Vec<Pod>,
    /// The namespaces, for namespace selectors.
    pub namespaces: Vec<Namespace>,
    /// The disruption budgets.
    pub budgets: Vec<PodDisruptionBudget>,
    /// What volumes are made of.
    pub storage: Storage,
}

impl Cluster {
    fn pods_on<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Pod> {
        self.pods.iter().filter(|pod| node_of(pod) == node.metadata.name.as_deref())
    }

    fn node_of(&self, pod: &Pod) -> Option<&Node> {
        self.nodes.iter().find(|node| node.metadata.name.as_deref() == node_of(pod))
    }
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

fn label<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

fn labels(pod: &Pod) -> BTreeMap<String, String> {
    pod.metadata.labels.clone().unwrap_or_default()
}

fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

fn tolerations(pod: &Pod) -> &[Toleration] {
    pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
}

/// What a plugin says of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The pod can run there.
    Fits,
    /// It cannot now; that may change if pods go.
    Refused,
    /// It cannot, whoever goes.
    Hopeless,
}

/// What the plugins say of a node, one after the other: the first that does not let the pod in.
pub fn verdict(cluster: &Cluster, pod: &Pod, node: &Node) -> Verdict {
    let all = [
        filters::node_unschedulable,
        filters::node_name,
        filters::taint_toleration,
        filters::node_affinity,
        filters::node_ports,
        filters::node_resources_fit,
        volumes::volume_restrictions,
        volumes::node_volume_limits,
        volumes::volume_binding,
        volumes::volume_zone,
        filters::pod_topology_spread,
        filters::inter_pod_affinity,
    ];
    let answers = all.iter().map(|filter| filter(cluster, pod, node));
    answers.into_iter().find(|verdict| *verdict != Verdict::Fits).unwrap_or(Verdict::Fits)
}

/// The total score of every node where the pod can run; 0 if there is only one, which is not scored.
pub fn totals(cluster: &Cluster, pod: &Pod) -> BTreeMap<String, i64> {
    let fits = |node: &&Node| verdict(cluster, pod, node) == Verdict::Fits;
    let nodes: Vec<&Node> = cluster.nodes.iter().filter(fits).collect();
    let mut totals: BTreeMap<String, i64> = nodes.iter().map(|node| (name(node).to_owned(), 0)).collect();
    if nodes.len() < 2 {
        return totals;
    }
    let all: [(scores::Score, i64); 8] = [
        (scores::taint_toleration, 3),
        (scores::node_affinity, 2),
        (scores::node_resources_fit, 1),
        (volumes::score_volume_binding, 1),
        (scores::pod_topology_spread, 2),
        (scores::inter_pod_affinity, 2),
        (scores::node_resources_balanced_allocation, 1),
        (scores::image_locality, 1),
    ];
    for (score, weight) in all {
        for (node, score) in nodes.iter().zip(score(cluster, pod, &nodes)) {
            *totals.entry(name(node).to_owned()).or_default() += weight * score;
        }
    }
    totals
}
#[cfg(test)]
pub(crate) mod tests;
