//! What was found out about single nodes, for as long as it holds.

use std::{any::Any, sync::Arc};

use parking_lot::Mutex;

use super::Engine;
use crate::snapshot::{NodeId, PodInfo};

/// All that an answer about a node follows from, beside what all pods of a class have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grounds {
    /// The node's and its pods' last change.
    node: u64,
    /// The last change of the room held there.
    held: Option<u64>,
    priority: i32,
    version: u64,
}

pub(super) struct Answer {
    grounds: Grounds,
    value: Box<dyn Any + Send>,
}

/// The last answer about each node.
pub(super) type Answers = Mutex<Vec<Option<Answer>>>;

/// Answers about nodes for the pods of one class.
#[derive(Default)]
pub(super) struct Memory {
    /// The number of the class.
    class: u64,
    /// Whose room is meant.
    nominator: Arc<()>,
    /// Where room is held for the pod that is decided for now.
    pub(super) own: Option<NodeId>,
    /// What plugins have found out.
    pub(super) found: Answers,
    /// Whether there is room beside the pods for which it is held.
    pub(super) beside: Answers,
    #[cfg(test)]
    asked: std::sync::atomic::AtomicUsize,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory(of class {})", self.class)
    }
}

impl Memory {
    pub(super) fn of(class: u64, engine: &Engine<'_>) -> Self {
        Self { class, nominator: engine.nominator.lineage().mark(), ..Self::default() }
    }

    pub(super) fn is_of(&self, class: u64, engine: &Engine<'_>) -> bool {
        self.class == class && engine.nominator.lineage().is(&self.nominator)
    }

    /// How often it had no answer.
    #[cfg(test)]
    pub(super) fn asked(&self) -> usize {
        self.asked.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// What one of the two says of a node, if that still holds, or else `ask`.
    pub(super) fn recall<T: Clone + Send + 'static>(
        &self,
        answers: &Answers,
        engine: &Engine<'_>,
        pod: &PodInfo,
        (node, version): (NodeId, u64),
        ask: impl FnOnce() -> T,
    ) -> T {
        // Room held for the pod itself is none that others take from it.
        if self.own == Some(node) {
            return ask();
        }
        let name = engine.snapshot.view(node).name();
        let grounds = Grounds {
            node: engine.snapshot.changed(node),
            held: engine.nominator.changed(name),
            priority: pod.priority,
            version,
        };
        let row = node.row();
        if let Some(Some(answer)) = answers.lock().get(row)
            && answer.grounds == grounds
            && let Some(value) = answer.value.downcast_ref::<T>()
        {
            return value.clone();
        }
        #[cfg(test)]
        self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let value = ask();
        let mut by_row = answers.lock();
        if by_row.len() <= row {
            by_row.resize_with(row + 1, || None);
        }
        by_row[row] = Some(Answer { grounds, value: Box::new(value.clone()) });
        value
    }
}
