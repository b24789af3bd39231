//! A plugin that panics, at every point: its pod fails and says so, all others go on.

use async_trait::async_trait;
use rkube_api::client::{Patch, PatchParams};
use rkube_sched::{
    Config,
    engine::{Diagnosis, WhatIf},
    framework::{
        Bind, ClusterEvent, CycleState, Filter, Hint, Permission, Permit, Plugin, Points, PostBind,
        PostFilter, PostFiltered, PreBind, PreEnqueue, PreFilter, PreFiltered, PreScore, Reserve, Score,
        Status,
    },
    snapshot::{NodeSet, NodeView, PodInfo, Snapshot},
};
use serde_json::json;

use crate::support::{World, after, with_plugins};

/// Panics at one point, for the pod `doomed`.
struct Bomb(&'static str);

impl Bomb {
    fn at(&self, point: &str, pod: &PodInfo) {
        assert!(point != self.0 || pod.key.name != "doomed", "boom");
    }
}

impl Plugin for Bomb {
    fn name(&self) -> &'static str {
        "Bomb"
    }
    fn hint(&self, pod: &PodInfo, _: &ClusterEvent) -> Hint {
        self.at("hint", pod);
        Hint::Skip
    }
}
impl PreEnqueue for Bomb {
    fn pre_enqueue(&self, pod: &PodInfo) -> Status {
        self.at("PreEnqueue", pod);
        Status::success()
    }
}
impl PreFilter for Bomb {
    fn pre_filter(&self, _: &mut CycleState, pod: &PodInfo, _: &Snapshot) -> PreFiltered {
        self.at("PreFilter", pod);
        PreFiltered::default()
    }
}
impl Filter for Bomb {
    fn filter(&self, _: &CycleState, pod: &PodInfo, _: NodeView<'_>) -> Status {
        self.at("Filter", pod);
        match self.0 {
            "hint" | "PostFilter" if pod.key.name == "doomed" => Status::unschedulable("not here"),
            _ => Status::success(),
        }
    }
}
impl PostFilter for Bomb {
    fn post_filter(&self, _: &mut CycleState, pod: &PodInfo, _: &WhatIf<'_>, _: &Diagnosis) -> PostFiltered {
        self.at("PostFilter", pod);
        Status::unschedulable("").into()
    }
}
impl PreScore for Bomb {
    fn pre_score(&self, _: &mut CycleState, pod: &PodInfo, _: NodeSet<'_>) -> Status {
        self.at("PreScore", pod);
        Status::success()
    }
}
impl Score for Bomb {
    fn score(&self, _: &CycleState, pod: &PodInfo, _: NodeView<'_>) -> Result<i64, Status> {
        self.at("Score", pod);
        Ok(0)
    }
    fn normalize(&self, _: &CycleState, pod: &PodInfo, _: &mut [i64]) -> Status {
        self.at("normalize", pod);
        Status::success()
    }
}
impl Reserve for Bomb {
    fn reserve(&self, _: &mut CycleState, pod: &PodInfo, _: NodeView<'_>) -> Status {
        self.at("Reserve", pod);
        Status::success()
    }
    fn unreserve(&self, _: &mut CycleState, pod: &PodInfo, _: &str) {
        self.at("Reserve", pod);
    }
}
impl Permit for Bomb {
    fn permit(&self, _: &mut CycleState, pod: &PodInfo, _: &str) -> Permission {
        self.at("Permit", pod);
        Permission::Allow
    }
}
#[async_trait]
impl PreBind for Bomb {
    async fn pre_bind(&self, _: &CycleState, pod: &PodInfo, _: &str) -> Status {
        self.at("PreBind", pod);
        Status::success()
    }
}
#[async_trait]
impl Bind for Bomb {
    async fn bind(&self, _: &CycleState, pod: &PodInfo, _: &str) -> Status {
        self.at("Bind", pod);
        Status::skip()
    }
}
#[async_trait]
impl PostBind for Bomb {
    async fn post_bind(&self, _: &CycleState, pod: &PodInfo, _: &str) {
        self.at("PostBind", pod);
    }
}

fn config(point: &'static str) -> Config {
    let mut config = with_plugins(&["Bomb"], |plugins| {
        let points = move |_: &_, _: &_| {
            let points = Points::of(Bomb(point)).pre_enqueue().pre_filter().filter().post_filter();
            let points = points.pre_score().score().reserve().permit().pre_bind().bind();
            Ok(points.post_bind().done())
        };
        plugins.add("Bomb", points).unwrap();
    });
    // It is asked before the default binder.
    config.profiles[0].plugins.rotate_right(1);
    config
}

async fn world() -> World {
    let world = World::new(1).await;
    world.node("a", "8").await;
    world.node("b", "8").await;
    world
}

#[tokio::test(start_paused = true)]
async fn its_pod_fails_with_a_clear_event_and_the_others_go_on() {
    let points = ["PreEnqueue", "PreFilter", "Filter", "PostFilter", "PreScore", "Score", "normalize"];
    for point in points.into_iter().chain(["Reserve", "Permit", "PreBind", "Bind"]) {
        let world = world().await;
        let scheduler = world.scheduler(config(point));
        world.pod("before", "1").await;
        world.pod("doomed", "1").await;
        world.pod("behind", "1").await;
        after(0).await;
        let placed: Vec<_> = world.placed().await.into_keys().collect();
        assert_eq!(placed, ["before", "behind"], "{point}");
        let named = if point == "normalize" { "Score" } else { point };
        let text = format!("plugin \"Bomb\" panicked in {named}: boom");
        let condition = world.condition("doomed").await;
        assert_eq!(condition.reason.as_deref(), Some("SchedulerError"), "{point}");
        assert_eq!(condition.message.as_deref(), Some(&*text));
        assert!(world.events("doomed").await.contains(&("FailedScheduling".into(), text)), "{point}");
        // It stays so, and the scheduler lives.
        after(30).await;
        world.pod("later", "1").await;
        after(1).await;
        assert!(world.node_of("later").await.is_some(), "{point}");
        // Nothing it was given on its way is kept: 8 + 8 less 3 fit.
        for index in 0..13 {
            world.pod(&format!("rest{index}"), "1").await;
        }
        after(5).await;
        assert_eq!(world.placed().await.len(), 16, "{point}");
        assert!(scheduler.stats.errors() >= 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gated_pod_says_what_it_waits_for_and_fails_when_its_gates_are_gone() {
    let world = world().await;
    let scheduler = world.scheduler(config("PreEnqueue"));
    world.pod_with("doomed", "1", json!({"schedulingGates": [{"name": "x.io/y"}]})).await;
    after(1).await;
    assert_eq!(world.condition("doomed").await.reason.as_deref(), Some("SchedulingGated"));
    assert_eq!((world.events("doomed").await, scheduler.stats.errors()), (Vec::new(), 0));
    let free = Patch::Merge(json!({"spec": {"schedulingGates": null}}));
    world.pods().patch("doomed", &PatchParams::default(), &free).await.unwrap();
    after(1).await;
    assert_eq!(world.condition("doomed").await.reason.as_deref(), Some("SchedulerError"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_bound_whatever_post_bind_does() {
    let world = world().await;
    let scheduler = world.scheduler(config("PostBind"));
    world.pod("doomed", "1").await;
    after(30).await;
    assert!(world.node_of("doomed").await.is_some());
    assert_eq!((scheduler.stats.bound(), scheduler.stats.decisions()), (1, 1));
    let told = ("PluginFailed".to_owned(), "plugin \"Bomb\" panicked in PostBind: boom".to_owned());
    assert!(world.events("doomed").await.contains(&told));
}

#[tokio::test(start_paused = true)]
async fn a_hint_that_panics_means_that_the_event_may_help() {
    let world = world().await;
    let scheduler = world.scheduler(config("hint"));
    world.pod("doomed", "1").await;
    after(1).await;
    assert_eq!(scheduler.stats.decisions(), 1);
    world.node("c", "8").await;
    after(20).await;
    assert!(scheduler.stats.decisions() >= 2);
    world.pod("fine", "1").await;
    after(1).await;
    assert!(world.node_of("fine").await.is_some());
}
