//! One constraint, compiled, and which nodes count for it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use rkube_api::{
    helpers::taints::{keeps_pods_away, untolerated},
    meta::labels::LabelSelector,
};

use crate::{
    matching::{RequiredNodes, with_match_keys},
    snapshot::{Count, EACH_NODE, NodeId, NodeView, PlacedPod, PodInfo, Snapshot, Sums, Topology},
};

/// A constraint of a pod.
#[derive(Clone, Debug)]
pub(super) struct Constraint {
    pub(super) max_skew: i64,
    pub(super) min_domains: usize,
    /// The label that names the domains.
    pub(super) key: String,
    /// Which pods count.
    pub(super) selector: LabelSelector,
    /// Whether nodes that the pod's affinity excludes are left out.
    pub(super) honor_affinity: bool,
    /// Whether nodes whose taints the pod does not tolerate are left out.
    pub(super) honor_taints: bool,
}

impl Constraint {
    /// Compiles a constraint of a pod. A selector that cannot be read selects nothing.
    pub(super) fn new(constraint: &TopologySpreadConstraint, pod: &PodInfo) -> Self {
        let keys = constraint.match_label_keys.as_deref().unwrap_or_default();
        let selector = with_match_keys(constraint.label_selector.as_ref(), keys, "In", pod.labels());
        let min_domains = constraint.min_domains.unwrap_or(1);
        let honors =
            |policy: &Option<String>, default| policy.as_deref().map_or(default, |policy| policy == "Honor");
        Self {
            max_skew: constraint.max_skew.into(),
            min_domains: usize::try_from(min_domains).unwrap_or_default(),
            key: constraint.topology_key.clone(),
            selector: LabelSelector::from_api(selector.as_ref()).unwrap_or_else(|_| LabelSelector::nothing()),
            honor_affinity: honors(&constraint.node_affinity_policy, true),
            honor_taints: honors(&constraint.node_taints_policy, false),
        }
    }
}

/// The pods of a namespace that a selector means, each where it is. Those on their way out do not count.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Peers {
    namespace: String,
    selector: LabelSelector,
}

impl Count for Peers {
    fn tell(&self, pod: &PlacedPod, tell: &mut dyn FnMut(&str, i64)) {
        if !pod.terminating && *pod.namespace == *self.namespace && self.selector.matches(&pod.labels) {
            tell(EACH_NODE, 1);
        }
    }
}

/// The count of a domain for which no node counts.
pub(super) const ABSENT: i64 = -1;

/// Constraints against one snapshot: valid until it changes.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub(super) constraints: Vec<Constraint>,
    /// The domains of each constraint's label.
    topologies: Vec<Arc<Topology>>,
    /// How many pods count on each node, by constraint.
    peers: Vec<Option<Sums>>,
    required: RequiredNodes,
}

impl Compiled {
    pub(super) fn new(constraints: Vec<Constraint>, pod: &PodInfo, snapshot: &Snapshot) -> Self {
        let peers = |constraint: &Constraint| {
            let selector = constraint.selector.clone();
            // A selector that says nothing counts no pod.
            let silent = selector.is_everything() || selector.is_nothing();
            let peers = Peers { namespace: pod.key.namespace.clone(), selector };
            (!silent).then(|| snapshot.tally(&peers).pop()).flatten()
        };
        Self {
            topologies: constraints.iter().map(|constraint| snapshot.topology(&constraint.key)).collect(),
            peers: constraints.iter().map(peers).collect(),
            required: RequiredNodes::of(pod, snapshot),
            constraints,
        }
    }

    /// The node's domain for a constraint: the part of the cluster that its label puts it in.
    pub(super) fn domain(&self, index: usize, node: NodeId) -> Option<usize> {
        self.topologies[index].of(node)
    }

    /// The domains of a constraint.
    pub(super) fn topology(&self, index: usize) -> &Topology {
        &self.topologies[index]
    }

    /// Counts of all domains, none of which is there yet, by constraint.
    pub(super) fn no_domains(&self) -> Vec<Vec<i64>> {
        self.topologies.iter().map(|topology| vec![ABSENT; topology.bound()]).collect()
    }

    /// How many pods on a node count for a constraint.
    pub(super) fn peers(&self, index: usize, node: NodeId) -> i64 {
        let sums = self.peers[index].as_ref();
        sums.and_then(|sums| Some(sums.at(sums.topology.of(node)?))).unwrap_or(0)
    }

    /// Whether the node has a domain for every constraint.
    pub(super) fn has_all_domains(&self, node: NodeId) -> bool {
        self.topologies.iter().all(|topology| topology.of(node).is_some())
    }

    /// Whether the node counts for a constraint.
    pub(super) fn includes(&self, index: usize, node: NodeView<'_>, pod: &PodInfo) -> bool {
        let constraint = &self.constraints[index];
        let tolerated = || untolerated(node.taints(), pod.tolerations(), keeps_pods_away).is_none();
        (!constraint.honor_affinity || self.required.matches(node))
            && (!constraint.honor_taints || tolerated())
    }
}
