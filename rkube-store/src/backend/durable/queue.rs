use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::{Condvar, Mutex, RwLock};

use super::codec;
use super::error::OpenError;
use super::snapshot::Saved;
use super::stats::Condition;
use super::writer::RECORD_BYTES;
use crate::backend::engine::{Entry, Journal, Lost, Sealed, Writes};
use crate::mvcc::Codec;
use crate::{Op, StoreError, Txn, Value};

/// What a line of the log has besides the operations, at most.
const LINE_BYTES: usize = 64;

/// What the log's thread is to do, in the order in which it came; and whether anything more may come.
pub(super) struct Queue<V> {
    codec: Codec,
    condition: RwLock<Condition>,
    work: Mutex<Work<V>>,
    bell: Condvar,
    /// A snapshot that is being written is not waited for.
    pub(super) stop: AtomicBool,
}

/// Some of it.
pub(super) struct Work<V> {
    pub(super) entries: Vec<Entry<V>>,
    /// What came of a snapshot.
    pub(super) saved: Option<Result<Saved, OpenError>>,
    /// History was compacted.
    pub(super) compacted: bool,
    /// A write was refused for want of space: there may be some by now.
    pub(super) refused: bool,
    /// Nothing more comes.
    pub(super) closing: bool,
    /// The thread is gone.
    ended: bool,
}

impl<V> Work<V> {
    fn none() -> Self {
        Self {
            entries: Vec::new(),
            saved: None,
            compacted: false,
            refused: false,
            closing: false,
            ended: false,
        }
    }

    fn is_none(&self) -> bool {
        self.entries.is_empty() && self.saved.is_none() && !self.compacted && !self.refused && !self.closing
    }
}

impl<V> Queue<V> {
    pub(super) fn new(codec: Codec) -> Self {
        Self {
            codec,
            condition: RwLock::default(),
            work: Mutex::new(Work::none()),
            bell: Condvar::new(),
            stop: AtomicBool::new(false),
        }
    }

    pub(super) fn condition(&self) -> Condition {
        self.condition.read().clone()
    }

    /// Changes the condition, unless it is one that never ends.
    pub(super) fn set(&self, condition: Condition) {
        let mut now = self.condition.write();
        match &*now {
            Condition::Closed | Condition::Failed(_) => {}
            Condition::Open | Condition::Full => *now = condition,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.work.lock().entries.len()
    }

    /// All there is to do, at once; waits until there is something.
    pub(super) fn take(&self) -> Work<V> {
        let mut work = self.work.lock();
        while work.is_none() {
            self.bell.wait(&mut work);
        }
        let next = Work { closing: work.closing, ..Work::none() };
        std::mem::replace(&mut *work, next)
    }

    fn add(&self, add: impl FnOnce(&mut Work<V>)) {
        add(&mut self.work.lock());
        self.bell.notify_one();
    }

    pub(super) fn saved(&self, saved: Result<Saved, OpenError>) {
        self.add(|work| work.saved = Some(saved));
    }

    /// Nothing more is to come.
    pub(super) fn close(&self) {
        self.set(Condition::Closed);
        self.add(|work| work.closing = true);
    }

    /// Ends the queue, unless something came meanwhile.
    pub(super) fn end(&self) -> bool {
        let mut work = self.work.lock();
        work.ended = work.entries.is_empty();
        work.ended
    }

    /// Ends the queue at once; whoever waits is told why.
    pub(super) fn abort(&self, reason: &str) {
        self.set(Condition::Failed(reason.to_owned()));
        let left = {
            let mut work = self.work.lock();
            work.ended = true;
            std::mem::take(&mut work.entries)
        };
        lose(left, reason);
    }
}

/// Tells those who wait for entries that it is not known what became of them.
pub(super) fn lose<V>(entries: Vec<Entry<V>>, reason: &str) {
    for waiter in entries.into_iter().filter_map(|entry| entry.waiter) {
        // A caller that did not wait for the end does not mind.
        let _ = waiter.send(Err(Lost(reason.to_owned())));
    }
}

/// A value may be larger sealed than any limit lets it be by itself, and a lease may have any number of keys.
fn fits(bytes: usize) -> Result<(), StoreError> {
    let limit = RECORD_BYTES - LINE_BYTES;
    if bytes > limit { Err(StoreError::TooLarge { what: "transaction", bytes, limit }) } else { Ok(()) }
}

impl<V: Value> Journal<V> for Queue<V> {
    fn seal(&self, txn: &Txn<V>) -> Result<Sealed, StoreError> {
        let mut sealed = Sealed { operations: Vec::new(), values: Vec::with_capacity(txn.ops.len()) };
        for op in &txn.ops {
            let (written, value) = match op {
                Op::Put { key, value, lease } => {
                    let value = self.codec.seal(key, value)?;
                    (codec::push_put(&mut sealed.operations, key, *lease, &value), Some(value))
                }
                Op::Delete { key } => (codec::push_delete(&mut sealed.operations, key), None),
            };
            written.map_err(|error| StoreError::Codec {
                key: op.key().clone(),
                source: crate::CodecError::new(error),
            })?;
            sealed.values.push(value);
        }
        fits(sealed.operations.len())?;
        Ok(sealed)
    }

    fn admit(&self, writes: Writes) -> Result<(), StoreError> {
        match &*self.condition.read() {
            Condition::Open => Ok(()),
            Condition::Full if writes == Writes::Less => Ok(()),
            Condition::Full => {
                self.add(|work| work.refused = true);
                Err(StoreError::NoSpace)
            }
            Condition::Closed => Err(StoreError::Unavailable("the store is closed".to_owned())),
            Condition::Failed(reason) => Err(StoreError::ReadOnly(reason.clone())),
        }
    }

    fn push(&self, entry: Entry<V>) {
        let mut work = self.work.lock();
        if work.ended {
            drop(work);
            return lose(vec![entry], "the store is closed");
        }
        work.entries.push(entry);
        drop(work);
        self.bell.notify_one();
    }

    fn compacted(&self) {
        self.add(|work| work.compacted = true);
    }
}

/// Ends the queue when the thread ends, however it does.
pub(super) struct Ending<V>(pub(super) Arc<Queue<V>>);

impl<V> Drop for Ending<V> {
    fn drop(&mut self) {
        if std::thread::panicking() || !self.0.end() {
            self.0.abort("the log's thread ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::backend::engine::Record;
    use crate::{LeaseId, Revision};

    #[test]
    fn what_no_frame_could_hold_is_refused_before_it_is_begun() {
        let line = |operations: usize| {
            let mut line = Vec::new();
            let ends = NonZeroU64::new(u64::MAX).map(LeaseId);
            let record = Record::Commit { operations: vec![b'x'; operations], ends };
            codec::push_record(&mut line, Revision(u64::MAX), &record).unwrap();
            line.len()
        };
        assert!((100_000..=100_000 + LINE_BYTES).contains(&line(100_000)));
        assert!(fits(RECORD_BYTES - LINE_BYTES).is_ok());
        let refused = fits(RECORD_BYTES - LINE_BYTES + 1);
        assert!(matches!(refused, Err(StoreError::TooLarge { what: "transaction", .. })), "{refused:?}");
    }
}
