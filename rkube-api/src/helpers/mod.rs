//! What several components need to know of a kind: what a pod asks for, which taints it tolerates, which
//! nodes it wants, whether it or a node is ready.
//!
//! Plain functions over k8s-openapi's types.
//!
//! ```
//! use k8s_openapi::api::core::v1::{Taint, Toleration};
//! use rkube_api::helpers::taints;
//! let taint = Taint { key: "gpu".into(), effect: "NoSchedule".into(), ..Default::default() };
//! let toleration = Toleration { key: Some("gpu".into()), operator: Some("Exists".into()), ..Default::default() };
//! assert!(taints::tolerates(&toleration, &taint));
//! ```

pub mod affinity;
#[cfg(feature = "cel")]
pub mod device_selector;
pub mod disruption;
mod host_ports;
pub mod node;
pub mod pod;
pub mod resources;
pub mod taints;
pub mod volumes;

pub use host_ports::HostPort;
pub use resources::Resources;
