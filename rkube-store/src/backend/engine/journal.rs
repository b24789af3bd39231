use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::replaced_unread;
use crate::mvcc::Unread;
use crate::{Committed, LeaseId, Revision, StoreError, Txn, Value};

/// Where a commit goes before anybody may see it. A store without one shows commits at once.
///
/// The engine applies a commit to its state, hands it over, and shows it when the journal calls
/// [`Engine::settle`](super::Engine::settle). So the order on disk is that of the revisions, the next
/// transactions are judged by what was applied, and no reader sees what could still be lost.
pub(in crate::backend) trait Journal<V>: Send + Sync {
    /// Turns a transaction into what will be written. Called without any lock: values are encoded here.
    fn seal(&self, txn: &Txn<V>) -> Result<Sealed, StoreError>;

    /// Whether something may be written now. Called with the state's lock held.
    fn admit(&self, writes: Writes) -> Result<(), StoreError>;

    /// Takes the next entry. Called with the state's lock held, so in the order of revisions.
    fn push(&self, entry: Entry<V>);

    /// Tells that history was compacted, so that there may be space to give back.
    fn compacted(&self);
}

/// What is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend) enum Writes {
    /// Needs more room.
    More,
    /// Only takes away, so that it may be done although there is no room.
    Less,
}

impl Writes {
    pub(super) fn of<V: Value>(txn: &Txn<V>) -> Self {
        let puts = txn.ops.iter().any(|op| matches!(op, crate::Op::Put { .. }));
        if puts { Self::More } else { Self::Less }
    }
}

/// A transaction in bytes.
#[derive(Default)]
pub(in crate::backend) struct Sealed {
    /// The operations, as the journal's codec writes them.
    pub(in crate::backend) operations: Vec<u8>,
    /// The values of the puts, as they are kept in memory too; one an operation.
    pub(in crate::backend) values: Vec<Option<Arc<[u8]>>>,
}

/// What is to become durable, and who waits for it.
pub(in crate::backend) struct Entry<V> {
    pub(in crate::backend) record: Record,
    pub(in crate::backend) committed: Committed<V>,
    pub(in crate::backend) unread: Option<Unread>,
    pub(in crate::backend) waiter: Option<oneshot::Sender<Result<Committed<V>, Lost>>>,
    pub(in crate::backend) since: Instant,
}

/// What is written for an entry.
pub(in crate::backend) enum Record {
    /// Nothing: somebody only waits until all before it is durable.
    Nothing,
    Commit {
        operations: Vec<u8>,
        /// The lease that ends with this commit.
        ends: Option<LeaseId>,
    },
    /// A lease ended that had no keys.
    End(LeaseId),
    Grant {
        lease: LeaseId,
        time_to_live: std::time::Duration,
    },
    Compact(Revision),
}

/// Why it is not known, or cannot be told, what an entry did: mostly, the journal failed before it could
/// tell that it is durable.
#[derive(Clone, Debug)]
pub(in crate::backend) struct Lost(pub(in crate::backend) String);

/// Where a waiter hears that its entry is durable.
pub(in crate::backend) type Receiver<V> = oneshot::Receiver<Result<Committed<V>, Lost>>;

impl<V> Entry<V> {
    pub(super) fn new(record: Record, committed: Committed<V>) -> (Self, Receiver<V>) {
        let (waiter, receiver) = oneshot::channel();
        let entry = Self { record, committed, unread: None, waiter: Some(waiter), since: Instant::now() };
        (entry, receiver)
    }

    /// Tells who waits that it is durable.
    pub(super) fn answer(self) {
        let Some(waiter) = self.waiter else { return };
        // Nobody is told what went with a lease.
        let told = self.unread.filter(|_| !matches!(self.record, Record::Commit { ends: Some(_), .. }));
        let answer = match told {
            None => Ok(self.committed),
            Some(unread) => Err(Lost(replaced_unread(self.committed.revision, &unread.error))),
        };
        // A caller that did not wait for the end does not mind.
        let _ = waiter.send(answer);
    }
}
