//! Pods of other pods' interest: who is meant by a term or a constraint.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Node, Pod, PodAffinityTerm, TopologySpreadConstraint, WeightedPodAffinityTerm},
    apimachinery::pkg::apis::meta::v1::LabelSelector as ApiSelector,
};
use rkube_api::{
    helpers::{
        affinity::RequiredNodeAffinity,
        taints::{keeps_pods_away, untolerated},
    },
    meta::labels::LabelSelector,
};

use super::{Cluster, label, labels, namespace, tolerations};

/// Whether a selector means these labels; one that is absent or wrong means none.
pub(super) fn selects(selector: Option<&ApiSelector>, labels: &BTreeMap<String, String>) -> bool {
    LabelSelector::from_api(selector).is_ok_and(|selector| selector.matches(labels))
}

/// Whether a term of `owner` means `other`.
pub(super) fn means(cluster: &Cluster, term: &PodAffinityTerm, owner: &Pod, other: &Pod) -> bool {
    let named = term.namespaces.as_deref().unwrap_or_default();
    let unsaid = named.is_empty() && term.namespace_selector.is_none();
    let its =
        cluster.namespaces.iter().find(|space| space.metadata.name.as_deref() == Some(namespace(other)));
    let labels_of_its = its.and_then(|space| space.metadata.labels.clone()).unwrap_or_default();
    let here = (unsaid && namespace(owner) == namespace(other))
        || named.iter().any(|name| name == namespace(other))
        || selects(term.namespace_selector.as_ref(), &labels_of_its);
    let same =
        |key: &String| labels(owner).get(key).is_none_or(|value| labels(other).get(key) == Some(value));
    let differs =
        |key: &String| labels(owner).get(key).is_none_or(|value| labels(other).get(key) != Some(value));
    here && selects(term.label_selector.as_ref(), &labels(other))
        && term.match_label_keys.iter().flatten().all(same)
        && term.mismatch_label_keys.iter().flatten().all(differs)
}

/// Whether two nodes are in one part of the cluster.
pub(super) fn together(key: &str, one: &Node, other: &Node) -> bool {
    label(one, key).is_some() && label(one, key) == label(other, key)
}

/// What a pod demands and would like of others: (affinity, anti-affinity).
type Both<T> = (Vec<T>, Vec<T>);

pub(super) fn required(pod: &Pod) -> Both<PodAffinityTerm> {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.clone()).unwrap_or_default();
    let (to, from) =
        (affinity.pod_affinity.unwrap_or_default(), affinity.pod_anti_affinity.unwrap_or_default());
    (
        to.required_during_scheduling_ignored_during_execution.unwrap_or_default(),
        from.required_during_scheduling_ignored_during_execution.unwrap_or_default(),
    )
}

pub(super) fn preferred(pod: &Pod) -> Both<WeightedPodAffinityTerm> {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.clone()).unwrap_or_default();
    let (to, from) =
        (affinity.pod_affinity.unwrap_or_default(), affinity.pod_anti_affinity.unwrap_or_default());
    (
        to.preferred_during_scheduling_ignored_during_execution.unwrap_or_default(),
        from.preferred_during_scheduling_ignored_during_execution.unwrap_or_default(),
    )
}

pub(super) fn constraints(pod: &Pod, action: &str) -> Vec<TopologySpreadConstraint> {
    let all = pod.spec.as_ref().and_then(|spec| spec.topology_spread_constraints.clone()).unwrap_or_default();
    all.into_iter().filter(|constraint| constraint.when_unsatisfiable == action).collect()
}

/// Whether a constraint of a pod counts a pod with these labels.
pub(super) fn selected(
    constraint: &TopologySpreadConstraint,
    pod: &Pod,
    other: &BTreeMap<String, String>,
) -> bool {
    let same = |key: &String| labels(pod).get(key).is_none_or(|value| other.get(key) == Some(value));
    selects(constraint.label_selector.as_ref(), other)
        && constraint.match_label_keys.iter().flatten().all(same)
}

/// Whether a node counts for a constraint of a pod.
pub(super) fn eligible(constraint: &TopologySpreadConstraint, pod: &Pod, node: &Node) -> bool {
    let affinity = constraint.node_affinity_policy.as_deref() != Some("Ignore");
    let taints = constraint.node_taints_policy.as_deref() == Some("Honor");
    let required = pod.spec.as_ref().map(RequiredNodeAffinity::of).unwrap_or_default();
    let of_node = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    (!affinity || required.matches_node(node))
        && (!taints || untolerated(of_node, tolerations(pod), keeps_pods_away).is_none())
}

/// How many pods on a node count for a constraint of a pod: those of its namespace that are not on their way
/// out. A selector that says nothing counts none.
pub(super) fn count(cluster: &Cluster, constraint: &TopologySpreadConstraint, pod: &Pod, node: &Node) -> i64 {
    let selector = LabelSelector::from_api(constraint.label_selector.as_ref()).unwrap_or_default();
    let keys = constraint.match_label_keys.iter().flatten().filter(|key| labels(pod).contains_key(*key));
    if selector.is_everything() && keys.count() == 0 {
        return 0;
    }
    let counts = |other: &&Pod| {
        namespace(other) == namespace(pod)
            && other.metadata.deletion_timestamp.is_none()
            && selected(constraint, pod, &labels(other))
    };
    cluster.pods_on(node).filter(counts).count() as i64
}
