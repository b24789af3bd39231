//! What a plugin knows a node by.

use std::sync::Arc;

use super::{NodeId, Sums, Topology};

/// The part of the cluster that a node is in, by one label, and how much counts there: all that a plugin may
/// look at of a node beside its own object, see
/// [`Plugin::facets`](crate::framework::Plugin::facets).
///
/// Where no two nodes are in one part, it is what counts there that a node is known by, and else its part:
/// nodes alike in that are alike to the plugin. What the node is known by changes only when that node changes.
#[derive(Clone, Debug)]
pub struct Facet {
    topology: Arc<Topology>,
    sums: Option<Sums>,
}

/// What nodes are known by goes on from the same: as long as it stays equal, nodes that have not changed are
/// known by the same.
pub(crate) type Origin = [u64; 3];

/// A node that is in no part.
const NOWHERE: i64 = i64::MIN;

impl Facet {
    pub(crate) fn new(topology: Arc<Topology>, sums: Option<Sums>) -> Self {
        Self { topology, sums }
    }

    pub(crate) fn of(sums: &Sums) -> Self {
        Self::new(sums.topology.clone(), Some(sums.clone()))
    }

    pub(crate) fn origin(&self) -> Origin {
        let tally = self.sums.as_ref().map_or(0, Sums::tally);
        [tally, self.topology.epoch(), self.topology.parts_nodes().into()]
    }

    /// What a node is known by.
    pub(crate) fn mark(&self, node: NodeId) -> i64 {
        let Some(part) = self.topology.of(node) else { return NOWHERE };
        if self.topology.parts_nodes() {
            return self.sums.as_ref().map_or(0, |sums| sums.at(part));
        }
        part as i64
    }
}
