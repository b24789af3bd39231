//! A simulator decides as the reference engine does, and a drain comes to what the engine does step by step on
//! a snapshot that is made anew for every step.

use std::{cmp::Reverse, collections::BTreeMap};

use k8s_openapi::api::{
    core::v1::{Namespace, Node},
    policy::v1::PodDisruptionBudget,
};
use proptest::prelude::*;

use super::*;
use crate::{
    queue::Nominator,
    snapshot::{PlacedPod, Snapshot},
    testing::reference::{
        Cluster, best_sacrifices,
        tests::{Choices, NodeChoices, app, node as some_node, pod as some_pod},
        totals,
    },
};

/// The objects beside nodes and pods.
fn others(allowed: u8) -> Vec<Value> {
    let space = |name: &str, team: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": team}}});
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "b", "namespace": "default"}, "spec": {"selector": app(0)},
        "status": {"disruptionsAllowed": allowed % 3}
    });
    vec![space("default", "y"), space("other", "x"), budget]
}

fn cluster(manifest: &Manifest, simulator: &Simulator) -> Cluster {
    Cluster {
        nodes: simulator.nodes().cloned().collect(),
        pods: placed(simulator),
        namespaces: manifest.of_kind::<Namespace>().into_iter().cloned().collect(),
        budgets: manifest.of_kind::<PodDisruptionBudget>().into_iter().cloned().collect(),
        ..Cluster::default()
    }
}

fn placed(simulator: &Simulator) -> Vec<Pod> {
    let names: Vec<String> = simulator.nodes().filter_map(|node| node.metadata.name.clone()).collect();
    names.iter().flat_map(|node| simulator.world.pods_on(node)).map(|info| (*info.pod).clone()).collect()
}

/// Nodes, others, and pods that some of the nodes have already.
fn begun(nodes: &[NodeChoices], there: &[(u8, Choices)], allowed: u8, seed: u64) -> (Simulator, Manifest) {
    let mut objects = others(allowed);
    let nodes = nodes.iter().enumerate().map(|(number, choices)| some_node(number as u8, *choices));
    let nodes: Vec<Node> = nodes.collect();
    let pods = there.iter().enumerate().map(|(number, (on, choices))| {
        let mut pod = some_pod(&format!("old{number}"), *choices);
        let on = usize::from(*on) % nodes.len();
        pod.spec.as_mut().unwrap().node_name = nodes[on].metadata.name.clone();
        if on.is_multiple_of(2) {
            let started = json!({"startTime": format!("2026-01-01T00:{:02}:00Z", choices[0] % 60)});
            pod.status = serde_json::from_value(started).unwrap();
        }
        serde_json::to_value(pod).unwrap()
    });
    objects.extend(pods);
    objects.extend(nodes.iter().map(|node| serde_json::to_value(node).unwrap()));
    let manifest = Manifest::read(list(objects)).unwrap();
    let simulator = Simulator::builder().seed(seed).manifest(manifest.clone()).build().unwrap();
    (simulator, manifest)
}

/// Places a pod, and checks where against the reference engine.
fn place(simulator: &mut Simulator, manifest: &Manifest, pod: Pod) -> Result<(), TestCaseError> {
    // One that an API server refuses is none.
    let Ok(stored) = simulator.admit(pod.clone()) else { return Ok(()) };
    let cluster = cluster(manifest, simulator);
    let expected = totals(&cluster, &stored.pod);
    let answer = simulator.place(pod).unwrap();
    let fits = |answer: &NodeAnswer| match &answer.verdict {
        Verdict::Fits { total, .. } => Some((answer.node.clone(), *total)),
        Verdict::Refused { .. } => None,
    };
    let said: BTreeMap<String, i64> = answer.nodes.iter().filter_map(fits).collect();
    prop_assert_eq!(&said, &expected);
    prop_assert_eq!(answer.nodes.len(), cluster.nodes.len());
    let best = best_sacrifices(&cluster, &stored.pod);
    let key = |pod: &Pod| ObjectKey::of(pod);
    match &answer.choice {
        Choice::Node { node, feasible, best, .. } => {
            prop_assert_eq!(*feasible, expected.len());
            prop_assert_eq!(expected.get(node), expected.values().max());
            let highest = expected.values().max();
            prop_assert_eq!(*best, expected.values().filter(|total| Some(*total) == highest).count());
        }
        Choice::Preempts { node, victims } => {
            prop_assert!(expected.is_empty());
            let chosen = best.iter().find(|sacrifice| sacrifice.node == *node);
            let expected: Option<Vec<_>> = chosen.map(|chosen| chosen.victims.iter().map(key).collect());
            prop_assert_eq!(Some(victims), expected.as_ref());
        }
        Choice::Nowhere { .. } => prop_assert!(expected.is_empty() && best.is_empty()),
        other => prop_assert!(false, "{:?}", other),
    }
    prop_assert_eq!(simulator.node_of(&answer.pod), answer.choice.node());
    Ok(())
}

/// What a run should come to, by the engine alone: the snapshot is made anew for every try.
struct Replay<'a> {
    simulator: &'a Simulator,
    nodes: Vec<Arc<Node>>,
    placed: BTreeMap<String, Pod>,
}

/// A pod that waits, as (priority, place in the queue).
type Ranked = (Reverse<i32>, usize, Pod);

impl Replay<'_> {
    fn decide(&self, info: &Arc<PodInfo>, nominator: &Nominator) -> (Option<String>, Vec<String>, String) {
        let mut snapshot = Snapshot::default();
        for node in &self.nodes {
            snapshot.set_node(node.clone());
        }
        for pod in self.placed.values() {
            snapshot.set_pod(PlacedPod::of(pod), node_of(pod).unwrap());
        }
        let rng = self.simulator.rng.fork(&info.uid);
        let engine = Engine { snapshot: &snapshot, nominator, rng: &rng };
        match engine.decide(info, self.simulator.profiles.of(info).unwrap()).decision {
            Decision::Place(placement) => {
                (Some(snapshot.view(placement.node).name().to_owned()), Vec::new(), String::new())
            }
            Decision::Unfit(unfit) => {
                let node = match &unfit.plan.nomination {
                    Nomination::Node(node) => Some(node.clone()),
                    _ => None,
                };
                let victims = unfit.plan.victims.iter().map(|victim| victim.uid.clone()).collect();
                (node, victims, unfit.diagnosis.message())
            }
            Decision::Fail(status) => panic!("{status}"),
        }
    }

    /// Where each pod ends up, and what each says that ends up nowhere.
    fn run(&mut self, mut queue: Vec<Ranked>) -> BTreeMap<String, String> {
        let (mut next, mut refused, mut progress) = (queue.len(), Vec::new(), false);
        let mut said = BTreeMap::new();
        loop {
            queue.sort_by_key(|(priority, place, _)| (*priority, *place));
            if queue.is_empty() {
                if !progress || refused.is_empty() {
                    return said;
                }
                (queue, progress) = (std::mem::take(&mut refused), false);
                continue;
            }
            let (priority, place, mut pod) = queue.remove(0);
            let info = Arc::new(PodInfo::new(Arc::new(pod.clone())));
            let (mut node, victims, message) = self.decide(&info, &Nominator::default());
            let back: Vec<Pod> = victims.iter().filter_map(|uid| self.placed.remove(uid)).collect();
            if let (Some(room), false) = (&node, back.is_empty()) {
                let mut nominator = Nominator::default();
                nominator.nominate(info.clone(), room);
                node = self.decide(&info, &nominator).0;
            }
            let Some(node) = node else {
                said.insert(info.uid.to_string(), message);
                refused.push((priority, place, pod));
                continue;
            };
            progress = true;
            said.remove(&*info.uid);
            for victim in back {
                next += 1;
                queue.push((
                    Reverse(victim.spec.as_ref().unwrap().priority.unwrap_or(0)),
                    next,
                    fresh(victim),
                ));
            }
            pod.spec.as_mut().unwrap().node_name = Some(node);
            self.placed.insert(info.uid.to_string(), pod);
        }
    }
}

/// A pod as its controller would make it anew.
fn fresh(mut pod: Pod) -> Pod {
    pod.spec.as_mut().unwrap().node_name = None;
    pod.status = None;
    pod
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap()
}

proptest! {
    #[test]
    fn a_choice_is_among_the_best_of_the_reference_engine(
        nodes in prop::collection::vec(any::<NodeChoices>(), 1..6),
        there in prop::collection::vec((any::<u8>(), any::<Choices>()), 0..6),
        pods in prop::collection::vec(any::<Choices>(), 1..8),
        allowed in any::<u8>(),
        seed in any::<u64>(),
    ) {
        let (mut simulator, manifest) = begun(&nodes, &there, allowed, seed);
        for (number, choices) in pods.into_iter().enumerate() {
            place(&mut simulator, &manifest, some_pod(&format!("p{number}"), choices))?;
        }
    }

    #[test]
    fn a_drain_comes_to_what_the_engine_does_step_by_step(
        nodes in prop::collection::vec(any::<NodeChoices>(), 2..6),
        there in prop::collection::vec((any::<u8>(), any::<Choices>()), 1..12),
        seed in any::<u64>(),
    ) {
        let (simulator, _) = begun(&nodes, &there, 1, seed);
        let mut drained = simulator.clone();
        let report = drained.apply(&[Change::Drain("n0".into())]).unwrap();

        let nodes = drained.nodes().map(|node| Arc::new(node.clone())).collect();
        let (leaving, staying): (Vec<Pod>, Vec<Pod>) =
            placed(&simulator).into_iter().partition(|pod| node_of(pod) == Some("n0"));
        let placed_now = |pods: Vec<Pod>| pods.into_iter().map(|pod| (uid(&pod), pod)).collect();
        let mut replay = Replay { simulator: &simulator, nodes, placed: placed_now(staying) };
        let queue = leaving.into_iter().enumerate().map(|(place, pod)| {
            (Reverse(pod.spec.as_ref().unwrap().priority.unwrap_or(0)), place, fresh(pod))
        });
        let pending = replay.run(queue.collect());

        let places = |pods: &BTreeMap<String, Pod>| -> BTreeMap<String, Option<String>> {
            pods.iter().map(|(uid, pod)| (uid.clone(), node_of(pod).map(str::to_owned))).collect()
        };
        prop_assert_eq!(places(&placed_now(placed(&drained))), places(&replay.placed));
        let messages = report.pending.iter().map(|pod| (format!("uid-{}", pod.pod.name), pod.message.clone()));
        prop_assert_eq!(messages.collect::<BTreeMap<_, _>>(), pending);
        for moved in &report.moves {
            prop_assert_eq!(drained.node_of(&moved.pod), Some(&*moved.to));
        }
        prop_assert_eq!(&report.after, &drained.usage());
        // The same question has the same answer.
        prop_assert_eq!(&simulator.clone().apply(&[Change::Drain("n0".into())]).unwrap(), &report);
    }
}
