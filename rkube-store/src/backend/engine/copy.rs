use std::sync::Arc;

use super::Engine;
use super::read::Pin;
use crate::mvcc::{Kept, State};
use crate::{Key, Revision, StoreError, Value};

/// How many keys are copied with the lock held.
const STEPS: usize = 512;

/// A walk over the state at one revision, in pieces, without copying any value.
pub(in crate::backend) struct Copying<'a, V: Value> {
    engine: &'a Engine<V>,
    pin: Pin,
    after: Option<Key>,
    ended: bool,
}

impl<V: Value> Copying<'_, V> {
    pub(in crate::backend) fn revision(&self) -> Revision {
        self.pin.revision
    }

    /// The next entries by key; nothing at the end.
    pub(in crate::backend) fn next_piece(&mut self) -> Option<Vec<Kept<V>>> {
        if self.ended {
            return None;
        }
        let mut found = Vec::new();
        let state = self.engine.state.read();
        self.after = state.copy(self.after.as_ref(), self.pin.revision, STEPS, &mut found);
        self.ended = self.after.is_none();
        Some(found)
    }
}

impl<V: Value> Engine<V> {
    /// Begins a walk over what somebody holds.
    pub(in crate::backend) fn copying(&self, pin: Pin) -> Copying<'_, V> {
        Copying { engine: self, pin, after: None, ended: false }
    }

    /// Begins a walk over the present state.
    #[cfg(feature = "durable")]
    pub(in crate::backend) fn copying_now(&self) -> Result<Copying<'_, V>, StoreError> {
        Ok(self.copying(self.pin(None)?))
    }

    /// A store in memory with this one's present state, whose values both share. History begins anew.
    pub(in crate::backend) async fn fork(&self) -> Result<Arc<Self>, StoreError> {
        self.expire();
        let options = &self.options;
        // Bound keys look for their lease, so leases come first; those of the same moment.
        let (mut copying, granted, last_lease) = {
            let from = self.state.read();
            (self.copying(self.pin_in(&from, None)?), from.granted(), from.last_lease())
        };
        let mut state = State::starting_at(copying.revision(), options.history.clone(), options.hot_bytes);
        granted.into_iter().for_each(|lease| state.regrant(lease));
        state.skip_leases(last_lease);
        while let Some(piece) = copying.next_piece() {
            // The end of a lease may be applied and not yet shown: its keys, which are still there at this
            // revision, must not live on without it, unless they were freed from it before.
            let staying = |kept: Kept<V>| match kept.lease() {
                Some(lease) if !state.has_lease(lease) => {
                    let outlives = self.state.read().exists_without(&kept.key, lease);
                    outlives.then(|| kept.unbound())
                }
                _ => Some(kept),
            };
            let piece: Vec<_> = piece.into_iter().filter_map(staying).collect();
            piece.into_iter().for_each(|kept| state.place(kept));
            tokio::task::yield_now().await;
        }
        Ok(Self::new(state, options, self.origin, None))
    }
}
