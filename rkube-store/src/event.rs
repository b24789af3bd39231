use crate::{Key, LeaseId, Revision};

/// A key with its value, as of some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<V> {
    /// The name of the value.
    pub key: Key,
    /// The value, stamped with `mod_revision`.
    pub value: V,
    /// The commit that created the key (again, if it had been deleted).
    pub create_revision: Revision,
    /// The commit that wrote this value.
    pub mod_revision: Revision,
    /// How many times the key was written since it was created: 1 for a new one.
    pub version: u64,
    /// The lease whose end deletes the key.
    pub lease: Option<LeaseId>,
}

/// What one operation did to its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<V> {
    /// The key has a new value.
    Put {
        /// The new state.
        entry: Entry<V>,
        /// The state before; `None` if this created the key.
        previous: Option<Entry<V>>,
    },
    /// The key is gone.
    Delete {
        /// The state before; `None` if there was nothing to delete (such a change is no event).
        previous: Option<Entry<V>>,
        /// The value before, stamped with the revision of the deletion: what a watcher shows as deleted.
        last: Option<V>,
    },
}

impl<V> Change<V> {
    /// The key that changed, or `None` if nothing did.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Put { entry, .. } => Some(&entry.key),
            Self::Delete { previous, .. } => previous.as_ref().map(|entry| &entry.key),
        }
    }

    /// The state before the change.
    #[must_use]
    pub fn previous(&self) -> Option<&Entry<V>> {
        match self {
            Self::Put { previous, .. } | Self::Delete { previous, .. } => previous.as_ref(),
        }
    }

    /// The state after a put; `None` after a deletion.
    #[must_use]
    pub fn entry(&self) -> Option<&Entry<V>> {
        match self {
            Self::Put { entry, .. } => Some(entry),
            Self::Delete { .. } => None,
        }
    }

    /// Whether the key came into being.
    #[must_use]
    pub fn is_create(&self) -> bool {
        matches!(self, Self::Put { previous: None, .. })
    }

    /// Whether the key went away.
    #[must_use]
    pub fn is_delete(&self) -> bool {
        matches!(self, Self::Delete { .. })
    }
}

/// A change as a watcher sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<V> {
    /// The key that changed.
    pub key: Key,
    /// The commit that changed it.
    pub revision: Revision,
    /// What was done. A deletion here always has its previous state and last value.
    pub change: Change<V>,
}

/// The events of one revision that lie in the watched prefix, in the order of the transaction's
/// operations. A revision is never split over two batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<V> {
    /// The commit.
    pub revision: Revision,
    /// What it changed; never empty.
    pub events: Vec<Event<V>>,
}
