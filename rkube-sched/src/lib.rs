//! The scheduling framework, its plugins and its engine.
//!
//! From outside in: the [`driver`] is the only loop that waits; it feeds a [`snapshot`] and a [`queue`] from
//! informers, asks the [`engine`] for a decision, and binds through the client. The engine runs the
//! plugins of a profile; [`framework`] says what a plugin is, [`plugins`] holds the built-in ones.
//! Everything but the driver is plain functions over values and runs without any API server:
//!
//! ```
//! use std::sync::Arc;
//! use rkube_api::context::Rng;
//! use rkube_sched::{engine::{Decision, Engine}, framework::Profiles, queue::Nominator};
//! use rkube_sched::snapshot::{PodInfo, Snapshot};
//! use serde_json::{from_value, json};
//!
//! let mut snapshot = Snapshot::default();
//! for (name, cpu) in [("small", "1"), ("large", "8")] {
//!     snapshot.set_node(Arc::new(from_value(json!({
//!         "metadata": {"name": name}, "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "9"}}
//!     })).unwrap()));
//! }
//! let pod = PodInfo::new(Arc::new(from_value(json!({
//!     "metadata": {"name": "p"},
//!     "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]}
//! })).unwrap()));
//!
//! let profiles = Profiles::standard();
//! let (nominator, rng) = (Nominator::default(), Rng::seeded(7));
//! let engine = Engine { snapshot: &snapshot, nominator: &nominator, rng: &rng };
//! let Decision::Place(placement) = engine.decide(&pod, profiles.of(&pod).unwrap()).decision else { panic!() };
//! assert_eq!(snapshot.view(placement.node).name(), "large");
//! ```

mod allocation;
mod claims;
mod configuration;
pub mod driver;
pub mod engine;
pub mod framework;
mod lost;
pub mod matching;
pub mod plugins;
pub mod queue;
pub mod simulator;
pub mod snapshot;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use allocation::ResourceSpec;
pub use configuration::{Configuration, ConfigurationError, LeaderElection, ProfileFile};
pub use driver::{Config, Scheduler};
pub use simulator::Simulator;
