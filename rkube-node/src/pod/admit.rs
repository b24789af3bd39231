//! Whether a node takes a pod that is bound to it: the kubelet's last look, whoever has bound it.
//!
//! Source: the pod lifecycle page of Kubernetes' documentation (a pod rejected by its node has failed), and
//! the reasons that the kubelet gives (`OutOfcpu`, `OutOfpods`, `NodeAffinity`, ...).

use k8s_openapi::api::core::v1::{Node, Pod};
use rkube_api::{
    helpers::{
        HostPort,
        affinity::RequiredNodeAffinity,
        node, pod,
        resources::{Resources, add},
        taints::{drives_pods_out, untolerated},
    },
    meta::Quantity,
};

/// What the pods that a node has taken ask of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pods: i64,
    resources: Resources,
    ports: Vec<HostPort>,
}

impl Used {
    /// Counts a pod in.
    pub fn add(&mut self, pod: &Pod) {
        self.pods += 1;
        add(&mut self.resources, &pod::requests(pod));
        self.ports.extend(HostPort::of(pod));
    }
}

/// Why a node does not take a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// `OutOfcpu`, ...: `status.reason`.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl Rejection {
    fn resource(name: &str, requested: i64, used: i64, capacity: i64) -> Self {
        Self {
            reason: format!("OutOf{name}"),
            message: format!(
                "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
            ),
        }
    }

    fn predicate(name: &str, why: &str) -> Self {
        Self { reason: name.to_owned(), message: format!("Predicate {name} failed: {why}") }
    }
}

/// Whether `node`, which has taken pods that use so much, takes one more. An extended resource that the node
/// does not have at all is no reason against it, as to the kubelet.
///
/// ```
/// use k8s_openapi::api::core::v1::{Node, Pod};
/// use rkube_node::pod::{Used, admit};
/// use serde_json::{from_value, json};
///
/// let node: Node = from_value(json!({"status": {"allocatable": {"cpu": "2", "pods": "110"}}})).unwrap();
/// let pod: Pod = from_value(json!({"spec": {"containers": [
///     {"name": "c", "resources": {"requests": {"cpu": "3"}}},
/// ]}})).unwrap();
/// assert_eq!(admit(&pod, &node, &Used::default()).unwrap_err().reason, "OutOfcpu");
/// ```
///
/// # Errors
/// The first reason against it.
pub fn admit(pod: &Pod, node: &Node, used: &Used) -> Result<(), Rejection> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let allocatable = node::allocatable(node);
    let capacity = allocatable.get("pods").copied().unwrap_or_default().value();
    if used.pods + 1 > capacity {
        return Err(Rejection::resource("pods", 1, used.pods, capacity));
    }
    let requests = pod::requests(pod);
    let native = ["cpu", "memory", "ephemeral-storage"];
    let others = requests.keys().map(String::as_str).filter(|name| !native.contains(name));
    for name in native.into_iter().chain(others) {
        let extended = name.contains('/');
        if extended && !allocatable.contains_key(name) {
            continue;
        }
        // Processors are counted in thousandths, as the kubelet's message has them.
        let whole = |amount: Quantity| if name == "cpu" { amount.milli_value() } else { amount.value() };
        let of = |all: &Resources| whole(all.get(name).copied().unwrap_or_default());
        let (requested, used, capacity) = (of(&requests), of(&used.resources), of(&allocatable));
        if requested > 0 && requested > capacity.saturating_sub(used) {
            return Err(Rejection::resource(name, requested, used, capacity));
        }
    }
    if !RequiredNodeAffinity::of(spec).matches_node(node) {
        return Err(Rejection::predicate(
            "NodeAffinity",
            "node(s) didn't match Pod's node affinity/selector",
        ));
    }
    if HostPort::of(pod).iter().any(|port| used.ports.iter().any(|taken| port.conflicts(taken))) {
        return Err(Rejection::predicate(
            "NodePorts",
            "node(s) didn't have free ports for the requested pod ports",
        ));
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    if untolerated(node::taints(node), tolerations, drives_pods_out).is_some() {
        return Err(Rejection::predicate(
            "TaintToleration",
            "node(s) had taints that the pod didn't tolerate",
        ));
    }
    Ok(())
}
