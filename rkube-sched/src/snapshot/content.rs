//! What of a pod decides where it can run: pods with equal content share decisions' groundwork.

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::FixedState;
use k8s_openapi::api::core::v1::{Container, NodeAffinity, NodeSelectorTerm, Pod, PodSpec};

use super::Requests;
use crate::matching::HostPort;

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

/// The images of a pod: those of its containers and of its volumes.
pub(crate) fn images(spec: &PodSpec) -> impl Iterator<Item = &str> {
    let volumes = spec.volumes.iter().flatten().filter_map(|volume| volume.image.as_ref());
    let of_containers = containers(spec).map(|container| container.image.as_deref());
    of_containers.chain(volumes.map(|image| image.reference.as_deref())).map(Option::unwrap_or_default)
}

fn node_affinity(spec: &PodSpec) -> Option<&NodeAffinity> {
    spec.affinity.as_ref()?.node_affinity.as_ref()
}

/// Whether two pods have the same content, but for what they request and the ports that they take.
pub(super) fn same(one: &Pod, other: &Pod) -> bool {
    match (&one.spec, &other.spec) {
        (Some(one), Some(other)) => {
            one.node_name == other.node_name
                && one.node_selector == other.node_selector
                && node_affinity(one) == node_affinity(other)
                && one.tolerations == other.tolerations
                && images(one).eq(images(other))
        }
        (None, None) => true,
        _ => false,
    }
}

/// A hash of the content. Affinity counts by its keys and values only: pods that differ in the rest are
/// told apart by [`same`].
pub(super) fn hash(pod: &Pod, requests: &Requests, ports: &[HostPort]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    requests.hash(&mut hasher);
    ports.hash(&mut hasher);
    let Some(spec) = &pod.spec else { return hasher.finish() };
    spec.node_name.hash(&mut hasher);
    spec.node_selector.hash(&mut hasher);
    for toleration in spec.tolerations.iter().flatten() {
        (&toleration.key, &toleration.value, &toleration.effect).hash(&mut hasher);
    }
    for image in images(spec) {
        image.hash(&mut hasher);
    }
    if let Some(affinity) = node_affinity(spec) {
        let required = affinity.required_during_scheduling_ignored_during_execution.iter();
        required.flat_map(|selector| &selector.node_selector_terms).for_each(|term| add(term, &mut hasher));
        let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        preferred.for_each(|preferred| {
            preferred.weight.hash(&mut hasher);
            add(&preferred.preference, &mut hasher);
        });
    }
    hasher.finish()
}

fn add(term: &NodeSelectorTerm, hasher: &mut impl Hasher) {
    let requirements = term.match_expressions.iter().chain(&term.match_fields).flatten();
    for requirement in requirements {
        (&requirement.key, &requirement.operator, &requirement.values).hash(hasher);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::pod;

    #[test]
    fn content_is_what_a_pod_asks_of_a_node() {
        let base = json!({
            "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 1, "hostPort": 80}]}],
            "nodeSelector": {"a": "b"},
            "tolerations": [{"key": "k"}],
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "preference": {"matchExpressions": [{"key": "k", "operator": "Exists"}]}}
            ]}}
        });
        let mut renamed = base.clone();
        renamed["containers"][0]["name"] = json!("d");
        renamed["hostname"] = json!("h");
        assert!(pod("a", base.clone()).same_content(&pod("b", renamed)));
        for (path, value) in [
            ("/containers/0/image", json!("j")),
            ("/containers/0/ports/0/hostPort", json!(81)),
            ("/nodeSelector/a", json!("c")),
            ("/tolerations/0/key", json!("l")),
            ("/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/weight", json!(2)),
        ] {
            let mut other = base.clone();
            *other.pointer_mut(path).unwrap() = value;
            assert!(!pod("a", base.clone()).same_content(&pod("a", other)), "{path}");
        }
        let placed = json!({"nodeName": "n"});
        assert!(!pod("a", placed).same_content(&pod("a", json!({}))));
    }
}
