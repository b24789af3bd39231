use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::hot::Hot;
use super::leases::Leases;
use super::log::Log;
use super::record::{Body, Record, Stored, Version};
use crate::backend::memory::Sizes;
use crate::{Key, Lease, LeaseId, Prefix, Revision, StoreError, Value};

/// Everything that a store knows.
pub(crate) struct State<V> {
    pub(super) index: BTreeMap<Key, Record<V>>,
    pub(super) log: Log,
    pub(super) head: Revision,
    pub(super) leases: Leases,
    pub(super) hot: Hot,
    /// Whether any value ever went cold: if none did, no commit has to look for bytes.
    pub(super) has_cold: bool,
    /// The oldest readable revision. What is older leaves memory by and by (see [`State::trim`]).
    floor: Revision,
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

    fn note(&mut self, now: Duration, head: Revision, age: Duration) {
        let due = self.0.back().is_none_or(|(last, _)| now >= *last + age / Self::FINENESS);
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
        let head = Revision(1);
        Self {
            index: BTreeMap::new(),
            log: Log::after(head),
            head,
            leases: Leases::new(),
            hot: Hot::new(hot_budget),
            has_cold: false,
            floor: Revision::ZERO,
            retention,
        }
    }

    pub(crate) fn head(&self) -> Revision {
        self.head
    }

    pub(crate) fn floor(&self) -> Revision {
        self.floor
    }

    /// The revision to read at, if it can be read.
    pub(crate) fn readable(&self, at: Option<Revision>) -> Result<Revision, StoreError> {
        let requested = at.unwrap_or(self.head);
        if requested > self.head {
            return Err(StoreError::Future { requested, current: self.head });
        }
        if requested < self.floor {
            return Err(StoreError::Compacted { requested, compacted: self.floor });
        }
        Ok(requested)
    }

    /// A key's value at a revision.
    pub(crate) fn get(&self, key: &Key, at: Revision) -> Option<Stored<V>> {
        let version = self.index.get(key)?.at(at)?;
        version.touch();
        version.stored(key)
    }

    /// A key's present version, if it exists.
    pub(super) fn current(&self, key: &Key) -> Option<&Version<V>> {
        self.index.get(key).map(|record| &record.current).filter(|version| !version.is_gone())
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
        for (step, (key, record)) in self.range(prefix, after).enumerate() {
            if let Some(stored) = record.at(at).and_then(|version| version.stored(key)) {
                found.push(stored);
                wanted -= 1;
            }
            if wanted == 0 || step + 1 == steps {
                return Some(key.clone());
            }
        }
        None
    }

    /// As [`State::scan`], but only counts.
    pub(crate) fn count(
        &self,
        prefix: &Prefix,
        after: Option<&Key>,
        at: Revision,
        steps: usize,
        found: &mut u64,
    ) -> Option<Key> {
        for (step, (key, record)) in self.range(prefix, after).enumerate() {
            *found += u64::from(record.at(at).is_some_and(|version| !version.is_gone()));
            if step + 1 == steps {
                return Some(key.clone());
            }
        }
        None
    }

    fn range<'a>(
        &'a self,
        prefix: &'a Prefix,
        after: Option<&Key>,
    ) -> impl Iterator<Item = (&'a Key, &'a Record<V>)> {
        let start = match after {
            Some(key) if key.as_str() >= prefix.as_str() => Bound::Excluded(key.as_str()),
            _ => Bound::Included(prefix.as_str()),
        };
        self.index.range::<str, _>((start, Bound::Unbounded)).take_while(|(key, _)| prefix.contains(key))
    }

    /// The writes of one revision in a folder: each key, its version then (`None`: deleted) and before.
    pub(crate) fn written(&self, revision: Revision, prefix: &Prefix) -> Vec<Written<V>> {
        let keys = self.log.at(revision).unwrap_or_default();
        keys.iter()
            .filter(|key| prefix.contains(key))
            .filter_map(|key| {
                let record = self.index.get(key)?;
                Some(Written {
                    key: key.clone(),
                    after: record.at(revision)?.stored(key),
                    before: record.at(revision.previous()).and_then(|version| version.stored(key)),
                })
            })
            .collect()
    }

    /// Compacts up to a revision, or tells why not.
    pub(crate) fn compact(&mut self, at: Revision) -> Result<(), StoreError> {
        if at > self.head {
            return Err(StoreError::Future { requested: at, current: self.head });
        }
        self.floor = self.floor.max(at);
        Ok(())
    }

    /// Applies the bound on the number of revisions, and by `marks` the one on their age.
    pub(crate) fn retain(&mut self, marks: &mut Marks, now: Duration) {
        let oldest = Revision(self.head.0.saturating_sub(self.retention.revisions));
        self.floor = self.floor.max(oldest);
        if let Some(age) = self.retention.age {
            marks.note(now, self.head, age);
            self.floor = self.floor.max(marks.older_than(now, age).unwrap_or_default());
        }
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
            for key in written.keys() {
                let Some(record) = self.index.get_mut(key) else { continue };
                if record.forget_before(revision, &mut dropped.0) {
                    dropped.0.extend(self.index.remove(key).map(|record| record.current));
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
        Sizes { keys: self.index.len(), revisions: self.log.len(), hot_values, hot_bytes }
    }

    /// Writes a version, and binds or frees the key's lease.
    pub(super) fn write(&mut self, key: Key, body: Body<V>, lease: Option<LeaseId>, weight: u32) -> Key {
        use std::collections::btree_map::Entry;
        let modified = self.head;
        let fresh = |body, created, version| Version {
            modified,
            created,
            version,
            lease,
            weight,
            hot: false,
            touched: AtomicBool::new(false),
            body,
        };
        let (record, key, bound) = match self.index.entry(key) {
            Entry::Vacant(vacant) => {
                let key = vacant.key().clone();
                (vacant.insert(Record::new(fresh(body, modified, 1))), key, None)
            }
            Entry::Occupied(occupied) => {
                let key = occupied.key().clone();
                let record = occupied.into_mut();
                let bound = record.current.lease;
                let (created, version) = match record.current.body {
                    Body::Gone => (modified, 1),
                    _ => (record.current.created, record.current.version + 1),
                };
                record.push(fresh(body, created, version));
                (record, key, bound)
            }
        };
        if record.current.object().is_some() {
            self.hot.enter(&key, &mut record.current);
        }
        if bound != lease {
            bound.inspect(|id| self.leases.unbind(*id, &key));
            lease.inspect(|id| self.leases.bind(*id, &key));
        }
        key
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
