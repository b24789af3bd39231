//! The addresses of all nodes' pods, in one place that follows the nodes.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use foldhash::fast::FixedState;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use rkube_api::client::{Change, Informer};

use super::{AddressPool, Cidr};

/// Why a pod gets no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// The node has no range yet.
    #[error("node {node:?} has no pod CIDR yet")]
    NotReady {
        /// Which.
        node: String,
    },
    /// A range of the node is used up.
    #[error("no addresses are left in pod CIDR {range} of node {node:?}")]
    Exhausted {
        /// Which.
        node: String,
        /// Which range.
        range: Cidr,
    },
}

#[derive(Debug, Default)]
struct OneNode {
    pools: Vec<AddressPool>,
    /// Found running before the ranges were known.
    early: Vec<(String, IpAddr)>,
}

/// Gives pods their addresses, one of each of their node's ranges. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct NodeAddresses(Arc<Mutex<HashMap<Box<str>, OneNode, FixedState>>>);

/// The ranges in a node's spec; what cannot be read is left out.
pub(super) fn ranges_of(node: &Node) -> Vec<Cidr> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let all = spec.pod_cidrs.as_deref().filter(|all| !all.is_empty());
    let texts = all.unwrap_or(spec.pod_cidr.as_slice()).iter().filter(|text| !text.is_empty());
    texts
        .filter_map(|text| {
            let range = text.parse();
            if let Err(error) = &range {
                tracing::warn!(node = ?node.metadata.name, %error, "a node's pod CIDR cannot be read");
            }
            range.ok()
        })
        .collect()
}

impl NodeAddresses {
    /// Follows `spec.podCIDRs` of nodes from now on.
    pub fn follow(&self, nodes: &Informer<Node>) {
        let addresses = self.clone();
        nodes.on_change(move |change| {
            let node = change.object();
            let Some(name) = &node.metadata.name else { return };
            match change {
                Change::Deleted(_) => addresses.remove_node(name),
                Change::Added(_) | Change::Updated { .. } => {
                    let ranges = ranges_of(node);
                    if !ranges.is_empty() {
                        addresses.set_ranges(name, ranges);
                    }
                }
            }
        });
    }

    /// Sets a node's ranges. Addresses given out of a range that stays are kept.
    pub fn set_ranges(&self, node: &str, ranges: Vec<Cidr>) {
        let mut nodes = self.0.lock();
        let one = nodes.entry(node.into()).or_default();
        if one.pools.iter().map(AddressPool::range).eq(ranges.iter().copied()) {
            return;
        }
        let mut old = std::mem::take(&mut one.pools);
        for range in ranges {
            let at = old.iter().position(|pool| pool.range() == range);
            one.pools.push(at.map_or_else(|| AddressPool::new(range), |at| old.swap_remove(at)));
        }
        for (uid, ip) in std::mem::take(&mut one.early) {
            one.pools.iter_mut().any(|pool| pool.reserve(&uid, ip));
        }
    }

    /// Forgets a node and all its pods' addresses.
    pub fn remove_node(&self, node: &str) {
        self.0.lock().remove(node);
    }

    /// The addresses of a pod on a node: those that it has, or new ones.
    pub fn allocate(&self, node: &str, uid: &str) -> Result<Vec<IpAddr>, AllocateError> {
        let mut nodes = self.0.lock();
        let Some(one) = nodes.get_mut(node).filter(|one| !one.pools.is_empty()) else {
            return Err(AllocateError::NotReady { node: node.to_owned() });
        };
        let mut given = Vec::with_capacity(one.pools.len());
        for pool in &mut one.pools {
            match pool.allocate(uid) {
                Some(ip) => given.push(ip),
                None => {
                    let range = pool.range();
                    one.pools.iter_mut().for_each(|pool| {
                        pool.release(uid);
                    });
                    return Err(AllocateError::Exhausted { node: node.to_owned(), range });
                }
            }
        }
        Ok(given)
    }

    /// Notes that a pod, found running, has these addresses. `false`: one of them is another pod's.
    pub fn reserve(&self, node: &str, uid: &str, ips: &[IpAddr]) -> bool {
        let mut nodes = self.0.lock();
        let one = nodes.entry(node.into()).or_default();
        if one.pools.is_empty() {
            one.early.extend(ips.iter().map(|ip| (uid.to_owned(), *ip)));
            return true;
        }
        ips.iter().all(|ip| {
            let own = one.pools.iter_mut().find(|pool| pool.range().contains(*ip));
            own.is_none_or(|pool| pool.reserve(uid, *ip))
        })
    }

    /// Takes a pod's addresses back.
    pub fn release(&self, node: &str, uid: &str) {
        if let Some(one) = self.0.lock().get_mut(node) {
            one.early.retain(|(early, _)| early != uid);
            one.pools.iter_mut().for_each(|pool| {
                pool.release(uid);
            });
        }
    }

    /// How many addresses of a node are taken.
    pub fn taken(&self, node: &str) -> usize {
        self.0.lock().get(node).map_or(0, |one| one.pools.iter().map(AddressPool::len).sum())
    }
}
