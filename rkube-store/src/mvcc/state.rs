use std::collections::VecDeque;
use std::time::Duration;

use super::hot::Hot;
use super::keys::{Id, Keys};
use super::leases::Leases;
use super::log::Log;
use super::record::{Record, Stored, Version};
use crate::{Key, Lease, LeaseId, Prefix, Revision, Sizes, StoreError, Value};

/// Everything that a store knows.
pub(crate) struct State<V> {
    pub(super) keys: Keys<V>,
    pub(super) log: Log,
    /// The last revision that was applied.
    pub(super) head: Revision,
    /// The last one that may be seen: all above it may still be lost.
    pub(super) visible: Revision,
    pub(super) leases: Leases,
    pub(super) hot: Hot,
    /// What the present versions take.
    pub(super) entry_bytes: u64,
    /// Whether any value ever went cold: if none did, no commit has to look for bytes.
    pub(super) has_cold: bool,
    /// The oldest readable revision. What is older leaves memory by and by (see [`State::trim`]).
    pub(super) floor: Revision,
    retention: Retention,
}

/// How much history is kept: revisions that are beyond either bound are compacted.
#[derive(Clone, Debug)]
pub(crate) struct Retention {
    pub(crate) revisions: u64,
    pub(crate) age: Option<Duration>,
}

/// Versions taken out of the state, to be dropped outside of the lock.
pub(crate) struct Dropped<V>(#[allow(dead_code, reason = "held only to be dropped later")] Vec<Version<V>>);

impl<V> Dropped<V> {
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }
}

/// Revisions that were current at a time, for compaction by age.
#[derive(Default)]
pub(crate) struct Marks(VecDeque<(Duration, Revision)>);

impl Marks {
    /// How finely ages are told apart: this many marks an age.
    const FINENESS: u32 = 64;

    /// How far marks are apart.
    pub(crate) fn pause(age: Duration) -> Duration {
        age / Self::FINENESS
    }

    fn note(&mut self, now: Duration, head: Revision, age: Duration) {
        let due = self.0.back().is_none_or(|(last, _)| now >= *last + Self::pause(age));
        if due {
            self.0.push_back((now, head));
        }
    }

    /// The newest revision that was current an age ago.
    fn older_than(&mut self, now: Duration, age: Duration) -> Option<Revision> {
        let limit = now.checked_sub(age)?;
        let mut found = None;
        while let Some((_, revision)) = self.0.pop_front_if(|(time, _)| *time <= limit) {
            found = Some(revision);
        }
        found
    }
}

impl<V: Value> State<V> {
    /// An empty store at revision 1, so that even the first list has a revision that can be watched from.
    pub(crate) fn new(retention: Retention, hot_budget: Option<usize>) -> Self {
        let mut state = Self::starting_at(Revision(1), retention, hot_budget);
        state.floor = Revision::ZERO;
        state
    }

    /// An empty store whose history begins at a revision.
    pub(crate) fn starting_at(head: Revision, retention: Retention, hot_budget: Option<usize>) -> Self {
        Self {
            keys: Keys::new(),
            log: Log::after(head),
            head,
            visible: head,
            leases: Leases::new(),
            hot: Hot::new(hot_budget),
            entry_bytes: 0,
            has_cold: false,
            floor: head,
            retention,
        }
    }

    pub(crate) fn head(&self) -> Revision {
        self.head
    }

    pub(crate) fn visible(&self) -> Revision {
        self.visible
    }

    /// Lets readers have all up to a revision.
    pub(crate) fn show(&mut self, to: Revision) {
        self.visible = self.visible.max(to);
    }

    pub(crate) fn floor(&self) -> Revision {
        self.floor
    }

    /// The revision to read at, if it can be read.
    pub(crate) fn readable(&self, at: Option<Revision>) -> Result<Revision, StoreError> {
        let requested = at.unwrap_or(self.visible);
        if requested > self.visible {
            return Err(StoreError::Future { requested, current: self.visible });
        }
        if requested < self.floor {
            return Err(StoreError::Compacted { requested, compacted: self.floor });
        }
        Ok(requested)
    }

    /// A key's value at a revision.
    pub(crate) fn get(&self, key: &Key, at: Revision) -> Option<Stored<V>> {
        let version = self.keys.record(self.keys.find(key)?)?.at(at)?;
        version.touch();
        version.stored(key)
    }

    /// Whether a key exists that is not bound to this lease.
    pub(crate) fn exists_without(&self, key: &Key, lease: LeaseId) -> bool {
        self.current(key).is_some_and(|version| version.lease != Some(lease))
    }

    /// A key's present version, if it exists.
    pub(super) fn current(&self, key: &Key) -> Option<&Version<V>> {
        let record = self.keys.record(self.keys.find(key)?)?;
        Some(&record.current).filter(|version| !version.is_gone())
    }

    /// Reads up to `entries` values of a folder at a revision, behind a key, looking at no more than
    /// `steps` keys. The answer's second part is the key to go on behind, or `None` at the end.
    pub(crate) fn scan(
        &self,
        prefix: &Prefix,
        after: Option<&Key>,
        at: Revision,
        entries: usize,
        steps: usize,
        found: &mut Vec<Stored<V>>,
    ) -> Option<Key> {
        let mut wanted = entries;
        for (step, record) in self.keys.range(prefix, after).enumerate() {
            if let Some(stored) = record.at(at).and_then(|version| version.stored(&record.key)) {
                found.push(stored);
                wanted -= 1;
            }
            if wanted == 0 || step + 1 == steps {
                return Some(record.key.clone());
            }
        }
        None
    }

    /// As [`State::scan`], but only counts, up to a number.
    pub(crate) fn count(
        &self,
        prefix: &Prefix,
        after: Option<&Key>,
        at: Revision,
        most: u64,
        steps: usize,
        found: &mut u64,
    ) -> Option<Key> {
        for (step, record) in self.keys.range(prefix, after).enumerate() {
            *found += u64::from(record.at(at).is_some_and(|version| !version.is_gone()));
            if *found >= most {
                return None;
            }
            if step + 1 == steps {
                return Some(record.key.clone());
            }
        }
        None
    }

    /// The writes of one revision in a folder: each key, its version then (`None`: deleted) and before.
    pub(crate) fn written(&self, revision: Revision, prefix: &Prefix) -> Vec<Written<V>> {
        let ids = self.log.at(revision).unwrap_or_default();
        ids.iter()
            .filter_map(|id| self.keys.record(*id))
            .filter(|record| prefix.contains(&record.key))
            .filter_map(|record| {
                let stored = |version: &Version<V>| version.stored(&record.key);
                Some(Written {
                    key: record.key.clone(),
                    after: stored(record.at(revision)?),
                    before: record.at(revision.previous()).and_then(stored),
                })
            })
            .collect()
    }

    /// Compacts up to a revision, or tells why not.
    pub(crate) fn compact(&mut self, at: Revision) -> Result<(), StoreError> {
        if at > self.visible {
            return Err(StoreError::Future { requested: at, current: self.visible });
        }
        self.floor = self.floor.max(at);
        Ok(())
    }

    /// Applies the bound on the number of revisions, and by `marks` the one on their age.
    pub(crate) fn retain(&mut self, marks: &mut Marks, now: Duration) {
        self.retain_count();
        if let Some(age) = self.retention.age {
            marks.note(now, self.visible, age);
            self.floor = self.floor.max(marks.older_than(now, age).unwrap_or_default());
        }
    }

    pub(super) fn retain_count(&mut self) {
        let oldest = Revision(self.visible.0.saturating_sub(self.retention.revisions));
        self.floor = self.floor.max(oldest);
    }

    /// Whether history is bounded by age, so that [`State::retain`] needs the time.
    pub(crate) fn has_age(&self) -> bool {
        self.retention.age.is_some()
    }

    /// Takes up to `revisions` compacted revisions out of memory, but none that a running read (at or above
    /// `pinned`) may still look at. Returns whether there may be more.
    pub(crate) fn trim(
        &mut self,
        revisions: usize,
        pinned: Option<Revision>,
        dropped: &mut Dropped<V>,
    ) -> bool {
        let target = pinned.map_or(self.floor, |pinned| pinned.min(self.floor));
        let before = dropped.0.len();
        for _ in 0..revisions {
            let Some((revision, written)) = self.log.pop_to(target) else { break };
            for id in written.ids() {
                let Some(record) = self.keys.record_mut(*id) else { continue };
                if record.forget_before(revision, &mut dropped.0) {
                    dropped.0.extend(self.keys.remove(*id).map(|record| record.current));
                }
            }
        }
        for version in &mut dropped.0[before..] {
            self.hot.leave(version);
        }
        self.log.has(target)
    }

    pub(crate) fn sizes(&self) -> Sizes {
        let (hot_values, hot_bytes) = self.hot.sizes();
        Sizes {
            keys: self.keys.len(),
            revisions: self.log.len(),
            hot_values,
            hot_bytes,
            entry_bytes: self.entry_bytes,
        }
    }

    /// What the present entries take.
    pub(crate) fn entry_bytes(&self) -> u64 {
        self.entry_bytes
    }

    /// Writes a version of a key that has a place already, or gets one, and binds or frees its lease.
    /// Returns the key as the store holds it.
    pub(super) fn write(&mut self, id: Option<Id>, key: Key, version: Version<V>) -> (Id, Key) {
        let lease = version.lease;
        self.entry_bytes += version.bytes(&key);
        let (id, bound) = match id.and_then(|id| Some((id, self.keys.record_mut(id)?))) {
            Some((id, record)) => {
                let bound = record.current.lease;
                self.entry_bytes -= record.current.bytes(&key);
                record.push(version);
                (id, bound)
            }
            None => (self.keys.insert(Record::new(key.clone(), version)), None),
        };
        let Some(record) = self.keys.record_mut(id) else { return (id, key) };
        let key = record.key.clone();
        if record.current.object().is_some() {
            self.hot.enter(id, &mut record.current);
        }
        if bound != lease {
            bound.inspect(|lease| self.leases.unbind(*lease, &key));
            lease.inspect(|lease| self.leases.bind(*lease, &key));
        }
        (id, key)
    }
}

impl<V: Value> State<V> {
    pub(crate) fn grant(&mut self, time_to_live: Duration, now: Duration) -> Lease {
        self.leases.grant(time_to_live, now)
    }

    pub(crate) fn keep_alive(&mut self, id: LeaseId, now: Duration) -> Result<Lease, StoreError> {
        self.leases.keep_alive(id, now).ok_or(StoreError::LeaseNotFound(id))
    }

    pub(crate) fn lease(&self, id: LeaseId, now: Duration) -> Result<Lease, StoreError> {
        self.leases.get(id, now).ok_or(StoreError::LeaseNotFound(id))
    }

    /// When the next lease ends, and which.
    pub(crate) fn next_end(&self) -> Option<(Duration, LeaseId)> {
        self.leases.next_end()
    }
}

/// What one revision did to a key.
pub(crate) struct Written<V> {
    pub(crate) key: Key,
    pub(crate) after: Option<Stored<V>>,
    pub(crate) before: Option<Stored<V>>,
}
