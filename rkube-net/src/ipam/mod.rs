//! Addresses: a range a node out of the cluster's, an address a pod out of its node's.
//!
//! Three layers: [`Cidr`] is arithmetic; [`RangeSet`] and [`AddressPool`] are pure allocators; around them
//! [`RangeController`] writes `spec.podCIDRs` of nodes, and [`NodeAddresses`] follows nodes and serves
//! pods.
//!
//! ```
//! use rkube_net::ipam::NodeAddresses;
//!
//! let addresses = NodeAddresses::default();
//! addresses.set_ranges("n1", vec!["10.244.3.0/24".parse().unwrap()]);
//! assert_eq!(addresses.allocate("n1", "uid-1").unwrap()[0].to_string(), "10.244.3.2");
//! ```

mod addresses;
mod cidr;
mod controller;
mod nodes;
mod ranges;

pub use addresses::AddressPool;
pub use cidr::{Cidr, CidrError};
pub use controller::{RangeController, RangeError};
pub use nodes::{AllocateError, NodeAddresses};
pub use ranges::{ClusterRange, NodeRanges, Outcome, RangeConfig, RangeSet, RangeSetError};
