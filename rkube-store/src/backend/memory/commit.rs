use std::time::Duration;

use smallvec::SmallVec;

use super::Shared;
use crate::mvcc::{Applied, Dropped, Prepared, Refusal, State};
use crate::watch::Wake;
use crate::{CommitError, Committed, Conflict, LeaseId, Limits, Op, Revision, StoreError, Txn, Value};

/// How often values are prepared outside of the lock before it is done within it: another writer may
/// change them each time.
const TRIES: usize = 3;

/// What a commit leaves to be done when no lock is held.
struct After<V> {
    wake: Wake<V>,
    dropped: Dropped<V>,
    crowded: bool,
}

impl<V: Value> Shared<V> {
    pub(super) fn commit(&self, txn: Txn<V>) -> Result<Committed<V>, CommitError<V>> {
        self.expire();
        let weights = weights(&txn);
        let weight = weights.iter().map(|weight| *weight as usize).fold(0, usize::saturating_add);
        Limits::DEFAULT.check_weighed(&txn, weight)?;
        let mut prepared = Prepared::new();
        // A deletion needs a copy of the value, so that is made before the lock is asked for.
        if txn.ops.iter().any(|op| matches!(op, Op::Delete { .. })) {
            let refusal = self.state.read().examine(&txn, &prepared);
            self.prepare(&txn, refusal, &mut prepared)?;
        }
        for _ in 0..TRIES {
            let state = self.state.write();
            match state.examine(&txn, &prepared) {
                Ok(()) => return Ok(self.finish(state, txn, &weights, prepared, None)),
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
        Ok(self.finish(state, txn, &weights, prepared, None))
    }

    /// Deletes the keys of a lease in one commit and ends it; with a time given, only if it is due then.
    pub(super) fn end_lease(&self, id: LeaseId, due: Option<Duration>) -> Result<(), CommitError<V>> {
        let mut prepared = Prepared::new();
        for attempt in 0..=TRIES {
            let state = self.state.write();
            let is_due = |now| state.lease(id, now).is_ok_and(|lease| lease.remaining.is_zero());
            if due.is_some_and(|now| !is_due(now)) {
                return Ok(());
            }
            let txn = state.end_of_lease(id).ok_or(StoreError::LeaseNotFound(id))?;
            let (refusal, revision) = (state.examine(&txn, &prepared), state.head());
            if refusal.is_err() && attempt < TRIES {
                drop(state);
                self.prepare_at(&txn, refusal, &mut prepared, revision)?;
                continue;
            }
            self.prepare_at(&txn, refusal, &mut prepared, revision)?;
            let weights = weights(&txn);
            self.finish(state, txn, &weights, prepared, Some(id));
            return Ok(());
        }
        Ok(())
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
            Err(Refusal::Unprepared(needs)) => Ok(prepared.add(needs, &self.codec)?),
            Err(Refusal::LeaseNotFound(id)) => Err(StoreError::LeaseNotFound(id).into()),
            Err(Refusal::Conflict { check, current }) => {
                let current = current.map(|stored| stored.load(&self.codec)).transpose()?;
                let key = txn.checks[check].key().clone();
                Err(CommitError::Conflict(Conflict { check, key, current, revision }))
            }
        }
    }

    /// Applies, publishes, lets the lock go, and then does the rest.
    fn finish(
        &self,
        mut state: parking_lot::RwLockWriteGuard<'_, State<V>>,
        txn: Txn<V>,
        weights: &[u32],
        prepared: Prepared<V>,
        ends: Option<LeaseId>,
    ) -> Committed<V> {
        let applied = state.apply(txn.ops, weights, prepared);
        if let Some(id) = ends {
            state.end_lease(id);
            self.note_next_end(&state);
        }
        let after = self.publish(&mut state, &applied);
        drop(state);
        after.wake.wake();
        drop(after.dropped);
        if after.crowded {
            self.cool();
        }
        Committed { revision: applied.revision, changes: applied.changes }
    }

    fn publish(&self, state: &mut State<V>, applied: &Applied<V>) -> After<V> {
        let mut dropped = Dropped::none();
        if !applied.changed {
            return After { wake: Wake::none(), dropped, crowded: false };
        }
        let wake = self.hub.publish(applied.revision, &applied.changes);
        self.bound_history(state, &mut dropped);
        After { wake, dropped, crowded: state.is_crowded() }
    }

    /// Turns values into bytes until their objects are within the budget again, a bounded number of them.
    fn cool(&self) {
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

    /// Keeps a value that was just decoded, if its key has not been written since.
    pub(super) fn warm(&self, entry: &crate::Entry<V>) {
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

fn weight<V: Value>(value: &V) -> u32 {
    u32::try_from(value.weight()).unwrap_or(u32::MAX)
}

fn weights<V: Value>(txn: &Txn<V>) -> SmallVec<[u32; 4]> {
    let of = |op: &Op<V>| match op {
        Op::Put { value, .. } => weight(value),
        Op::Delete { .. } => 0,
    };
    txn.ops.iter().map(of).collect()
}
