//! The node agent: it makes a Node of a machine, keeps its lease, and runs the pods that are bound to it.
//!
//! - [`agent`]: nodes: registration, lease, status, and the workers of their pods.
//! - [`runtime`]: what runs pods: the trait, shaped after CRI, and a simulated one for thousands of nodes.
//! - [`pod`]: what is to be done for one pod and what its status is, a pure function.
//!
//! It knows the API through a client only, and nothing of addresses: those come from a seam.

pub mod agent;
mod crowd;
pub mod pod;
pub mod runtime;
#[cfg(feature = "testing")]
pub mod testing;
mod timers;
