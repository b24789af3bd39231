//! The extension points: one trait each, in the order in which a pod meets them.
//!
//! Points up to [`Permit`] are plain functions; they run inside the scheduling loop and must not block.
//! [`PreBind`], [`Bind`] and [`PostBind`] may wait: many bindings are under way at once.

use std::{cmp::Ordering, collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{ClusterEvent, CycleState, Hint, Interest, Status};
use crate::{
    engine::{Candidates, Diagnosis, WhatIf},
    queue::QueuedPod,
    snapshot::{Facet, NodeId, NodeSet, NodeView, PlacedPod, PodInfo, Snapshot},
};

/// The best score of a node, the worst is 0.
pub const MAX_NODE_SCORE: i64 = 100;

/// What a plugin's PreFilter, Filter, PreScore and Score of one node depend on, besides the pod's content:
/// what it asks for, its node name, node selector, node affinity, tolerations, host ports and images.
///
/// A plugin that says so little joins the engine's classes: pods of equal content share its answers, and a
/// change of one node costs one call. What PreFilter and PreScore prepare must then follow from the pod
/// and the snapshot's nodes; PreScore must not look at which nodes it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Locality {
    /// That node's own object: its labels, taints, capacity.
    Node,
    /// That node's object and the pods on it.
    NodeAndPods,
    /// The objects of all nodes, but no pods.
    Nodes,
    /// Anything: the plugin is asked anew for every pod.
    #[default]
    Cluster,
}

/// What [`Score::normalize`] makes a score of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Normalization {
    /// Nothing: raw scores are final.
    None,
    /// Equal scores become equal ones, and what a score becomes follows from which raw scores there are,
    /// not from how many of each or their order: what scales by the extremes is such.
    ByValue,
    /// Anything.
    #[default]
    Free,
}

/// What every plugin has: a name, and the events that may help pods it refused.
pub trait Plugin: Send + Sync + 'static {
    /// The name under which it is registered and configured.
    fn name(&self) -> &'static str;

    /// The events that may make a pod schedulable which this plugin refused. By default every event:
    /// correct for every plugin, at the price of needless tries.
    fn events(&self) -> Vec<Interest> {
        vec![Interest::new(super::Resource::Any, super::Actions::ALL)]
    }

    /// Whether such an event is worth another try of this pod.
    fn hint(&self, _pod: &PodInfo, _event: &ClusterEvent) -> Hint {
        Hint::Queue
    }

    /// What this plugin's answers for this pod depend on. By default on anything: correct for every
    /// plugin, which then costs itself for every pod. It is asked for every decision, so it must be quick.
    fn locality(&self, _pod: &PodInfo, _snapshot: &Snapshot) -> Locality {
        Locality::Cluster
    }

    /// All by which this plugin can tell nodes apart for this pod, of a plugin that looks at the [whole
    /// cluster](Locality::Cluster); asked after PreFilter, and what it writes to the state PreScore may read.
    /// Nodes that are alike in all of them get the same answers from its Filter, and the same raw score: the
    /// engine asks for one of them, so that a decision costs as much as there are differences between nodes.
    /// PreScore may then be given one node for many, and its scores must be [normalized by
    /// value](Normalization::ByValue). `None`, by default: every node is asked about.
    fn facets(&self, _state: &mut CycleState, _pod: &PodInfo, _snapshot: &Snapshot) -> Option<Vec<Facet>> {
        None
    }

    /// A few nodes, outside of which this plugin's Filter refuses each, of a plugin that looks at the [whole
    /// cluster](Locality::Cluster); asked after PreFilter. The engine then asks about those only, which changes
    /// nothing of what it decides, nor of what it says of the others if none of them fits. `None`, by default: they
    /// are not few.
    fn confines(&self, _state: &CycleState, _pod: &PodInfo, _snapshot: &Snapshot) -> Option<Vec<NodeId>> {
        None
    }

    /// Whether what PreFilter and PreScore prepared at two times says the same of every node that has not
    /// changed between: asked of a plugin that reads the objects of [all nodes](Locality::Nodes) when some of
    /// them have changed. If not, the pod's class begins anew.
    fn same_state(&self, _before: &CycleState, _now: &CycleState) -> bool {
        false
    }

    /// Whether two pods of equal content are alike for this plugin: to be written by one that is local
    /// and looks at more of a pod than its content (see [`Locality`]), say at annotations.
    fn same_content(&self, _one: &PodInfo, _other: &PodInfo) -> bool {
        true
    }
}

/// Decides whether a pod may enter the active queue at all.
pub trait PreEnqueue: Plugin {
    /// Anything but a success keeps the pod out, until an event this plugin asked for.
    fn pre_enqueue(&self, pod: &PodInfo) -> Status;
}

/// Orders the active queue. A profile has exactly one, and all profiles have the same.
pub trait QueueSort: Plugin {
    /// `Less`: `a` is tried before `b`.
    fn compare(&self, a: &QueuedPod, b: &QueuedPod) -> Ordering;
}

/// What [`PreFilter`] answers.
#[derive(Debug, Default)]
pub struct PreFiltered {
    /// Success; Skip: the plugin's Filter is not asked for this pod; anything else ends the cycle.
    pub status: Status,
    /// If present, no other nodes are looked at.
    pub nodes: Option<BTreeSet<NodeId>>,
}

impl From<Status> for PreFiltered {
    fn from(status: Status) -> Self {
        Self { status, nodes: None }
    }
}

/// Looks at the pod once, before nodes are filtered.
pub trait PreFilter: Plugin {
    /// Refuses the pod, narrows the nodes down, or prepares state for Filter.
    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, snapshot: &Snapshot) -> PreFiltered;

    /// What to do when a what-if run moves a pod, if the prepared state depends on other pods.
    fn extensions(&self) -> Option<&dyn PreFilterExtensions> {
        None
    }
}

/// Keeps the state of a [`PreFilter`] true while a what-if run moves pods (preemption, nominated pods).
pub trait PreFilterExtensions: Send + Sync {
    /// `moved` is on the node now (`by` is 1), or no longer there (-1).
    fn shift(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        moved: &PlacedPod,
        node: NodeView<'_>,
        by: i64,
    ) -> Status;
}

/// Decides whether a pod can run on a node.
///
/// ```
/// use rkube_sched::{framework::{CycleState, Filter, Plugin, Status}, snapshot::{NodeView, PodInfo}};
///
/// struct NightShift;
/// impl Plugin for NightShift {
///     fn name(&self) -> &'static str {
///         "NightShift"
///     }
/// }
/// impl Filter for NightShift {
///     fn filter(&self, _: &CycleState, _: &PodInfo, node: NodeView<'_>) -> Status {
///         match node.label("shift") {
///             Some("night") => Status::success(),
///             _ => Status::unresolvable("node(s) sleep at night"),
///         }
///     }
/// }
/// ```
pub trait Filter: Plugin {
    /// Success: the pod can run there as far as this plugin is concerned.
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: NodeView<'_>) -> Status;

    /// Filters all nodes that are still in question. The default asks [`Filter::filter`] for each; a
    /// plugin that reads columns overrides it, with the same outcome.
    fn filter_all(&self, state: &CycleState, pod: &PodInfo, nodes: &mut Candidates<'_>) {
        nodes.retain(|node| self.filter(state, pod, node));
    }
}

/// What to do with a pod's nomination after [`PostFilter`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Nomination {
    /// Leave it as it is.
    #[default]
    Keep,
    /// Take it back.
    Clear,
    /// Hold room for the pod on this node.
    Node(String),
}

/// A pod that must go to make room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: no other pod of that name is touched.
    pub uid: String,
}

/// What [`PostFilter`] answers. It is a plan: the driver carries it out.
#[derive(Clone, Debug, Default)]
pub struct PostFiltered {
    /// Success: the pod can run once the plan is carried out. Its reasons join the pod's message.
    pub status: Status,
    /// Where room is held.
    pub nomination: Nomination,
    /// Who has to go.
    pub victims: Vec<Victim>,
    /// Pods for which no room is held any more.
    pub displaced: Vec<Arc<PodInfo>>,
    /// The plugins that refused nodes even if pods went: what they hear of may help the pod, too.
    pub refused_by: BTreeSet<&'static str>,
}

impl From<Status> for PostFiltered {
    fn from(status: Status) -> Self {
        Self { status, ..Self::default() }
    }
}

/// Runs when no node fits: preemption lives here. The first success ends it.
pub trait PostFilter: Plugin {
    /// Finds a way to make room.
    fn post_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        cluster: &WhatIf<'_>,
        diagnosis: &Diagnosis,
    ) -> PostFiltered;
}

/// Prepares state for [`Score`].
pub trait PreScore: Plugin {
    /// Skip: the plugin's Score is not asked for this pod.
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, nodes: NodeSet<'_>) -> Status;
}

/// Ranks the nodes that fit.
pub trait Score: Plugin {
    /// A raw score; after [`Score::normalize`] it must lie in `0..=100`.
    fn score(&self, state: &CycleState, pod: &PodInfo, node: NodeView<'_>) -> Result<i64, Status>;

    /// Scores all nodes, in their order. The default asks [`Score::score`] for each; a plugin that reads
    /// columns overrides it, with the same outcome.
    fn score_all(&self, state: &CycleState, pod: &PodInfo, nodes: NodeSet<'_>, scores: &mut [i64]) -> Status {
        for (score, node) in scores.iter_mut().zip(nodes.iter()) {
            match self.score(state, pod, node) {
                Ok(value) => *score = value,
                Err(status) => return status,
            }
        }
        Status::success()
    }

    /// What [`Score::normalize`] looks at. A local plugin that leaves this undecided is asked anew for
    /// every pod.
    fn normalization(&self) -> Normalization {
        Normalization::Free
    }

    /// Brings the raw scores into `0..=100`. By default they are there already.
    fn normalize(&self, _state: &CycleState, _pod: &PodInfo, _scores: &mut [i64]) -> Status {
        Status::success()
    }
}

/// Scales scores so that the highest becomes `max`, as kube-scheduler's helper does; `reverse` then
/// turns them round, so that the lowest raw score is best.
///
/// ```
/// let mut scores = [0, 1, 4];
/// rkube_sched::framework::default_normalize(100, true, &mut scores);
/// assert_eq!(scores, [100, 75, 0]);
/// ```
pub fn default_normalize(max: i64, reverse: bool, scores: &mut [i64]) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if highest == 0 { 0 } else { max.saturating_mul(*score) / highest };
        *score = if reverse { max - scaled } else { scaled };
    }
}

/// Takes resources of a plugin's own for the pod, and gives them back if the pod does not get there.
pub trait Reserve: Plugin {
    /// Takes them.
    fn reserve(&self, state: &mut CycleState, pod: &PodInfo, node: NodeView<'_>) -> Status;

    /// Gives them back. It is called for every plugin of the profile, also for those whose reserve was
    /// never reached, so it must be harmless then; and it cannot fail.
    fn unreserve(&self, state: &mut CycleState, pod: &PodInfo, node: &str);
}

/// What [`Permit`] answers.
#[derive(Clone, Debug)]
pub enum Permission {
    /// The binding may go on.
    Allow,
    /// It may not.
    Deny(Status),
    /// It waits until somebody decides (see [`WaitingPods`](super::WaitingPods)); after the timeout it
    /// is denied.
    Wait(Duration),
}

/// Lets bindings through, holds them, or stops them.
pub trait Permit: Plugin {
    /// Decides for a pod that has its node.
    fn permit(&self, state: &mut CycleState, pod: &PodInfo, node: &str) -> Permission;
}

/// Work that must be done before the pod is bound: volumes, network.
#[async_trait]
pub trait PreBind: Plugin {
    /// Whether it will wait for others, maybe long: the scheduler then goes on as if nothing were under way.
    fn waits(&self, _state: &CycleState, _pod: &PodInfo) -> bool {
        false
    }

    /// Does it.
    async fn pre_bind(&self, state: &CycleState, pod: &PodInfo, node: &str) -> Status;
}

/// Binds the pod to its node. The first plugin that does not answer Skip has done it.
#[async_trait]
pub trait Bind: Plugin {
    /// Binds it.
    async fn bind(&self, state: &CycleState, pod: &PodInfo, node: &str) -> Status;
}

/// Hears of pods that were bound.
#[async_trait]
pub trait PostBind: Plugin {
    /// The pod is bound.
    async fn post_bind(&self, state: &CycleState, pod: &PodInfo, node: &str);
}

/// Every extension point, by kube-scheduler's name in its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Point {
    /// [`PreEnqueue`]
    PreEnqueue,
    /// [`QueueSort`]
    QueueSort,
    /// [`PreFilter`]
    PreFilter,
    /// [`Filter`]
    Filter,
    /// [`PostFilter`]
    PostFilter,
    /// [`PreScore`]
    PreScore,
    /// [`Score`]
    Score,
    /// [`Reserve`]
    Reserve,
    /// [`Permit`]
    Permit,
    /// [`PreBind`]
    PreBind,
    /// [`Bind`]
    Bind,
    /// [`PostBind`]
    PostBind,
}

macro_rules! points {
    ($($(#[$doc:meta])* $method:ident $field:ident $point:ident;)*) => {
        /// The extension points that one plugin serves.
        #[derive(Clone)]
        pub struct PointSet {
            pub(crate) plugin: Arc<dyn Plugin>,
            $(pub(crate) $field: Option<Arc<dyn $point>>,)*
        }

        impl PointSet {
            /// Forgets a point, as `disabled` in a profile does.
            pub(crate) fn disable(&mut self, point: Point) {
                match point {
                    $(Point::$point => self.$field = None,)*
                }
            }

            /// The points that are served.
            pub fn points(&self) -> Vec<Point> {
                let mut points = Vec::new();
                $(if self.$field.is_some() { points.push(Point::$point); })*
                points
            }
        }

        /// Names the points of a plugin; the compiler checks that it has their traits.
        ///
        /// ```
        /// # use rkube_sched::framework::*;
        /// # use rkube_sched::snapshot::*;
        /// # struct Any;
        /// # impl Plugin for Any { fn name(&self) -> &'static str { "Any" } }
        /// # impl Filter for Any {
        /// #     fn filter(&self, _: &CycleState, _: &PodInfo, _: NodeView<'_>) -> Status { Status::success() }
        /// # }
        /// let set = Points::of(Any).filter().done();
        /// assert_eq!(set.points(), [Point::Filter]);
        /// ```
        pub struct Points<P> {
            plugin: Arc<P>,
            set: PointSet,
        }

        impl<P: Plugin> Points<P> {
            /// No point yet.
            pub fn of(plugin: P) -> Self {
                let plugin = Arc::new(plugin);
                Self { set: PointSet { plugin: plugin.clone(), $($field: None,)* }, plugin }
            }

            /// The points named.
            pub fn done(self) -> PointSet {
                self.set
            }

            $($(#[$doc])*
            #[must_use]
            pub fn $method(mut self) -> Self where P: $point {
                self.set.$field = Some(self.plugin.clone());
                self
            })*
        }
    };
}

points! {
    /// Serves [`PreEnqueue`].
    pre_enqueue pre_enqueue PreEnqueue;
    /// Serves [`QueueSort`].
    queue_sort queue_sort QueueSort;
    /// Serves [`PreFilter`].
    pre_filter pre_filter PreFilter;
    /// Serves [`Filter`].
    filter filter Filter;
    /// Serves [`PostFilter`].
    post_filter post_filter PostFilter;
    /// Serves [`PreScore`].
    pre_score pre_score PreScore;
    /// Serves [`Score`].
    score score Score;
    /// Serves [`Reserve`].
    reserve reserve Reserve;
    /// Serves [`Permit`].
    permit permit Permit;
    /// Serves [`PreBind`].
    pre_bind pre_bind PreBind;
    /// Serves [`Bind`].
    bind bind Bind;
    /// Serves [`PostBind`].
    post_bind post_bind PostBind;
}
