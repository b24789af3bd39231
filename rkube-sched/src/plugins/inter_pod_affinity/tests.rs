use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{
    framework::{CycleState, Filter, PreFilter, PreScore},
    snapshot::{NodeSet, Snapshot},
    testing::{self, labelled, node_labelled, place},
};

const HOSTNAME: &str = "kubernetes.io/hostname";

fn plugin() -> InterPodAffinity {
    InterPodAffinity::new(InterPodAffinityArgs::default(), &Handle::default()).unwrap()
}

/// z1 has a and b, z2 has c, and d has no zone.
fn cluster() -> Snapshot {
    let zoned = |name, zone: &str| node_labelled(name, json!({"zone": zone}));
    testing::snapshot([zoned("a", "z1"), zoned("b", "z1"), zoned("c", "z2"), node_labelled("d", json!({}))])
}

fn app(name: &str, app: &str) -> PodInfo {
    labelled(name, json!({"app": app}), json!({}))
}

fn term(app: &str, key: &str) -> Value {
    json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}})
}

/// A pod `app: web` with terms: `field` is `podAffinity` or `podAntiAffinity`.
fn demanding(name: &str, field: &str, terms: &[Value]) -> PodInfo {
    let affinity = json!({field: {"requiredDuringSchedulingIgnoredDuringExecution": terms}});
    labelled(name, json!({"app": "web"}), json!({"affinity": affinity}))
}

fn preferring(name: &str, towards: &[(i32, Value)], away: &[(i32, Value)]) -> PodInfo {
    let weighted = |terms: &[(i32, Value)]| -> Vec<Value> {
        terms.iter().map(|(weight, term)| json!({"weight": weight, "podAffinityTerm": term})).collect()
    };
    let affinity = json!({
        "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": weighted(towards)},
        "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": weighted(away)}
    });
    labelled(name, json!({"app": "web"}), json!({"affinity": affinity}))
}

#[test]
fn company_is_found_within_the_same_part_of_the_cluster() {
    let mut snapshot = cluster();
    place(&mut snapshot, [(app("x", "db"), "a"), (app("y", "cache"), "c")]);
    let check = |terms: &[Value], expected: &[&str]| {
        testing::assert_filter(&plugin(), &demanding("p", "podAffinity", terms), &snapshot, expected);
    };
    let no = REFUSED_BY_AFFINITY;
    check(&[term("db", "zone")], &["", "", no, no]);
    check(&[term("db", HOSTNAME)], &["", no, no, no]);
    // One pod must be meant by all terms: db and cache are two.
    check(&[term("db", "zone"), term("cache", "zone")], &[no; 4]);
    check(&[term("db", "zone"), term("db", HOSTNAME)], &["", no, no, no]);
    check(&[term("db", "none")], &[no; 4]);
}

#[test]
fn the_first_of_its_kind_may_go_anywhere_with_the_label() {
    let mut snapshot = cluster();
    let pod = demanding("p", "podAffinity", &[term("web", "zone")]);
    testing::assert_filter(&plugin(), &pod, &snapshot, &["", "", "", REFUSED_BY_AFFINITY]);
    place(&mut snapshot, [(app("x", "web"), "c")]);
    let no = REFUSED_BY_AFFINITY;
    testing::assert_filter(&plugin(), &pod, &snapshot, &[no, no, "", no]);
}

#[test]
fn both_sides_can_keep_pods_apart() {
    let mut snapshot = cluster();
    place(
        &mut snapshot,
        [(app("x", "db"), "a"), (demanding("y", "podAntiAffinity", &[term("web", "zone")]), "c")],
    );
    let apart = demanding("p", "podAntiAffinity", &[term("db", HOSTNAME)]);
    testing::assert_filter(
        &plugin(),
        &apart,
        &snapshot,
        &[REFUSED_BY_ANTI_AFFINITY, "", REFUSED_BY_OTHERS, ""],
    );
    testing::assert_filter(&plugin(), &app("p", "web"), &snapshot, &["", "", REFUSED_BY_OTHERS, ""]);
    testing::assert_filter(&plugin(), &app("p", "db"), &snapshot, &[""; 4]);
    let ask = |pod: &PodInfo| plugin().pre_filter(&mut CycleState::default(), pod, &snapshot).status;
    assert!(ask(&app("p", "db")).is_skip());
    assert!(ask(&app("p", "web")).is_success());
}

#[test]
fn namespaces_are_the_pods_own_unless_named_or_selected() {
    let handle = Handle::default();
    for (name, team) in [("default", "a"), ("shop", "a"), ("bank", "b")] {
        let namespace = json!({"metadata": {"name": name, "labels": {"team": team}}});
        handle.listers.get::<Namespace>().insert(Arc::new(serde_json::from_value(namespace).unwrap()));
    }
    let plugin = InterPodAffinity::new(InterPodAffinityArgs::default(), &handle).unwrap();
    let mut snapshot = cluster();
    for (namespace, node) in [("default", "a"), ("shop", "b"), ("bank", "c")] {
        let mut pod = (*app(namespace, "db").pod).clone();
        pod.metadata.namespace = Some(namespace.into());
        snapshot.set_pod(PlacedPod::of(&pod), node);
    }
    let check = |extra: Value, expected: [bool; 3]| {
        let mut term = term("db", HOSTNAME);
        term.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let pod = demanding("p", "podAntiAffinity", &[term]);
        let expected: Vec<_> = (expected.into_iter().chain([false]))
            .map(|refused| if refused { REFUSED_BY_ANTI_AFFINITY } else { "" })
            .collect();
        testing::assert_filter(&plugin, &pod, &snapshot, &expected);
    };
    check(json!({}), [true, false, false]);
    check(json!({"namespaces": ["bank"]}), [false, false, true]);
    check(json!({"namespaceSelector": {}}), [true, true, true]);
    check(json!({"namespaceSelector": {"matchLabels": {"team": "a"}}}), [true, true, false]);
    check(
        json!({"namespaceSelector": {"matchLabels": {"team": "b"}}, "namespaces": ["shop"]}),
        [false, true, true],
    );
}

#[test]
fn keys_match_or_mismatch_the_pods_own_labels() {
    let mut snapshot = cluster();
    let of = |name, rev: &str| labelled(name, json!({"app": "web", "rev": rev}), json!({}));
    place(&mut snapshot, [(of("x", "1"), "a"), (of("y", "2"), "c")]);
    let check = |field: &str, expected: &[&str]| {
        let mut term = term("web", HOSTNAME);
        term[field] = json!(["rev"]);
        let affinity = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
        let pod = labelled("p", json!({"app": "web", "rev": "2"}), json!({"affinity": affinity}));
        testing::assert_filter(&plugin(), &pod, &snapshot, expected);
    };
    check("matchLabelKeys", &["", "", REFUSED_BY_ANTI_AFFINITY, ""]);
    check("mismatchLabelKeys", &[REFUSED_BY_ANTI_AFFINITY, "", "", ""]);
}

#[test]
fn pods_moved_in_thought_count() {
    let mut snapshot = cluster();
    place(
        &mut snapshot,
        [(app("x", "db"), "a"), (demanding("y", "podAntiAffinity", &[term("web", "zone")]), "c")],
    );
    let plugin = plugin();
    let extensions = plugin.extensions().unwrap();
    let view = |name| snapshot.view(snapshot.find(name).unwrap());
    let begin = |pod: &PodInfo| {
        let mut state = CycleState::default();
        assert!(plugin.pre_filter(&mut state, pod, &snapshot).status.is_success());
        state
    };
    let apart = demanding("p", "podAntiAffinity", &[term("db", "zone")]);
    let mut state = begin(&apart);
    let check = |state: &CycleState, pod: &PodInfo, node| plugin.filter(state, pod, view(node)).message();
    let (there, _) = snapshot.pod("uid-x").unwrap();
    assert!(extensions.shift(&mut state, &apart, there, view("a"), -1).is_success());
    let (there, _) = snapshot.pod("uid-y").unwrap();
    assert!(extensions.shift(&mut state, &apart, there, view("c"), -1).is_success());
    assert_eq!(["a", "b", "c"].map(|node| check(&state, &apart, node)), ["", "", ""]);

    // Without the only db the demand for one cannot be met; with one on c it can.
    let beside = demanding("p", "podAffinity", &[term("db", "zone")]);
    let mut state = begin(&beside);
    let (there, _) = snapshot.pod("uid-x").unwrap();
    assert!(extensions.shift(&mut state, &beside, there, view("a"), -1).is_success());
    assert_eq!(check(&state, &beside, "a"), REFUSED_BY_AFFINITY);
    let (there, _) = snapshot.pod("uid-y").unwrap();
    assert!(extensions.shift(&mut state, &beside, there, view("c"), -1).is_success());
    assert!(
        extensions.shift(&mut state, &beside, &PlacedPod::from(&app("z", "db")), view("c"), 1).is_success()
    );
    assert_eq!(["a", "c"].map(|node| check(&state, &beside, node)), [REFUSED_BY_AFFINITY, ""]);
}

/// By hand: 10 for the zone of db (a, b), -4 for the node of web (b): 10, 6, 0, 0, stretched: 100, 60, 0, 0.
#[test]
fn preferences_of_the_pod_add_up() {
    let mut snapshot = cluster();
    place(&mut snapshot, [(app("x", "db"), "a"), (app("y", "web"), "b")]);
    let pod = preferring("p", &[(10, term("db", "zone"))], &[(4, term("web", HOSTNAME))]);
    testing::assert_scores(&plugin(), Some(&plugin()), &pod, &snapshot, &[100, 60, 0, 0]);
    // Two that are meant count twice: 20, 16, 0, 0: 16 / 20 = 80.
    place(&mut snapshot, [(app("z", "db"), "b")]);
    testing::assert_scores(&plugin(), Some(&plugin()), &pod, &snapshot, &[100, 80, 0, 0]);
}

/// By hand: the pod on c likes web in its zone, 5; the one on a dislikes it on its node, -3; the one on b
/// demands it in its zone, 1 by default: a 1 - 3 = -2, b 1, c 5, d 0; from -2 to 5: 0, 42, 100, 28.
/// With 8 for demands: a 5, b 8, c 5, d 0: 62, 100, 62, 0.
#[test]
fn preferences_of_the_pods_there_count_too() {
    let mut snapshot = cluster();
    place(
        &mut snapshot,
        [
            (preferring("x", &[], &[(3, term("web", HOSTNAME))]), "a"),
            (demanding("y", "podAffinity", &[term("web", "zone")]), "b"),
            (preferring("z", &[(5, term("web", "zone"))], &[]), "c"),
        ],
    );
    let pod = app("p", "web");
    testing::assert_scores(&plugin(), Some(&plugin()), &pod, &snapshot, &[0, 42, 100, 28]);
    let with = |args| InterPodAffinity::new(Args(args).read(NAME).unwrap(), &Handle::default()).unwrap();
    let heavy = with(json!({"hardPodAffinityWeight": 8}));
    testing::assert_scores(&heavy, Some(&heavy), &pod, &snapshot, &[62, 100, 62, 0]);
    let deaf = with(json!({"ignorePreferredTermsOfExistingPods": true}));
    let nodes = NodeSet::new(&snapshot, snapshot.nodes());
    assert!(deaf.pre_score(&mut CycleState::default(), &pod, nodes).is_skip());
    assert!(plugin().pre_score(&mut CycleState::default(), &app("p", "db"), nodes).is_skip());
}

#[test]
fn wrong_arguments_are_refused_by_field() {
    let refused = |args| make(&Args(args), &Handle::default()).err().unwrap().to_string();
    let text = refused(json!({"hardPodAffinityWeight": 101}));
    assert!(
        text.contains("hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]"),
        "{text}"
    );
    assert!(refused(json!({"hard": 1})).contains("unknown field"));
}

#[test]
fn hints_wake_only_pods_that_may_fit_now() {
    let plugin = plugin();
    let beside = demanding("p", "podAffinity", &[term("db", "zone")]);
    let apart = demanding("p", "podAntiAffinity", &[term("db", "zone")]);
    let bound = |app: &str| testing::placed(labelled("x", json!({"app": app}), json!({"nodeName": "a"})));
    let added = |app| ClusterEvent::pod_assigned(bound(app));
    let gone = |app| ClusterEvent::assigned_pod_deleted(bound(app));
    assert_eq!(plugin.hint(&beside, &added("db")), Hint::Queue);
    assert_eq!(plugin.hint(&beside, &added("web")), Hint::Skip);
    assert_eq!(plugin.hint(&beside, &gone("db")), Hint::Skip);
    assert_eq!(plugin.hint(&apart, &gone("db")), Hint::Queue);
    assert_eq!(plugin.hint(&apart, &gone("web")), Hint::Skip);
    let update = ClusterEvent::assigned_pod_updated(&bound("web"), &bound("db")).unwrap();
    assert_eq!(plugin.hint(&beside, &update), Hint::Queue);
    assert_eq!(plugin.hint(&apart, &update), Hint::Skip);
    // A pod that kept this one away is gone.
    let jealous = demanding("y", "podAntiAffinity", &[term("web", "zone")]);
    let gone = ClusterEvent::assigned_pod_deleted(testing::placed(jealous));
    assert_eq!(plugin.hint(&app("p", "web"), &gone), Hint::Queue);
    assert_eq!(plugin.hint(&app("p", "db"), &gone), Hint::Skip);
    let node = |labels| testing::as_node(node_labelled("a", labels));
    assert_eq!(plugin.hint(&beside, &ClusterEvent::node_added(node(json!({"zone": "z"})))), Hint::Queue);
    assert_eq!(plugin.hint(&beside, &ClusterEvent::node_added(node(json!({})))), Hint::Skip);
    assert_eq!(plugin.hint(&app("p", "web"), &ClusterEvent::node_added(node(json!({})))), Hint::Queue);
}

#[test]
fn it_costs_nothing_where_nobody_has_terms() {
    let mut snapshot = cluster();
    place(&mut snapshot, [(app("x", "db"), "a")]);
    assert_eq!(plugin().locality(&app("p", "web"), &snapshot), Locality::Node);
    let choosy = demanding("p", "podAffinity", &[term("db", "zone")]);
    assert_eq!(plugin().locality(&choosy, &snapshot), Locality::Cluster);
    place(&mut snapshot, [(demanding("y", "podAntiAffinity", &[term("web", "zone")]), "b")]);
    assert_eq!(plugin().locality(&app("p", "web"), &snapshot), Locality::Cluster);
}
