use std::sync::Arc;

use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Service};
use serde_json::{Value, json};

use super::*;
use crate::{
    framework::{CycleState, Filter, PreFilter, PreScore},
    snapshot::{NodeSet, PlacedPod, Snapshot},
    testing::{self, labelled, node_labelled, place},
};

fn plugin() -> PodTopologySpread {
    PodTopologySpread::new(PodTopologySpreadArgs::default(), &Handle::default()).unwrap()
}

fn zoned(name: &str, zone: &str) -> Value {
    node_labelled(name, json!({"zone": zone}))
}

/// z1 has a and b, z2 has c, and d has no zone.
fn cluster() -> Snapshot {
    testing::snapshot([zoned("a", "z1"), zoned("b", "z1"), zoned("c", "z2"), node_labelled("d", json!({}))])
}

fn web(name: &str) -> PodInfo {
    labelled(name, json!({"app": "web"}), json!({}))
}

fn spread(mut constraint: Value) -> PodInfo {
    let defaults = json!({
        "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}
    });
    for (key, value) in defaults.as_object().unwrap() {
        if constraint.get(key).is_none() {
            constraint[key] = value.clone();
        }
    }
    let mut spec = json!({"topologySpreadConstraints": [constraint]});
    if let Some(selector) = constraint.get("nodeSelector") {
        spec["nodeSelector"] = selector.clone();
        spec["topologySpreadConstraints"][0].as_object_mut().unwrap().remove("nodeSelector");
    }
    labelled("p", json!({"app": "web", "rev": "2"}), spec)
}

/// By hand: z1 has 2, z2 has 0. In z1 the skew would be 3 - 0, in z2 1 - 0.
#[test]
fn no_domain_gets_too_far_ahead() {
    let mut snapshot = cluster();
    place(&mut snapshot, [(web("x"), "a"), (web("y"), "b"), (labelled("z", json!({}), json!({})), "c")]);
    let check = |constraint, expected: &[&str]| {
        testing::assert_filter(&plugin(), &spread(constraint), &snapshot, expected);
    };
    check(json!({}), &[REFUSED, REFUSED, "", NO_LABEL]);
    check(json!({"maxSkew": 3}), &["", "", "", NO_LABEL]);
    check(json!({"whenUnsatisfiable": "ScheduleAnyway"}), &[""; 4]);
    // By node: 1, 1, 0, 0.
    check(json!({"topologyKey": HOSTNAME}), &[REFUSED, REFUSED, "", ""]);
    // A selector that says nothing counts no pods, and the pod itself as one.
    check(json!({"labelSelector": {}}), &["", "", "", NO_LABEL]);
    check(json!({"topologyKey": "none"}), &[NO_LABEL; 4]);
}

/// By hand: one in each of the two domains, so the fewest is 1; were three wanted, it would be 0.
#[test]
fn fewer_domains_than_wanted_count_as_an_empty_one() {
    let mut snapshot = cluster();
    place(&mut snapshot, [(web("x"), "a"), (web("y"), "c")]);
    let check = |constraint, expected: &[&str]| {
        testing::assert_filter(&plugin(), &spread(constraint), &snapshot, expected);
    };
    check(json!({"minDomains": 2}), &["", "", "", NO_LABEL]);
    check(json!({"minDomains": 3}), &[REFUSED, REFUSED, REFUSED, NO_LABEL]);
}

#[test]
fn pods_on_their_way_out_and_of_other_namespaces_do_not_count() {
    let mut snapshot = cluster();
    let mut leaving = (*web("x").pod).clone();
    leaving.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    snapshot.set_pod(PlacedPod::of(&leaving), "a");
    let mut foreign = (*web("y").pod).clone();
    foreign.metadata.namespace = Some("other".into());
    snapshot.set_pod(PlacedPod::of(&foreign), "b");
    testing::assert_filter(&plugin(), &spread(json!({})), &snapshot, &["", "", "", NO_LABEL]);
}

/// By hand: z1 has 1, and z2 counts only if c does.
#[test]
fn policies_say_which_nodes_count() {
    let mut nodes = vec![zoned("a", "z1"), zoned("b", "z1"), zoned("c", "z2")];
    nodes[0]["metadata"]["labels"]["pool"] = json!("x");
    nodes[1]["metadata"]["labels"]["pool"] = json!("x");
    nodes[2]["spec"] = json!({"taints": [{"key": "t", "effect": "NoSchedule"}]});
    let mut snapshot = testing::snapshot(nodes);
    place(&mut snapshot, [(web("x"), "a")]);
    let check = |constraint, expected: &[&str]| {
        testing::assert_filter(&plugin(), &spread(constraint), &snapshot, expected);
    };
    check(json!({}), &[REFUSED, REFUSED, ""]);
    check(json!({"nodeSelector": {"pool": "x"}}), &["", "", ""]);
    check(json!({"nodeSelector": {"pool": "x"}, "nodeAffinityPolicy": "Ignore"}), &[REFUSED, REFUSED, ""]);
    check(json!({"nodeTaintsPolicy": "Honor"}), &["", "", ""]);
}

/// By hand: of the pods there, only y has the pod's own revision.
#[test]
fn match_label_keys_take_the_pods_own_values() {
    let mut snapshot = cluster();
    let of = |name, rev: &str| labelled(name, json!({"app": "web", "rev": rev}), json!({}));
    place(&mut snapshot, [(of("x", "1"), "a"), (of("y", "2"), "c")]);
    let pod = spread(json!({"matchLabelKeys": ["rev", "absent"]}));
    testing::assert_filter(&plugin(), &pod, &snapshot, &["", "", REFUSED, NO_LABEL]);
}

#[test]
fn pods_moved_in_thought_count() {
    let mut snapshot = cluster();
    place(&mut snapshot, [(web("x"), "a"), (web("y"), "b")]);
    let (plugin, pod) = (plugin(), spread(json!({})));
    let mut state = CycleState::default();
    assert!(plugin.pre_filter(&mut state, &pod, &snapshot).status.is_success());
    let view = |name| snapshot.view(snapshot.find(name).unwrap());
    let check = |state: &CycleState, node| plugin.filter(state, &pod, view(node)).message();
    assert_eq!([check(&state, "a"), check(&state, "c")], [REFUSED, ""]);
    let extensions = plugin.extensions().unwrap();
    // Without its two pods z1 is as empty as z2.
    for (uid, node) in [("uid-x", "a"), ("uid-y", "b")] {
        let (placed, _) = snapshot.pod(uid).unwrap();
        assert!(extensions.shift(&mut state, &pod, placed, view(node), -1).is_success());
    }
    assert_eq!([check(&state, "a"), check(&state, "c")], ["", ""]);
    // With one in z2 besides, z2 is ahead.
    assert!(extensions.shift(&mut state, &pod, &PlacedPod::from(&web("w")), view("c"), 1).is_success());
    assert_eq!([check(&state, "a"), check(&state, "c")], ["", REFUSED]);
}

/// By hand. Two zones: a pod weighs ln 4 = 1.386. a: 2 pods, 2.77, 3; b and c: 1 pod, 1.39, 1. Turned round:
/// 100 * (3 + 1 - 3) / 3 = 33 and 100 * (3 + 1 - 1) / 3 = 100. The node without a zone: 0.
#[test]
fn emptier_domains_score_higher() {
    let mut snapshot = testing::snapshot([
        zoned("a", "z1"),
        zoned("b", "z2"),
        zoned("c", "z2"),
        node_labelled("d", json!({})),
    ]);
    place(&mut snapshot, [(web("x"), "a"), (web("y"), "a"), (web("z"), "b")]);
    let pod = spread(json!({"whenUnsatisfiable": "ScheduleAnyway"}));
    testing::assert_scores(&plugin(), Some(&plugin()), &pod, &snapshot, &[33, 100, 100, 0]);
    // By node, four of them, ln 6 = 1.792: 2 pods 3.58, 4; 1 pod 2; 0: 100 * (4 - 4) / 4, (4 - 2) / 4, ...
    let pod = spread(json!({"whenUnsatisfiable": "ScheduleAnyway", "topologyKey": HOSTNAME}));
    testing::assert_scores(&plugin(), Some(&plugin()), &pod, &snapshot, &[0, 50, 100, 100]);
    // A skew of 5: 4 more for each: 7, 5, 5: 100 * (7 + 5 - 7) / 7 = 71, 100 * (7 + 5 - 5) / 7 = 100.
    let pod = spread(json!({"whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 5}));
    testing::assert_scores(&plugin(), Some(&plugin()), &pod, &snapshot, &[71, 100, 100, 0]);
}

/// A service that selects `app: web`, and a replica set of revision 2.
fn with_owners(args: PodTopologySpreadArgs) -> PodTopologySpread {
    let handle = Handle::default();
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default"}, "spec": {"selector": {"app": "web"}}
    }))
    .unwrap();
    let set: ReplicaSet = serde_json::from_value(json!({
        "metadata": {"name": "web-2", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"rev": "2"}}}
    }))
    .unwrap();
    handle.listers.get::<Service>().insert(Arc::new(service));
    handle.listers.get::<ReplicaSet>().insert(Arc::new(set));
    PodTopologySpread::new(args, &handle).unwrap()
}

/// By hand. Three nodes: ln 5 = 1.609 each pod; zones: z1, z2, none: ln 5 again. a: 2 * 1.609 + 2 (skew 3),
/// and 2 * 1.609 + 4 (skew 5), together 12.4, 12; b: 2 + 4 = 6; c, by node only: 1.609 + 2 = 3.6, 4. Turned round with
/// 4 and 12: 100 * 4 / 12 = 33, 100 * 10 / 12 = 83, 100 * 12 / 12 = 100.
#[test]
fn pods_of_a_service_are_spread_gently_by_default() {
    let zone = |name, zone: &str| node_labelled(name, json!({ZONE: zone}));
    let mut snapshot = testing::snapshot([zone("a", "z1"), zone("b", "z2"), node_labelled("c", json!({}))]);
    place(&mut snapshot, [(web("x"), "a"), (web("y"), "a"), (web("z"), "c")]);
    let plugin = with_owners(PodTopologySpreadArgs::default());
    testing::assert_scores(&plugin, Some(&plugin), &web("p"), &snapshot, &[33, 83, 100]);
    let nodes = NodeSet::new(&snapshot, snapshot.nodes());
    let stranger = labelled("p", json!({"app": "other"}), json!({}));
    assert!(plugin.pre_score(&mut CycleState::default(), &stranger, nodes).is_skip());
    // Who is not to be spread is decided without a look at other nodes.
    assert_eq!(plugin.locality(&stranger, &snapshot), Locality::Node);
    assert_eq!(plugin.locality(&web("p"), &snapshot), Locality::Cluster);
    assert_eq!(plugin.locality(&spread(json!({})), &snapshot), Locality::Cluster);
}

#[test]
fn a_clusters_own_defaults_count_pods_of_service_and_controller() {
    let args = json!({"defaultingType": "List", "defaultConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    ]});
    let plugin = with_owners(Args(args).read(NAME).unwrap());
    let of = |name, rev: &str| labelled(name, json!({"app": "web", "rev": rev}), json!({}));
    let mut snapshot = cluster();
    place(&mut snapshot, [(of("x", "1"), "a"), (of("y", "1"), "c"), (of("z", "2"), "c")]);
    let mut owned = (*of("p", "2").pod).clone();
    owned.metadata.owner_references = serde_json::from_value(json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-2", "uid": "u", "controller": true
    }]))
    .unwrap();
    // By hand: of revision 2 there are 0 and 1, of both 1 and 2.
    let owned = PodInfo::new(Arc::new(owned));
    testing::assert_filter(&plugin, &owned, &snapshot, &["", "", REFUSED, NO_LABEL]);
    testing::assert_filter(&plugin, &of("q", "1"), &snapshot, &["", "", REFUSED, NO_LABEL]);
    // Constraints of its own replace them.
    testing::assert_filter(&plugin, &spread(json!({"maxSkew": 9})), &snapshot, &["", "", "", NO_LABEL]);
}

#[test]
fn a_pods_kin_follows_the_services() {
    let handle = Handle::default();
    let (owners, services) = (Owners::new(&handle), handle.listers.get::<Service>());
    let pod = web("p");
    let selects = |selector: Value| {
        let service =
            json!({"metadata": {"name": "s", "namespace": "default"}, "spec": {"selector": selector}});
        services.insert(Arc::new(serde_json::from_value(service).unwrap()));
        owners.selector(&pod).is_everything()
    };
    assert!(owners.selector(&pod).is_everything());
    assert!(!selects(json!({"app": "web"})));
    assert!(!owners.selector(&pod).is_everything());
    assert!(owners.selector(&labelled("q", json!({}), json!({}))).is_everything(), "another pod");
    assert!(selects(json!({"app": "db"})));
}

#[test]
fn wrong_arguments_are_refused_by_field() {
    let refused = |args| make(&Args(args), &Handle::default()).err().unwrap().to_string();
    let list = |constraint: Value| json!({"defaultingType": "List", "defaultConstraints": [constraint]});
    let good = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
    let with = |key: &str, value: Value| {
        let mut constraint = good.clone();
        constraint[key] = value;
        refused(list(constraint))
    };
    assert!(refused(json!({"defaultConstraints": [good]})).contains("defaultingType: Invalid value"));
    assert!(with("maxSkew", json!(0)).contains("defaultConstraints[0].maxSkew: Invalid value: 0"));
    assert!(with("topologyKey", json!("")).contains("defaultConstraints[0].topologyKey: Required value"));
    assert!(with("topologyKey", json!("a b")).contains("defaultConstraints[0].topologyKey"));
    assert!(with("whenUnsatisfiable", json!("x")).contains("Unsupported value"));
    assert!(with("labelSelector", json!({})).contains("labelSelector: Forbidden"));
    let twice = json!({"defaultingType": "List", "defaultConstraints": [good, good]});
    assert!(refused(twice).contains("defaultConstraints[1]: Duplicate value"));
    assert!(refused(json!({"defaultingType": "Other"})).contains("unknown variant"));
}

#[test]
fn hints_wake_only_pods_whose_count_may_have_changed() {
    let (plugin, pod) = (plugin(), spread(json!({})));
    let bound = |labels| testing::placed(labelled("x", labels, json!({"nodeName": "a"})));
    let (matching, other) = (bound(json!({"app": "web"})), bound(json!({"app": "db"})));
    assert_eq!(plugin.hint(&pod, &ClusterEvent::pod_assigned(matching.clone())), Hint::Queue);
    assert_eq!(plugin.hint(&pod, &ClusterEvent::pod_assigned(other.clone())), Hint::Skip);
    assert_eq!(plugin.hint(&pod, &ClusterEvent::assigned_pod_deleted(matching.clone())), Hint::Queue);
    let update = |old, new| ClusterEvent::assigned_pod_updated(old, new).unwrap();
    assert_eq!(plugin.hint(&pod, &update(&matching, &other)), Hint::Queue);
    assert_eq!(plugin.hint(&pod, &update(&other, &bound(json!({"app": "x"})))), Hint::Skip);
    let own = |labels| Arc::new(labelled("p", labels, json!({})));
    let mine = |old, new| ClusterEvent::waiting_pod_updated(&own(old), &own(new)).unwrap();
    assert_eq!(plugin.hint(&pod, &mine(json!({}), json!({"app": "web"}))), Hint::Queue);
    assert_eq!(plugin.hint(&pod, &mine(json!({}), json!({"app": "x"}))), Hint::Skip);
    let tolerant = Arc::new(labelled("p", json!({}), json!({"tolerations": [{"key": "k"}]})));
    let tolerant = ClusterEvent::waiting_pod_updated(&own(json!({})), &tolerant).unwrap();
    assert_eq!(plugin.hint(&pod, &tolerant), Hint::Skip, "taints are not looked at");
    let node = |value| testing::as_node(value);
    let (z1, z2, none) =
        (node(zoned("a", "z1")), node(zoned("a", "z2")), node(node_labelled("a", json!({}))));
    assert_eq!(plugin.hint(&pod, &ClusterEvent::node_added(z1.clone())), Hint::Queue);
    assert_eq!(plugin.hint(&pod, &ClusterEvent::node_added(none.clone())), Hint::Skip);
    assert_eq!(plugin.hint(&pod, &ClusterEvent::node_deleted(z1.clone())), Hint::Queue);
    assert_eq!(plugin.hint(&pod, &ClusterEvent::node_updated(&z1, &z2).unwrap()), Hint::Queue);
    assert_eq!(plugin.hint(&pod, &ClusterEvent::node_updated(&z1, &none).unwrap()), Hint::Queue);
}
