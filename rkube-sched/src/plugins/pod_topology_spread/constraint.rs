//! One constraint, compiled, and which nodes count for it.

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use rkube_api::{
    helpers::taints::{keeps_pods_away, untolerated},
    meta::labels::LabelSelector,
};

use crate::{
    matching::{RequiredNodes, with_match_keys},
    snapshot::{NodeView, PodInfo, Snapshot},
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

    /// How many pods of a namespace on a node count. Those on their way out do not, and a selector that
    /// says nothing counts none.
    pub(super) fn count(&self, node: NodeView<'_>, namespace: &str) -> i64 {
        if self.selector.is_everything() || self.selector.is_nothing() {
            return 0;
        }
        let counts = |pod: &&crate::snapshot::PlacedPod| {
            !pod.terminating && *pod.namespace == *namespace && self.selector.matches(&pod.labels)
        };
        node.pods().filter(counts).count() as i64
    }
}

/// Constraints against one snapshot: valid until it changes.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub(super) constraints: Vec<Constraint>,
    /// The number of each constraint's label key; `None`: no node has it.
    keys: Vec<Option<u32>>,
    required: RequiredNodes,
}

impl Compiled {
    pub(super) fn new(constraints: Vec<Constraint>, pod: &PodInfo, snapshot: &Snapshot) -> Self {
        let keys = constraints.iter().map(|constraint| snapshot.label_keys().find(&constraint.key)).collect();
        Self { constraints, keys, required: RequiredNodes::of(pod, snapshot) }
    }

    /// The node's domain for a constraint: the number of its label's value.
    pub(super) fn domain(&self, index: usize, node: NodeView<'_>) -> Option<u32> {
        let (key, labels) = (self.keys[index]?, node.label_ids());
        labels.binary_search_by_key(&key, |label| label.key).ok().map(|place| labels[place].value)
    }

    /// Whether the node has a domain for every constraint.
    pub(super) fn has_all_domains(&self, node: NodeView<'_>) -> bool {
        (0..self.keys.len()).all(|index| self.domain(index, node).is_some())
    }

    /// Whether the node counts for a constraint.
    pub(super) fn includes(&self, index: usize, node: NodeView<'_>, pod: &PodInfo) -> bool {
        let constraint = &self.constraints[index];
        let tolerated = || untolerated(node.taints(), pod.tolerations(), keeps_pods_away).is_none();
        (!constraint.honor_affinity || self.required.matches(node))
            && (!constraint.honor_taints || tolerated())
    }
}
