//! The later points of the cycle, by plugins from outside of the crate.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use rkube_sched::{
    Config,
    engine::{Diagnosis, WhatIf},
    framework::{
        Actions, CycleState, Interest, Nomination, Permission, Permit, Plugin, Points, PostBind, PostFilter,
        PostFiltered, PreBind, Reserve, Resource, Status, Victim,
    },
    snapshot::{NodeView, PodInfo},
};
use serde_json::json;

use crate::support::{World, after, with_plugins};

/// What [`Probe`] counts.
#[derive(Default)]
struct Counts {
    /// Reserved and not given back.
    reserved: AtomicI64,
    bound: AtomicU64,
    /// PreBind fails so often.
    failures: AtomicI64,
}

/// A plugin at every point after the decision.
struct Probe {
    counts: Arc<Counts>,
    permission: Permission,
}

impl Plugin for Probe {
    fn name(&self) -> &'static str {
        "Probe"
    }
    fn events(&self) -> Vec<Interest> {
        vec![Interest::new(Resource::Node, Actions::ADD)]
    }
}

impl Reserve for Probe {
    fn reserve(&self, _: &mut CycleState, _: &PodInfo, _: NodeView<'_>) -> Status {
        self.counts.reserved.fetch_add(1, Ordering::SeqCst);
        Status::success()
    }
    fn unreserve(&self, _: &mut CycleState, _: &PodInfo, _: &str) {
        self.counts.reserved.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Permit for Probe {
    fn permit(&self, _: &mut CycleState, _: &PodInfo, _: &str) -> Permission {
        self.permission.clone()
    }
}

#[async_trait]
impl PreBind for Probe {
    async fn pre_bind(&self, _: &CycleState, _: &PodInfo, _: &str) -> Status {
        match self.counts.failures.fetch_sub(1, Ordering::SeqCst) {
            1.. => Status::error("the volume is not there"),
            _ => Status::success(),
        }
    }
}

#[async_trait]
impl PostBind for Probe {
    async fn post_bind(&self, _: &CycleState, _: &PodInfo, _: &str) {
        self.counts.bound.fetch_add(1, Ordering::SeqCst);
    }
}

fn probe(permission: Permission) -> (Arc<Counts>, Config) {
    let counts = Arc::<Counts>::default();
    let shared = counts.clone();
    let config = with_plugins(&["Probe"], |plugins| {
        let make = move |_: &_, _: &_| {
            let plugin = Probe { counts: shared.clone(), permission: permission.clone() };
            Ok(Points::of(plugin).reserve().permit().pre_bind().post_bind().done())
        };
        plugins.add("Probe", make).unwrap();
    });
    (counts, config)
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_the_binding_gives_everything_back_and_is_tried_again() {
    let world = World::new(1).await;
    world.node("a", "1").await;
    let (counts, config) = probe(Permission::Allow);
    counts.failures.store(2, Ordering::SeqCst);
    let scheduler = world.scheduler(config);
    world.pod("p", "1").await;
    after(0).await;
    assert_eq!(counts.reserved.load(Ordering::SeqCst), 0);
    let condition = world.condition("p").await;
    assert_eq!(condition.reason.as_deref(), Some("SchedulerError"));
    assert_eq!(condition.message.as_deref(), Some("the volume is not there"));
    // Backoffs of 1 s and 2 s.
    after(4).await;
    assert_eq!(world.node_of("p").await.as_deref(), Some("a"));
    assert_eq!(counts.reserved.load(Ordering::SeqCst), 1);
    assert_eq!(counts.bound.load(Ordering::SeqCst), 1);
    assert_eq!((scheduler.stats.errors(), scheduler.stats.bound()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn permit_holds_a_binding_until_it_is_let_through() {
    let world = World::new(1).await;
    world.node("a", "1").await;
    let (counts, config) = probe(Permission::Wait(Duration::from_secs(100)));
    let scheduler = world.scheduler(config);
    world.pod("p", "1").await;
    world.pod("q", "1").await;
    after(50).await;
    assert_eq!(world.placed().await.len(), 0);
    // The held pod's room is taken: the other one is refused, not held.
    let held = scheduler.waiting.uids();
    assert_eq!(held.len(), 1);
    assert_eq!(scheduler.waiting.pending(&held[0]), ["Probe"]);
    assert!(scheduler.waiting.allow(&held[0], "Probe"));
    after(0).await;
    assert_eq!(world.placed().await.len(), 1);
    assert_eq!(counts.bound.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn permits_patience_ends() {
    let world = World::new(1).await;
    world.node("a", "1").await;
    let (counts, config) = probe(Permission::Wait(Duration::from_secs(10)));
    world.scheduler(config);
    world.pod("p", "1").await;
    after(11).await;
    let condition = world.condition("p").await;
    assert_eq!(condition.reason.as_deref(), Some("Unschedulable"));
    assert_eq!(
        condition.message.as_deref(),
        Some("rejected due to timeout after waiting 10s at plugin Probe")
    );
    assert_eq!((world.placed().await.len(), counts.reserved.load(Ordering::SeqCst)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_held_pod_that_is_deleted_lets_go_of_its_room() {
    let world = World::new(1).await;
    world.node("a", "1").await;
    let (counts, config) = probe(Permission::Wait(Duration::from_secs(1000)));
    let scheduler = world.scheduler(config);
    world.pod("p", "1").await;
    after(1).await;
    world.delete_pod("p").await;
    after(1).await;
    assert_eq!((scheduler.waiting.uids().len(), counts.reserved.load(Ordering::SeqCst)), (0, 0));
    world.pod("q", "1").await;
    after(1).await;
    assert_eq!(scheduler.waiting.uids().len(), 1);
}

/// Sends the first pod of the first node away.
struct Bully;
impl Plugin for Bully {
    fn name(&self) -> &'static str {
        "Bully"
    }
}
impl PostFilter for Bully {
    fn post_filter(
        &self,
        _: &mut CycleState,
        pod: &PodInfo,
        cluster: &WhatIf<'_>,
        _: &Diagnosis,
    ) -> PostFiltered {
        let node = cluster.snapshot().view(cluster.snapshot().nodes()[0]);
        let Some(victim) = node.pods().find(|other| other.priority < pod.priority && !other.terminating)
        else {
            return Status::unschedulable("preemption: nobody can go").into();
        };
        PostFiltered {
            status: Status::success(),
            nomination: Nomination::Node(node.name().into()),
            victims: vec![Victim {
                namespace: victim.namespace.to_string(),
                name: victim.name.to_string(),
                uid: victim.uid.to_string(),
            }],
            ..PostFiltered::default()
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_to_make_room_is_carried_out_and_the_room_is_held() {
    let world = World::new(1).await;
    world.node("a", "2").await;
    let mut config = with_plugins(&["Bully"], |plugins| {
        plugins.add("Bully", |_, _| Ok(Points::of(Bully).post_filter().done())).unwrap();
    });
    config.profiles[0] = config.profiles[0].clone().without("DefaultPreemption").without("DynamicResources");
    world.scheduler(config);
    world.pod("low", "2").await;
    after(1).await;
    world.pod_with("high", "2", json!({"priorityClassName": "system-node-critical"})).await;
    after(0).await;
    let high = world.pods().get("high").await.unwrap();
    assert_eq!(high.status.clone().unwrap().nominated_node_name.as_deref(), Some("a"));
    // The victim was asked to go; with no node agent here, the test lets it.
    let low = world.pods().get("low").await.unwrap();
    assert!(low.metadata.deletion_timestamp.is_some());
    let conditions = low.status.clone().unwrap().conditions.unwrap();
    assert!(conditions.iter().any(|condition| condition.type_ == "DisruptionTarget"));
    // Room is held: another pod does not slip in.
    world.pod("thief", "2").await;
    world.delete_pod("low").await;
    after(30).await;
    assert_eq!(world.node_of("high").await.as_deref(), Some("a"));
    let thief = world.condition("thief").await.message.unwrap();
    assert_eq!(thief, "0/1 nodes are available: 1 Insufficient cpu. preemption: nobody can go");
}
