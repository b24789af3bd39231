//! The runtime that reconcilers run on: [`Controller`] calls a [`Reconcile`] for each object that may have
//! changed, [`Manager`] starts controllers in order, elects a leader and drains them.
//!
//! Everything goes through [`rkube_api::client::Client`], so a controller runs unchanged inside a process
//! with the API server and against a remote cluster.
//!
//! ```no_run
//! use k8s_openapi::api::{apps::v1::Deployment, core::v1::{ConfigMap, Secret}};
//! use rkube_api::client::{Client, ObjectKey};
//! use rkube_controllers::runtime::{Controller, Manager, Outcome, predicate, reconcile_fn};
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn example(client: Client, stop: CancellationToken) -> Result<(), Box<dyn std::error::Error>> {
//! let reload = Controller::builder("reload")
//!     .for_kind_when::<ConfigMap>(predicate::generation_changed())
//!     .owns::<Deployment>()
//!     .watches::<Secret>(|secret| {
//!         let labels = secret.metadata.labels.iter().flatten();
//!         let namespace = secret.metadata.namespace.clone().unwrap_or_default();
//!         labels.filter(|(key, _)| *key == "reload").map(|(_, map)| ObjectKey::new(&*namespace, map)).collect()
//!     })
//!     .workers(4)
//!     .build(reconcile_fn(|key| async move {
//!         println!("{key} may have changed");
//!         Ok(Outcome::Done)
//!     }));
//! Manager::new(client).controller(reload).run(stop).await?;
//! # Ok(())
//! # }
//! ```

mod component;
mod controller;
mod expectations;
mod manager;
mod metrics;
pub mod predicate;
mod reconcile;

pub use component::Component;
pub use controller::{Controller, ControllerBuilder, NoKind, owner_key};
pub use expectations::Expectations;
pub use manager::{Manager, ManagerError};
pub use metrics::{Metrics, MetricsSnapshot};
pub use reconcile::{Outcome, Reconcile, ReconcileError, reconcile_fn};
