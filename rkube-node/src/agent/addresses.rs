//! Where pods get their addresses from: a seam, because the network is another crate's.

use std::net::IpAddr;

/// Why a pod gets no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The node has no range yet; one may come.
    #[error("node {node:?} has no pod CIDR yet")]
    NotReady {
        /// Which.
        node: String,
    },
    /// The node's range is used up.
    #[error("no addresses are left in the pod CIDR of node {node:?}")]
    Exhausted {
        /// Which.
        node: String,
    },
}

/// Gives pods addresses, of a node's range.
///
/// The contract: an address has one owner at a time; asking again for the same pod gives the same
/// addresses; releasing what is not held is no error. Calls return at once.
pub trait PodAddresses: Send + Sync + 'static {
    /// The addresses of a pod on a node, one a family.
    fn allocate(&self, node: &str, uid: &str) -> Result<Vec<IpAddr>, AddressError>;

    /// Notes that a pod, found running after a restart of the agent, has these addresses.
    fn reserve(&self, node: &str, uid: &str, ips: &[IpAddr]);

    /// Takes a pod's addresses back.
    fn release(&self, node: &str, uid: &str);
}
