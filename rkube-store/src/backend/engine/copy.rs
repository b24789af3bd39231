use std::sync::Arc;

use super::Engine;
use super::read::Pin;
use crate::mvcc::{Kept, State};
use crate::{Key, Revision, StoreError, Value};

/// How many keys are copied with the lock held.
const STEPS: usize = 512;

/// A walk over the state at one revision, in pieces, without copying any value.
pub(in crate::backend) struct Copying<'a, V: Value> {
    pin: Pin<'a, V>,
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
        let state = self.pin.engine.state.read();
        self.after = state.copy(self.after.as_ref(), self.pin.revision, STEPS, &mut found);
        self.ended = self.after.is_none();
        Some(found)
    }
}

impl<V: Value> Engine<V> {
    /// Begins a walk, now or at a revision.
    pub(in crate::backend) fn copying(&self, at: Option<Revision>) -> Result<Copying<'_, V>, StoreError> {
        Ok(Copying { pin: self.pin(at)?, after: None, ended: false })
    }

    /// Begins a walk at the oldest revision that can be read.
    #[cfg(feature = "durable")]
    pub(in crate::backend) fn copying_oldest(&self) -> Result<Copying<'_, V>, StoreError> {
        loop {
            let oldest = self.state.read().floor();
            match self.copying(Some(oldest)) {
                // It was compacted between the two calls.
                Err(StoreError::Compacted { .. }) => {}
                begun => return begun,
            }
        }
    }

    /// A store in memory with this one's present state, whose values both share. History begins anew.
    pub(in crate::backend) async fn fork(&self) -> Result<Arc<Self>, StoreError> {
        self.expire();
        let options = &self.options;
        // Bound keys look for their lease, so leases come first; those of the same moment.
        let (mut copying, granted, last_lease) = {
            let from = self.state.read();
            let pin = self.pin_in(&from, None)?;
            (Copying { pin, after: None, ended: false }, from.granted(), from.last_lease())
        };
        let mut state = State::starting_at(copying.revision(), options.history.clone(), options.hot_bytes);
        granted.into_iter().for_each(|lease| state.regrant(lease));
        state.skip_leases(last_lease);
        while let Some(piece) = copying.next_piece() {
            // The end of a lease may be applied and not yet shown: its keys, which are still there at this
            // revision, must not live on without it.
            let stays = |kept: &Kept<V>| kept.lease().is_none_or(|lease| state.has_lease(lease));
            let piece: Vec<_> = piece.into_iter().filter(stays).collect();
            piece.into_iter().for_each(|kept| state.place(kept));
            tokio::task::yield_now().await;
        }
        Ok(Self::new(state, options, self.origin, None))
    }
}
