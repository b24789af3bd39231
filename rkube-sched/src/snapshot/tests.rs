use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::{as_node, node, pod_asking};

#[derive(Clone, Debug)]
enum Step {
    SetNode(u8, u8, u8),
    RemoveNode(u8),
    SetPod(u8, u8, u8),
    Assume(u8, u8, u8),
    Forget(u8),
    RemovePod(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4u8, 0..9u8, 0..3u8).prop_map(|(node, cpu, label)| Step::SetNode(node, cpu, label)),
        (0..4u8).prop_map(Step::RemoveNode),
        (0..6u8, 0..4u8, 0..5u8).prop_map(|(pod, node, cpu)| Step::SetPod(pod, node, cpu)),
        (0..6u8, 0..4u8, 0..5u8).prop_map(|(pod, node, cpu)| Step::Assume(pod, node, cpu)),
        (0..6u8).prop_map(Step::Forget),
        (0..6u8).prop_map(Step::RemovePod),
    ];
    prop::collection::vec(step, 0..40)
}

/// The slow model: maps that are summed up at every question.
#[derive(Default)]
struct Model {
    nodes: BTreeMap<String, (i64, String)>,
    pods: BTreeMap<String, (String, i64, bool)>,
}

fn apply(step: &Step, snapshot: &mut Snapshot, model: &mut Model) {
    let node_name = |node: &u8| format!("n{node}");
    let placed = |pod: &u8, cpu: &u8| {
        PlacedPod::from(&pod_asking(&format!("p{pod}"), json!({"cpu": cpu.to_string(), "x.io/y": "1"})))
    };
    match step {
        Step::SetNode(n, cpu, label) => {
            let mut value = node(&node_name(n), json!({"cpu": cpu.to_string()}));
            value["metadata"]["labels"] = json!({"l": label.to_string(), "name": node_name(n)});
            value["spec"] =
                json!({"taints": [{"key": "t", "value": label.to_string(), "effect": "NoSchedule"}]});
            snapshot.set_node(as_node(value));
            model.nodes.insert(node_name(n), (i64::from(*cpu) * 1000, label.to_string()));
        }
        Step::RemoveNode(n) => {
            let gone = snapshot.remove_node(&node_name(n));
            assert_eq!(gone.is_some(), model.nodes.remove(&node_name(n)).is_some());
        }
        Step::SetPod(pod, n, cpu) | Step::Assume(pod, n, cpu) => {
            let assumed = matches!(step, Step::Assume(..));
            let placed = placed(pod, cpu);
            let entry = (node_name(n), i64::from(*cpu) * 1000, assumed);
            model.pods.insert(placed.uid.to_string(), entry);
            if assumed {
                snapshot.assume(placed, &node_name(n));
            } else {
                snapshot.set_pod(placed, &node_name(n));
            }
        }
        Step::Forget(pod) => {
            let uid = format!("uid-p{pod}");
            let assumed = model.pods.get(&uid).is_some_and(|(.., assumed)| *assumed);
            assert_eq!(snapshot.forget(&uid).is_some(), assumed);
            if assumed {
                model.pods.remove(&uid);
            }
        }
        Step::RemovePod(pod) => {
            let uid = format!("uid-p{pod}");
            assert_eq!(snapshot.remove_pod(&uid).is_some(), model.pods.remove(&uid).is_some());
        }
    }
}

fn check(snapshot: &Snapshot, model: &Model) {
    let mut names: Vec<_> = snapshot.nodes().iter().map(|&id| snapshot.view(id).name()).collect();
    names.sort_unstable();
    assert_eq!(names, model.nodes.keys().collect::<Vec<_>>());
    for (name, (cpu, label)) in &model.nodes {
        let view = snapshot.view(snapshot.find(name).unwrap());
        let pods: BTreeMap<_, _> = model.pods.iter().filter(|(_, (node, ..))| node == name).collect();
        assert_eq!(view.allocatable(Column::CPU), *cpu);
        assert_eq!(view.requested(Column::CPU), pods.values().map(|(_, cpu, _)| cpu).sum::<i64>());
        assert_eq!(view.requested(Column::PODS), pods.len() as i64);
        if let Some(scalar) = snapshot.columns().find("x.io/y") {
            assert_eq!(view.requested(scalar), pods.len() as i64);
        }
        let mut uids: Vec<_> = view.pods().map(|pod| pod.uid.to_string()).collect();
        uids.sort_unstable();
        assert_eq!(uids, pods.into_keys().cloned().collect::<Vec<_>>());
        assert_eq!(view.label("l"), Some(label.as_str()));
        let key = snapshot.label_keys().find("l").unwrap();
        let value = view.label_ids().iter().find(|id| id.key == key).unwrap().value;
        assert_eq!(snapshot.label_values().get(value), Some(label.as_str()));
        assert_eq!(view.taints()[0].value.as_deref(), Some(label.as_str()));
    }
    assert_eq!(snapshot.pod_count(), model.pods.len());
    // Numbers of values nobody uses any more are given to others.
    assert!(snapshot.taint_sets() <= 8 && snapshot.label_values().bound() <= 16);
}

proptest! {
    #[test]
    fn columns_agree_with_a_model_that_counts_anew(steps in steps()) {
        let (mut snapshot, mut model) = (Snapshot::default(), Model::default());
        for step in &steps {
            let before = snapshot.log().generation();
            apply(step, &mut snapshot, &mut model);
            check(&snapshot, &model);
            prop_assert!(snapshot.log().since(before).is_some());
        }
    }
}

#[test]
fn pods_that_arrive_before_their_node_count_when_it_comes() {
    let mut snapshot = Snapshot::default();
    snapshot.set_pod(PlacedPod::from(&pod_asking("p", json!({"cpu": "1"}))), "late");
    assert!(snapshot.nodes().is_empty());
    let id = snapshot.set_node(as_node(node("late", json!({"cpu": "2"}))));
    assert_eq!(snapshot.view(id).requested(Column::CPU), 1000);
    snapshot.remove_node("late");
    assert_eq!(snapshot.pod_count(), 1);
    snapshot.remove_pod("uid-p");
    assert_eq!(snapshot.pod_count(), 0);
}

#[test]
fn an_assumed_pod_that_was_seen_is_not_forgotten() {
    let mut snapshot = Snapshot::default();
    snapshot.set_node(as_node(node("a", json!({"cpu": "2"}))));
    let pod = PlacedPod::from(&pod_asking("p", json!({"cpu": "1"})));
    snapshot.assume(pod.clone(), "a");
    assert!(snapshot.is_assumed("uid-p"));
    let generation = snapshot.log().generation();
    snapshot.set_pod(pod, "a");
    assert!(!snapshot.is_assumed("uid-p"));
    // Seeing what was assumed changes nothing.
    assert_eq!(snapshot.log().generation(), generation);
    assert!(snapshot.forget("uid-p").is_none());
}

#[test]
fn a_victim_that_is_on_its_way_out_stays_one_when_the_scheduler_gives_up() {
    let mut snapshot = Snapshot::default();
    let pod = PlacedPod::from(&pod_asking("p", json!({"cpu": "1"})));
    snapshot.set_pod(pod.clone(), "a");
    let preempted = |snapshot: &Snapshot| snapshot.pod("uid-p").unwrap().0.preempted;
    snapshot.doom("uid-p", true);
    assert!(preempted(&snapshot));
    snapshot.doom("uid-p", false);
    assert!(!preempted(&snapshot));
    // The request to go had its effect, and the answer was lost.
    snapshot.doom("uid-p", true);
    snapshot.set_pod(PlacedPod { preempted: true, ..pod }, "a");
    snapshot.doom("uid-p", false);
    assert!(preempted(&snapshot));
}

#[test]
fn an_overlay_adds_and_removes_in_thought() {
    let mut snapshot = Snapshot::default();
    let id = snapshot.set_node(as_node(node("a", json!({"cpu": "4", "x.io/y": "4"}))));
    let there = PlacedPod::from(&pod_asking("p", json!({"cpu": "1", "x.io/y": "2"})));
    snapshot.set_pod(there.clone(), "a");
    let mut overlay = Overlay::default();
    overlay.add(PlacedPod::from(&pod_asking("q", json!({"cpu": "2", "x.io/y": "1"}))));
    overlay.remove(&there);
    let view = snapshot.view(id).with(&overlay);
    let scalar = snapshot.columns().find("x.io/y").unwrap();
    assert_eq!(
        (view.requested(Column::CPU), view.requested(Column::PODS), view.requested(scalar)),
        (2000, 1, 1)
    );
    assert_eq!(view.nonzero_memory(), DEFAULT_MEMORY);
    assert_eq!(view.pods().map(|pod| &*pod.name).collect::<Vec<_>>(), ["q"]);
    assert_eq!(snapshot.view(id).requested(Column::CPU), 1000);
}
