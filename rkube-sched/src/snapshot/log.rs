//! Which nodes changed since when.

use std::collections::VecDeque;

use super::NodeId;

/// What changed of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dirty {
    /// The pods on it, and so what is free.
    Load,
    /// The node itself: it came, went, or changed in labels, taints, resources.
    Node,
}

/// A bounded log of changed nodes. A reader that remembers the generation it has seen catches up by the
/// entries after it; if the log no longer reaches that far, it starts afresh.
#[derive(Clone, Debug)]
pub struct DirtyLog {
    entries: VecDeque<(u64, NodeId, Dirty)>,
    generation: u64,
    forgotten: u64,
    limit: usize,
}

impl Default for DirtyLog {
    fn default() -> Self {
        Self { entries: VecDeque::new(), generation: 0, forgotten: 0, limit: 1 << 16 }
    }
}

impl DirtyLog {
    /// The number of the last change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn push(&mut self, node: NodeId, dirty: Dirty) {
        self.generation += 1;
        if self.entries.len() == self.limit
            && let Some((generation, ..)) = self.entries.pop_front()
        {
            self.forgotten = generation;
        }
        self.entries.push_back((self.generation, node, dirty));
    }

    /// The changes after `generation`, oldest first; a node may come more than once. `None`: the log no
    /// longer reaches that far.
    pub fn since(&self, generation: u64) -> Option<impl Iterator<Item = (NodeId, Dirty)>> {
        if generation < self.forgotten {
            return None;
        }
        let from = self.entries.partition_point(|(at, ..)| *at <= generation);
        Some(self.entries.range(from..).map(|&(_, node, dirty)| (node, dirty)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_catches_up_or_starts_afresh() {
        let mut log = DirtyLog { limit: 2, ..DirtyLog::default() };
        log.push(NodeId(1), Dirty::Load);
        let seen = log.generation();
        log.push(NodeId(2), Dirty::Node);
        assert_eq!(log.since(seen).unwrap().collect::<Vec<_>>(), [(NodeId(2), Dirty::Node)]);
        log.push(NodeId(3), Dirty::Load);
        assert!(log.since(0).is_none());
        assert_eq!(log.since(seen).unwrap().count(), 2);
        assert_eq!(log.since(log.generation()).unwrap().count(), 0);
    }
}
