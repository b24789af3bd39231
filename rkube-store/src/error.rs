use std::fmt;

use crate::{CodecError, Entry, Key, LeaseId, Revision, TransformError};

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The history that was asked for is gone.
    #[error("revision {requested} is compacted: history starts at {compacted}")]
    Compacted {
        /// The revision asked for.
        requested: Revision,
        /// The oldest revision that can still be read, or watched from.
        compacted: Revision,
    },
    /// The revision asked for has not happened yet.
    #[error("revision {requested} is in the future: the store is at {current}")]
    Future {
        /// The revision asked for.
        requested: Revision,
        /// The store's revision.
        current: Revision,
    },
    /// A value, a key or a whole transaction has too many bytes.
    #[error("{what} of {bytes} bytes is too large: the limit is {limit}")]
    TooLarge {
        /// What is too large: `value`, `key` or `transaction`.
        what: &'static str,
        /// How many bytes it has.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// A transaction has too many operations (or checks).
    #[error("a transaction of {operations} operations is too large: the limit is {limit}")]
    TooManyOperations {
        /// How many it has.
        operations: usize,
        /// How many it may have.
        limit: usize,
    },
    /// A transaction operates on the same key twice.
    #[error("key {0} is operated on twice in one transaction")]
    DuplicateKey(Key),
    /// The empty text is no key.
    #[error("the empty key is not allowed")]
    EmptyKey,
    /// There is no such lease, or its time is over.
    #[error("lease {0} does not exist")]
    LeaseNotFound(LeaseId),
    /// No room for more. Deletions and compaction still work, and make room (on etcd, it takes more than that:
    /// see its backend).
    #[error("no space left in the store")]
    NoSpace,
    /// The store could not write something down, so it writes nothing more until it is opened again; what
    /// is durable can be read. What was asked for was not done.
    #[error("the store is read-only: {0}")]
    ReadOnly(String),
    /// The backend cannot be reached or has stopped. What was asked for was not done; trying again may work.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// A stored value could not be encoded or decoded.
    #[error("value of {key}: {source}")]
    Codec {
        /// Whose value.
        key: Key,
        /// What the codec said.
        source: CodecError,
    },
    /// A stored value could not be sealed or opened.
    #[error("value of {key}: {source}")]
    Transform {
        /// Whose value.
        key: Key,
        /// What the transformer said.
        source: TransformError,
    },
}

/// Why a transaction was not (or not surely) committed.
#[derive(thiserror::Error)]
pub enum CommitError<V> {
    /// A check did not hold; nothing was done.
    #[error(transparent)]
    Conflict(Conflict<V>),
    /// No answer came: the transaction may have been committed, may be yet, or never. Read to find out.
    /// Also of one that was committed, and replaced a value that cannot be read: the text says so.
    #[error("the outcome of the commit is unknown: {0}")]
    Unknown(String),
    /// The store refused or failed; nothing was done.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is told of a transaction that was committed, and replaced a value that cannot be read.
pub(crate) fn replaced_unread(revision: Revision, error: &StoreError) -> String {
    format!("it was committed at revision {revision}, but replaced the {error}")
}

// Written out, so that errors can be shown whatever the value is.
impl<V> fmt::Debug for CommitError<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict(conflict) => f.debug_tuple("Conflict").field(conflict).finish(),
            Self::Unknown(reason) => f.debug_tuple("Unknown").field(reason).finish(),
            Self::Store(error) => f.debug_tuple("Store").field(error).finish(),
        }
    }
}

/// The first check of a transaction that did not hold, and what is there instead.
#[derive(Clone, thiserror::Error)]
#[error("check {check} does not hold: {key} {}", self.state())]
pub struct Conflict<V> {
    /// The index of the check.
    pub check: usize,
    /// The key it looks at.
    pub key: Key,
    /// The key's state at `revision`.
    pub current: Option<Entry<V>>,
    /// The store's revision when the check was judged.
    pub revision: Revision,
}

impl<V> Conflict<V> {
    fn state(&self) -> String {
        match &self.current {
            Some(entry) => format!("is at revision {}", entry.mod_revision),
            None => "does not exist".to_owned(),
        }
    }
}

impl<V> fmt::Debug for Conflict<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conflict")
            .field("check", &self.check)
            .field("key", &self.key)
            .field("current", &self.current.as_ref().map(|entry| entry.mod_revision))
            .field("revision", &self.revision)
            .finish()
    }
}

/// Why a watch ended. It is the watch's last item; everything yielded before it is complete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The watcher was polled too seldom: what it should get next is compacted. List again.
    #[error("the watch is too slow: events after revision {delivered} are compacted up to {compacted}")]
    Slow {
        /// Up to here, all events were delivered.
        delivered: Revision,
        /// The oldest revision that can still be watched from.
        compacted: Revision,
    },
    /// The backend failed or cut the watch off. It can be taken up again after the last revision seen.
    #[error(transparent)]
    Store(#[from] StoreError),
}
