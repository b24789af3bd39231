//! The reconciler runtime and the built-in controllers.
//!
//! [`runtime`] is for everyone who writes controllers; the rest is Kubernetes' own, each in its folder:
//! `mod.rs` wires it to informers and the client, `plan.rs` decides, as a pure function of what is there.
//! [`all`] lists them.

pub mod all;
pub mod devices;
pub(crate) mod facts;
pub mod identity;
pub mod lifecycle;
pub mod network;
pub mod nodes;
pub mod resources;
pub mod runtime;
pub mod storage;
pub mod workloads;
