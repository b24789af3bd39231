//! From a pod's creation to its node.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_trait::async_trait;
use rkube_api::{
    client::{Patch, PatchParams},
    k8s_openapi::api::core::v1::Node,
};
use rkube_sched::{
    Config,
    driver::EventRate,
    framework::{CycleState, Plugin, Points, PreBind, ProfileConfig, Status},
    snapshot::PodInfo,
};
use serde_json::json;

use crate::support::{World, after, with_plugins};

#[tokio::test(start_paused = true)]
async fn pods_get_nodes_and_the_world_is_told() {
    let world = World::new(1).await;
    for name in ["a", "b", "c"] {
        world.node(name, "4").await;
    }
    let scheduler = world.scheduler(Config::default());
    for index in 0..12 {
        world.pod(&format!("p{index}"), "1").await;
    }
    after(1).await;
    let mut counts = BTreeMap::<String, usize>::new();
    for node in world.placed().await.into_values() {
        *counts.entry(node).or_default() += 1;
    }
    // The least allocated node is best, so they spread evenly.
    assert_eq!(counts, ["a", "b", "c"].map(|node| (node.to_owned(), 4)).into());
    assert_eq!(world.condition("p0").await.status, "True");
    let node = world.node_of("p0").await.unwrap();
    let told = ("Scheduled".to_owned(), format!("Successfully assigned default/p0 to {node}"));
    assert_eq!(world.events("p0").await, [told]);
    assert_eq!((scheduler.stats.decisions(), scheduler.stats.bound()), (12, 12));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_fits_nowhere_is_told_why_and_helped_by_a_new_node() {
    let world = World::new(1).await;
    world.node("small", "1").await;
    world
        .node_with("tainted", "8", json!({}), json!({"taints": [{"key": "k", "effect": "NoSchedule"}]}))
        .await;
    let scheduler = world.scheduler(Config::default());
    world.pod("p", "2").await;
    after(1).await;
    let claims = if cfg!(feature = "dra") { "no new claims to deallocate, " } else { "" };
    let message = format!(
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s). {claims}preemption: \
         0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    );
    let condition = world.condition("p").await;
    assert_eq!(condition.status, "False");
    assert_eq!(condition.reason.as_deref(), Some("Unschedulable"));
    assert_eq!(condition.message.as_ref(), Some(&message));
    assert_eq!(condition.observed_generation, Some(1));
    assert_eq!(world.events("p").await, [("FailedScheduling".into(), message.clone())]);
    // Its own news do not wake it.
    let tries = scheduler.stats.decisions();
    after(60).await;
    assert_eq!(scheduler.stats.decisions(), tries);
    // What is said is said of the pod as it is now.
    let tolerations = json!([{"key": "other", "operator": "Exists", "effect": "NoSchedule"}]);
    let change = Patch::Merge(json!({"spec": {"tolerations": tolerations}}));
    world.pods().patch("p", &PatchParams::default(), &change).await.unwrap();
    after(20).await;
    let condition = world.condition("p").await;
    assert_eq!((condition.message.as_deref(), condition.observed_generation), (Some(&*message), Some(2)));

    world.node("large", "4").await;
    after(20).await;
    assert_eq!(world.node_of("p").await.as_deref(), Some("large"));
    assert_eq!(world.condition("p").await.status, "True");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_help_wakes_nobody() {
    let world = World::new(1).await;
    world.node("small", "1").await;
    let scheduler = world.scheduler(Config::default());
    world.pod("p", "2").await;
    after(10).await;
    assert_eq!(scheduler.stats.decisions(), 1);
    // Another node that is too small, labels, a pod that comes.
    world.node("small-too", "1").await;
    let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    world.api::<Node>().patch("small", &PatchParams::default(), &label).await.unwrap();
    world.pod("other", "1").await;
    after(100).await;
    assert_eq!((scheduler.stats.decisions(), scheduler.stats.bound()), (2, 1));
    // A pod that goes may always have made room.
    world.delete_pod("other").await;
    after(10).await;
    assert_eq!((scheduler.stats.decisions(), scheduler.stats.bound()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn without_any_node_a_pod_waits_for_the_first() {
    let world = World::new(1).await;
    world.scheduler(Config::default());
    world.pod("p", "1").await;
    after(1).await;
    assert_eq!(world.condition("p").await.message.as_deref(), Some("no nodes available to schedule pods"));
    world.node("a", "4").await;
    after(2).await;
    assert_eq!(world.node_of("p").await.as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn room_is_made_by_a_pod_that_goes() {
    let world = World::new(1).await;
    world.node("a", "2").await;
    world.scheduler(Config::default());
    world.pod("first", "2").await;
    after(1).await;
    world.pod("second", "2").await;
    after(1).await;
    assert_eq!(world.node_of("second").await, None);
    world.delete_pod("first").await;
    after(2).await;
    assert_eq!(world.node_of("second").await.as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn gated_pods_wait_until_the_last_gate_is_gone() {
    let world = World::new(1).await;
    world.node("a", "4").await;
    let scheduler = world.scheduler(Config::default());
    world.pod_with("p", "1", json!({"schedulingGates": [{"name": "example.com/x"}]})).await;
    after(600).await;
    assert_eq!((world.node_of("p").await, scheduler.stats.decisions()), (None, 0));
    let open = Patch::Merge(json!({"spec": {"schedulingGates": null}}));
    world.pods().patch("p", &PatchParams::default(), &open).await.unwrap();
    after(1).await;
    assert_eq!(world.node_of("p").await.as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn pods_with_a_node_and_pods_of_others_are_left_alone_but_counted() {
    let world = World::new(1).await;
    world.node("a", "4").await;
    world.node("b", "4").await;
    world.pod_with("pinned", "3", json!({"nodeName": "a"})).await;
    world.pod_with("foreign", "1", json!({"schedulerName": "other"})).await;
    let scheduler = world.scheduler(Config::default());
    world.pod("p", "2").await;
    after(1).await;
    let placed = world.placed().await;
    assert_eq!(placed.get("p").map(String::as_str), Some("b"));
    assert!(!placed.contains_key("foreign"));
    assert_eq!(scheduler.stats.decisions(), 1);
}

#[tokio::test(start_paused = true)]
async fn higher_priority_is_served_first() {
    let world = World::new(1).await;
    let scheduler = world.scheduler(Config::default());
    world.pod_with("low", "2", json!({})).await;
    world.pod_with("high", "2", json!({"priorityClassName": "system-node-critical"})).await;
    after(30).await;
    world.node("a", "2").await;
    after(30).await;
    assert_eq!(world.placed().await, BTreeMap::from([("high".into(), "a".into())]));
    assert!(scheduler.stats.decisions() >= 3);
}

#[tokio::test(start_paused = true)]
async fn each_profile_serves_its_pods() {
    let world = World::new(1).await;
    for name in ["a", "b"] {
        world.node(name, "8").await;
    }
    let packer = ProfileConfig::standard()
        .named("packer")
        .without("NodeResourcesBalancedAllocation")
        .args("NodeResourcesFit", json!({"scoringStrategy": {"type": "MostAllocated"}}));
    world.scheduler(Config { profiles: vec![ProfileConfig::standard(), packer], ..Config::default() });
    for index in 0..4 {
        world.pod_with(&format!("packed{index}"), "1", json!({"schedulerName": "packer"})).await;
        after(1).await;
    }
    let packed: BTreeSet<_> = world.placed().await.into_values().collect();
    assert_eq!(packed.len(), 1);
    world.pod("spread", "1").await;
    after(1).await;
    assert!(!packed.contains(&world.node_of("spread").await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn two_schedulers_in_conflict_bind_each_pod_once() {
    let world = World::new(1).await;
    for name in ["a", "b", "c", "d"] {
        world.node(name, "64").await;
    }
    let schedulers = [world.scheduler(Config::default()), world.scheduler(Config::default())];
    for index in 0..40 {
        world.pod(&format!("p{index}"), "1").await;
    }
    after(120).await;
    assert_eq!(world.placed().await.len(), 40);
    let bound: u64 = schedulers.iter().map(|scheduler| scheduler.stats.bound()).sum();
    assert_eq!(bound, 40);
    for index in 0..40 {
        assert_eq!(world.condition(&format!("p{index}")).await.status, "True");
    }
    // Nothing assumed is left behind: another 24 a node still fit, as the sum of both sees it.
    for index in 40..256 {
        world.pod(&format!("p{index}"), "1").await;
    }
    after(120).await;
    assert_eq!(world.placed().await.len(), 256);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_scheduler_begins_nothing_and_the_next_goes_on() {
    let world = World::new(1).await;
    world.node("a", "64").await;
    let first = world.scheduler(Config::default());
    world.pod("p0", "1").await;
    after(1).await;
    first.token.cancel();
    after(10).await;
    world.pod("p1", "1").await;
    after(10).await;
    assert_eq!((world.placed().await.len(), first.stats.bound()), (1, 1));
    world.scheduler(Config::default());
    after(1).await;
    assert_eq!(world.placed().await.len(), 2);
}

async fn placements(seed: u64) -> BTreeMap<String, String> {
    let world = World::new(seed).await;
    for index in 0..10 {
        world.node(&format!("n{index}"), "8").await;
    }
    world.scheduler(Config::default());
    for index in 0..60 {
        world.pod(&format!("p{index}"), "1").await;
    }
    after(60).await;
    world.placed().await
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_makes_the_same_decisions() {
    let first = placements(7).await;
    assert_eq!(first.len(), 60);
    assert_eq!(first, placements(7).await);
    assert_ne!(first, placements(8).await);
}

/// Binds none of the pods whose name begins with `no`, and takes its time over those with `slow`.
struct Picky;

impl Plugin for Picky {
    fn name(&self) -> &'static str {
        "Picky"
    }
}

#[async_trait]
impl PreBind for Picky {
    async fn pre_bind(&self, _: &CycleState, pod: &PodInfo, _: &str) -> Status {
        if pod.key.name.starts_with("slow") {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        if pod.key.name.starts_with("no") { Status::error("not this one") } else { Status::success() }
    }
}

#[tokio::test(start_paused = true)]
async fn of_pods_bound_together_each_has_its_own_outcome() {
    let world = World::new(1).await;
    world.node("a", "64").await;
    for index in 0..10 {
        for name in ["p", "no", "slow"] {
            world.pod(&format!("{name}{index}"), "1").await;
        }
    }
    // All of them wait already, so one batch takes all.
    let config = with_plugins(&["Picky"], |plugins| {
        plugins.add("Picky", |_, _| Ok(Points::of(Picky).pre_bind().done())).unwrap();
    });
    let scheduler = world.scheduler(config);
    after(1).await;
    assert_eq!(scheduler.stats.bound(), 10, "nobody waits for the slow ones");
    assert!(world.placed().await.keys().all(|name| name.starts_with('p')));
    assert_eq!(world.condition("no3").await.message.as_deref(), Some("not this one"));
    after(60).await;
    assert_eq!(scheduler.stats.bound(), 20);
    assert!(!world.placed().await.keys().any(|name| name.starts_with("no")));
}

#[tokio::test(start_paused = true)]
async fn of_many_pods_at_once_some_are_told_of() {
    let world = World::new(1).await;
    world.node("a", "64").await;
    let scheduled_events = EventRate { burst: 3, per_second: 1 };
    let scheduler = world.scheduler(Config { scheduled_events, ..Config::default() });
    for index in 0..10 {
        world.pod(&format!("p{index}"), "1").await;
    }
    after(10).await;
    assert_eq!(scheduler.stats.bound(), 10);
    let told = |events: Vec<(String, String)>| usize::from(!events.is_empty());
    let mut count = 0;
    for index in 0..10 {
        count += told(world.events(&format!("p{index}")).await);
    }
    assert_eq!(count, 3);
    // At an ordinary pace each is told of; and what fails always is.
    world.pod("late", "1").await;
    world.pod("large", "100").await;
    after(1).await;
    assert_eq!((world.events("late").await.len(), world.events("large").await.len()), (1, 1));
}
