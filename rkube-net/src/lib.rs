//! The networks of a cluster.
//!
//! - [`ipam`]: the address ranges of nodes and the addresses of their pods.
//!
//! It knows the API through a client only, and nothing of what runs pods: who needs an address asks
//! [`ipam::NodeAddresses`].

pub mod ipam;
