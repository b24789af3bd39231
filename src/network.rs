//! The seam between nodes and network: neither crate knows the other.

use std::{net::IpAddr, sync::Arc};

use rkube_api::client::Informers;
use rkube_net::ipam::{AllocateError, NodeAddresses, RangeConfig, RangeController, RangeSetError};
use rkube_node::agent::{AddressError, PodAddresses};

struct Addresses(NodeAddresses);

impl PodAddresses for Addresses {
    fn allocate(&self, node: &str, uid: &str) -> Result<Vec<IpAddr>, AddressError> {
        self.0.allocate(node, uid).map_err(|error| match error {
            AllocateError::NotReady { node } => AddressError::NotReady { node },
            AllocateError::Exhausted { node, .. } => AddressError::Exhausted { node },
        })
    }

    fn reserve(&self, node: &str, uid: &str, ips: &[IpAddr]) {
        if !self.0.reserve(node, uid, ips) {
            tracing::warn!(node, uid, ?ips, "addresses of a running pod are another's");
        }
    }

    fn release(&self, node: &str, uid: &str) {
        self.0.release(node, uid);
    }
}

/// Gives each pod an address of its node's range: what the agents ask.
pub(crate) fn addresses(informers: &Informers) -> Arc<dyn PodAddresses> {
    let addresses = NodeAddresses::default();
    addresses.follow(&informers.get());
    Arc::new(Addresses(addresses))
}

/// Gives each node a range. `informers` are those of a user who may write nodes.
pub(crate) fn ranges(config: &RangeConfig, informers: &Informers) -> Result<RangeController, RangeSetError> {
    RangeController::new(informers, config)
}
