//! What one snapshot has and another has not.

use std::collections::{BTreeMap, BTreeSet};

use crate::snapshot::{NodeView, PlacedPod, Snapshot};

/// Says how two snapshots of a cluster differ, a line a difference: in nodes, in what these have and what
/// their pods ask for, in pods and where they are. Between a snapshot that was kept up to date event by event
/// and one newly built from the same objects there must be none.
///
/// ```
/// use std::sync::Arc;
/// use rkube_sched::{snapshot::Snapshot, testing::differences};
///
/// let node = |cpu: &str| Arc::new(serde_json::from_value(serde_json::json!({
///     "metadata": {"name": "a"}, "status": {"allocatable": {"cpu": cpu}}
/// })).unwrap());
/// let (mut held, mut real) = (Snapshot::default(), Snapshot::default());
/// held.set_node(node("1"));
/// real.set_node(node("2"));
/// assert_eq!(differences(&held, &real), ["node a: allocatable cpu: 1000 and 2000"]);
/// ```
pub fn differences(one: &Snapshot, other: &Snapshot) -> Vec<String> {
    let mut found = Vec::new();
    let (nodes, others) = (nodes(one), nodes(other));
    for name in nodes.keys().chain(others.keys()).collect::<BTreeSet<_>>() {
        compare(&mut found, &format!("node {name}"), nodes.get(name), others.get(name));
    }
    let (pods, others) = (pods(one), pods(other));
    for uid in pods.keys().chain(others.keys()).collect::<BTreeSet<_>>() {
        compare(&mut found, &format!("pod {uid}"), pods.get(uid), others.get(uid));
    }
    found
}

/// What is looked at of a node or a pod, by name.
type Facts = BTreeMap<String, String>;

fn compare(found: &mut Vec<String>, what: &str, one: Option<&Facts>, other: Option<&Facts>) {
    let (Some(one), Some(other)) = (one, other) else {
        let here = if one.is_some() { "first" } else { "second" };
        return found.push(format!("{what}: only in the {here}"));
    };
    for name in one.keys().chain(other.keys()).collect::<BTreeSet<_>>() {
        let said = |facts: &Facts| facts.get(name).cloned().unwrap_or_else(|| "0".into());
        if said(one) != said(other) {
            found.push(format!("{what}: {name}: {} and {}", said(one), said(other)));
        }
    }
}

fn nodes(snapshot: &Snapshot) -> BTreeMap<&str, Facts> {
    let views = snapshot.nodes().iter().map(|id| snapshot.view(*id));
    views.map(|view| (view.name(), node(snapshot, view))).collect()
}

fn node(snapshot: &Snapshot, view: NodeView<'_>) -> Facts {
    let object = view.node();
    let labels = object.and_then(|node| node.metadata.labels.as_ref());
    let mut facts = Facts::from([
        ("labels".into(), format!("{labels:?}")),
        ("taints".into(), format!("{:?}", view.taints())),
        ("unschedulable".into(), view.unschedulable().to_string()),
        ("CPU with defaults".into(), view.nonzero_cpu().to_string()),
        ("memory with defaults".into(), view.nonzero_memory().to_string()),
    ]);
    for column in snapshot.columns().all() {
        let name = snapshot.columns().name(column);
        facts.insert(format!("allocatable {name}"), view.allocatable(column).to_string());
        facts.insert(format!("requested {name}"), view.requested(column).to_string());
    }
    facts
}

fn pods(snapshot: &Snapshot) -> BTreeMap<&str, Facts> {
    let all = snapshot.pods().map(|(pod, node)| (&*pod.uid, facts(pod, node)));
    all.collect()
}

fn facts(pod: &PlacedPod, node: &str) -> Facts {
    Facts::from([("node".into(), node.into()), ("projection".into(), format!("{pod:?}"))])
}
