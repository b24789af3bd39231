use std::sync::Arc;

use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use rkube_api::context::Rng;
use serde_json::{Value, json};

use super::*;
use crate::{
    engine::{Decision, Engine, Unfit},
    framework::{Listers, ProfileConfig, Profiles},
    queue::Nominator,
    testing::{as_node, node, node_labelled, snapshot},
};

/// A pod of a priority that asks for CPU.
fn of(name: &str, priority: i32, cpu: &str) -> PodInfo {
    with(name, priority, cpu, json!({}))
}

fn with(name: &str, priority: i32, cpu: &str, patch: Value) -> PodInfo {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": {"app": name}},
        "spec": {"priority": priority, "containers": [
            {"name": "c", "resources": {"requests": {"cpu": cpu}}}
        ]}
    });
    json_patch(&mut pod, patch);
    PodInfo::new(Arc::new(serde_json::from_value::<Pod>(pod).unwrap()))
}

fn json_patch(to: &mut Value, patch: Value) {
    match patch {
        Value::Object(fields) => fields.into_iter().for_each(|(key, value)| {
            let slot = &mut to[key];
            if slot.is_object() { json_patch(slot, value) } else { *slot = value }
        }),
        other => *to = other,
    }
}

fn since(minute: u32) -> Value {
    json!({"status": {"startTime": format!("2026-01-01T00:{minute:02}:00Z")}})
}

fn cluster(nodes: &[(&str, &str)], pods: Vec<(PodInfo, &str)>) -> Snapshot {
    let mut snapshot =
        snapshot(nodes.iter().map(|(name, cpu)| node(name, json!({"cpu": cpu, "memory": "1Gi"}))));
    crate::testing::place(&mut snapshot, pods);
    snapshot
}

fn ask(snapshot: &Snapshot, nominator: &Nominator, budgets: &[Value], pod: &PodInfo) -> Unfit {
    let handle = Handle { listers: Listers::default(), ..Handle::default() };
    for budget in budgets {
        let budget: PodDisruptionBudget = serde_json::from_value(budget.clone()).unwrap();
        handle.listers.get().insert(Arc::new(budget));
    }
    // Who else cannot help says so too.
    let config = ProfileConfig::standard().without("DynamicResources");
    let profiles = Profiles::build(&[config], &crate::plugins::all(), &handle).unwrap();
    let (rng, profile) = (Rng::seeded(1), profiles.of(pod).unwrap());
    match (Engine { snapshot, nominator, rng: &rng }).decide(pod, profile).decision {
        Decision::Unfit(unfit) => *unfit,
        other => panic!("{other:?}"),
    }
}

/// Where room is made, and who has to go.
fn plan(snapshot: &Snapshot, budgets: &[Value], pod: &PodInfo) -> (String, Vec<String>) {
    let Unfit { plan, diagnosis } = ask(snapshot, &Nominator::default(), budgets, pod);
    match plan.nomination {
        Nomination::Node(node) => (node, plan.victims.into_iter().map(|victim| victim.name).collect()),
        _ => (diagnosis.message(), Vec::new()),
    }
}

fn to(node: &str, victims: &[&str]) -> (String, Vec<String>) {
    (node.to_owned(), victims.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn the_least_important_go_and_no_more_than_needed() {
    let there = vec![
        (of("mid", 5, "1"), "a"),
        (with("old", 1, "1", since(1)), "a"),
        (with("young", 1, "1", since(2)), "a"),
        (of("vip", 100, "1"), "a"),
    ];
    let snapshot = cluster(&[("a", "4")], there);
    assert_eq!(plan(&snapshot, &[], &of("p", 10, "1")), to("a", &["young"]));
    assert_eq!(plan(&snapshot, &[], &of("p", 10, "2")), to("a", &["old", "young"]));
    assert_eq!(plan(&snapshot, &[], &of("p", 10, "3")), to("a", &["mid", "old", "young"]));
    // Pods of its own priority stay.
    let message = plan(&snapshot, &[], &of("p", 1, "1")).0;
    assert_eq!(
        message,
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
         1 No preemption victims found for incoming pod."
    );
}

#[test]
fn the_account_tells_where_it_cannot_help_and_where_it_does_not() {
    let mut snapshot = cluster(
        &[("a", "1"), ("b", "2"), ("c", "4")],
        vec![
            (of("x", 1, "1"), "a"),
            (of("y", 50, "1"), "b"),
            (of("z", 1, "1"), "b"),
            (of("w", 50, "4"), "c"),
        ],
    );
    let mut tainted = node("d", json!({"cpu": "8"}));
    tainted["spec"] = json!({"taints": [{"key": "k", "effect": "NoSchedule"}]});
    snapshot.set_node(as_node(tainted));
    let pod = of("p", 10, "2");
    let Unfit { plan, diagnosis } = ask(&snapshot, &Nominator::default(), &[], &pod);
    assert_eq!(
        diagnosis.message(),
        "0/4 nodes are available: 1 node(s) had untolerated taint(s), 3 Insufficient cpu. \
         preemption: 0/4 nodes are available: 1 Insufficient cpu, \
         1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
    );
    assert_eq!((plan.nomination, plan.victims.len()), (Nomination::Clear, 0));
}

/// The rules of choice, one after the other; each pair of nodes differs in one rule only.
#[test]
fn the_node_is_taken_where_least_is_lost() {
    let choose = |a: Vec<PodInfo>, b: Vec<PodInfo>, budgets: &[Value]| {
        let there = a.into_iter().map(|pod| (pod, "a")).chain(b.into_iter().map(|pod| (pod, "b")));
        plan(&cluster(&[("a", "4"), ("b", "4")], there.collect()), budgets, &of("p", 10, "4")).0
    };
    let budget = json!({
        "metadata": {"name": "b", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "kept"}}}, "status": {"disruptionsAllowed": 0}
    });
    // 1. fewer broken budgets
    assert_eq!(choose(vec![of("kept", 1, "4")], vec![of("x", 9, "4")], &[budget]), "b");
    // 2. a lower highest priority
    assert_eq!(choose(vec![of("x", 5, "4")], vec![of("y", 4, "2"), of("z", 4, "2")], &[]), "b");
    // 3. a lower sum of priorities
    let a = vec![of("x", 5, "2"), of("v", 3, "2")];
    assert_eq!(choose(a, vec![of("y", 5, "2"), of("z", 2, "2")], &[]), "b");
    // ... of which each counts for something even if it is negative
    assert_eq!(choose(vec![of("x", -5, "2"), of("v", -5, "2")], vec![of("y", -5, "4")], &[]), "b");
    // 5. a later start of the first of the highest priority
    let a = vec![with("x", 5, "2", since(9)), with("v", 5, "2", since(1))];
    let b = vec![with("y", 5, "2", since(2)), with("z", 5, "2", since(3))];
    assert_eq!(choose(a, b, &[]), "b");
    // ... one that has not started is the youngest
    assert_eq!(choose(vec![with("x", 5, "4", since(9))], vec![of("y", 5, "4")], &[]), "b");
}

/// 4. fewer pods. With sums alike, only pods of the lowest priority of all, which count nothing, can tell.
#[test]
fn fewer_victims_are_less() {
    let lowest = i32::MIN;
    let there = vec![(of("x", lowest, "2"), "a"), (of("v", lowest, "2"), "a"), (of("y", lowest, "4"), "b")];
    let snapshot = cluster(&[("a", "4"), ("b", "4")], there);
    assert_eq!(plan(&snapshot, &[], &of("p", 10, "4")), to("b", &["y"]));
}

#[test]
fn budgets_keep_pods_as_long_as_others_can_go() {
    let budget = |allowed: i32, more: Value| {
        let mut budget = json!({
            "metadata": {"name": "b", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"tier": "front"}}},
            "status": {"disruptionsAllowed": allowed}
        });
        json_patch(&mut budget, more);
        budget
    };
    let front = json!({"metadata": {"labels": {"tier": "front"}}});
    let there = || {
        vec![
            (with("f1", 1, "1", front.clone()), "a"),
            (with("f2", 1, "1", front.clone()), "a"),
            (of("other", 2, "1"), "a"),
        ]
    };
    let snapshot = cluster(&[("a", "3")], there());
    let victims = |budget: Value, cpu| plan(&snapshot, &[budget], &of("p", 10, cpu)).1;
    // Without a budget the least important goes; with one, the other.
    assert_eq!(plan(&snapshot, &[], &of("p", 10, "1")).1, ["f2"]);
    assert_eq!(victims(budget(0, json!({})), "1"), ["other"]);
    // One may go: f1 is counted first and is not kept, f2 is.
    assert_eq!(victims(budget(1, json!({})), "1"), ["f1"]);
    // Where all must go, the most important comes first.
    assert_eq!(victims(budget(0, json!({})), "3"), ["other", "f1", "f2"]);
    // Those that the server lets go already, and other namespaces' budgets, do not count.
    let gone =
        json!({"status": {"disruptedPods": {"f1": "2026-01-01T00:00:00Z", "f2": "2026-01-01T00:00:00Z"}}});
    assert_eq!(victims(budget(0, gone), "1"), ["f2"]);
    assert_eq!(victims(budget(0, json!({"metadata": {"namespace": "other"}})), "1"), ["f2"]);
    assert_eq!(victims(budget(0, json!({"spec": {"selector": {"matchLabels": null}}})), "1"), ["f2"]);
}

#[test]
fn what_keeps_a_pod_away_goes_even_if_there_is_room() {
    let anti = json!({"spec": {"affinity": {"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "rival"}}}
        ]
    }}}});
    let mut host = node_labelled("a", json!({}));
    host["status"] = json!({"allocatable": {"cpu": "8", "memory": "1Gi", "pods": "9"}});
    let mut snapshot = snapshot([host]);
    crate::testing::place(&mut snapshot, [(of("rival", 1, "1"), "a"), (of("friend", 1, "1"), "a")]);
    assert_eq!(plan(&snapshot, &[], &with("p", 10, "1", anti)), to("a", &["rival"]));
}

#[test]
fn a_pod_preempts_once_and_only_if_it_may() {
    let mut snapshot =
        cluster(&[("a", "1"), ("b", "1")], vec![(of("x", 1, "1"), "a"), (of("y", 1, "1"), "b")]);
    let never = with("p", 10, "1", json!({"spec": {"preemptionPolicy": "Never"}}));
    assert_eq!(
        plan(&snapshot, &[], &never).0,
        "0/2 nodes are available: 2 Insufficient cpu. preemption: not eligible due to \
         preemptionPolicy=Never."
    );
    // Its victim on a is on its way out.
    snapshot.doom("uid-x", true);
    let (pod, mut nominator) = (of("p", 10, "1"), Nominator::default());
    nominator.nominate(Arc::new(pod.clone()), "a");
    let Unfit { diagnosis, plan } = ask(&snapshot, &nominator, &[], &pod);
    assert_eq!(
        diagnosis.message(),
        "0/2 nodes are available: 2 Insufficient cpu. preemption: not eligible due to a terminating pod on \
         the nominated node."
    );
    assert_eq!(plan.nomination, Nomination::Keep);
    // It was spared after all.
    snapshot.doom("uid-x", false);
    assert_eq!(ask(&snapshot, &nominator, &[], &pod).plan.victims.len(), 1);
}

#[test]
fn room_held_for_higher_pods_is_not_taken_and_lower_ones_lose_theirs() {
    let snapshot = cluster(&[("a", "4")], vec![(of("x", 1, "2"), "a")]);
    let mut nominator = Nominator::default();
    nominator.nominate(Arc::new(of("higher", 20, "2")), "a");
    nominator.nominate(Arc::new(of("lower", 5, "2")), "a");
    // With two CPUs held for the higher pod, the pod needs those of x.
    let plan = ask(&snapshot, &nominator, &[], &of("p", 10, "2")).plan;
    assert_eq!(plan.victims.len(), 1);
    let displaced: Vec<_> = plan.displaced.iter().map(|pod| pod.key.name.as_str()).collect();
    assert_eq!(displaced, ["lower"]);
    assert_eq!(ask(&snapshot, &nominator, &[], &of("p", 10, "3")).plan.nomination, Nomination::Clear);
}

#[test]
fn enough_candidates_end_the_search_and_arguments_are_checked() {
    let args = |percentage, absolute| DefaultPreemptionArgs {
        min_candidate_nodes_percentage: percentage,
        min_candidate_nodes_absolute: absolute,
    };
    assert_eq!(args(10, 100).enough(50), 50);
    assert_eq!(args(10, 100).enough(500), 100);
    assert_eq!(args(10, 100).enough(5000), 500);
    let errors = args(101, -1).validate().unwrap_err().to_string();
    assert!(errors.contains("not in valid range [0, 100]") && errors.contains("[0, inf)"), "{errors}");
    assert!(args(0, 0).validate().is_err() && args(0, 1).validate().is_ok());
}
