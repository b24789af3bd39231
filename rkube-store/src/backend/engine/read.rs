use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Engine;
use crate::mvcc::State;
use crate::{Key, ListOptions, Page, Prefix, Read, Revision, StoreError, Value};

/// How many keys are looked at with the lock held: writers wait for some tens of microseconds at most.
const STEPS: usize = 512;
/// After how many such pieces other tasks are let in.
const PIECES: usize = 8;

impl<V: Value> Engine<V> {
    pub(in crate::backend) fn get(&self, key: &Key, at: Option<Revision>) -> Result<Read<V>, StoreError> {
        self.expire();
        let state = self.state.read();
        let revision = state.readable(at)?;
        let stored = state.get(key, revision);
        drop(state);
        let Some(stored) = stored else { return Ok(Read { entry: None, revision }) };
        let cold = stored.is_cold();
        let entry = stored.load(&self.codec)?;
        if cold && at.is_none() {
            self.warm(&entry);
        }
        Ok(Read { entry: Some(entry), revision })
    }

    pub(in crate::backend) async fn list(
        &self,
        prefix: &Prefix,
        options: ListOptions,
    ) -> Result<Page<V>, StoreError> {
        self.expire();
        let pin = self.pin(options.at)?;
        let limit = options.limit.unwrap_or(usize::MAX);
        let (mut entries, mut after, mut pieces) = (Vec::new(), options.after, 0);
        let mut stored = Vec::new();
        while entries.len() < limit {
            let wanted = (limit - entries.len()).min(STEPS);
            after = {
                let state = self.state.read();
                state.scan(prefix, after.as_ref(), pin.revision, wanted, STEPS, &mut stored)
            };
            let cold = stored.iter().filter(|stored| stored.is_cold()).count();
            let first = entries.len();
            for stored in stored.drain(..) {
                entries.push(stored.load(&self.codec)?);
            }
            if cold > 0 && options.at.is_none() {
                self.warm_some(&entries[first..]);
            }
            if after.is_none() {
                return Ok(Page { entries, revision: pin.revision, more: false, remaining: 0 });
            }
            breathe(&mut pieces).await;
        }
        let (mut remaining, most) = (0, if options.uncounted { 1 } else { u64::MAX });
        loop {
            after = {
                let state = self.state.read();
                state.count(prefix, after.as_ref(), pin.revision, most, STEPS * 4, &mut remaining)
            };
            if after.is_none() {
                return Ok(Page { entries, revision: pin.revision, more: remaining > 0, remaining });
            }
            breathe(&mut pieces).await;
        }
    }

    /// Holds a revision readable until the guard is dropped.
    pub(super) fn pin(&self, at: Option<Revision>) -> Result<Pin, StoreError> {
        self.pin_in(&self.state.read(), at)
    }

    /// The same where the state is looked at anyway.
    pub(super) fn pin_in(&self, state: &State<V>, at: Option<Revision>) -> Result<Pin, StoreError> {
        let revision = state.readable(at)?;
        *self.pins.lock().entry(revision).or_default() += 1;
        Ok(Pin { pins: self.pins.clone(), revision })
    }

    /// Holds the oldest revision that can be read.
    #[cfg(feature = "durable")]
    pub(in crate::backend) fn pin_oldest(&self) -> Result<Pin, StoreError> {
        let state = self.state.read();
        self.pin_in(&state, Some(state.floor()))
    }
}

async fn breathe(pieces: &mut usize) {
    *pieces += 1;
    if pieces.is_multiple_of(PIECES) {
        tokio::task::yield_now().await;
    }
}

/// The revisions that somebody looks at, and how many do.
pub(super) type Pins = Arc<Mutex<BTreeMap<Revision, usize>>>;

/// Holds a revision readable.
pub(in crate::backend) struct Pin {
    pins: Pins,
    pub(in crate::backend) revision: Revision,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.pins.lock();
        if let Some(count) = pins.get_mut(&self.revision) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.revision);
            }
        }
    }
}
