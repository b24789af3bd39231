//! Pods that are bound together or not at all.

use std::time::Duration;

use rkube_api::{
    client::{Patch, PatchParams, PostParams},
    k8s_openapi::api::scheduling::v1beta1::PodGroup,
};
use rkube_sched::Config;
use serde_json::json;

use crate::support::{World, after, from};

impl World {
    /// Two pods that come before others and are to run together, of two CPUs each.
    async fn urgent_gang(&self) {
        self.group("g", 2).await;
        for number in 0..2 {
            let spec = json!({
                "schedulingGroup": {"podGroupName": "g"}, "priorityClassName": "system-cluster-critical"
            });
            self.pod_with(&format!("g-{number}"), "2", spec).await;
        }
    }

    pub(crate) async fn group(&self, name: &str, least: i32) {
        let group: PodGroup = from(json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"schedulingPolicy": {"gang": {"minCount": least}}}
        }));
        self.groups().create(&PostParams::default(), group).await.unwrap();
    }

    fn groups(&self) -> rkube_api::client::Api<PodGroup> {
        rkube_api::client::Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) async fn member(&self, group: &str, number: usize, cpu: &str) {
        let spec = json!({"schedulingGroup": {"podGroupName": group}});
        self.pod_with(&format!("{group}-{number}"), cpu, spec).await;
    }

    /// How many pods of a group have a node.
    pub(crate) async fn placed_of(&self, group: &str) -> usize {
        self.placed().await.keys().filter(|pod| pod.starts_with(&format!("{group}-"))).count()
    }

    /// The node where room is held for a pod.
    async fn nominated(&self, pod: &str) -> Option<String> {
        self.pods().get(pod).await.unwrap().status.clone().unwrap_or_default().nominated_node_name
    }

    /// Status, reason and message of the group's condition.
    async fn told(&self, group: &str) -> Option<(String, String, String)> {
        let group = self.groups().get(group).await.unwrap();
        let condition = group.status.as_ref()?.conditions.as_ref()?.first()?;
        assert_eq!(condition.type_, "PodGroupInitiallyScheduled");
        Some((condition.status.clone(), condition.reason.clone(), condition.message.clone()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_gang_waits_until_it_is_complete() {
    let world = World::new(1).await;
    world.node("a", "8").await;
    world.scheduler(Config::default());
    for number in 0..2 {
        world.member("g", number, "1").await;
    }
    after(1).await;
    assert_eq!(world.placed_of("g").await, 0, "its group is missing");
    world.group("g", 3).await;
    after(1).await;
    assert_eq!(world.placed_of("g").await, 0, "two are not three");
    world.member("g", 2, "1").await;
    after(0).await;
    assert_eq!(world.placed_of("g").await, 3);
    assert_eq!(world.told("g").await, Some(("True".into(), "Scheduled".into(), String::new())));
    // One more needs nobody.
    world.member("g", 3, "1").await;
    after(0).await;
    assert_eq!(world.placed_of("g").await, 4);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_whole_leaves_its_room_to_others() {
    let world = World::new(1).await;
    world.node("a", "2").await;
    world.group("large", 3).await;
    let scheduler = world.scheduler(Config::default());
    for number in 0..3 {
        world.member("large", number, "1").await;
    }
    after(1).await;
    assert_eq!(world.placed_of("large").await, 0);
    assert_eq!(scheduler.waiting.uids().len(), 0, "nobody holds a node for nothing");
    let message = "not enough pods of pod group \"large\" fit at the same time";
    assert_eq!(world.told("large").await, Some(("False".into(), "Unschedulable".into(), message.into())));
    world.pod("single", "2").await;
    after(10).await;
    assert_eq!(world.node_of("single").await.as_deref(), Some("a"));
    // Room for all: whoever hears of it first calls the others.
    world.node("b", "3").await;
    after(0).await;
    assert_eq!(world.placed_of("large").await, 3);
    assert_eq!(world.told("large").await.unwrap().0, "True");
}

#[tokio::test(start_paused = true)]
async fn of_two_gangs_that_fit_only_alone_one_is_bound_whole() {
    for seed in 0..20 {
        let world = World::new(seed).await;
        for node in ["a", "b", "c"] {
            world.node(node, "1").await;
        }
        for group in ["x", "y"] {
            world.group(group, 3).await;
        }
        world.scheduler(Config::default());
        for number in 0..3 {
            for group in ["x", "y"] {
                world.member(group, number, "1").await;
            }
        }
        after(60).await;
        let mut placed = [world.placed_of("x").await, world.placed_of("y").await];
        placed.sort_unstable();
        assert_eq!(placed, [0, 3], "with seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn gangs_that_do_not_fit_do_not_keep_each_other_awake() {
    let world = World::new(1).await;
    world.node("a", "2").await;
    let scheduler = world.scheduler(Config::default());
    for group in ["x", "y", "z"] {
        world.group(group, 3).await;
        for number in 0..3 {
            world.member(group, number, "1").await;
        }
    }
    after(30).await;
    let decisions = scheduler.stats.decisions();
    // Until the leftovers have their turn.
    after(200).await;
    assert!(world.placed().await.is_empty());
    assert_eq!(scheduler.stats.decisions(), decisions);
}

/// It has sent others away before it turned out that not all of it fits.
#[tokio::test(start_paused = true)]
async fn a_gang_that_gives_up_holds_no_room_that_it_made() {
    let world = World::new(1).await;
    world.node("a", "2").await;
    world.scheduler(Config::default());
    world.pod("lesser", "2").await;
    after(1).await;
    world.urgent_gang().await;
    after(1).await;
    world.delete_pod("lesser").await;
    after(60).await;
    for number in 0..2 {
        assert_eq!(world.nominated(&format!("g-{number}")).await, None, "g-{number}");
    }
    assert_eq!(world.placed_of("g").await, 0);
    world.pod("single", "2").await;
    after(10).await;
    assert_eq!(world.node_of("single").await.as_deref(), Some("a"));
}

/// While it waits for its victim others of its gang go, so that it is not even tried any more.
#[tokio::test(start_paused = true)]
async fn a_pod_of_a_gang_that_is_incomplete_holds_no_room() {
    let world = World::new(1).await;
    world.node("a", "2").await;
    world.node("b", "2").await;
    world.scheduler(Config::default());
    for name in ["x", "y"] {
        world.pod(name, "2").await;
    }
    after(1).await;
    world.urgent_gang().await;
    after(1).await;
    assert!(world.nominated("g-0").await.is_some());
    world.delete_pod("g-1").await;
    for name in ["x", "y"] {
        world.delete_pod(name).await;
    }
    after(10).await;
    assert_eq!(world.nominated("g-0").await, None);
    world.pod("single", "2").await;
    world.pod("other", "2").await;
    after(10).await;
    let placed: Vec<String> = world.placed().await.into_keys().collect();
    assert_eq!(placed, ["other", "single"]);
}

#[tokio::test(start_paused = true)]
async fn a_smaller_quorum_opens_a_gang() {
    let world = World::new(1).await;
    world.node("a", "8").await;
    world.group("g", 5).await;
    world.scheduler(Config::default());
    for number in 0..2 {
        world.member("g", number, "1").await;
    }
    after(1).await;
    assert_eq!(world.placed_of("g").await, 0);
    let less = Patch::Merge(json!({"spec": {"schedulingPolicy": {"gang": {"minCount": 2}}}}));
    world.groups().patch("g", &PatchParams::default(), &less).await.unwrap();
    after(0).await;
    assert_eq!(world.placed_of("g").await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_deleted_while_the_others_wait_sends_them_back() {
    let world = World::new(1).await;
    world.node("a", "2").await;
    world.group("g", 3).await;
    // One in three pods does not even get to be tried.
    let scheduler = world.scheduler(Config::default());
    for number in 0..2 {
        world.member("g", number, "1").await;
    }
    let gated = json!({"schedulingGroup": {"podGroupName": "g"}, "schedulingGates": [{"name": "x.io/y"}]});
    world.pod_with("g-2", "1", gated).await;
    after(1).await;
    assert_eq!(scheduler.waiting.uids().len(), 2, "two hold a node and wait for the third");
    world.delete_pod("g-0").await;
    after(0).await;
    assert_eq!(scheduler.waiting.uids().len(), 0);
    assert_eq!(world.placed_of("g").await, 0);
    // Patience ends, too.
    world.member("g", 3, "1").await;
    after(20).await;
    assert_eq!(scheduler.waiting.uids().len(), 2);
    tokio::time::sleep(Duration::from_secs(310)).await;
    let message = world.condition("g-1").await.message.unwrap_or_default();
    assert!(message.contains("GangScheduling") || message.contains("not enough pods"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_gang_larger_than_the_bindings_under_way_is_bound_and_holds_nobody_up() {
    let world = World::new(1).await;
    world.node("a", "110").await;
    world.group("g", 60).await;
    let scheduler = world.scheduler(Config { max_bindings: 4, ..Config::default() });
    for number in 0..59 {
        world.member("g", number, "1").await;
    }
    world
        .pod_with(
            "g-59",
            "1",
            json!({
                "schedulingGroup": {"podGroupName": "g"}, "schedulingGates": [{"name": "x.io/y"}]
            }),
        )
        .await;
    after(1).await;
    assert_eq!(scheduler.waiting.uids().len(), 59);
    world.pod("single", "1").await;
    after(0).await;
    assert_eq!(world.node_of("single").await.as_deref(), Some("a"));
    let free = Patch::Merge(json!({"spec": {"schedulingGates": null}}));
    world.pods().patch("g-59", &PatchParams::default(), &free).await.unwrap();
    after(1).await;
    assert_eq!(world.placed_of("g").await, 60);
}
