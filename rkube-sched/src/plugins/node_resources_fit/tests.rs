use serde_json::json;

use super::*;
use crate::{
    snapshot::PlacedPod,
    testing::{self, as_node, node, pod_asking},
};

fn plugin(args: serde_json::Value) -> NodeResourcesFit {
    NodeResourcesFit::new(Args(args).read(NAME).unwrap()).unwrap()
}

/// Two nodes of 4 CPU and 10000 bytes (b twice the CPU), pods on both.
fn cluster() -> Snapshot {
    let mut snapshot = testing::snapshot([
        node("a", json!({"cpu": "4", "memory": "10000", "ephemeral-storage": "100", "example.com/gpu": "2"})),
        node("b", json!({"cpu": "8", "memory": "10000", "ephemeral-storage": "100"})),
    ]);
    snapshot.set_pod(
        PlacedPod::from(&pod_asking("x", json!({"cpu": "1", "memory": "5000", "example.com/gpu": "1"}))),
        "a",
    );
    snapshot.set_pod(PlacedPod::from(&pod_asking("y", json!({"cpu": "3", "memory": "2000"}))), "b");
    snapshot
}

#[test]
fn every_lack_is_told_in_order() {
    let snapshot = cluster();
    let check = |requests, expected: &[&str]| {
        testing::assert_filter(&plugin(json!(null)), &pod_asking("p", requests), &snapshot, expected);
    };
    check(json!({"cpu": "3", "memory": "5000"}), &["", ""]);
    check(json!({"cpu": "3001m", "memory": "5001"}), &["Insufficient cpu, Insufficient memory", ""]);
    check(
        json!({"cpu": "3500m", "memory": "9000", "ephemeral-storage": "101"}),
        &[
            "Insufficient cpu, Insufficient memory, Insufficient ephemeral-storage",
            "Insufficient memory, Insufficient ephemeral-storage",
        ],
    );
    check(json!({"example.com/gpu": "1"}), &["", "Insufficient example.com/gpu"]);
    check(json!({"example.com/none": "1"}), &["Insufficient example.com/none"; 2]);
    check(json!({"example.com/gpu": "0"}), &["", ""]);
}

#[test]
fn more_than_a_node_has_is_beyond_help() {
    let snapshot = cluster();
    let check = |requests| {
        let pod = pod_asking("p", requests);
        let view = snapshot.view(snapshot.nodes()[0]);
        plugin(json!(null)).filter(&CycleState::default(), &pod, view).code()
    };
    assert_eq!(check(json!({"cpu": "4"})), Code::Unschedulable);
    assert_eq!(check(json!({"cpu": "4001m"})), Code::UnschedulableAndUnresolvable);
    assert_eq!(check(json!({"cpu": "4", "example.com/gpu": "3"})), Code::UnschedulableAndUnresolvable);
}

#[test]
fn nodes_hold_so_many_pods() {
    let mut snapshot = testing::snapshot([node("a", json!({"cpu": "4", "pods": "1"}))]);
    let pod = pod_asking("p", json!({}));
    testing::assert_filter(&plugin(json!(null)), &pod, &snapshot, &[""]);
    snapshot.set_pod(PlacedPod::from(&pod_asking("q", json!({}))), "a");
    testing::assert_filter(&plugin(json!(null)), &pod, &snapshot, &["Too many pods"]);
}

#[test]
fn ignored_resources_are_not_checked_if_they_are_extended() {
    let snapshot = cluster();
    let pod = pod_asking("p", json!({"example.com/gpu": "9", "other.io/x": "1", "hugepages-2Mi": "1"}));
    let args = json!({
        "kind": "NodeResourcesFitArgs",
        "ignoredResources": ["example.com/gpu", "hugepages-2Mi"], "ignoredResourceGroups": ["other.io"]
    });
    testing::assert_filter(&plugin(args), &pod, &snapshot, &["Insufficient hugepages-2Mi"; 2]);
}

/// By hand, for a pod of 1 CPU and 3000 bytes. With it a uses 2000/4000 and 8000/10000, b 4000/8000
/// and 5000/10000.
/// Least: a (50 + 20) / 2 = 35, b (50 + 50) / 2 = 50. Most: a (50 + 80) / 2 = 65, b 50.
#[test]
fn least_and_most_allocated() {
    let (snapshot, pod) = (cluster(), pod_asking("p", json!({"cpu": "1", "memory": "3000"})));
    let least = plugin(json!(null));
    testing::assert_scores(&least, Some(&least), &pod, &snapshot, &[35, 50]);
    let most = plugin(json!({"scoringStrategy": {"type": "MostAllocated"}}));
    testing::assert_scores(&most, Some(&most), &pod, &snapshot, &[65, 50]);
    // CPU three times as heavy as memory: (3 * 50 + 20) / 4 = 42.
    let resources = json!([{"name": "cpu", "weight": 3}, {"name": "memory", "weight": 1}]);
    let heavy = plugin(json!({"scoringStrategy": {"type": "LeastAllocated", "resources": resources}}));
    testing::assert_scores(&heavy, Some(&heavy), &pod, &snapshot, &[42, 50]);
}

/// By hand: a container that asks for nothing is taken to need 100 m and 200 Mi. With two on it a node of
/// 4 CPU and 1 Gi has (4000 - 200) / 4000 = 95 and (1024 - 400) / 1024 = 60: 77; with one 97, 80: 88.
#[test]
fn silent_containers_need_a_little() {
    let mut snapshot =
        testing::snapshot(["a", "b"].map(|name| node(name, json!({"cpu": "4", "memory": "1Gi"}))));
    snapshot.set_pod(PlacedPod::from(&pod_asking("x", json!({}))), "a");
    let least = plugin(json!(null));
    testing::assert_scores(&least, Some(&least), &pod_asking("p", json!({})), &snapshot, &[77, 88]);
}

/// By hand: curve (0, 0), (50, 100), (100, 20). a: CPU 50 % gives 100; memory 80 %: 100 - 80 * 30 / 50 =
/// 52; 76. b: 100 and 100. With one GPU of two more on a: 100 % gives 20: (100 + 20) / 2 = 60 for CPU and
/// GPU; b has none: 100.
#[test]
fn a_curve_over_utilization() {
    let shape = json!([
        {"utilization": 0, "score": 0}, {"utilization": 50, "score": 10}, {"utilization": 100, "score": 2}
    ]);
    let args = |resources| {
        json!({"scoringStrategy": {
            "type": "RequestedToCapacityRatio", "resources": resources,
            "requestedToCapacityRatio": {"shape": shape}
        }})
    };
    let snapshot = cluster();
    let pod = pod_asking("p", json!({"cpu": "1", "memory": "3000"}));
    let both = plugin(args(json!([{"name": "cpu"}, {"name": "memory"}])));
    testing::assert_scores(&both, Some(&both), &pod, &snapshot, &[76, 100]);
    let gpu = plugin(args(json!([{"name": "cpu"}, {"name": "example.com/gpu"}])));
    let pod = pod_asking("p", json!({"cpu": "1", "example.com/gpu": "1"}));
    testing::assert_scores(&gpu, Some(&gpu), &pod, &snapshot, &[60, 100]);
}

#[test]
fn wrong_arguments_are_refused() {
    let refused = |args| make(&Args(args), &Handle::default()).err().unwrap().to_string();
    assert!(refused(json!({"ignored": []})).contains("unknown field"));
    let strategy = |strategy: serde_json::Value| json!({"scoringStrategy": strategy});
    let shape = |points: serde_json::Value| {
        strategy(json!({"type": "RequestedToCapacityRatio", "requestedToCapacityRatio": {"shape": points}}))
    };
    let point = |utilization: i64, score: i64| json!({"utilization": utilization, "score": score});
    for (args, expected) in [
        (
            strategy(json!({"resources": [{"name": "cpu", "weight": 101}]})),
            "scoringStrategy.resources[0].weight: Invalid value: 101: resource weight of cpu not in valid range (0, 100]",
        ),
        (
            strategy(json!({"type": "RequestedToCapacityRatio"})),
            "scoringStrategy.requestedToCapacityRatio: Required value: must be specified when type is RequestedToCapacityRatio",
        ),
        (
            strategy(json!({"requestedToCapacityRatio": {"shape": [point(0, 0)]}})),
            "scoringStrategy.requestedToCapacityRatio: Forbidden: must be nil when type is not RequestedToCapacityRatio",
        ),
        (shape(json!([])), "shape: Required value: at least one point must be specified"),
        (
            shape(json!([point(50, 1), point(50, 2)])),
            "shape[1].utilization: Invalid value: 50: values must be sorted in increasing order",
        ),
        (shape(json!([point(50, 11)])), "shape[0].score: Invalid value: 11: not in valid range [0, 10]"),
        (
            shape(json!([point(101, 1)])),
            "shape[0].utilization: Invalid value: 101: not in valid range [0, 100]",
        ),
        (
            json!({"ignoredResourceGroups": ["a/b"]}),
            "ignoredResourceGroups[0]: Invalid value: \"a/b\": resource group name can't contain '/'",
        ),
        (json!({"ignoredResources": ["a b"]}), "ignoredResources[0]: Invalid value: \"a b\""),
    ] {
        let text = refused(args);
        assert!(text.contains(expected), "{text}");
    }
    // An empty list is the default one, and no weight is a weight of one.
    let defaults = plugin(json!({"scoringStrategy": {"resources": []}}));
    assert_eq!(defaults.args.scoring_strategy, ScoringStrategy::default());
    let light = plugin(json!({"scoringStrategy": {"resources": [{"name": "cpu", "weight": 0}]}}));
    assert_eq!(light.args.scoring_strategy.resources[0].weight, 1);
}

#[test]
fn hints_wake_only_pods_that_may_fit_now() {
    let fit = plugin(json!(null));
    let pod = pod_asking("p", json!({"cpu": "2"}));
    let sized = |cpu: &str, memory: &str| as_node(node("a", json!({"cpu": cpu, "memory": memory})));
    assert_eq!(fit.hint(&pod, &ClusterEvent::node_added(sized("2", "1"))), Hint::Queue);
    assert_eq!(fit.hint(&pod, &ClusterEvent::node_added(sized("1", "1"))), Hint::Skip);
    let update = |old, new| ClusterEvent::node_updated(&old, &new).unwrap();
    assert_eq!(fit.hint(&pod, &update(sized("2", "1"), sized("3", "1"))), Hint::Queue);
    // Only memory grew, which the pod does not ask for.
    assert_eq!(fit.hint(&pod, &update(sized("2", "1"), sized("2", "2"))), Hint::Skip);

    let bound = testing::placed(testing::pod("q", json!({"nodeName": "a"})));
    assert_eq!(fit.hint(&pod, &ClusterEvent::assigned_pod_deleted(bound)), Hint::Queue);
    let bound = |cpu: &str| {
        let container = json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
        testing::placed(testing::pod("q", json!({"nodeName": "a", "containers": [container]})))
    };
    let resize = |old, new| ClusterEvent::assigned_pod_updated(&bound(old), &bound(new)).unwrap();
    assert_eq!(fit.hint(&pod, &resize("2", "1")), Hint::Queue);
    assert_eq!(fit.hint(&pod, &resize("1", "2")), Hint::Skip);
}
