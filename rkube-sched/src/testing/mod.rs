//! What tests of schedulers share: a reference engine, written for clarity, to check a fast one against.
//!
//! [`mod@reference`] reads the plain objects of a cluster and works everything out anew for every question, one
//! function a plugin, as Kubernetes' documentation says. It is slow and keeps nothing.
//!
//! ```
//! use rkube_sched::testing::reference::{Cluster, totals};
//!
//! let node = |name: &str, cpu: &str| serde_json::from_value(serde_json::json!({
//!     "metadata": {"name": name}, "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "9"}}
//! })).unwrap();
//! let cluster = Cluster { nodes: vec![node("small", "2"), node("large", "8")], ..Cluster::default() };
//! let pod = serde_json::from_value(serde_json::json!({"spec": {"containers": [
//!     {"name": "c", "resources": {"requests": {"cpu": "2", "memory": "1Gi"}}}
//! ]}})).unwrap();
//! let totals = totals(&cluster, &pod);
//! assert!(totals["large"] > totals["small"]);
//! ```

mod differences;
pub mod reference;
#[cfg(test)]
mod unit;

pub use differences::differences;
#[cfg(test)]
pub(crate) use unit::*;
