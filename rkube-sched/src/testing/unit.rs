//! What the unit tests share.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use crate::{
    engine::Candidates,
    framework::{CycleState, Filter, PreScore, Score},
    snapshot::{NodeSet, PlacedPod, PodInfo, Snapshot},
};

/// What DynamicResources says of a pod without claims that fits nowhere, where it is compiled in.
pub(crate) const NO_CLAIMS: &str = if cfg!(feature = "dra") { "no new claims to deallocate, " } else { "" };

/// A pod with a spec.
pub(crate) fn pod(name: &str, mut spec: Value) -> PodInfo {
    if spec.get("containers").is_none() {
        spec["containers"] = json!([]);
    }
    let value = json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")}, "spec": spec
    });
    PodInfo::new(Arc::new(serde_json::from_value(value).unwrap()))
}

/// A pod with labels and a spec.
pub(crate) fn labelled(name: &str, labels: Value, mut spec: Value) -> PodInfo {
    if spec.get("containers").is_none() {
        spec["containers"] = json!([]);
    }
    let value = json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": labels},
        "spec": spec
    });
    PodInfo::new(Arc::new(serde_json::from_value(value).unwrap()))
}

/// A node with labels, and itself as `kubernetes.io/hostname`.
pub(crate) fn node_labelled(name: &str, mut labels: Value) -> Value {
    labels["kubernetes.io/hostname"] = json!(name);
    json!({"metadata": {"name": name, "labels": labels}})
}

/// A pod as it is known once it has a node.
pub(crate) fn placed(pod: PodInfo) -> Arc<PlacedPod> {
    Arc::new(PlacedPod::from(&pod))
}

/// Puts pods on nodes.
pub(crate) fn place<'a>(snapshot: &mut Snapshot, pods: impl IntoIterator<Item = (PodInfo, &'a str)>) {
    for (pod, node) in pods {
        snapshot.set_pod(PlacedPod::from(&pod), node);
    }
}

/// A pod with one container that asks for something.
pub(crate) fn pod_asking(name: &str, requests: Value) -> PodInfo {
    pod(name, json!({"containers": [{"name": "c", "resources": {"requests": requests}}]}))
}

/// A node with room for 110 pods and what `allocatable` says.
pub(crate) fn node(name: &str, mut allocatable: Value) -> Value {
    if allocatable.get("pods").is_none() {
        allocatable["pods"] = json!("110");
    }
    json!({"metadata": {"name": name}, "status": {"allocatable": allocatable}})
}

pub(crate) fn as_node(value: Value) -> Arc<Node> {
    Arc::new(serde_json::from_value(value).unwrap())
}

/// A snapshot of nodes.
pub(crate) fn snapshot(nodes: impl IntoIterator<Item = Value>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for node in nodes {
        snapshot.set_node(as_node(node));
    }
    snapshot
}

/// Checks what a filter says of each node, and that scanning all says the same.
pub(crate) fn assert_filter(filter: &dyn Filter, pod: &PodInfo, snapshot: &Snapshot, expected: &[&str]) {
    let state = CycleState::default();
    let nodes = snapshot.nodes();
    let single: Vec<_> = nodes.iter().map(|&id| filter.filter(&state, pod, snapshot.view(id))).collect();
    assert_eq!(single.iter().map(|status| status.message()).collect::<Vec<_>>(), expected);
    let mut candidates = Candidates::new(snapshot, nodes.to_vec());
    candidates.plugin = filter.name();
    filter.filter_all(&state, pod, &mut candidates);
    let refused: Vec<_> = (nodes.iter().zip(single))
        .filter(|(_, status)| !status.is_success())
        .map(|(&id, status)| (id, status.from_plugin(filter.name())))
        .collect();
    assert_eq!(candidates.rejected(), refused);
}

/// Checks the normalized scores of all nodes, and that scoring one by one gives the same.
pub(crate) fn assert_scores(
    score: &dyn Score,
    pre_score: Option<&dyn PreScore>,
    pod: &PodInfo,
    snapshot: &Snapshot,
    expected: &[i64],
) {
    let mut state = CycleState::default();
    let nodes = NodeSet::new(snapshot, snapshot.nodes());
    if let Some(plugin) = pre_score {
        assert!(plugin.pre_score(&mut state, pod, nodes).is_success());
    }
    let mut all = vec![0; nodes.ids().len()];
    assert!(score.score_all(&state, pod, nodes, &mut all).is_success());
    let single: Vec<_> = nodes.iter().map(|node| score.score(&state, pod, node).unwrap()).collect();
    assert_eq!(all, single);
    assert!(score.normalize(&state, pod, &mut all).is_success());
    assert_eq!(all, expected);
}
