//! The plan by examples and properties.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, NodeCondition, NodeSpec, NodeStatus, Pod, PodCondition, PodStatus, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
};
use proptest::prelude::*;
use rkube_api::helpers::node as nodes;

use super::plan::{NOT_READY, Observed, Patience, Plan, UNREACHABLE, not_ready, plan};

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

fn node(conditions: &[(&str, &str)]) -> Node {
    let condition = |(kind, status): &(&str, &str)| NodeCondition {
        type_: (*kind).into(),
        status: (*status).into(),
        last_transition_time: Some(at(1)),
        ..Default::default()
    };
    Node {
        spec: Some(NodeSpec::default()),
        status: Some(NodeStatus {
            conditions: Some(conditions.iter().map(condition).collect()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn observe(node: &Node, silent: u64, may_drive_out: bool) -> Plan {
    plan(&Observed {
        node,
        silent: Duration::from_secs(silent),
        patience: Patience::default(),
        may_drive_out,
        now: at(1000),
    })
}

fn names(taints: Option<&[Taint]>) -> Vec<String> {
    taints.unwrap_or_default().iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect()
}

/// The node after a plan.
fn after(node: &Node, plan: Plan) -> Node {
    let mut node = plan.status.map_or_else(|| node.clone(), |changed| *changed);
    if let Some(taints) = plan.taints {
        node.spec.as_mut().unwrap().taints = Some(taints);
    }
    node
}

#[test]
fn a_node_that_is_heard_is_left_alone() {
    let plan = observe(&node(&[("Ready", "True")]), 10, true);
    assert_eq!(plan, Plan { look_again: Some(Duration::from_secs(40)), ..Default::default() });
}

#[test]
fn silence_turns_conditions_unknown_and_taints() {
    let silent = node(&[("Ready", "True"), ("MemoryPressure", "False"), ("DiskPressure", "Unknown")]);
    let plan = observe(&silent, 50, true);
    assert!(plan.pods_not_ready && plan.look_again.is_none() && !plan.held_back);
    let taints = names(plan.taints.as_deref());
    assert_eq!(taints, [format!("{UNREACHABLE}:NoSchedule"), format!("{UNREACHABLE}:NoExecute")]);
    let changed = after(&silent, plan);
    let list: Vec<_> = nodes::conditions_of(&changed)
        .iter()
        .map(|it| (&*it.type_, &*it.status, it.reason.as_deref(), it.last_transition_time.clone().unwrap()))
        .collect();
    assert_eq!(
        list,
        [
            ("Ready", "Unknown", Some("NodeStatusUnknown"), at(1000)),
            ("MemoryPressure", "Unknown", Some("NodeStatusUnknown"), at(1000)),
            ("DiskPressure", "Unknown", None, at(1)),
            ("PIDPressure", "Unknown", Some("NodeStatusNeverUpdated"), at(1000)),
        ]
    );
    assert_eq!(observe(&changed, 500, true), Plan::default(), "once is enough");
}

#[test]
fn a_node_that_starts_has_more_time() {
    let starting = node(&[]);
    assert_eq!(observe(&starting, 55, true).look_again, Some(Duration::from_secs(5)));
    let lost = after(&starting, observe(&starting, 60, true));
    assert_eq!(nodes::conditions_of(&lost)[0].reason.as_deref(), Some("NodeStatusNeverUpdated"));
}

#[test]
fn the_taint_follows_the_condition() {
    let sick = node(&[("Ready", "False"), ("DiskPressure", "True")]);
    let plan = observe(&sick, 0, false);
    assert!(plan.held_back, "driving out waits for permission, keeping away doesn't");
    assert_eq!(
        names(plan.taints.as_deref()),
        [format!("{NOT_READY}:NoSchedule"), "node.kubernetes.io/disk-pressure:NoSchedule".into()]
    );
    let mut tainted = after(&sick, observe(&sick, 0, true));
    tainted.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "Unknown".into();
    let moved = after(&tainted, observe(&tainted, 0, true));
    assert!(names(Some(nodes::taints(&moved))).iter().all(|taint| !taint.starts_with(NOT_READY)));
    let list = moved.status.as_ref().unwrap().conditions.as_ref().unwrap().clone();
    let mut well = moved;
    well.status.as_mut().unwrap().conditions = Some(
        list.into_iter()
            .map(|it| NodeCondition {
                status: if it.type_ == "Ready" { "True" } else { "False" }.into(),
                ..it
            })
            .collect(),
    );
    assert_eq!(observe(&well, 0, true).taints, Some(vec![]));
}

#[test]
fn a_cordon_is_a_taint() {
    let mut cordoned = node(&[("Ready", "True")]);
    cordoned.spec.as_mut().unwrap().unschedulable = Some(true);
    assert_eq!(
        names(observe(&cordoned, 0, true).taints.as_deref()),
        ["node.kubernetes.io/unschedulable:NoSchedule"]
    );
}

#[test]
fn a_ready_pod_is_marked_once() {
    let mut pod = Pod::default();
    assert_eq!(not_ready(&pod, &at(9)), None);
    let ready = PodCondition { type_: "Ready".into(), status: "True".into(), ..Default::default() };
    pod.status = Some(PodStatus { conditions: Some(vec![ready]), ..Default::default() });
    let marked = not_ready(&pod, &at(9)).unwrap();
    let condition = &marked.status.as_ref().unwrap().conditions.as_ref().unwrap()[0];
    assert_eq!((&*condition.status, condition.last_transition_time.clone()), ("False", Some(at(9))));
    assert_eq!(not_ready(&marked, &at(10)), None);
}

proptest! {
    /// Whatever a node says, what is written once is not written again, and taints of users stay.
    #[test]
    fn one_pass_is_enough(
        states in prop::collection::vec(0..3_usize, 5),
        silent in 0..200_u64,
        may in any::<bool>(),
        cordoned in any::<bool>(),
    ) {
        let kinds = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"];
        let conditions: Vec<_> =
            kinds.into_iter().zip(states).map(|(kind, state)| (kind, ["True", "False", "Unknown"][state])).collect();
        let mut first = node(&conditions);
        let own = Taint { key: "mine".into(), effect: "NoExecute".into(), ..Default::default() };
        first.spec = Some(NodeSpec { unschedulable: Some(cordoned), taints: Some(vec![own.clone()]), ..Default::default() });
        let second = after(&first, observe(&first, silent, may));
        let again = observe(&second, silent, may);
        prop_assert_eq!((again.status, again.taints, again.pods_not_ready), (None, None, false));
        prop_assert!(nodes::taints(&second).contains(&own));
    }
}
