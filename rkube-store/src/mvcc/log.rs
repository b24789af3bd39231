use std::collections::VecDeque;

use crate::{Key, Revision};

/// Which keys each retained revision wrote. The values are found among the keys' versions.
pub(super) struct Log {
    /// The revision of the first slot.
    first: Revision,
    slots: VecDeque<Written>,
}

/// The keys of one revision, in the order of the operations.
pub(super) enum Written {
    One(Key),
    Many(Box<[Key]>),
}

impl Written {
    pub(super) fn keys(&self) -> &[Key] {
        match self {
            Self::One(key) => std::slice::from_ref(key),
            Self::Many(keys) => keys,
        }
    }
}

impl Log {
    /// Empty; the next revision follows this one.
    pub(super) fn after(head: Revision) -> Self {
        Self { first: head.next(), slots: VecDeque::new() }
    }

    pub(super) fn push(&mut self, keys: Vec<Key>) {
        let slot = match <[Key; 1]>::try_from(keys) {
            Ok([key]) => Written::One(key),
            Err(keys) => Written::Many(keys.into()),
        };
        self.slots.push_back(slot);
    }

    pub(super) fn push_one(&mut self, key: Key) {
        self.slots.push_back(Written::One(key));
    }

    /// The keys that a revision wrote, if it is retained.
    pub(super) fn at(&self, revision: Revision) -> Option<&[Key]> {
        let at = usize::try_from(revision.0.checked_sub(self.first.0)?).ok()?;
        self.slots.get(at).map(Written::keys)
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
