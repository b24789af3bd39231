//! The scheduling framework: what a plugin is, where it is asked, and how plugins make up a profile.
//!
//! It follows kube-scheduler's framework (KEP-624) point by point. A plugin is a type with the traits of
//! the points it serves; [`Points`] names them, a [`PluginRegistry`] makes it from its arguments, a
//! [`ProfileConfig`] says where it stands and how much its score weighs.
//!
//! ```
//! use rkube_sched::{framework::*, plugins, snapshot::{NodeView, PodInfo}};
//!
//! /// Prefers nodes with a short name.
//! struct ShortNames;
//! impl Plugin for ShortNames {
//!     fn name(&self) -> &'static str {
//!         "ShortNames"
//!     }
//! }
//! impl Score for ShortNames {
//!     fn score(&self, _: &CycleState, _: &PodInfo, node: NodeView<'_>) -> Result<i64, Status> {
//!         Ok(node.name().len() as i64)
//!     }
//!     fn normalize(&self, _: &CycleState, _: &PodInfo, scores: &mut [i64]) -> Status {
//!         default_normalize(MAX_NODE_SCORE, true, scores);
//!         Status::success()
//!     }
//! }
//!
//! let mut registry = plugins::all();
//! registry.add("ShortNames", |_, _| Ok(Points::of(ShortNames).score().done()))?;
//! let config = ProfileConfig::standard().with("ShortNames", 10);
//! let profile = Profile::build(&config, &registry, &Handle::default())?;
//! assert!(profile.plugin_names().any(|name| name == "ShortNames"));
//! # Ok::<(), ConfigError>(())
//! ```

mod activation;
mod contain;
mod event;
mod listers;
mod members;
mod points;
mod profile;
mod registry;
mod state;
mod status;
mod waiting;

pub use activation::Activations;
pub(crate) use contain::{contained, contained_async};
pub use event::{Actions, Changed, ClusterEvent, Hint, Interest, Resource, Subject, is_own_update};
pub use listers::Listers;
pub use members::Members;
pub use points::{
    Bind, Filter, Locality, MAX_NODE_SCORE, Nomination, Normalization, Permission, Permit, Plugin, Point,
    PointSet, Points, PostBind, PostFilter, PostFiltered, PreBind, PreEnqueue, PreFilter,
    PreFilterExtensions, PreFiltered, PreScore, QueueSort, Reserve, Score, Victim, default_normalize,
};
pub use profile::{DEFAULT_SCHEDULER, PluginConfig, Profile, ProfileConfig, Profiles};
pub(crate) use profile::{Part, Weighted};
pub use registry::{Args, ConfigError, Handle, PluginRegistry};
pub use state::{CycleState, StateData};
pub use status::{Code, Status};
pub use waiting::WaitingPods;
