//! A state taken apart, and put together again.

use std::time::Duration;

use super::leases::Term;
use super::record::{Body, Record, Version};
use super::state::State;
use crate::{Entry, Key, Lease, LeaseId, Revision, Value};

/// A key with one of its versions; the value is shared, not copied.
pub(crate) struct Kept<V> {
    pub(crate) key: Key,
    pub(super) version: Version<V>,
}

/// A lease with its time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Granted {
    pub(crate) lease: LeaseId,
    pub(crate) term: Term,
}

impl<V: Value> Kept<V> {
    /// The lease that it is bound to.
    pub(crate) fn lease(&self) -> Option<LeaseId> {
        self.version.lease
    }

    /// The same, bound to nothing.
    pub(crate) fn unbound(mut self) -> Self {
        self.version.lease = None;
        self
    }

    /// An entry whose value is an object.
    pub(crate) fn hot(entry: Entry<V>) -> Self {
        let weight = u32::try_from(entry.value.weight()).unwrap_or(u32::MAX);
        let (created, body) = (Some(entry.create_revision), Body::Object(entry.value));
        let version = Version::new(entry.mod_revision, created, entry.version, entry.lease, weight, body);
        Self { key: entry.key, version }
    }
}

impl Granted {
    /// A lease of another holder, which ends at a time from this one's origin.
    pub(crate) fn until(lease: Lease, deadline: Duration) -> Self {
        Self { lease: lease.id, term: Term { time_to_live: lease.granted, deadline } }
    }
}

impl<V: Value> State<V> {
    /// The entries at a revision behind a key, looking at no more than `steps` keys. Returns the key to go
    /// on behind, or `None` at the end.
    pub(crate) fn copy(
        &self,
        after: Option<&Key>,
        at: Revision,
        steps: usize,
        found: &mut Vec<Kept<V>>,
    ) -> Option<Key> {
        for (step, record) in self.keys.range(&crate::Prefix::all(), after).enumerate() {
            let version = record.at(at).filter(|version| !version.is_gone());
            found.extend(version.map(|version| Kept { key: record.key.clone(), version: version.share() }));
            if step + 1 == steps {
                return Some(record.key.clone());
            }
        }
        None
    }

    /// Puts an entry in its place, while the state is being put together.
    pub(crate) fn place(&mut self, kept: Kept<V>) {
        let Kept { key, version } = kept;
        self.has_cold |= version.object().is_none();
        self.entry_bytes += version.bytes(&key);
        if let Some(lease) = version.lease {
            self.leases.bind(lease, &key);
        }
        let id = self.keys.insert(Record::new(key, version));
        if let Some(record) = self.keys.record_mut(id)
            && record.current.object().is_some()
        {
            self.hot.enter(id, &mut record.current);
        }
    }

    /// The leases, and when they end.
    pub(crate) fn granted(&self) -> Vec<Granted> {
        self.leases.all().map(|(lease, term)| Granted { lease, term }).collect()
    }

    /// Whether a lease is there, and has not ended.
    pub(crate) fn has_lease(&self, lease: LeaseId) -> bool {
        self.leases.exists(lease)
    }

    /// The highest name that a lease ever had.
    pub(crate) fn last_lease(&self) -> u64 {
        self.leases.last()
    }

    /// No lease will be named up to this.
    pub(crate) fn skip_leases(&mut self, to: u64) {
        self.leases.skip(to);
    }

    /// A lease that was granted before, with its time.
    pub(crate) fn regrant(&mut self, granted: Granted) {
        self.leases.restore(granted.lease, granted.term);
    }
}
