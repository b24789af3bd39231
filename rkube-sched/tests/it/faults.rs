//! Requests that fail: what they were for is done all the same, in the end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rkube_api::{
    error::ApiError,
    request::{ApiRequest, Verb},
};
use rkube_sched::{
    Config,
    framework::{CycleState, Permission, Permit, Plugin, Points},
    snapshot::PodInfo,
};
use serde_json::json;

use crate::support::{Fault, World, after, with_plugins};

const URGENT: &str = "system-node-critical";

/// Fails the first `count` requests that `which` means with `error`; how many it has seen.
fn first(
    count: usize,
    which: fn(&ApiRequest) -> bool,
    error: fn() -> ApiError,
) -> (Arc<AtomicUsize>, impl Fault) {
    let seen = Arc::<AtomicUsize>::default();
    let counter = seen.clone();
    let fault = move |request: &ApiRequest| {
        let fails = which(request) && counter.fetch_add(1, Ordering::Relaxed) < count;
        fails.then(error)
    };
    (seen, fault)
}

fn is_delete(request: &ApiRequest) -> bool {
    request.verb == Verb::Delete && request.target.resource == "pods"
}

fn is_status_of_pod(request: &ApiRequest) -> bool {
    request.target.resource == "pods" && request.target.subresource.as_deref() == Some("status")
}

fn unavailable() -> ApiError {
    ApiError::Unavailable { message: "not now".into() }
}

fn conflict() -> ApiError {
    ApiError::Conflict {
        group: String::new(),
        resource: "pods".into(),
        name: "low".into(),
        message: "the object has been modified".into(),
        causes: Vec::new(),
    }
}

fn is_list_of_what_is_not_served(request: &ApiRequest) -> bool {
    request.verb == Verb::List && request.target.resource == "replicationcontrollers"
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_served_delays_the_start_as_long_as_nobody_says_so() {
    let world = World::new(1).await;
    world.node("a", "2").await;
    world.pod("p", "2").await;
    let (lists, fault) = first(5, is_list_of_what_is_not_served, unavailable);
    world.scheduler_with_faults(Config::default(), fault);
    after(0).await;
    assert_eq!(world.node_of("p").await, None);
    after(100).await;
    assert_eq!(world.node_of("p").await.as_deref(), Some("a"));
    assert!(lists.load(Ordering::Relaxed) > 5);
}

#[tokio::test(start_paused = true)]
async fn a_victim_that_was_not_sent_away_is_sent_again() {
    for error in [unavailable, conflict] {
        let world = World::new(1).await;
        world.node("a", "2").await;
        let (deletes, fault) = first(3, is_delete, error);
        world.scheduler_with_faults(Config::default(), fault);
        world.pod_with("low", "2", json!({"terminationGracePeriodSeconds": 0})).await;
        after(1).await;
        world.pod_with("high", "2", json!({"priorityClassName": URGENT})).await;
        after(60).await;
        assert_eq!(world.node_of("high").await.as_deref(), Some("a"));
        // Each failure is followed by a backoff, not by the next try at once.
        assert_eq!(deletes.load(Ordering::Relaxed), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_fail_for_long_are_repeated_at_a_moderate_pace() {
    let world = World::new(1).await;
    world.node("a", "2").await;
    let (deletes, fault) = first(usize::MAX, is_delete, unavailable);
    let scheduler = world.scheduler_with_faults(Config::default(), fault);
    world.pod("low", "2").await;
    after(1).await;
    world.pod_with("high", "2", json!({"priorityClassName": URGENT})).await;
    after(600).await;
    let (deletes, decisions) = (deletes.load(Ordering::Relaxed), scheduler.stats.decisions());
    assert!((50..80).contains(&deletes), "{deletes}: about every ten seconds");
    assert!((50..160).contains(&decisions), "{decisions}");
}

#[tokio::test(start_paused = true)]
async fn a_condition_that_was_not_written_is_written_later() {
    let world = World::new(1).await;
    world.node("a", "1").await;
    let (writes, fault) = first(3, is_status_of_pod, unavailable);
    let scheduler = world.scheduler_with_faults(Config::default(), fault);
    world.pod("p", "2").await;
    after(10).await;
    assert_eq!(world.condition("p").await.reason.as_deref(), Some("Unschedulable"));
    assert_eq!((writes.load(Ordering::Relaxed), scheduler.stats.decisions()), (4, 1));
}

/// Holds the pods whose name begins with `held`.
struct Holder;

impl Plugin for Holder {
    fn name(&self) -> &'static str {
        "Holder"
    }
}

impl Permit for Holder {
    fn permit(&self, _: &mut CycleState, pod: &PodInfo, _: &str) -> Permission {
        let held = pod.key.name.starts_with("held");
        if held { Permission::Wait(Duration::from_secs(1000)) } else { Permission::Allow }
    }
}

#[tokio::test(start_paused = true)]
async fn a_victim_that_permit_held_is_tried_again_when_something_happens() {
    let world = World::new(1).await;
    world.node("a", "2").await;
    let config = with_plugins(&["Holder"], |plugins| {
        plugins.add("Holder", |_, _| Ok(Points::of(Holder).permit().done())).unwrap();
    });
    let scheduler = world.scheduler(config);
    world.pod("held", "2").await;
    after(1).await;
    assert_eq!(scheduler.waiting.uids().len(), 1);
    world.pod_with("high", "2", json!({"priorityClassName": URGENT})).await;
    after(10).await;
    assert_eq!(world.node_of("high").await.as_deref(), Some("a"));
    assert_eq!(scheduler.waiting.uids().len(), 0);
    world.node("b", "2").await;
    after(20).await;
    assert_eq!(scheduler.waiting.uids().len(), 1, "it has a node again");
}
