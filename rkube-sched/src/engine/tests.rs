use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;
use rkube_api::context::Rng;
use serde_json::json;

use super::*;
use crate::{
    framework::{
        Args, Handle, Nomination, Plugin, PluginRegistry, Points, PostFilter, PreFilter, PreFiltered,
        ProfileConfig, Profiles, Score, Victim,
    },
    testing::{as_node, node, pod, pod_asking, snapshot},
};

fn decide(
    snapshot: &Snapshot,
    profiles: &Profiles,
    nominator: &Nominator,
    pod: &PodInfo,
    seed: u64,
) -> Decision {
    let rng = Rng::seeded(seed);
    let profile = profiles.of(pod).unwrap();
    Engine { snapshot, nominator, rng: &rng }.decide(pod, profile).decision
}

fn standard(snapshot: &Snapshot, pod: &PodInfo, seed: u64) -> Decision {
    decide(snapshot, &Profiles::standard(), &Nominator::default(), pod, seed)
}

/// The account, without what came of preemption.
fn message(decision: Decision) -> String {
    match decision {
        Decision::Unfit(mut unfit) => {
            unfit.diagnosis.post_filter_message.clear();
            unfit.diagnosis.message()
        }
        other => panic!("{other:?}"),
    }
}

fn profiles(extend: impl FnOnce(&mut PluginRegistry), config: ProfileConfig) -> Profiles {
    let mut registry = crate::plugins::all();
    extend(&mut registry);
    Profiles::build(&[config], &registry, &Handle::default()).unwrap()
}

#[test]
fn the_message_counts_nodes_by_reason() {
    let mut nodes: Vec<_> =
        ["a", "b", "c"].map(|name| node(name, json!({"cpu": "1", "memory": "1Gi"}))).into();
    for name in ["d", "e"] {
        let mut tainted = node(name, json!({"cpu": "8", "memory": "1Gi"}));
        tainted["spec"] = json!({"taints": [{"key": "k", "effect": "NoSchedule"}]});
        nodes.push(tainted);
    }
    let snapshot = snapshot(nodes);
    let pod = pod_asking("p", json!({"cpu": "2"}));
    assert_eq!(
        message(standard(&snapshot, &pod, 1)),
        "0/5 nodes are available: 2 node(s) had untolerated taint(s), 3 Insufficient cpu."
    );
    assert_eq!(message(standard(&Snapshot::default(), &pod, 1)), NO_NODES);
}

#[test]
fn pre_filter_narrows_and_the_rest_is_told_as_one() {
    let snapshot = snapshot(["a", "b", "c"].map(|name| node(name, json!({"cpu": "1"}))));
    let named = |name: &str| {
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}
        ]}}})
    };
    let container = json!({"name": "c", "resources": {"requests": {"cpu": "2"}}});
    let wanting = |name: &str| pod("p", json!({"affinity": named(name), "containers": [container]}));
    assert_eq!(
        message(standard(&snapshot, &wanting("b"), 1)),
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]."
    );
    assert_eq!(
        message(standard(&snapshot, &wanting("gone"), 1)),
        "0/3 nodes are available: 3 node(s) didn't satisfy plugin(s) [NodeAffinity]."
    );
}

#[test]
fn ties_are_broken_evenly_and_by_the_seed() {
    let snapshot =
        snapshot(["a", "b", "c", "d"].map(|name| node(name, json!({"cpu": "4", "memory": "1Gi"}))));
    let pod = pod_asking("p", json!({"cpu": "1"}));
    let pick = |seed| match standard(&snapshot, &pod, seed) {
        Decision::Place(placement) => placement.node,
        other => panic!("{other:?}"),
    };
    let mut counts = BTreeMap::<NodeId, usize>::new();
    for seed in 0..2000 {
        assert_eq!(pick(seed), pick(seed));
        *counts.entry(pick(seed)).or_default() += 1;
    }
    // Expected 500 each, deviation 19: five of those either way.
    assert!(counts.len() == 4 && counts.values().all(|count| (400..600).contains(count)), "{counts:?}");
}

#[test]
fn room_held_for_others_counts_only_if_they_come_first() {
    let snapshot = snapshot([node("a", json!({"cpu": "2", "memory": "1Gi"}))]);
    let asking = |name: &str, priority: i32| {
        let container = json!({"name": "c", "resources": {"requests": {"cpu": "2"}}});
        pod(name, json!({"priority": priority, "containers": [container]}))
    };
    let mut nominator = Nominator::default();
    nominator.nominate(Arc::new(asking("vip", 5)), "a");
    let ask = |pod: PodInfo| decide(&snapshot, &Profiles::standard(), &nominator, &pod, 1);
    assert_eq!(message(ask(asking("low", 1))), "0/1 nodes are available: 1 Insufficient cpu.");
    assert!(matches!(ask(asking("high", 6)), Decision::Place(_)));
    assert!(matches!(ask(asking("vip", 5)), Decision::Place(_)));
}

#[test]
fn a_pod_goes_where_room_is_held_for_it_even_if_others_score_higher() {
    let snapshot = snapshot([
        node("small", json!({"cpu": "2", "memory": "1Gi"})),
        node("large", json!({"cpu": "64", "memory": "64Gi"})),
    ]);
    let pod = pod_asking("p", json!({"cpu": "1"}));
    let mut nominator = Nominator::default();
    nominator.nominate(Arc::new(pod.clone()), "small");
    let Decision::Place(placement) = decide(&snapshot, &Profiles::standard(), &nominator, &pod, 1) else {
        panic!()
    };
    assert_eq!((snapshot.view(placement.node).name(), placement.feasible), ("small", 1));
}

struct Odd(i64);
impl Plugin for Odd {
    fn name(&self) -> &'static str {
        "Odd"
    }
}
impl Score for Odd {
    fn score(&self, _: &CycleState, _: &PodInfo, node: NodeView<'_>) -> Result<i64, Status> {
        Ok(if node.name() == "a" { self.0 } else { 0 })
    }
}
impl PreFilter for Odd {
    fn pre_filter(&self, _: &mut CycleState, _: &PodInfo, _: &Snapshot) -> PreFiltered {
        Status::unresolvable("not today").into()
    }
}
impl PostFilter for Odd {
    fn post_filter(&self, _: &mut CycleState, _: &PodInfo, _: &WhatIf<'_>, why: &Diagnosis) -> PostFiltered {
        PostFiltered {
            status: Status::success().with(format!("{} refused", why.rejected.len())),
            nomination: Nomination::Node("a".into()),
            victims: vec![Victim { namespace: "n".into(), name: "v".into(), uid: "u".into() }],
            ..PostFiltered::default()
        }
    }
}

#[test]
fn weights_decide_and_scores_out_of_range_fail() {
    let snapshot = snapshot([
        node("a", json!({"cpu": "1", "memory": "1Gi"})),
        node("b", json!({"cpu": "64", "memory": "64Gi"})),
    ]);
    let ask = |value: i64, weight: i64| {
        let add = move |registry: &mut PluginRegistry| {
            registry.add("Odd", move |_, _| Ok(Points::of(Odd(value)).score().done())).unwrap();
        };
        let profiles = profiles(add, ProfileConfig::standard().with("Odd", weight));
        decide(&snapshot, &profiles, &Nominator::default(), &pod_asking("p", json!({"cpu": "1"})), 1)
    };
    let name = |decision| match decision {
        Decision::Place(placement) => snapshot.view(placement.node).name().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(name(ask(0, 1)), "b");
    assert_eq!(name(ask(100, 10)), "a");
    let Decision::Fail(status) = ask(101, 1) else { panic!() };
    assert!(status.message().contains("invalid score 101"), "{status}");
    assert_eq!(status.plugin(), Some("Odd"));
}

#[test]
fn post_filter_speaks_last_and_its_plan_is_handed_on() {
    let snapshot = snapshot([node("a", json!({"cpu": "1"}))]);
    let add = |registry: &mut PluginRegistry| {
        registry.add("Odd", |_: &Args, _: &Handle| Ok(Points::of(Odd(0)).post_filter().done())).unwrap();
    };
    let profiles = profiles(add, ProfileConfig::standard().with("Odd", 1));
    let pod = pod_asking("p", json!({"cpu": "2"}));
    let Decision::Unfit(unfit) = decide(&snapshot, &profiles, &Nominator::default(), &pod, 1) else {
        panic!()
    };
    assert_eq!(unfit.diagnosis.message(), "0/1 nodes are available: 1 Insufficient cpu. 1 refused");
    assert_eq!(unfit.diagnosis.unschedulable_plugins, BTreeSet::from(["NodeResourcesFit"]));
    assert_eq!((unfit.plan.nomination, unfit.plan.victims.len()), (Nomination::Node("a".into()), 1));
}

struct Shrug(&'static str);
impl Plugin for Shrug {
    fn name(&self) -> &'static str {
        self.0
    }
}
impl PostFilter for Shrug {
    fn post_filter(&self, _: &mut CycleState, _: &PodInfo, _: &WhatIf<'_>, _: &Diagnosis) -> PostFiltered {
        let nomination = if self.0 == "One" { Nomination::Clear } else { Nomination::Keep };
        let status = Status::unschedulable(format!("{} cannot help.", self.0));
        PostFiltered { status, nomination, ..PostFiltered::default() }
    }
}

#[test]
fn every_post_filter_that_cannot_help_says_so() {
    let snapshot = snapshot([node("a", json!({"cpu": "1"}))]);
    let add = |registry: &mut PluginRegistry| {
        for name in ["One", "Two"] {
            registry.add(name, move |_, _| Ok(Points::of(Shrug(name)).post_filter().done())).unwrap();
        }
    };
    let config = ProfileConfig::standard().without("DefaultPreemption").without("DynamicResources");
    let config = config.with("One", 1).with("Two", 1);
    let pod = pod_asking("p", json!({"cpu": "2"}));
    let ask = |snapshot| decide(snapshot, &profiles(add, config.clone()), &Nominator::default(), &pod, 1);
    let Decision::Unfit(unfit) = ask(&snapshot) else { panic!() };
    let message = unfit.diagnosis.message();
    assert_eq!(message, "0/1 nodes are available: 1 Insufficient cpu. One cannot help., Two cannot help.");
    assert_eq!(unfit.plan.nomination, Nomination::Clear);
    // Where there are no nodes, nobody is asked.
    let Decision::Unfit(unfit) = ask(&Snapshot::default()) else { panic!() };
    assert_eq!((unfit.diagnosis.message().as_str(), unfit.plan.nomination), (NO_NODES, Nomination::Keep));
}

#[test]
fn a_refusal_by_pre_filter_is_told_once() {
    let snapshot = snapshot([node("a", json!({"cpu": "1"}))]);
    let add = |registry: &mut PluginRegistry| {
        registry.add("Odd", |_, _| Ok(Points::of(Odd(0)).pre_filter().done())).unwrap();
    };
    let profiles = profiles(add, ProfileConfig::standard().with("Odd", 1));
    let decision = decide(&snapshot, &profiles, &Nominator::default(), &pod("p", json!({})), 1);
    assert_eq!(message(decision), "0/1 nodes are available: not today.");
}

/// A cluster and pods with every feature of the built-in plugins.
fn world()
-> impl Strategy<Value = (Vec<serde_json::Value>, Vec<(serde_json::Value, usize)>, serde_json::Value)> {
    let taints = prop::sample::select(vec![
        json!([]),
        json!([{"key": "k", "value": "v", "effect": "NoSchedule"}]),
        json!([{"key": "k", "value": "v", "effect": "PreferNoSchedule"}]),
    ]);
    let node = (0..9i64, 0..9i64, 0..3u8, taints, prop::bool::weighted(0.1), 1..4u8, 0..9u32);
    let node = node.prop_map(|(cpu, memory, zone, taints, unschedulable, pods, image)| {
        json!({
            "metadata": {"labels": {"zone": zone.to_string()}},
            "spec": {"taints": taints, "unschedulable": unschedulable},
            "status": {"allocatable": {
                "cpu": cpu.to_string(), "memory": format!("{memory}Gi"), "pods": pods.to_string()
            }, "images": [{"names": ["i:latest"], "sizeBytes": image << 28}]}
        })
    });
    let nodes = prop::collection::vec(node, 0..12);
    (nodes, prop::collection::vec((spec(), 0..12usize), 0..12), spec())
}

fn spec() -> impl Strategy<Value = serde_json::Value> {
    let container = prop_oneof![
        Just(json!({"name": "c", "image": "i"})),
        (0..5i64, 0..5i64).prop_map(|(cpu, memory)| json!({
            "name": "c", "resources": {"requests": {"cpu": cpu.to_string(), "memory": format!("{memory}Gi")}}
        })),
    ];
    let tolerations = prop::sample::select(vec![
        json!([]),
        json!([{"key": "k", "operator": "Exists"}]),
        json!([{"operator": "Exists"}]),
    ]);
    let zones = |zone: u8| json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone.to_string()]}]});
    let affinity = prop_oneof![
        3 => Just(json!({})),
        1 => (0..3u8).prop_map(move |zone| json!({"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [zones(zone)]}
        }})),
        2 => (0..3u8, 1..5).prop_map(move |(zone, weight)| json!({"nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": weight, "preference": zones(zone)}]
        }})),
    ];
    (container, tolerations, affinity).prop_map(|(container, tolerations, affinity)| {
        json!({"containers": [container], "tolerations": tolerations, "affinity": affinity})
    })
}

/// What the plugins' single-node methods say: the slow way.
fn slow(snapshot: &Snapshot, profile: &Profile, pod: &PodInfo) -> BTreeMap<NodeId, i64> {
    let mut state = CycleState::default();
    let mut skipped = BTreeSet::new();
    for plugin in &profile.pre_filter {
        if plugin.pre_filter(&mut state, pod, snapshot).status.is_skip() {
            skipped.insert(plugin.name());
        }
    }
    let passes = |id: &NodeId| {
        let filters = profile.filter.iter().filter(|filter| !skipped.contains(filter.name()));
        filters.into_iter().all(|filter| filter.filter(&state, pod, snapshot.view(*id)).is_success())
    };
    let ids: Vec<NodeId> = snapshot.nodes().iter().copied().filter(passes).collect();
    let mut totals: BTreeMap<NodeId, i64> = ids.iter().map(|id| (*id, 0)).collect();
    if ids.len() < 2 {
        return totals;
    }
    let mut skipped = BTreeSet::new();
    for plugin in &profile.pre_score {
        if plugin.pre_score(&mut state, pod, NodeSet::new(snapshot, &ids)).is_skip() {
            skipped.insert(plugin.name());
        }
    }
    for weighted in profile.score.iter().filter(|weighted| !skipped.contains(weighted.plugin.name())) {
        let one = |id: &NodeId| weighted.plugin.score(&state, pod, snapshot.view(*id)).unwrap();
        let mut scores: Vec<i64> = ids.iter().map(one).collect();
        assert!(weighted.plugin.normalize(&state, pod, &mut scores).is_success());
        for (id, score) in ids.iter().zip(scores) {
            *totals.entry(*id).or_default() += score * weighted.weight;
        }
    }
    totals
}

proptest! {
    #[test]
    fn the_choice_is_feasible_and_among_the_best((nodes, placed, wanted) in world(), seed in any::<u64>()) {
        let mut snapshot = Snapshot::default();
        for (index, mut node) in nodes.into_iter().enumerate() {
            node["metadata"]["name"] = json!(format!("n{index}"));
            snapshot.set_node(as_node(node));
        }
        for (index, (spec, node)) in placed.into_iter().enumerate() {
            snapshot.set_pod(PlacedPod::from(&pod(&format!("x{index}"), spec)), &format!("n{node}"));
        }
        let pod = pod("p", wanted);
        let profiles = Profiles::standard();
        let expected = slow(&snapshot, profiles.of(&pod).unwrap(), &pod);
        match standard(&snapshot, &pod, seed) {
            Decision::Place(placement) => {
                prop_assert_eq!(placement.feasible, expected.len());
                let best = expected.values().max();
                prop_assert_eq!(expected.get(&placement.node), best);
                prop_assert_eq!(Some(&placement.score), best);
            }
            Decision::Unfit(unfit) => {
                prop_assert!(expected.is_empty());
                prop_assert_eq!(unfit.diagnosis.rejected.len(), snapshot.nodes().len());
            }
            Decision::Fail(status) => prop_assert!(false, "{}", status),
        }
    }
}

#[test]
fn absurd_amounts_are_refused_without_a_fault() {
    let mut snapshot = snapshot([node("a", json!({"cpu": "9E", "memory": "9E", "pods": "9E"}))]);
    let most = json!({"cpu": "9E", "memory": "9E", "ephemeral-storage": "9E", "x.io/y": "9E"});
    for index in 0..300 {
        snapshot.set_pod(PlacedPod::from(&pod_asking(&format!("x{index}"), most.clone())), "a");
        assert!(!matches!(standard(&snapshot, &pod_asking("p", most.clone()), 1), Decision::Fail(_)));
    }
    for index in 0..300 {
        snapshot.remove_pod(&format!("uid-x{index}"));
    }
    let ask = |requests| standard(&snapshot, &pod_asking("p", requests), 1);
    assert!(matches!(ask(json!({"cpu": "1"})), Decision::Place(_)));
    assert_eq!(message(ask(json!({"x.io/y": "9E"}))), "0/1 nodes are available: 1 Insufficient x.io/y.");
}
