//! An engine that follows a store elsewhere, event by event: a cache of it, with its history and its
//! watchers.

use std::sync::Arc;

use tokio::time::Instant;

use super::commit::weight;
use super::{Engine, Options};
use crate::mvcc::{Dropped, Kept, Row, State, Stored};
use crate::{Change, Key, Revision, StoreError, Value};

/// How many revisions without a change are passed over with the lock held.
const STEPS: usize = 1024;

/// Only one task at a time may change a replica.
impl<V: Value> Engine<V> {
    /// What the other store had at a revision, and follows it from there. Of a store whose history is
    /// whole, that revision is the first.
    pub(in crate::backend) fn replica(
        at: Revision,
        rows: impl IntoIterator<Item = Kept<V>>,
        options: &Options,
    ) -> Arc<Self> {
        let (history, hot_bytes) = (options.history.clone(), options.hot_bytes);
        let mut state = match at {
            Revision(0 | 1) => State::new(history, hot_bytes),
            at => State::starting_at(at, history, hot_bytes),
        };
        rows.into_iter().for_each(|kept| state.place(kept));
        Self::new(state, options, Instant::now(), None)
    }

    /// What one revision of the other store did. Values that somebody watches are decoded here, once.
    pub(in crate::backend) fn follow(&self, revision: Revision, mut rows: Vec<Row<V>>) {
        if !self.advance(revision.previous()) {
            return;
        }
        let changes = self.changes(revision, &mut rows);
        let keys: Vec<Key> = rows.iter().map(|row| row.key.clone()).collect();
        let mut dropped = Dropped::none();
        let mut state = self.state.write();
        state.follow(rows);
        // Somebody may have begun to watch since the changes were made.
        let missing = |key: &Key| !changes.iter().any(|change| change.key() == Some(key));
        let wake = if keys.iter().any(|key| missing(key) && self.hub.is_watched(key)) {
            self.hub.publish_in_log(revision, keys.iter())
        } else {
            self.hub.publish(revision, &changes)
        };
        state.show(revision);
        self.bound_history(&mut state, 1, &mut dropped);
        let crowded = state.is_crowded();
        drop(state);
        wake.wake();
        drop(dropped);
        if crowded {
            self.cool();
        }
    }

    /// The other store is at this revision, and changed nothing here since the head. Returns whether the
    /// head is there, and not beyond.
    pub(in crate::backend) fn advance(&self, revision: Revision) -> bool {
        loop {
            let mut dropped = Dropped::none();
            let mut state = self.state.write();
            if state.head() >= revision {
                return state.head() == revision;
            }
            state.skip(revision, STEPS);
            let head = state.head();
            let wake = self.hub.publish(head, &[]);
            state.show(head);
            self.bound_history(&mut state, STEPS, &mut dropped);
            drop(state);
            wake.wake();
            drop(dropped);
        }
    }

    /// The object that one revision wrote to a key, if it is at hand.
    pub(in crate::backend) fn held(&self, key: &Key, modified: Revision) -> Option<V> {
        self.state.read().held(key, modified)
    }

    /// Whether a key was written or deleted after a revision; `None` if history does not go back so far.
    pub(in crate::backend) fn changed_after(&self, key: &Key, revision: Revision) -> Option<bool> {
        let state = self.state.read();
        (revision >= state.floor()).then(|| state.changed_after(key, revision))
    }

    /// The rows that somebody watches, as changes. A value that cannot be read makes none: its watchers
    /// find it in the log, and end with the error.
    fn changes(&self, revision: Revision, rows: &mut [Row<V>]) -> Vec<Change<V>> {
        let before: Vec<Option<Stored<V>>> = {
            let state = self.state.read();
            rows.iter().map(|row| state.present(&row.key)).collect()
        };
        let mut changes = Vec::new();
        for (row, before) in rows.iter_mut().zip(before) {
            if self.hub.is_watched(&row.key) {
                match self.change(revision, row, before) {
                    Ok(change) => changes.push(change),
                    Err(error) => tracing::warn!(%error, "a followed value cannot be read"),
                }
            }
        }
        changes
    }

    fn change(
        &self,
        revision: Revision,
        row: &mut Row<V>,
        before: Option<Stored<V>>,
    ) -> Result<Change<V>, StoreError> {
        let previous = before.map(|stored| stored.load(&self.codec)).transpose()?;
        let Some(present) = &mut row.present else {
            let last = previous.as_ref().map(|entry| {
                let mut last = entry.value.clone();
                last.stamp(revision);
                last
            });
            return Ok(Change::Delete { previous, last });
        };
        let entry = present.stored(&row.key).load(&self.codec)?;
        present.object = Some((entry.value.clone(), weight(&entry.value)));
        Ok(Change::Put { entry, previous })
    }
}
