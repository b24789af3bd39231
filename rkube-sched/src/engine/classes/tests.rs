mod volumes;

use std::sync::Arc;

use proptest::prelude::*;
use rkube_api::context::Rng;
use serde_json::json;

use crate::{
    engine::{Classes, Decision, Engine},
    framework::{
        CycleState, Filter, Handle, Locality, Nomination, Normalization, Plugin, Point, Points,
        ProfileConfig, Profiles, Score, Status, default_normalize,
    },
    queue::Nominator,
    snapshot::{NodeView, PlacedPod, PodInfo, Snapshot},
    testing::{as_node, labelled, pod},
};

/// A plugin from outside, local or not: full nodes are refused, emptier ones score higher.
struct Custom(Locality);

impl Plugin for Custom {
    fn name(&self) -> &'static str {
        "Custom"
    }
    fn locality(&self, _: &PodInfo, _: &Snapshot) -> Locality {
        self.0
    }
}
impl Filter for Custom {
    fn filter(&self, _: &CycleState, _: &PodInfo, node: NodeView<'_>) -> Status {
        if node.pods().count() > 3 { Status::unschedulable("crowded") } else { Status::success() }
    }
}
impl Score for Custom {
    fn score(&self, _: &CycleState, _: &PodInfo, node: NodeView<'_>) -> Result<i64, Status> {
        Ok(node.pods().count() as i64)
    }
    fn normalization(&self) -> Normalization {
        Normalization::ByValue
    }
    fn normalize(&self, _: &CycleState, _: &PodInfo, scores: &mut [i64]) -> Status {
        default_normalize(100, true, scores);
        Status::success()
    }
}

fn profiles(custom: Option<Locality>) -> Profiles {
    let mut registry = crate::plugins::all();
    let mut config = ProfileConfig::standard();
    if let Some(locality) = custom {
        registry.add("Custom", move |_, _| Ok(Points::of(Custom(locality)).filter().score().done())).unwrap();
        config = config.with("Custom", 2);
    }
    Profiles::build(&[config], &registry, &Handle::default()).unwrap()
}

/// The standard profile, in which two plugins filter without having prepared that.
fn unprepared() -> Profiles {
    let config = ["InterPodAffinity", "PodTopologySpread"]
        .iter()
        .fold(ProfileConfig::standard(), |config, name| config.disable(name, Point::PreFilter));
    Profiles::build(&[config], &crate::plugins::all(), &Handle::default()).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    SetNode {
        node: u8,
        cpu: u8,
        zone: u8,
        taint: u8,
        cordoned: bool,
    },
    RemoveNode(u8),
    RemovePod(u8),
    Nominate(u8, u8),
    Decide(u8),
    /// One that did not fit is tried again.
    Retry(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = (0..9u8, 0..9u8, 0..3u8, 0..4u8, prop::bool::weighted(0.1));
    let step = prop_oneof![
        3 => node.prop_map(|(node, cpu, zone, taint, cordoned)| {
            Step::SetNode { node, cpu, zone, taint, cordoned }
        }),
        1 => (0..9u8).prop_map(Step::RemoveNode),
        2 => (0..60u8).prop_map(Step::RemovePod),
        1 => (0..6u8, 0..9u8).prop_map(|(pod, node)| Step::Nominate(pod, node)),
        14 => (0..6u8).prop_map(Step::Decide),
        4 => any::<u8>().prop_map(Step::Retry),
    ];
    prop::collection::vec(step, 0..80)
}

fn set_node(snapshot: &mut Snapshot, node: u8, cpu: u8, zone: u8, taint: u8, cordoned: bool) {
    let effect = ["NoSchedule", "PreferNoSchedule", "PreferNoSchedule"];
    let taints: Vec<_> = (0..taint)
        .map(|index| json!({"key": format!("k{index}"), "effect": effect[usize::from(2 - index)]}))
        .collect();
    let images = if cpu > 5 { json!([{"names": ["i:1"], "sizeBytes": 1 << 30}]) } else { json!([]) };
    snapshot.set_node(as_node(json!({
        "metadata": {"name": format!("n{node}"), "labels": {"zone": zone.to_string()}},
        "spec": {"taints": taints, "unschedulable": cordoned},
        "status": {"allocatable": {"cpu": cpu.to_string(), "memory": "8Gi", "pods": "5"}, "images": images}
    })));
}

/// Six kinds of pods.
fn of_kind(kind: u8, name: &str) -> PodInfo {
    let zone = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["1"]}]});
    let asks = |cpu: &str| json!([{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}]);
    let spec = match kind {
        0 => json!({"containers": asks("1")}),
        1 => json!({"containers": asks("500m"), "nodeSelector": {"zone": "2"}}),
        2 => json!({"containers": asks("1"), "affinity": {"nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 3, "preference": zone}]
        }}}),
        3 => json!({"containers": asks("1"), "tolerations": [{"operator": "Exists"}]}),
        4 => json!({"containers": [{"name": "c", "image": "i:1"}], "priority": 7}),
        _ => json!({"containers": asks("2"), "tolerations": [{"key": "k1", "operator": "Exists"}]}),
    };
    pod(name, spec)
}

/// A cluster in which pods are tried, by way of classes and without.
struct Trials {
    profiles: Profiles,
    snapshot: Snapshot,
    nominator: Nominator,
    classes: Classes,
    waiting: Vec<Arc<PodInfo>>,
    count: usize,
}

impl Trials {
    fn apply(&mut self, step: &Step, seed: u64) -> Result<(), TestCaseError> {
        match step {
            Step::SetNode { node, cpu, zone, taint, cordoned } => {
                set_node(&mut self.snapshot, *node, *cpu, *zone, *taint, *cordoned);
            }
            Step::RemoveNode(node) => drop(self.snapshot.remove_node(&format!("n{node}"))),
            Step::RemovePod(number) => drop(self.snapshot.remove_pod(&format!("uid-p{number}"))),
            Step::Nominate(kind, node) => {
                let held = Arc::new(of_kind(*kind, &format!("held{kind}")));
                self.nominator.nominate(held, &format!("n{node}"));
            }
            Step::Decide(kind) => {
                let pod = Arc::new(of_kind(*kind, &format!("p{}", self.count)));
                self.count += 1;
                self.decide(pod, seed)?;
            }
            Step::Retry(choice) if !self.waiting.is_empty() => {
                let pod = self.waiting.swap_remove(usize::from(*choice) % self.waiting.len());
                self.decide(pod, seed)?;
            }
            Step::Retry(_) => {}
        }
        Ok(())
    }

    /// Decides, and carries that out; of those that have to go, every third one takes its time.
    fn decide(&mut self, pod: Arc<PodInfo>, seed: u64) -> Result<(), TestCaseError> {
        let profile = self.profiles.of(&pod).unwrap();
        let engine = |rng| Engine { snapshot: &self.snapshot, nominator: &self.nominator, rng };
        let (one, other) = (Rng::seeded(seed), Rng::seeded(seed));
        let plain = engine(&one).decide(&pod, profile).decision;
        let quick = engine(&other).decide_in(&mut self.classes, &pod, profile).decision;
        prop_assert_eq!(format!("{plain:?}"), format!("{quick:?}"));
        match quick {
            Decision::Place(placement) => {
                let node = self.snapshot.view(placement.node).name().to_owned();
                self.nominator.clear(&pod.uid);
                self.snapshot.assume(PlacedPod::from(&*pod), &node);
            }
            Decision::Unfit(unfit) => {
                if let Nomination::Node(node) = &unfit.plan.nomination {
                    self.nominator.nominate(pod.clone(), node);
                }
                for (at, victim) in unfit.plan.victims.iter().enumerate() {
                    if (seed + at as u64).is_multiple_of(3) {
                        self.snapshot.doom(&victim.uid, true);
                    } else {
                        self.snapshot.remove_pod(&victim.uid);
                    }
                }
                self.waiting.push(pod);
            }
            Decision::Fail(status) => prop_assert!(false, "{}", status),
        }
        Ok(())
    }
}

fn agree(steps: &[Step], custom: Option<Locality>, seed: u64) -> Result<(), TestCaseError> {
    let mut trials = Trials {
        profiles: profiles(custom),
        snapshot: Snapshot::default(),
        nominator: Nominator::default(),
        classes: Classes::default(),
        waiting: Vec::new(),
        count: 0,
    };
    steps.iter().enumerate().try_for_each(|(at, step)| trials.apply(step, seed + at as u64))
}

proptest! {
    #[test]
    fn classes_decide_as_the_plain_engine_does(steps in steps(), seed in 0..1000u64) {
        agree(&steps, None, seed)?;
    }

    #[test]
    fn so_they_do_beside_a_plugin_from_outside(
        steps in steps(),
        seed in 0..1000u64,
        locality in prop::sample::select(vec![Locality::NodeAndPods, Locality::Cluster]),
    ) {
        agree(&steps, Some(locality), seed)?;
    }
}

#[test]
fn equal_pods_share_a_class_and_their_number_is_bounded() {
    let profiles = profiles(None);
    let mut snapshot = Snapshot::default();
    for node in 0..4 {
        set_node(&mut snapshot, node, 8, 1, 0, false);
    }
    let (nominator, rng, mut classes) = (Nominator::default(), Rng::seeded(1), Classes::default());
    let engine = Engine { snapshot: &snapshot, nominator: &nominator, rng: &rng };
    for index in 0..10 {
        let pod = Arc::new(of_kind(0, &format!("p{index}")));
        engine.decide_in(&mut classes, &pod, profiles.of(&pod).unwrap());
    }
    assert_eq!((classes.len(), classes.hits()), (1, 9));
    for index in 0..1200 {
        let spec = json!({"containers": [{"name": "c", "image": format!("i{}", index / 2)}]});
        let pod = Arc::new(pod(&format!("q{index}"), spec));
        engine.decide_in(&mut classes, &pod, profiles.of(&pod).unwrap());
    }
    assert_eq!(classes.len(), 512);
    // A snapshot's copy goes its own way.
    let copy = snapshot.clone();
    let engine = Engine { snapshot: &copy, ..engine };
    engine.decide_in(&mut classes, &Arc::new(of_kind(0, "r")), profiles.iter().next().unwrap());
    assert_eq!(classes.len(), 0);
}

#[test]
fn nodes_that_come_are_taken_in_one_by_one() {
    let profiles = profiles(None);
    let mut snapshot = Snapshot::default();
    set_node(&mut snapshot, 0, 1, 1, 0, false);
    let (nominator, mut classes) = (Nominator::default(), Classes::default());
    for index in 0..100u8 {
        let rng = Rng::seeded(1);
        let engine = Engine { snapshot: &snapshot, nominator: &nominator, rng: &rng };
        let pod = Arc::new(of_kind(0, &format!("p{index}")));
        let decided = engine.decide_in(&mut classes, &pod, profiles.of(&pod).unwrap()).decision;
        let Decision::Place(placement) = decided else { panic!("{decided:?}") };
        // Each pod fills the only node that has room, and a new one comes.
        assert_eq!(snapshot.view(placement.node).name(), format!("n{index}"));
        snapshot.assume(PlacedPod::from(&*pod), &format!("n{index}"));
        set_node(&mut snapshot, index + 1, 1, 1, 0, false);
    }
    assert_eq!((classes.made(), classes.hits()), (1, 99));
}

#[test]
fn a_class_that_counts_images_begins_anew_only_when_they_change() {
    let profiles = profiles(None);
    let mut snapshot = Snapshot::default();
    // Nodes of more than five CPUs have the image.
    (0..8).for_each(|node| set_node(&mut snapshot, node, 4 + node, 1, 0, false));
    let (nominator, rng, mut classes) = (Nominator::default(), Rng::seeded(1), Classes::default());
    let mut decide = |snapshot: &Snapshot| {
        let engine = Engine { snapshot, nominator: &nominator, rng: &rng };
        let pod = Arc::new(of_kind(4, "p"));
        engine.decide_in(&mut classes, &pod, profiles.of(&pod).unwrap());
        classes.made()
    };
    assert_eq!([decide(&snapshot), decide(&snapshot)], [0, 1]);
    set_node(&mut snapshot, 0, 4, 2, 0, true);
    assert_eq!(decide(&snapshot), 1, "a node is cordoned, which is nothing to the images");
    set_node(&mut snapshot, 0, 8, 2, 0, true);
    assert_eq!(decide(&snapshot), 2, "a node has got the image: it has spread further");
    set_node(&mut snapshot, 9, 1, 2, 0, false);
    assert_eq!(decide(&snapshot), 3, "one node more is there to spread to");
}

const HOSTNAME: &str = "kubernetes.io/hostname";

/// A pod of one of two applications that seeks, shuns or spreads.
fn sociable(kind: u8, name: &str) -> PodInfo {
    let app = ["a", "b"][usize::from(kind / 8 % 2)];
    let of_app = json!({"matchLabels": {"app": app}});
    let term = |key: &str| json!({"topologyKey": key, "labelSelector": of_app});
    let liked = |key: &str| json!([{"weight": 3, "podAffinityTerm": term(key)}]);
    let spread = |key: &str, action: &str, skew: u8| json!({"topologyKey": key, "whenUnsatisfiable": action, "maxSkew": skew, "labelSelector": of_app});
    let (hard, soft) = ("DoNotSchedule", "ScheduleAnyway");
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let mut spec = match kind % 8 {
        0 => json!({}),
        1 => json!({"topologySpreadConstraints": [spread("zone", hard, 1)]}),
        2 => json!({"topologySpreadConstraints": [spread("zone", soft, 1), spread(HOSTNAME, soft, 3)]}),
        3 => json!({"topologySpreadConstraints": [spread("zone", hard, 2), spread(HOSTNAME, hard, 1)]}),
        4 => json!({"affinity": {"podAntiAffinity": {required: [term(HOSTNAME)]}}}),
        5 => json!({"affinity": {"podAffinity": {required: [term("zone")], preferred: liked(HOSTNAME)}}}),
        6 => json!({"affinity": {"podAntiAffinity": {preferred: liked("zone")}}}),
        _ => json!({
            "affinity": {"podAffinity": {preferred: liked(HOSTNAME)}}, "nodeSelector": {"zone": "1"},
            "topologySpreadConstraints": [spread("rack", soft, 1)]
        }),
    };
    spec["containers"] = json!([{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]);
    labelled(name, json!({"app": app}), spec)
}

fn set_placed_node(snapshot: &mut Snapshot, node: u8, choice: u8) {
    let name = format!("n{node}");
    let mut labels =
        json!({HOSTNAME: name, "zone": (choice % 3).to_string(), "rack": (node / 4).to_string()});
    match choice % 16 {
        13 => labels = json!({"zone": "1"}),
        14 => labels = json!({HOSTNAME: name}),
        15 => labels["rack"] = json!(""),
        _ => {}
    }
    let taints = match choice % 5 {
        0 => json!([{"key": "k", "effect": "PreferNoSchedule"}]),
        _ => json!([]),
    };
    snapshot.set_node(as_node(json!({
        "metadata": {"name": name, "labels": labels}, "spec": {"taints": taints},
        "status": {"allocatable": {"cpu": (2 + choice % 4).to_string(), "memory": "16Gi", "pods": "6"}}
    })));
}

proptest! {
    /// What happens: a node comes or changes, a pod goes, or pods come.
    #[test]
    fn groups_of_nodes_decide_as_all_nodes_do(
        nodes in prop::collection::vec(any::<u8>(), 1..150),
        kinds in any::<[u8; 4]>(),
        steps in prop::collection::vec((0..12u8, any::<u8>(), any::<u8>()), 0..60),
        seed in 0..1000u64,
        prepared in prop::bool::weighted(0.8),
    ) {
        let profiles = if prepared { profiles(None) } else { unprepared() };
        let nominator = Nominator::default();
        let (mut snapshot, mut classes, mut count) = (Snapshot::default(), Classes::default(), 0_u64);
        for (node, choice) in nodes.iter().enumerate() {
            set_placed_node(&mut snapshot, node as u8, *choice);
        }
        for (what, one, other) in steps {
            match what {
                0 => set_placed_node(&mut snapshot, one % 150, other),
                1 => drop(snapshot.remove_pod(&format!("uid-p{}", u64::from(one) % count.max(1)))),
                _ => {
                    let pod = Arc::new(sociable(kinds[usize::from(one % 4)], &format!("p{count}")));
                    count += 1;
                    let engine = |rng| Engine { snapshot: &snapshot, nominator: &nominator, rng };
                    let (left, right) = (Rng::seeded(seed + count), Rng::seeded(seed + count));
                    let profile = profiles.of(&pod).unwrap();
                    let plain = engine(&left).decide(&pod, profile).decision;
                    let quick = engine(&right).decide_in(&mut classes, &pod, profile).decision;
                    prop_assert_eq!(format!("{plain:?}"), format!("{quick:?}"));
                    if let Decision::Place(placement) = quick {
                        let node = snapshot.view(placement.node).name().to_owned();
                        snapshot.assume(PlacedPod::from(&*pod), &node);
                    }
                }
            }
        }
    }
}

#[test]
fn sociable_pods_are_decided_by_groups() {
    let (profiles, nominator, rng) = (profiles(None), Nominator::default(), Rng::seeded(1));
    for kind in 1..7 {
        let (mut snapshot, mut classes) = (Snapshot::default(), Classes::default());
        // Without taints that some dislike, without labels that are missing.
        (0..250).for_each(|node| set_placed_node(&mut snapshot, node, [1, 2, 3][usize::from(node % 3)]));
        for index in 0..100 {
            let pod = Arc::new(sociable(kind, &format!("p{index}")));
            let engine = Engine { snapshot: &snapshot, nominator: &nominator, rng: &rng };
            let decided = engine.decide_in(&mut classes, &pod, profiles.of(&pod).unwrap()).decision;
            let Decision::Place(placement) = decided else { panic!("{decided:?}") };
            let node = snapshot.view(placement.node).name().to_owned();
            snapshot.assume(PlacedPod::from(&*pod), &node);
        }
        // The first one has no class, and nobody to look for; what it is changes what others are to it.
        assert!(classes.grouped() >= 98, "{kind}: {classes:?}");
    }
}

#[test]
fn sociable_pods_that_fit_nowhere_are_refused_by_groups() {
    let (profiles, nominator, rng) = (profiles(None), Nominator::default(), Rng::seeded(1));
    let (mut snapshot, mut classes) = (Snapshot::default(), Classes::default());
    (0..6).for_each(|node| set_placed_node(&mut snapshot, node, [1, 2, 3][usize::from(node % 3)]));
    set_node(&mut snapshot, 6, 0, 1, 0, false);
    let mut refused = 0;
    for index in 0..20 {
        // Each node takes one of them, but for one that has no CPU.
        let pod = Arc::new(sociable(4, &format!("p{index}")));
        let engine = Engine { snapshot: &snapshot, nominator: &nominator, rng: &rng };
        match engine.decide_in(&mut classes, &pod, profiles.of(&pod).unwrap()).decision {
            Decision::Place(placement) => {
                let node = snapshot.view(placement.node).name().to_owned();
                snapshot.assume(PlacedPod::from(&*pod), &node);
            }
            Decision::Unfit(unfit) => {
                refused += 1;
                let message = unfit.diagnosis.message();
                let expected = "0/7 nodes are available: 1 Insufficient cpu, 6 node(s) didn't match pod \
                                anti-affinity rules.";
                assert!(message.starts_with(expected), "{message}");
            }
            Decision::Fail(status) => panic!("{status}"),
        }
    }
    assert_eq!((refused, classes.hits(), classes.grouped()), (14, 19, 19), "{classes:?}");
}

/// What is known of nodes where pods could make room is told again as long as it holds, and no longer.
#[test]
fn a_node_is_looked_at_again_only_when_it_changes() {
    let (profiles, mut snapshot, mut classes) = (profiles(None), Snapshot::default(), Classes::default());
    let mut nominator = Nominator::default();
    (0..4).for_each(|node| set_node(&mut snapshot, node, 1, 1, 0, false));
    for node in 0..4 {
        snapshot.assume(PlacedPod::from(&of_kind(0, &format!("low{node}"))), &format!("n{node}"));
    }
    let mut looked = |snapshot: &Snapshot, nominator: &Nominator, name: &str| {
        let pod = of_kind(4, name);
        let asks = json!([{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]);
        let pod = Arc::new(crate::testing::pod(name, json!({"containers": asks, "priority": pod.priority})));
        let rng = Rng::seeded(1);
        let engine = Engine { snapshot, nominator, rng: &rng };
        let decided = engine.decide_in(&mut classes, &pod, profiles.of(&pod).unwrap()).decision;
        let Decision::Unfit(unfit) = decided else { panic!("{decided:?}") };
        let Nomination::Node(node) = unfit.plan.nomination else { panic!("{unfit:?}") };
        let known = classes.memories.front().map_or(0, |memory| memory.asked());
        (pod, node, known)
    };
    assert_eq!(looked(&snapshot, &nominator, "a").2, 0, "the first of its kind has no class");
    assert_eq!(looked(&snapshot, &nominator, "b").2, 4);
    let (pod, node, asked) = looked(&snapshot, &nominator, "c");
    assert_eq!(asked, 4, "nothing has changed");
    nominator.nominate(pod, &node);
    let (_, other, asked) = looked(&snapshot, &nominator, "d");
    assert_eq!(asked, 5, "the room of one node is held");
    assert_ne!(other, node);
    snapshot.assume(PlacedPod::from(&of_kind(5, "new")), "n1");
    assert_eq!(looked(&snapshot, &nominator, "e").2, 6, "a pod came to one node");
}
