use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::journal::{Entry, Lost, Record, Sealed, Writes};
use super::{Engine, Receiver};
use crate::error::replaced_unread;
use crate::mvcc::{Applied, Dropped, Prepared, Refusal, State, Unread};
use crate::watch::Wake;
use crate::{
    Change, CommitError, Committed, Conflict, LeaseId, Limits, Op, Revision, StoreError, Txn, Value,
};

/// How often values are prepared outside of the lock before it is done within it: another writer may
/// change them each time.
const TRIES: usize = 3;

/// What is known of a transaction before the lock is taken.
struct Parts {
    writes: Writes,
    weights: SmallVec<[u32; 4]>,
    sealed: Sealed,
    ends: Option<LeaseId>,
}

/// A commit that is applied.
pub(in crate::backend) enum Begun<V> {
    Done(Committed<V>),
    /// The journal has it.
    Waits(Receiver<V>),
}

impl<V> Begun<V> {
    fn nothing(revision: Revision) -> Self {
        Self::Done(Committed { revision, changes: Vec::new() })
    }

    /// Waits until it is durable.
    pub(in crate::backend) async fn end(self) -> Result<Committed<V>, CommitError<V>> {
        match self {
            Self::Done(committed) => Ok(committed),
            Self::Waits(receiver) => match receiver.await {
                Ok(Ok(committed)) => Ok(committed),
                Ok(Err(Lost(reason))) => Err(CommitError::Unknown(reason)),
                Err(_) => Err(CommitError::Unknown("the store was closed meanwhile".to_owned())),
            },
        }
    }
}

/// What a commit leaves to be done when no lock is held.
struct After<V> {
    wake: Wake<V>,
    dropped: Dropped<V>,
    crowded: bool,
}

impl<V: Value> Engine<V> {
    pub(in crate::backend) async fn commit(&self, txn: Txn<V>) -> Result<Committed<V>, CommitError<V>> {
        let since = Instant::now();
        match self.begin(txn) {
            Ok(begun) => {
                let committed = begun.end().await?;
                self.note_commit(since);
                Ok(committed)
            }
            Err(error) => {
                // A refusal tells of what is there, so that must be durable.
                self.settled().await?;
                Err(error)
            }
        }
    }

    fn begin(&self, txn: Txn<V>) -> Result<Begun<V>, CommitError<V>> {
        self.expire();
        Limits::DEFAULT.check(&txn)?;
        let weights = weights(&txn);
        let sealed = match &self.journal {
            Some(journal) => journal.seal(&txn)?,
            None => Sealed::default(),
        };
        let parts = Parts { writes: Writes::of(&txn), weights, sealed, ends: None };
        let mut prepared = Prepared::new();
        // A deletion needs a copy of the value, so that is made before the lock is asked for.
        if txn.ops.iter().any(|op| matches!(op, Op::Delete { .. })) {
            let refusal = self.state.read().examine(&txn, &prepared);
            self.prepare(&txn, refusal, &mut prepared)?;
        }
        for _ in 0..TRIES {
            let state = self.state.write();
            match state.examine(&txn, &prepared) {
                Ok(()) => return self.finish(state, txn, parts, prepared),
                refusal => {
                    let revision = state.head();
                    drop(state);
                    self.prepare_at(&txn, refusal, &mut prepared, revision)?;
                }
            }
        }
        let state = self.state.write();
        let (refusal, revision) = (state.examine(&txn, &prepared), state.head());
        self.prepare_at(&txn, refusal, &mut prepared, revision)?;
        self.finish(state, txn, parts, prepared)
    }

    /// Deletes the keys of a lease in one commit and ends it; with a time given, only if it is due then.
    pub(in crate::backend) fn end_lease(
        &self,
        id: LeaseId,
        due: Option<Duration>,
    ) -> Result<Begun<V>, CommitError<V>> {
        let mut prepared = Prepared::new();
        for attempt in 0..=TRIES {
            let state = self.state.write();
            let is_due = |now| state.lease(id, now).is_ok_and(|lease| lease.remaining.is_zero());
            if due.is_some_and(|now| !is_due(now)) {
                return Ok(Begun::nothing(state.head()));
            }
            let txn = state.end_of_lease(id).ok_or(StoreError::LeaseNotFound(id))?;
            let (refusal, revision) = (state.examine(&txn, &prepared), state.head());
            if refusal.is_err() && attempt < TRIES {
                drop(state);
                self.prepare_at(&txn, refusal, &mut prepared, revision)?;
                continue;
            }
            self.prepare_at(&txn, refusal, &mut prepared, revision)?;
            let sealed = match &self.journal {
                Some(journal) => journal.seal(&txn)?,
                None => Sealed::default(),
            };
            let parts = Parts { writes: Writes::Less, weights: weights(&txn), sealed, ends: Some(id) };
            return self.finish(state, txn, parts, prepared);
        }
        // Not reached: the last attempt prepares with the lock held.
        Err(StoreError::LeaseNotFound(id).into())
    }

    fn prepare(
        &self,
        txn: &Txn<V>,
        refusal: Result<(), Refusal<V>>,
        prepared: &mut Prepared<V>,
    ) -> Result<(), CommitError<V>> {
        match refusal {
            // Judged for good when the lock is held.
            Err(Refusal::Conflict { .. } | Refusal::LeaseNotFound(_)) => Ok(()),
            refusal => self.prepare_at(txn, refusal, prepared, Revision::ZERO),
        }
    }

    /// Does what a refusal asks for, or turns it into the caller's error.
    fn prepare_at(
        &self,
        txn: &Txn<V>,
        refusal: Result<(), Refusal<V>>,
        prepared: &mut Prepared<V>,
        revision: Revision,
    ) -> Result<(), CommitError<V>> {
        match refusal {
            Ok(()) => Ok(()),
            Err(Refusal::Unprepared(needs)) => {
                prepared.add(needs, &self.codec);
                Ok(())
            }
            Err(Refusal::LeaseNotFound(id)) => Err(StoreError::LeaseNotFound(id).into()),
            Err(Refusal::Conflict { check, current }) => {
                let current = current.map(|stored| stored.load(&self.codec)).transpose()?;
                let key = txn.checks[check].key().clone();
                Err(CommitError::Conflict(Conflict { check, key, current, revision }))
            }
        }
    }

    /// Applies, shows what was done or hands it to the journal, lets the lock go, and then does the rest.
    fn finish(
        &self,
        mut state: parking_lot::RwLockWriteGuard<'_, State<V>>,
        txn: Txn<V>,
        parts: Parts,
        prepared: Prepared<V>,
    ) -> Result<Begun<V>, CommitError<V>> {
        let Parts { writes, weights, sealed, ends } = parts;
        self.admit(&state, writes)?;
        let mut applied = state.apply(txn.ops, &weights, sealed.values, prepared);
        if let Some(id) = ends {
            state.end_lease(id);
            self.note_next_end(&state);
        }
        let Some(journal) = &self.journal else {
            let after = self.publish(&mut state, &applied);
            drop(state);
            after.wake.wake();
            drop(after.dropped);
            if after.crowded {
                self.cool();
            }
            // Nobody is told what went with a lease.
            return match applied.unread.take().filter(|_| ends.is_none()) {
                None => Ok(Begun::Done(applied.committed())),
                Some(unread) => Err(CommitError::Unknown(replaced_unread(applied.revision, &unread.error))),
            };
        };
        let record = match (applied.changed, ends) {
            (true, ends) => Record::Commit { operations: sealed.operations, ends },
            (false, Some(id)) => Record::End(id),
            (false, None) if state.visible() == state.head() => {
                return Ok(Begun::Done(applied.committed()));
            }
            (false, None) => Record::Nothing,
        };
        let unread = applied.unread.take();
        let (entry, receiver) = Entry::new(record, applied.committed());
        journal.push(Entry { unread, ..entry });
        let crowded = state.is_crowded();
        drop(state);
        if crowded {
            self.cool();
        }
        Ok(Begun::Waits(receiver))
    }

    fn publish(&self, state: &mut State<V>, applied: &Applied<V>) -> After<V> {
        let mut dropped = Dropped::none();
        if !applied.changed {
            return After { wake: Wake::none(), dropped, crowded: false };
        }
        let wake = self.tell(applied.revision, &applied.changes, applied.unread.as_ref());
        state.show(applied.revision);
        self.bound_history(state, 1, &mut dropped);
        After { wake, dropped, crowded: state.is_crowded() }
    }

    /// Hands a commit to the watchers. What cannot be read is no event: they find it in the log, and end.
    fn tell(&self, revision: Revision, changes: &[Change<V>], unread: Option<&Unread>) -> Wake<V> {
        match unread {
            None => self.hub.publish(revision, changes),
            Some(unread) => self.hub.publish_in_log(revision, unread.keys.iter()),
        }
    }

    #[cfg_attr(not(feature = "durable"), allow(dead_code, reason = "a journal calls it"))]
    /// Shows what the journal made durable, in the order in which it was handed over, and tells who waits.
    pub(in crate::backend) fn settle(&self, entries: Vec<Entry<V>>) {
        // Readers and writers wait for so many at most.
        const AT_ONCE: usize = 256;
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let some: Vec<_> = entries.by_ref().take(AT_ONCE).collect();
            let mut wakes = Vec::new();
            let mut dropped = Dropped::none();
            let mut state = self.state.write();
            for entry in some.iter().filter(|entry| matches!(entry.record, Record::Commit { .. })) {
                let Committed { revision, changes } = &entry.committed;
                wakes.push(self.tell(*revision, changes, entry.unread.as_ref()));
                state.show(*revision);
            }
            self.bound_history(&mut state, some.len(), &mut dropped);
            drop(state);
            wakes.into_iter().for_each(Wake::wake);
            some.into_iter().for_each(Entry::answer);
        }
    }

    /// Waits until all that is applied by now is durable.
    pub(in crate::backend) async fn settled(&self) -> Result<(), StoreError> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let receiver = {
            let state = self.state.read();
            if state.visible() == state.head() {
                return Ok(());
            }
            let (entry, receiver) =
                Entry::new(Record::Nothing, Committed { revision: state.head(), changes: Vec::new() });
            journal.push(entry);
            receiver
        };
        match receiver.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(Lost(reason))) => Err(StoreError::ReadOnly(reason)),
            Err(_) => Err(StoreError::Unavailable("the store is closed".to_owned())),
        }
    }

    /// Writes something down that is no commit, and waits until it is durable.
    pub(in crate::backend) fn note(&self, state: &State<V>, record: Record) -> Begun<V> {
        let nothing = Committed { revision: state.head(), changes: Vec::new() };
        let Some(journal) = &self.journal else { return Begun::Done(nothing) };
        let (entry, receiver) = Entry::new(record, nothing);
        journal.push(entry);
        Begun::Waits(receiver)
    }

    /// Turns values into bytes until their objects are within the budget again, a bounded number of them.
    pub(super) fn cool(&self) {
        let mut objects = Vec::new();
        let picked = self.state.write().pick_cooling(&mut objects);
        drop(objects);
        if picked.is_empty() {
            return;
        }
        let sealed: Vec<_> = picked
            .iter()
            .map(|cooling| {
                let sealed = self.codec.seal(&cooling.key, &cooling.value);
                sealed.inspect_err(|error| tracing::warn!(%error, "a cold value stays in memory")).ok()
            })
            .collect();
        let mut state = self.state.write();
        for (cooling, bytes) in picked.iter().zip(sealed) {
            state.settle(cooling, bytes);
        }
        drop(state);
        // The objects themselves end here, with `picked`.
    }

    /// Keeps values of a list that were decoded, while there is room for them: others need not go for it.
    pub(in crate::backend) fn warm_some(&self, entries: &[crate::Entry<V>]) {
        let weights: Vec<_> = entries.iter().map(|entry| weight(&entry.value)).collect();
        let mut state = self.state.write();
        for (entry, weight) in entries.iter().zip(weights) {
            if !state.has_room(weight) {
                break;
            }
            state.warm(&entry.key, entry.mod_revision, entry.value.clone(), weight);
        }
    }

    /// Keeps a value that was just decoded, if its key has not been written since.
    pub(in crate::backend) fn warm(&self, entry: &crate::Entry<V>) {
        let weight = weight(&entry.value);
        let mut state = self.state.write();
        state.warm(&entry.key, entry.mod_revision, entry.value.clone(), weight);
        let crowded = state.is_crowded();
        drop(state);
        if crowded {
            self.cool();
        }
    }
}

pub(super) fn weight<V: Value>(value: &V) -> u32 {
    u32::try_from(value.weight()).unwrap_or(u32::MAX)
}

fn weights<V: Value>(txn: &Txn<V>) -> SmallVec<[u32; 4]> {
    let of = |op: &Op<V>| match op {
        Op::Put { value, .. } => weight(value),
        Op::Delete { .. } => 0,
    };
    txn.ops.iter().map(of).collect()
}
