//! The plan by examples and properties.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetSpec},
        core::v1::{ContainerStatus, Pod, PodCondition, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use proptest::prelude::*;

use super::plan::{Action, BURST, DELETION_COST, Observed, look_again, new_pod, plan, status};

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

fn set(replicas: i32) -> ReplicaSet {
    let labels = Some([("app".to_owned(), "web".to_owned())].into());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some("web".into()),
            namespace: Some("default".into()),
            uid: Some("s".into()),
            generation: Some(4),
            ..Default::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(replicas),
            template: Some(PodTemplateSpec {
                metadata: Some(ObjectMeta { labels, ..Default::default() }),
                spec: Some(Default::default()),
            }),
            ..Default::default()
        },
        status: None,
    }
}

/// A pod that has run on `n1` and been ready since second 10.
fn pod(name: &str) -> Pod {
    let mut pod = new_pod(&set(1)).unwrap();
    pod.metadata.name = Some(name.into());
    pod.metadata.uid = Some(name.into());
    pod.metadata.creation_timestamp = Some(at(5));
    pod.spec.as_mut().unwrap().node_name = Some("n1".into());
    let status = pod.status.get_or_insert_default();
    status.phase = Some("Running".into());
    status.conditions = Some(vec![PodCondition {
        type_: "Ready".into(),
        status: "True".into(),
        last_transition_time: Some(at(10)),
        ..Default::default()
    }]);
    pod
}

fn with(name: &str, change: impl FnOnce(&mut Pod)) -> Arc<Pod> {
    let mut pod = pod(name);
    change(&mut pod);
    Arc::new(pod)
}

fn deleted(replicas: i32, pods: &[Arc<Pod>]) -> Vec<String> {
    let set = set(replicas);
    match plan(&Observed { set: &set, pods, related: pods, now: at(1000) }).as_slice() {
        [Action::Delete(pods)] => pods.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_least_wanted_go_first() {
    let condition = |pod: &mut Pod, change: &dyn Fn(&mut PodCondition)| {
        change(&mut pod.status.as_mut().unwrap().conditions.as_mut().unwrap()[0]);
    };
    let restarted = ContainerStatus { restart_count: 3, ..Default::default() };
    let pods = [
        with("plain", |pod| pod.spec.as_mut().unwrap().node_name = Some("n2".into())),
        with("crowded", |_| {}),
        with("crowd", |pod| pod.metadata.creation_timestamp = Some(at(900))),
        with("restarted", |pod| {
            pod.spec.as_mut().unwrap().node_name = Some("n3".into());
            pod.status.as_mut().unwrap().container_statuses = Some(vec![restarted]);
        }),
        with("fresh", |pod| {
            pod.spec.as_mut().unwrap().node_name = Some("n4".into());
            condition(pod, &|ready| ready.last_transition_time = Some(at(990)));
        }),
        with("cheap", |pod| {
            pod.metadata.annotations = Some([(DELETION_COST.to_owned(), "-5".to_owned())].into());
        }),
        with("unready", |pod| condition(pod, &|ready| ready.status = "False".into())),
        with("unknown", |pod| pod.status.as_mut().unwrap().phase = Some("Unknown".into())),
        with("pending", |pod| pod.status.as_mut().unwrap().phase = Some("Pending".into())),
        with("unassigned", |pod| pod.spec.as_mut().unwrap().node_name = None),
    ];
    let order = deleted(0, &pods);
    assert_eq!(
        order,
        [
            "unassigned",
            "pending",
            "unknown",
            "unready",
            "cheap",
            "crowd",
            "crowded",
            "fresh",
            "restarted",
            "plain"
        ]
    );
}

#[test]
fn pods_that_end_or_have_ended_do_not_count() {
    let pods = [
        with("a", |_| {}),
        with("b", |pod| pod.metadata.deletion_timestamp = Some(at(1))),
        with("c", |pod| pod.status.as_mut().unwrap().phase = Some("Failed".into())),
    ];
    let set = set(3);
    let observed = Observed { set: &set, pods: &pods, related: &pods, now: at(1000) };
    assert_eq!(plan(&observed), [Action::Create(2)]);
    let status = status(&observed, None);
    assert_eq!((status.replicas, status.terminating_replicas), (1, Some(1)));
    assert_eq!((status.ready_replicas, status.fully_labeled_replicas), (Some(1), Some(1)));
    assert_eq!(status.observed_generation, Some(4));
}

#[test]
fn a_set_that_is_deleted_makes_nothing() {
    let mut set = set(3);
    set.metadata.deletion_timestamp = Some(at(1));
    assert_eq!(plan(&Observed { set: &set, pods: &[], related: &[], now: at(2) }), []);
}

#[test]
fn a_pod_is_available_after_being_ready_long_enough() {
    let mut set = set(1);
    set.spec.min_ready_seconds = Some(30);
    let pods = [with("a", |_| {})];
    let observe = |now| Observed { set: &set, pods: &pods, related: &pods, now: at(now) };
    assert_eq!(status(&observe(39), None).available_replicas, None);
    assert_eq!(look_again(&observe(39)), Some(Duration::from_secs(1)));
    assert_eq!(status(&observe(40), None).available_replicas, Some(1));
    assert_eq!(look_again(&observe(40)), None);
}

#[test]
fn a_failure_shows_until_it_is_over() {
    let mut set = set(1);
    let observed = Observed { set: &set, pods: &[], related: &[], now: at(1) };
    let failed = status(&observed, Some("quota"));
    let condition = &failed.conditions.as_ref().unwrap()[0];
    assert_eq!(condition.reason.as_deref(), Some("FailedCreate"));
    assert_eq!(condition.message.as_deref(), Some("quota"));
    set.status = Some(failed.clone());
    let observed = Observed { set: &set, pods: &[], related: &[], now: at(2) };
    assert_eq!(status(&observed, Some("again")), failed, "the first message stays");
    assert_eq!(status(&observed, None).conditions, None);
}

#[test]
fn a_pod_of_the_template() {
    let pod = new_pod(&set(1)).unwrap();
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("web-"));
    let owner = &pod.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.controller, owner.block_owner_deletion), (Some(true), Some(true)));
    let mut unlabelled = set(1);
    unlabelled.spec.template.as_mut().unwrap().metadata = None;
    assert_eq!(new_pod(&unlabelled), None);
}

proptest! {
    /// From any number of pods the plan comes to the number asked for, at most a burst at a time.
    #[test]
    fn it_converges(wanted in 0..1300_i32, have in 0..1300_usize) {
        let set = set(wanted);
        let mut pods: Vec<Arc<Pod>> = (0..have).map(|n| with(&n.to_string(), |_| {})).collect();
        let mut rounds = 0;
        loop {
            let actions = plan(&Observed { set: &set, pods: &pods, related: &pods, now: at(1000) });
            let Some(action) = actions.first() else { break };
            match action {
                Action::Create(count) => {
                    prop_assert!(*count <= BURST);
                    let from = pods.len() + 10_000 * (rounds + 1);
                    pods.extend((0..*count).map(|n| with(&(from + n).to_string(), |_| {})));
                }
                Action::Delete(gone) => {
                    prop_assert!(gone.len() <= BURST);
                    pods.retain(|pod| !gone.contains(pod));
                }
            }
            rounds += 1;
            prop_assert!(rounds <= 3);
        }
        prop_assert_eq!(pods.len(), usize::try_from(wanted).unwrap());
    }
}
