use std::collections::VecDeque;

use super::keys::Id;
use crate::Revision;

/// Which keys each retained revision wrote. The values are found among the keys' records.
pub(super) struct Log {
    /// The revision of the first slot.
    first: Revision,
    slots: VecDeque<Written>,
}

/// The keys of one revision, in the order of the operations.
pub(super) enum Written {
    One(Id),
    Many(Box<[Id]>),
}

impl Written {
    pub(super) fn ids(&self) -> &[Id] {
        match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Many(ids) => ids,
        }
    }
}

impl Log {
    /// Empty; the next revision follows this one.
    pub(super) fn after(head: Revision) -> Self {
        Self { first: head.next(), slots: VecDeque::new() }
    }

    pub(super) fn push(&mut self, ids: &[Id]) {
        self.slots.push_back(match ids {
            [id] => Written::One(*id),
            ids => Written::Many(ids.into()),
        });
    }

    /// The keys that a revision wrote, if it is retained.
    pub(super) fn at(&self, revision: Revision) -> Option<&[Id]> {
        let at = usize::try_from(revision.0.checked_sub(self.first.0)?).ok()?;
        self.slots.get(at).map(Written::ids)
    }

    /// Takes the oldest slot out, unless it is above this revision.
    pub(super) fn pop_to(&mut self, revision: Revision) -> Option<(Revision, Written)> {
        if self.first > revision {
            return None;
        }
        let slot = self.slots.pop_front()?;
        let popped = self.first;
        self.first = popped.next();
        Some((popped, slot))
    }

    /// Whether anything up to this revision is retained.
    pub(super) fn has(&self, revision: Revision) -> bool {
        !self.slots.is_empty() && self.first <= revision
    }

    /// How many revisions are retained.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}
