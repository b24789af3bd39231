//! The nodes that are still in question.

use crate::{
    framework::Status,
    snapshot::{NodeId, NodeView, Snapshot},
};

/// The nodes that no filter has refused so far, and the refusals.
#[derive(Debug)]
pub struct Candidates<'a> {
    snapshot: &'a Snapshot,
    pub(super) ids: Vec<NodeId>,
    pub(super) rejected: Vec<(NodeId, Status)>,
    pub(crate) plugin: &'static str,
    pub(super) error: Option<Status>,
}

impl<'a> Candidates<'a> {
    /// All of `ids` are in question. The engine does this; so may a test of a plugin.
    pub fn new(snapshot: &'a Snapshot, ids: Vec<NodeId>) -> Self {
        Self { snapshot, ids, rejected: Vec::new(), plugin: "", error: None }
    }

    /// The snapshot, for its columns.
    pub fn snapshot(&self) -> &'a Snapshot {
        self.snapshot
    }

    /// Asks of every node; what is not answered by a success is out. An error ends the whole cycle.
    pub fn retain(&mut self, mut ask: impl FnMut(NodeView<'a>) -> Status) {
        let Self { snapshot, ids, rejected, plugin, error } = self;
        ids.retain(|&id| {
            let status = ask(snapshot.view(id));
            if status.is_success() {
                return true;
            }
            let status = status.from_plugin(plugin);
            if !status.is_rejected() {
                error.get_or_insert_with(|| status.clone());
            }
            rejected.push((id, status));
            false
        });
    }

    /// As [`Candidates::retain`], where most nodes pass and that is cheap to know: only of the others is
    /// asked why.
    pub fn retain_where(&mut self, passes: impl Fn(NodeId) -> bool, why: impl Fn(NodeView<'a>) -> Status) {
        if self.ids.iter().all(|&id| passes(id)) {
            return;
        }
        self.retain(|node| if passes(node.id()) { Status::success() } else { why(node) });
    }

    /// The nodes that are still in question.
    pub fn ids(&self) -> &[NodeId] {
        &self.ids
    }

    /// The refusals so far.
    pub fn rejected(&self) -> &[(NodeId, Status)] {
        &self.rejected
    }

    /// How many nodes are still in question.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}
