//! The plan, by tables and by a slow count.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::plan::{Observed, Plan, needs_scale, plan};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(name: &str, ready: bool, deleting: bool) -> Arc<Pod> {
    let status = if ready { "True" } else { "False" };
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]},
    }))
    .unwrap();
    if deleting {
        pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
    }
    Arc::new(pod)
}

fn ready(count: usize) -> Vec<Arc<Pod>> {
    (0..count).map(|at| pod(&format!("p{at}"), true, false)).collect()
}

fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
    let metadata = json!({"name": "b", "namespace": "default", "generation": 3});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
}

fn planned(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], scale: i32, now: i64) -> Plan {
    plan(&Observed { budget, pods, scale, now: at(now) }).unwrap()
}

/// Expected, desired, healthy, allowed.
fn counts(plan: &Plan) -> [i32; 4] {
    let status = &plan.status;
    [status.expected_pods, status.desired_healthy, status.current_healthy, status.disruptions_allowed]
        .map(|count| count.unwrap())
}

#[test]
fn numbers_and_shares() {
    let cases = [
        (json!({"minAvailable": 2}), 3, 9, [3, 2, 3, 1]),
        (json!({"minAvailable": 5}), 3, 9, [3, 5, 3, 0]),
        (json!({"minAvailable": 0}), 0, 9, [0, 0, 0, 0]),
        (json!({"minAvailable": "50%"}), 7, 7, [7, 4, 7, 3]),
        (json!({"minAvailable": "100%"}), 7, 7, [7, 7, 7, 0]),
        (json!({"maxUnavailable": 1}), 5, 5, [5, 4, 5, 1]),
        (json!({"maxUnavailable": 1}), 3, 5, [5, 4, 3, 0]),
        (json!({"maxUnavailable": 9}), 3, 5, [5, 0, 3, 3]),
        (json!({"maxUnavailable": "30%"}), 10, 10, [10, 7, 10, 3]),
        (json!({"maxUnavailable": "30%"}), 7, 7, [7, 4, 7, 3]),
        (json!({}), 3, 3, [0, 0, 3, 0]),
    ];
    for (spec, pods, scale, wanted) in cases {
        let budget = budget(spec.clone(), json!({}));
        let plan = planned(&budget, &ready(pods), scale, 0);
        assert_eq!(counts(&plan), wanted, "{spec}");
        assert_eq!(plan.status.observed_generation, Some(3));
        let condition = &plan.status.conditions.as_ref().unwrap()[0];
        let told = (condition.type_.as_str(), condition.status.as_str(), condition.reason.as_str());
        let allowed = ("DisruptionAllowed", "True", "SufficientPods");
        let not = ("DisruptionAllowed", "False", "InsufficientPods");
        assert_eq!(told, if wanted[3] > 0 { allowed } else { not });
        assert_eq!(condition.observed_generation, Some(3));
    }
    let needs = |spec: Value| needs_scale(budget(spec, json!({})).spec.as_ref().unwrap());
    assert!(!needs(json!({"minAvailable": 2})) && !needs(json!({})));
    assert!(needs(json!({"minAvailable": "2%"})) && needs(json!({"maxUnavailable": 1})));
}

#[test]
fn a_pod_that_is_about_to_go_does_not_count_until_two_minutes_have_passed() {
    let granted = json!({"disruptedPods": {"p0": "1970-01-01T00:16:40Z", "gone": "1970-01-01T00:16:40Z"}});
    let budget = budget(json!({"minAvailable": 1}), granted);
    let plan = planned(&budget, &ready(3), 0, 1060);
    assert_eq!(counts(&plan), [3, 1, 2, 1]);
    assert_eq!(plan.look_again.unwrap().as_secs(), 60);
    assert!(plan.status.disrupted_pods.as_ref().unwrap().keys().eq(["p0"]), "one is gone");
    assert!(plan.stayed.is_empty());

    let late = planned(&budget, &ready(3), 0, 1120);
    assert_eq!((counts(&late), late.look_again), ([3, 1, 3, 2], None));
    assert_eq!(late.status.disrupted_pods, None);
    assert_eq!(late.stayed.len(), 1);

    let mut pods = ready(2);
    pods[0] = pod("p0", true, true);
    let going = planned(&budget, &pods, 0, 1060);
    assert_eq!((counts(&going), going.status.disrupted_pods), ([2, 1, 1, 0], None));
}

#[test]
fn a_second_look_changes_nothing() {
    let mut budget = budget(json!({"maxUnavailable": "40%"}), json!({}));
    budget.status = Some(planned(&budget, &ready(5), 5, 10).status);
    assert_eq!(Some(planned(&budget, &ready(5), 5, 20).status), budget.status);
}

proptest! {
    #[test]
    fn what_is_allowed_leaves_as_many_healthy_as_desired(
        states in prop::collection::vec((any::<bool>(), any::<bool>(), prop::option::of(0i64..300)), 0..12),
        share in 0u32..=100, percent in any::<bool>(), most in any::<bool>(), scale in 0i32..12,
    ) {
        let pods: Vec<_> = states.iter().enumerate()
            .map(|(at, (ready, deleting, _))| pod(&format!("p{at}"), *ready, *deleting)).collect();
        let granted: serde_json::Map<String, Value> = states.iter().enumerate()
            .filter_map(|(n, (_, _, time))| Some((format!("p{n}"), json!(at((*time)?)))))
            .collect();
        let amount = if percent { json!(format!("{share}%")) } else { json!(share / 10) };
        let field = if most { "maxUnavailable" } else { "minAvailable" };
        let budget = budget(json!({field: amount}), json!({"disruptedPods": granted}));
        let plan = planned(&budget, &pods, scale, 200);
        let [expected, desired, healthy, allowed] = counts(&plan);
        // A slow count of those that are healthy and aren't about to go.
        let count = states.iter()
            .filter(|(ready, deleting, granted)| *ready && !deleting && granted.is_none_or(|time| time + 120 <= 200))
            .count();
        prop_assert_eq!(healthy, i32::try_from(count).unwrap());
        prop_assert!(allowed >= 0 && allowed <= healthy);
        prop_assert!(allowed == 0 || healthy - allowed == desired);
        prop_assert!(allowed > 0 || expected == 0 || healthy <= desired);
        if most && percent {
            let wanted = (f64::from(scale) * f64::from(share) / 100.0).ceil();
            prop_assert!((f64::from(scale) - wanted - f64::from(desired)).abs() < 0.5);
        }
    }
}
