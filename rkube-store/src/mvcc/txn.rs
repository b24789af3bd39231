use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Codec;
use super::keys::Id;
use super::record::{Body, Stored, Version};
use super::state::State;
use crate::{Change, Committed, Entry, Key, LeaseId, Op, Revision, StoreError, Txn, Value};

/// Values that a transaction needs and that take long to get (decoded, copied), made outside of the lock.
pub(crate) struct Prepared<V>(BTreeMap<Key, Ready<V>>);

struct Ready<V> {
    modified: Revision,
    value: V,
    /// Its own copy, to stamp with the revision of a deletion.
    last: Option<V>,
}

impl<V: Value> Prepared<V> {
    pub(crate) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Gets what [`Refusal::Unprepared`] asks for.
    pub(crate) fn add(&mut self, needs: Vec<Need<V>>, codec: &Codec) -> Result<(), StoreError> {
        for need in needs {
            let entry = need.stored.load(codec)?;
            let last = need.deletes.then(|| {
                let mut last = entry.value.clone();
                // The first stamp on a shared value copies it; the one inside the commit then costs nothing.
                last.stamp(Revision::ZERO);
                last
            });
            let ready = Ready { modified: entry.mod_revision, value: entry.value, last };
            self.0.insert(entry.key, ready);
        }
        Ok(())
    }

    fn get(&self, key: &Key, modified: Revision) -> Option<&Ready<V>> {
        self.0.get(key).filter(|ready| ready.modified == modified)
    }

    fn take(&mut self, key: &Key, modified: Revision) -> Option<Ready<V>> {
        self.0.remove(key).filter(|ready| ready.modified == modified)
    }
}

/// A value to prepare.
pub(crate) struct Need<V> {
    stored: Stored<V>,
    deletes: bool,
}

/// Why a transaction cannot be applied (as it is).
pub(crate) enum Refusal<V> {
    Conflict { check: usize, current: Option<Stored<V>> },
    Unprepared(Vec<Need<V>>),
    LeaseNotFound(LeaseId),
}

/// A transaction that was applied.
pub(crate) struct Applied<V> {
    pub(crate) revision: Revision,
    pub(crate) changes: Vec<Change<V>>,
    /// Whether it took the revision, rather than changing nothing.
    pub(crate) changed: bool,
}

impl<V> Applied<V> {
    pub(crate) fn committed(self) -> Committed<V> {
        Committed { revision: self.revision, changes: self.changes }
    }
}

/// A value to be written, with its bytes where a journal needed them.
struct Draft<V> {
    value: V,
    bytes: Option<Arc<[u8]>>,
    lease: Option<LeaseId>,
    weight: u32,
}

impl<V: Value> State<V> {
    /// Judges a transaction: whether [`State::apply`] may follow, with nothing in between.
    pub(crate) fn examine(&self, txn: &Txn<V>, prepared: &Prepared<V>) -> Result<(), Refusal<V>> {
        for (check, condition) in txn.checks.iter().enumerate() {
            let current = self.current(condition.key());
            if !condition.holds(current.map(|version| version.modified)) {
                let current = current.and_then(|version| version.stored(condition.key()));
                return Err(Refusal::Conflict { check, current });
            }
        }
        for op in &txn.ops {
            if let Op::Put { lease: Some(id), .. } = op
                && !self.leases.exists(*id)
            {
                return Err(Refusal::LeaseNotFound(*id));
            }
        }
        let needs: Vec<_> = txn.ops.iter().filter_map(|op| self.need(op, prepared)).collect();
        if needs.is_empty() { Ok(()) } else { Err(Refusal::Unprepared(needs)) }
    }

    /// The operations of the end of a lease, or `None` if it is over.
    pub(crate) fn end_of_lease(&self, id: LeaseId) -> Option<Txn<V>> {
        let ops = self.leases.keys(id)?.map(|key| Op::Delete { key: key.clone() }).collect();
        Some(Txn { checks: Vec::new(), ops })
    }

    /// Takes a lease away whose keys are deleted.
    pub(crate) fn end_lease(&mut self, id: LeaseId) {
        self.leases.end(id);
    }

    /// The value that an operation replaces, if it takes work to get: it is cold, or is to be deleted.
    fn need(&self, op: &Op<V>, prepared: &Prepared<V>) -> Option<Need<V>> {
        let deletes = matches!(op, Op::Delete { .. });
        if !deletes && !self.has_cold {
            return None;
        }
        let version = self.current(op.key())?;
        if !deletes && version.object().is_some() || prepared.get(op.key(), version.modified).is_some() {
            return None;
        }
        Some(Need { stored: version.stored(op.key())?, deletes })
    }

    /// Does the operations of a transaction that [`State::examine`] has just passed.
    pub(crate) fn apply(
        &mut self,
        ops: Vec<Op<V>>,
        weights: &[u32],
        values: Vec<Option<Arc<[u8]>>>,
        mut prepared: Prepared<V>,
    ) -> Applied<V> {
        let changed = ops.iter().any(|op| match op {
            Op::Put { .. } => true,
            Op::Delete { key } => self.current(key).is_some(),
        });
        if !changed {
            let none = |_| Change::Delete { previous: None, last: None };
            return Applied { revision: self.head, changes: ops.into_iter().map(none).collect(), changed };
        }
        self.head = self.head.next();
        let mut ids = SmallVec::<[Id; 4]>::new();
        let mut values = values.into_iter();
        let changes = ops
            .into_iter()
            .zip(weights)
            .map(|(op, weight)| (op, *weight, values.next().flatten()))
            .map(|(op, weight, bytes)| match op {
                Op::Put { key, value, lease } => {
                    let body = Draft { value, bytes, lease, weight };
                    self.put(key, body, &mut prepared, &mut ids)
                }
                Op::Delete { key } => self.delete(key, &mut prepared, &mut ids),
            })
            .collect();
        self.log.push(&ids);
        Applied { revision: self.head, changes, changed }
    }

    fn put(
        &mut self,
        key: Key,
        draft: Draft<V>,
        prepared: &mut Prepared<V>,
        ids: &mut SmallVec<[Id; 4]>,
    ) -> Change<V> {
        let Draft { mut value, bytes, lease, weight } = draft;
        value.stamp(self.head);
        let id = self.keys.find(&key);
        let previous = id.and_then(|id| self.previous(id, prepared)).map(|(entry, _)| entry);
        let created = previous.as_ref().map(|entry| entry.create_revision);
        let version = previous.as_ref().map_or(1, |entry| entry.version + 1);
        let body = match bytes {
            None => Body::Object(value.clone()),
            Some(bytes) => Body::Both(Box::new((value.clone(), bytes))),
        };
        let written = Version::new(self.head, created, version, lease, weight, body);
        let create_revision = written.created;
        let (id, key) = self.write(id, key, written);
        ids.push(id);
        let entry = Entry { key, value, create_revision, mod_revision: self.head, version, lease };
        Change::Put { entry, previous }
    }

    fn delete(&mut self, key: Key, prepared: &mut Prepared<V>, ids: &mut SmallVec<[Id; 4]>) -> Change<V> {
        let id = self.keys.find(&key);
        let Some((previous, last)) = id.and_then(|id| self.previous(id, prepared)) else {
            return Change::Delete { previous: None, last: None };
        };
        let mut last = last.unwrap_or_else(|| previous.value.clone());
        last.stamp(self.head);
        let (id, _) = self.write(id, key, Version::new(self.head, None, 0, None, 0, Body::Gone));
        ids.push(id);
        Change::Delete { previous: Some(previous), last: Some(last) }
    }

    /// The present entry of a key, with its own copy of the value if one was prepared.
    fn previous(&self, id: Id, prepared: &mut Prepared<V>) -> Option<(Entry<V>, Option<V>)> {
        let record = self.keys.record(id)?;
        let version = &record.current;
        if version.is_gone() {
            return None;
        }
        let (value, last) = match prepared.take(&record.key, version.modified) {
            Some(ready) => (ready.value, ready.last),
            None => (version.object()?.clone(), None),
        };
        let entry = Entry {
            key: record.key.clone(),
            value,
            create_revision: version.created,
            mod_revision: version.modified,
            version: version.version,
            lease: version.lease,
        };
        Some((entry, last))
    }
}
