//! The agent of one node, or of thousands: registration, lease, node status, and the pods of its nodes.
//!
//! A [`NodePool`] serves any number of nodes with a fixed number of tasks: one informer of pods and one of
//! nodes, one set of timers for leases and status, a few workers for pods. A single agent is a pool of
//! one. Each node acts as its own user, `system:node:<name>`.

mod addresses;
mod admission;
mod heartbeat;
mod pods;
mod pool;
mod sim_nodes;
mod template;
mod worker;

pub use addresses::{AddressError, PodAddresses};
pub use pool::{Identity, NodeConfig, NodeHandle, NodePool, PoolConfig, Watched};
pub use sim_nodes::{SimHandle, SimNodes};
pub use template::{NodeTemplate, Pressure};
