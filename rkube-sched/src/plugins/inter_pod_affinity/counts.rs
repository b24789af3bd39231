//! How many pods count in each part of the cluster.

use crate::snapshot::{Count, Facet, NodeId, NodeView, Snapshot, Sums};

/// Counts before the cycle, and what a what-if run has moved since.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    sums: Vec<Sums>,
    /// By label's place and part.
    moved: Vec<(usize, usize, i64)>,
}

impl Counts {
    pub(super) fn new(count: &impl Count, snapshot: &Snapshot) -> Self {
        Self { sums: snapshot.tally(count), moved: Vec::new() }
    }

    /// The place of a label's counts.
    pub(super) fn place(&mut self, key: &str, snapshot: &Snapshot) -> usize {
        self.sums.iter().position(|sums| *sums.key == *key).unwrap_or_else(|| {
            self.sums.push(Sums::none(key, snapshot.topology(key)));
            self.sums.len() - 1
        })
    }

    pub(super) fn shift(&mut self, key: &str, node: NodeView<'_>, by: i64) {
        let place = self.place(key, node.snapshot());
        if let Some(part) = self.sums[place].topology.of(node.id()) {
            self.moved.push((place, part, by));
        }
    }

    /// How much counts in the node's part; `None` if it is in none.
    pub(super) fn at(&self, place: usize, node: NodeId) -> Option<i64> {
        let sums = &self.sums[place];
        let part = sums.topology.of(node)?;
        let moved = self.moved.iter().filter(|(of, at, _)| (*of, *at) == (place, part));
        Some(sums.at(part) + moved.map(|(.., by)| by).sum::<i64>())
    }

    /// What a node is to them.
    pub(super) fn facets(&self) -> impl Iterator<Item = Facet> {
        self.sums.iter().map(Facet::of)
    }

    /// Whether anything counts in a part of the node's.
    pub(super) fn any_at(&self, node: NodeId) -> bool {
        (0..self.sums.len()).any(|place| self.at(place, node).is_some_and(|count| count > 0))
    }

    /// Whether nothing counts anywhere, where nothing counts for less than nothing.
    pub(super) fn is_empty(&self) -> bool {
        let moved: i64 = self.moved.iter().map(|(.., by)| by).sum();
        self.sums.iter().map(|sums| sums.total).sum::<i64>() + moved == 0
    }
}
