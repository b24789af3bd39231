//! How many pods count in each part of the cluster.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::FixedState;

use crate::snapshot::{LabelId, NodeView, Snapshot};

/// Numbers by part of the cluster: a label key and its value.
pub(super) type ByLabel = HashMap<LabelId, i64, FixedState>;

/// The node's part for a topology key's number.
pub(super) fn part_of(node: NodeView<'_>, key: Option<u32>) -> Option<LabelId> {
    let (key, labels) = (key?, node.label_ids());
    labels.binary_search_by_key(&key, |label| label.key).ok().map(|place| labels[place])
}

/// The number of a topology key, if any node has it.
pub(super) fn key_of(snapshot: &Snapshot, topology_key: &str) -> Option<u32> {
    snapshot.label_keys().find(topology_key)
}

/// Counts before the cycle, and what a what-if run has moved since.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    before: Arc<ByLabel>,
    moved: Vec<(LabelId, i64)>,
}

impl Counts {
    pub(super) fn new(before: ByLabel) -> Self {
        Self { before: Arc::new(before), moved: Vec::new() }
    }

    pub(super) fn shift(&mut self, part: LabelId, by: i64) {
        self.moved.push((part, by));
    }

    pub(super) fn at(&self, part: LabelId) -> i64 {
        let moved = self.moved.iter().filter(|(at, _)| *at == part).map(|(_, by)| by);
        self.before.get(&part).copied().unwrap_or(0) + moved.sum::<i64>()
    }

    /// Whether nothing counts anywhere.
    pub(super) fn is_empty(&self) -> bool {
        if self.moved.is_empty() {
            return self.before.is_empty();
        }
        let elsewhere = self.before.keys().any(|part| self.moved.iter().all(|(at, _)| at != part));
        !elsewhere && self.moved.iter().all(|(part, _)| self.at(*part) == 0)
    }
}
