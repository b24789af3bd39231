//! A plugin that waits, keeps books of what it reserved, and panics where a pod's label says.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use rkube_sched::{
    engine::{Diagnosis, WhatIf},
    framework::{
        Actions, Bind, ClusterEvent, ConfigError, CycleState, Filter, Hint, Interest, Locality,
        Normalization, Permission, Permit, Plugin, PluginRegistry, Points, PostBind, PostFilter,
        PostFiltered, PreBind, PreEnqueue, PreFilter, PreFiltered, PreScore, Reserve, Resource, Score,
        Status,
    },
    snapshot::{NodeSet, NodeView, PodInfo, Snapshot, Uid},
};

pub(crate) const NAME: &str = "Probe";
/// How long Permit waits for somebody's word.
const PATIENCE: Duration = Duration::from_secs(20);

/// Every place where the plugin can panic.
pub(crate) const POINTS: [&str; 14] = [
    "PreEnqueue",
    "PreFilter",
    "Filter",
    "PostFilter",
    "PreScore",
    "Score",
    "Normalize",
    "Reserve",
    "Unreserve",
    "Permit",
    "PreBind",
    "Bind",
    "PostBind",
    "Hint",
];

/// What a test knows of the plugin of one scheduler.
#[derive(Clone, Default)]
pub(crate) struct Probe {
    /// Whether labels are heeded.
    pub(crate) armed: Arc<AtomicBool>,
    /// The pods that something is reserved for.
    pub(crate) reserved: Arc<Mutex<BTreeSet<Uid>>>,
}

impl Probe {
    /// Registers it, with all points, or with those only that do not look at nodes.
    pub(crate) fn register(
        &self,
        registry: &mut PluginRegistry,
        everywhere: bool,
    ) -> Result<(), ConfigError> {
        let probe = self.clone();
        let make = move |_: &_, _: &_| {
            let points = Points::of(probe.clone()).reserve().permit().post_bind();
            if !everywhere {
                return Ok(points.done());
            }
            let points = points.pre_enqueue().pre_filter().filter().post_filter().pre_score().score();
            Ok(points.pre_bind().bind().done())
        };
        registry.add(NAME, make).map(drop)
    }

    fn at(&self, point: &str, pod: &PodInfo) {
        if marked(pod) == Some(point) && self.armed.load(Ordering::Relaxed) {
            // A panic as any other, but for the backtrace on the screen.
            std::panic::resume_unwind(Box::new("as the label says"));
        }
    }
}

fn marked(pod: &PodInfo) -> Option<&str> {
    pod.labels().get("panic").map(String::as_str)
}

impl Plugin for Probe {
    fn name(&self) -> &'static str {
        NAME
    }
    /// Nothing else in the simulation changes an annotation of a node: what it keeps waits for a word.
    fn events(&self) -> Vec<Interest> {
        vec![Interest::new(Resource::Node, Actions::UPDATE_NODE_ANNOTATION)]
    }
    fn hint(&self, pod: &PodInfo, _: &ClusterEvent) -> Hint {
        self.at("Hint", pod);
        Hint::Queue
    }
    fn locality(&self, pod: &PodInfo, _: &Snapshot) -> Locality {
        if marked(pod).is_some() { Locality::Cluster } else { Locality::Node }
    }
    fn same_content(&self, one: &PodInfo, other: &PodInfo) -> bool {
        marked(one) == marked(other)
    }
}

impl PreEnqueue for Probe {
    fn pre_enqueue(&self, pod: &PodInfo) -> Status {
        self.at("PreEnqueue", pod);
        Status::success()
    }
}

impl PreFilter for Probe {
    fn pre_filter(&self, _: &mut CycleState, pod: &PodInfo, _: &Snapshot) -> PreFiltered {
        self.at("PreFilter", pod);
        PreFiltered::default()
    }
}

impl Filter for Probe {
    fn filter(&self, _: &CycleState, pod: &PodInfo, _: NodeView<'_>) -> Status {
        self.at("Filter", pod);
        let unwanted = ["PostFilter", "Hint"].iter().any(|point| marked(pod) == Some(point));
        let armed = self.armed.load(Ordering::Relaxed);
        if unwanted && armed { Status::unschedulable("node(s) are not wanted") } else { Status::success() }
    }
}

impl PostFilter for Probe {
    fn post_filter(&self, _: &mut CycleState, pod: &PodInfo, _: &WhatIf<'_>, _: &Diagnosis) -> PostFiltered {
        self.at("PostFilter", pod);
        Status::unschedulable("").into()
    }
}

impl PreScore for Probe {
    fn pre_score(&self, _: &mut CycleState, pod: &PodInfo, _: NodeSet<'_>) -> Status {
        self.at("PreScore", pod);
        Status::success()
    }
}

impl Score for Probe {
    fn score(&self, _: &CycleState, pod: &PodInfo, _: NodeView<'_>) -> Result<i64, Status> {
        self.at("Score", pod);
        Ok(0)
    }
    fn normalization(&self) -> Normalization {
        Normalization::None
    }
    fn normalize(&self, _: &CycleState, pod: &PodInfo, _: &mut [i64]) -> Status {
        self.at("Normalize", pod);
        Status::success()
    }
}

impl Reserve for Probe {
    fn reserve(&self, _: &mut CycleState, pod: &PodInfo, _: NodeView<'_>) -> Status {
        self.at("Reserve", pod);
        self.reserved.lock().insert(pod.uid.clone());
        Status::success()
    }
    fn unreserve(&self, _: &mut CycleState, pod: &PodInfo, _: &str) {
        self.reserved.lock().remove(&pod.uid);
        self.at("Unreserve", pod);
    }
}

impl Permit for Probe {
    fn permit(&self, _: &mut CycleState, pod: &PodInfo, _: &str) -> Permission {
        self.at("Permit", pod);
        if pod.labels().contains_key("permit") { Permission::Wait(PATIENCE) } else { Permission::Allow }
    }
}

#[async_trait]
impl PreBind for Probe {
    async fn pre_bind(&self, _: &CycleState, pod: &PodInfo, _: &str) -> Status {
        self.at("PreBind", pod);
        // One whose Unreserve panics must fail first.
        let fails = marked(pod) == Some("Unreserve") && self.armed.load(Ordering::Relaxed);
        if fails { Status::error("not bound") } else { Status::success() }
    }
}

#[async_trait]
impl Bind for Probe {
    async fn bind(&self, _: &CycleState, pod: &PodInfo, _: &str) -> Status {
        self.at("Bind", pod);
        Status::skip()
    }
}

#[async_trait]
impl PostBind for Probe {
    async fn post_bind(&self, _: &CycleState, pod: &PodInfo, _: &str) {
        self.reserved.lock().remove(&pod.uid);
        self.at("PostBind", pod);
    }
}
