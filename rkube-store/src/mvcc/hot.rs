use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::keys::Id;
use super::record::{Body, Version};
use super::state::State;
use crate::{Key, Revision, Value};

/// How many versions one call looks at, so that a commit that finds the budget exceeded stays short.
const STEPS: usize = 16;

/// The versions that hold objects, in the order in which they go cold (a clock: one that was read since
/// it was last looked at goes to the back), and how much they weigh.
pub(super) struct Hot {
    budget: Option<usize>,
    weight: usize,
    count: usize,
    queue: VecDeque<(Id, Revision)>,
}

/// A value to be encoded outside of the lock and handed back to [`State::settle`].
pub(crate) struct Cooling<V> {
    id: Id,
    pub(crate) key: Key,
    modified: Revision,
    pub(crate) value: V,
}

impl Hot {
    pub(super) fn new(budget: Option<usize>) -> Self {
        Self { budget, weight: 0, count: 0, queue: VecDeque::new() }
    }

    /// Whether values are counted at all.
    pub(super) fn is_bounded(&self) -> bool {
        self.budget.is_some()
    }

    /// Counts a version that has become hot.
    pub(super) fn enter<V>(&mut self, id: Id, version: &mut Version<V>) {
        if self.budget.is_none() || version.hot {
            return;
        }
        version.hot = true;
        self.weight += version.weight as usize;
        self.count += 1;
        self.queue.push_back((id, version.modified));
    }

    /// Counts a version no longer; its place in the queue is skipped when it comes up.
    pub(super) fn leave<V>(&mut self, version: &mut Version<V>) {
        if std::mem::take(&mut version.hot) {
            self.weight -= version.weight as usize;
            self.count -= 1;
        }
    }

    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.count, self.weight)
    }

    fn over_budget(&self) -> bool {
        self.budget.is_some_and(|budget| self.weight > budget)
    }

    /// Whether most places belong to versions that are gone.
    fn is_sparse(&self) -> bool {
        self.queue.len() > 2 * self.count + 1024
    }
}

impl<V: Value> State<V> {
    /// Whether a value can become hot without another one going cold.
    pub(crate) fn has_room(&self, weight: u32) -> bool {
        self.hot.budget.is_some_and(|budget| self.hot.weight + weight as usize <= budget)
    }

    /// Whether [`State::pick_cooling`] has something to do.
    pub(crate) fn is_crowded(&self) -> bool {
        self.hot.over_budget() || self.hot.is_sparse()
    }

    /// Picks values that must go cold, a few at a time. Those that already have bytes do so at once and
    /// are left in `dropped`; the others are to be encoded and settled.
    pub(crate) fn pick_cooling(&mut self, dropped: &mut Vec<V>) -> Vec<Cooling<V>> {
        let mut picked = Vec::new();
        for _ in 0..STEPS {
            let over = self.hot.over_budget();
            if !over && !self.hot.is_sparse() {
                break;
            }
            let Some((id, modified)) = self.hot.queue.pop_front() else { break };
            let Some(record) = self.keys.record_mut(id) else { continue };
            let key = record.key.clone();
            let version = record.written_at(modified);
            let Some(version) = version.filter(|version| version.hot) else { continue };
            if !over || std::mem::take(version.touched.get_mut()) {
                self.hot.queue.push_back((id, modified));
                continue;
            }
            self.hot.leave(version);
            match std::mem::replace(&mut version.body, Body::Gone) {
                Body::Both(both) => {
                    dropped.push(both.0);
                    version.body = Body::Bytes(both.1);
                    self.has_cold = true;
                }
                body => {
                    if let Body::Object(value) = &body {
                        picked.push(Cooling { id, key, modified, value: value.clone() });
                    }
                    version.body = body;
                }
            }
        }
        picked
    }

    /// Puts the bytes of a picked value in its place. `None` (it cannot be encoded) keeps it hot.
    pub(crate) fn settle(&mut self, cooling: &Cooling<V>, bytes: Option<Arc<[u8]>>) {
        let record = self.keys.record_mut(cooling.id);
        let Some(version) = record.and_then(|record| record.written_at(cooling.modified)) else { return };
        match bytes {
            Some(bytes) if matches!(version.body, Body::Object(_)) => {
                version.body = Body::Bytes(bytes);
                self.has_cold = true;
            }
            Some(_) => {}
            None => self.hot.enter(cooling.id, version),
        }
    }

    /// Makes a cold value hot again, now that somebody decoded it.
    pub(crate) fn warm(&mut self, key: &Key, modified: Revision, value: V, weight: u32) {
        if !self.hot.is_bounded() {
            return;
        }
        let Some(id) = self.keys.find(key) else { return };
        let Some(record) = self.keys.record_mut(id) else { return };
        let is_current = record.current.modified == modified;
        let Some(version) = record.written_at(modified) else { return };
        if let Body::Bytes(bytes) = &version.body {
            let bytes = bytes.clone();
            version.body = Body::Both(Box::new((value, bytes)));
            if is_current {
                // An object that was decoded may weigh something else than the one that was written.
                self.entry_bytes = self.entry_bytes + u64::from(weight) - u64::from(version.weight);
            }
            version.weight = weight;
            version.touched.store(false, Ordering::Relaxed);
            self.hot.enter(id, version);
        }
    }
}
