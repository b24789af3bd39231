//! One constraint, compiled, and which nodes and pods count for it.

use std::{
    hash::{BuildHasher, Hash, Hasher},
    sync::Arc,
};

use foldhash::fast::FixedState;
use k8s_openapi::api::core::v1::{Pod, PodSpec, TopologySpreadConstraint};
use rkube_api::{
    helpers::taints::{keeps_pods_away, untolerated},
    meta::labels::LabelSelector,
};

use crate::{
    matching::{RequiredNodes, with_match_keys},
    snapshot::{Count, EACH_NODE, Facet, NodeId, NodeView, PlacedPod, PodInfo, Snapshot, Sums, Topology},
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

/// The pods of a namespace that a selector means. Those on their way out do not count.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Peers {
    namespace: String,
    selector: LabelSelector,
}

impl Peers {
    fn mean(&self, pod: &PlacedPod) -> bool {
        !pod.terminating && *pod.namespace == *self.namespace && self.selector.matches(&pod.labels)
    }
}

/// Peers, each where it is.
impl Count for Peers {
    type Lens = ();

    fn lens(&self, _: &Snapshot) {}

    fn tell(&self, pod: &PlacedPod, tell: &mut dyn FnMut(&str, i64)) {
        if self.mean(pod) {
            tell(EACH_NODE, 1);
        }
    }
}

/// What a pod asks of a node, as far as it decides which nodes count.
#[derive(Clone)]
struct Demands {
    pod: Arc<Pod>,
    affinity: bool,
    taints: bool,
}

impl Demands {
    fn of(constraint: &Constraint, pod: &PodInfo) -> Option<Self> {
        let demanding = |spec: &PodSpec| spec.node_selector.is_some() || spec.affinity.is_some();
        let affinity = constraint.honor_affinity && pod.spec().is_some_and(demanding);
        let taints = constraint.honor_taints;
        (affinity || taints).then(|| Self { pod: pod.pod.clone(), affinity, taints })
    }

    /// All that counts.
    fn parts(&self) -> impl PartialEq {
        let spec = self.pod.spec.as_ref();
        let affinity = spec.filter(|_| self.affinity);
        let required = affinity.and_then(|spec| {
            let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
            affinity.required_during_scheduling_ignored_during_execution.as_ref()
        });
        let selector = affinity.and_then(|spec| spec.node_selector.as_ref());
        let tolerations = spec.filter(|_| self.taints).and_then(|spec| spec.tolerations.as_ref());
        (self.affinity, self.taints, selector, required, tolerations)
    }

    fn meets(&self, lens: Option<&RequiredNodes>, node: NodeView<'_>) -> bool {
        let tolerations = self.pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref());
        let tolerated =
            || untolerated(node.taints(), tolerations.unwrap_or_default(), keeps_pods_away).is_none();
        lens.is_none_or(|required| required.matches(node)) && (!self.taints || tolerated())
    }
}

impl PartialEq for Demands {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Demands {}

impl Hash for Demands {
    /// Demands that differ in the rest are told apart by being unequal.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let spec = self.pod.spec.as_ref().filter(|_| self.affinity);
        (self.affinity, self.taints, spec.and_then(|spec| spec.node_selector.as_ref())).hash(state);
    }
}

/// Labels without which a node does not count: the same ones for all constraints of a pod, which may be
/// thousands, so they are kept and hashed once.
#[derive(Debug, PartialEq, Eq)]
struct Labels {
    keys: Vec<String>,
    hash: u64,
}

impl Labels {
    fn new(keys: Vec<String>) -> Arc<Self> {
        Arc::new(Self { hash: FixedState::default().hash_one(&keys), keys })
    }
}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

/// What counts for a constraint: nodes, and pods on them.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Spread {
    key: String,
    labels: Arc<Labels>,
    demands: Option<Demands>,
    peers: Option<Peers>,
}

impl Count for Spread {
    type Lens = Option<RequiredNodes>;

    fn lens(&self, snapshot: &Snapshot) -> Option<RequiredNodes> {
        let demands = self.demands.as_ref().filter(|demands| demands.affinity);
        demands.map(|demands| RequiredNodes::of_spec(demands.pod.spec.as_ref(), snapshot))
    }

    fn sees(&self, lens: &Option<RequiredNodes>, node: NodeView<'_>) -> bool {
        self.labels.keys.iter().all(|key| node.label(key).is_some())
            && self.demands.as_ref().is_none_or(|demands| demands.meets(lens.as_ref(), node))
    }

    fn nodes_by(&self) -> Option<&str> {
        Some(&self.key)
    }

    fn tell(&self, pod: &PlacedPod, tell: &mut dyn FnMut(&str, i64)) {
        if self.peers.as_ref().is_some_and(|peers| peers.mean(pod)) {
            tell(&self.key, 1);
        }
    }
}

/// Constraints against one snapshot: valid until it changes.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub(super) constraints: Vec<Constraint>,
    /// The domains of each constraint's label.
    topologies: Vec<Arc<Topology>>,
    /// How many pods count in each domain, by constraint, and in which there are nodes that do; `None`: none.
    counts: Vec<Option<Sums>>,
    /// Whether nodes that lack a label of any constraint are left out.
    all_labels: bool,
    /// Those labels.
    labels: Arc<Labels>,
}

impl Compiled {
    pub(super) fn new(
        constraints: Vec<Constraint>,
        all_labels: bool,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Self {
        let topologies = constraints.iter().map(|constraint| snapshot.topology(&constraint.key)).collect();
        let keys = constraints.iter().filter(|_| all_labels).map(|constraint| constraint.key.clone());
        let labels = Labels::new(keys.collect());
        let mut compiled = Self { constraints, topologies, counts: Vec::new(), all_labels, labels };
        let indexes = 0..compiled.constraints.len();
        compiled.counts = indexes.map(|index| snapshot.tally(&compiled.spread(index, pod)).pop()).collect();
        // The numbers of domains are those by which they are counted.
        for (topology, counts) in compiled.topologies.iter_mut().zip(&compiled.counts) {
            if let Some(counts) = counts {
                *topology = counts.topology.clone();
            }
        }
        compiled
    }

    fn peers(&self, index: usize, pod: &PodInfo) -> Option<Peers> {
        let selector = &self.constraints[index].selector;
        // A selector that says nothing counts no pod.
        let silent = selector.is_everything() || selector.is_nothing();
        (!silent).then(|| Peers { namespace: pod.key.namespace.clone(), selector: selector.clone() })
    }

    fn spread(&self, index: usize, pod: &PodInfo) -> Spread {
        let constraint = &self.constraints[index];
        Spread {
            key: constraint.key.clone(),
            labels: self.labels.clone(),
            demands: Demands::of(constraint, pod),
            peers: self.peers(index, pod),
        }
    }

    /// How many pods that count are on each node, whether the node counts or not; `None`: none on any.
    pub(super) fn peers_by_node(&self, index: usize, pod: &PodInfo, snapshot: &Snapshot) -> Option<Sums> {
        self.peers(index, pod).and_then(|peers| snapshot.tally(&peers).pop())
    }

    /// The domains of a constraint that have nodes which count, and how many pods do; `None`: there are none.
    pub(super) fn counts(&self, index: usize) -> Option<&Sums> {
        self.counts[index].as_ref()
    }

    /// How many pods count in a domain of a constraint.
    pub(super) fn count(&self, index: usize, domain: usize) -> i64 {
        self.counts(index).map_or(0, |counts| counts.at(domain))
    }

    /// The node's domain for a constraint: the part of the cluster that its label puts it in.
    pub(super) fn domain(&self, index: usize, node: NodeId) -> Option<usize> {
        self.topologies[index].of(node)
    }

    /// The domains of a constraint.
    pub(super) fn topology(&self, index: usize) -> &Topology {
        &self.topologies[index]
    }

    /// Whether the node has a domain for every constraint.
    pub(super) fn has_all_domains(&self, node: NodeId) -> bool {
        self.topologies.iter().all(|topology| topology.of(node).is_some())
    }

    /// Whether a node is left out for want of a label.
    pub(super) fn leaves_out(&self, node: NodeId) -> bool {
        self.all_labels && !self.has_all_domains(node)
    }

    /// Whether the node counts for a constraint.
    pub(super) fn includes(&self, index: usize, node: NodeView<'_>, pod: &PodInfo) -> bool {
        let spread = self.spread(index, pod);
        spread.sees(&spread.lens(node.snapshot()), node)
    }

    /// What a node is to the constraints.
    pub(super) fn facets(&self) -> impl Iterator<Item = Facet> {
        let pairs = self.topologies.iter().zip(&self.counts);
        pairs.map(|(topology, counts)| Facet::new(topology.clone(), counts.clone()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[test]
    fn thousands_of_constraints_share_the_labels_that_they_ask_for() {
        let constraint = |at: usize| {
            let value =
                json!({"topologyKey": format!("k{at}"), "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"});
            serde_json::from_value::<TopologySpreadConstraint>(value).unwrap()
        };
        let pod = testing::pod("p", json!({}));
        let constraints = (0..3000).map(|at| Constraint::new(&constraint(at), &pod)).collect();
        let compiled = Compiled::new(constraints, true, &pod, &Snapshot::default());
        assert_eq!(compiled.labels.keys.len(), 3000);
        assert!(Arc::ptr_eq(&compiled.spread(0, &pod).labels, &compiled.spread(2999, &pod).labels));
    }
}
