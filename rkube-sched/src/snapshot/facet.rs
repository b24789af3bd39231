//! What a plugin knows a node by.

use std::{fmt::Debug, sync::Arc};

use super::{NodeId, Snapshot, Sums, Topology};

/// The part of the cluster that a node is in, by one label, and how much counts there: all that a plugin may
/// look at of a node beside its own object, see
/// [`Plugin::facets`](crate::framework::Plugin::facets). Or whatever else a plugin has found out about
/// each node.
///
/// Where no two nodes are in one part, it is what counts there that a node is known by, and else its part:
/// nodes alike in that are alike to the plugin. What the node is known by changes only when that node changes.
#[derive(Clone, Debug)]
pub struct Facet(Known);

#[derive(Clone, Debug)]
enum Known {
    /// By what counts in its part.
    Sums { topology: Arc<Topology>, sums: Option<Sums> },
    /// By its part.
    Part(Arc<Topology>),
    /// By what a plugin says.
    Marks { marks: Arc<dyn Marks>, version: [u64; 2] },
}

/// What a plugin has found out about each node.
pub(crate) trait Marks: Debug + Send + Sync {
    /// Equal for nodes that are alike to the plugin.
    fn mark(&self, node: NodeId) -> i64;
}

/// What nodes are known by goes on from the same: as long as it stays equal, nodes that have not changed are
/// known by the same.
pub(crate) type Origin = [u64; 3];

/// A node that is in no part.
const NOWHERE: i64 = i64::MIN;
/// The last of an origin's numbers: a facet by parts (0 or 1: by what counts there), by parts alone, or by marks.
const BY_PART: u64 = 2;
const BY_MARKS: u64 = 3;

impl Facet {
    pub(crate) fn new(topology: Arc<Topology>, sums: Option<Sums>) -> Self {
        Self(Known::Sums { topology, sums })
    }

    pub(crate) fn of(sums: &Sums) -> Self {
        Self::new(sums.topology.clone(), Some(sums.clone()))
    }

    /// The value of a label: of a plugin that tells nodes apart by nothing else.
    ///
    /// ```
    /// use rkube_sched::snapshot::{Facet, Snapshot};
    /// let zones = Facet::by_label(&Snapshot::default(), "topology.kubernetes.io/zone");
    /// ```
    pub fn by_label(snapshot: &Snapshot, key: &str) -> Self {
        Self(Known::Part(snapshot.topology(key)))
    }

    /// What a plugin has found out. At the same `version`, which no other question of that plugin has, the mark of a
    /// node changes only when the snapshot's log tells of the node.
    pub(crate) fn marked(marks: Arc<dyn Marks>, version: [u64; 2]) -> Self {
        Self(Known::Marks { marks, version })
    }

    pub(crate) fn origin(&self) -> Origin {
        match &self.0 {
            Known::Sums { topology, sums } => {
                let tally = sums.as_ref().map_or(0, Sums::tally);
                [tally, topology.epoch(), topology.parts_nodes().into()]
            }
            Known::Part(topology) => [0, topology.epoch(), BY_PART],
            Known::Marks { version: [question, version], .. } => [*question, *version, BY_MARKS],
        }
    }

    /// What a node is known by.
    pub(crate) fn mark(&self, node: NodeId) -> i64 {
        match &self.0 {
            Known::Sums { topology, sums } => {
                let Some(part) = topology.of(node) else { return NOWHERE };
                if topology.parts_nodes() {
                    return sums.as_ref().map_or(0, |sums| sums.at(part));
                }
                part as i64
            }
            Known::Part(topology) => topology.of(node).map_or(NOWHERE, |part| part as i64),
            Known::Marks { marks, .. } => marks.mark(node),
        }
    }
}
