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
    /// The value, or why it cannot be read. That does not keep it from being replaced.
    read: Result<Copies<V>, StoreError>,
}

struct Copies<V> {
    value: V,
    /// Its own copy, to stamp with the revision of a deletion.
    last: Option<V>,
}

impl<V: Value> Prepared<V> {
    pub(crate) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Gets what [`Refusal::Unprepared`] asks for.
    pub(crate) fn add(&mut self, needs: Vec<Need<V>>, codec: &Codec) {
        for Need { stored, deletes } in needs {
            let (key, modified) = (stored.key.clone(), stored.modified);
            let read = stored.load(codec).map(|entry| {
                let last = deletes.then(|| {
                    let mut last = entry.value.clone();
                    // The first stamp on a shared value copies it; the one inside the commit then costs nothing.
                    last.stamp(Revision::ZERO);
                    last
                });
                Copies { value: entry.value, last }
            });
            self.0.insert(key, Ready { modified, read });
        }
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
    /// Set if the changes do not tell all.
    pub(crate) unread: Option<Unread>,
}

/// That a transaction replaced a value that cannot be read, so that nobody can tell what was there.
pub(crate) struct Unread {
    /// All keys that the transaction changed.
    pub(crate) keys: Vec<Key>,
    /// What is wrong with the first such value.
    pub(crate) error: StoreError,
}

/// What a key has before an operation on it.
struct Before<V> {
    created: Revision,
    version: u64,
    /// With its own copy of the value if one was prepared; `None` if it cannot be read.
    entry: Option<(Entry<V>, Option<V>)>,
}

/// A transaction in the course of being applied.
struct Doing<V> {
    prepared: Prepared<V>,
    ids: SmallVec<[Id; 4]>,
    unread: Option<StoreError>,
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
        prepared: Prepared<V>,
    ) -> Applied<V> {
        let changed = ops.iter().any(|op| match op {
            Op::Put { .. } => true,
            Op::Delete { key } => self.current(key).is_some(),
        });
        if !changed {
            let none = |_| Change::Delete { previous: None, last: None };
            let changes = ops.into_iter().map(none).collect();
            return Applied { revision: self.head, changes, changed, unread: None };
        }
        self.head = self.head.next();
        let mut doing = Doing { prepared, ids: SmallVec::new(), unread: None };
        let mut values = values.into_iter();
        let changes = ops
            .into_iter()
            .zip(weights)
            .map(|(op, weight)| (op, *weight, values.next().flatten()))
            .map(|(op, weight, bytes)| match op {
                Op::Put { key, value, lease } => {
                    let body = Draft { value, bytes, lease, weight };
                    self.put(key, body, &mut doing)
                }
                Op::Delete { key } => self.delete(key, &mut doing),
            })
            .collect();
        self.log.push(&doing.ids);
        let key_of = |id: &Id| self.keys.record(*id).map(|record| record.key.clone());
        let unread =
            doing.unread.map(|error| Unread { keys: doing.ids.iter().filter_map(key_of).collect(), error });
        Applied { revision: self.head, changes, changed, unread }
    }

    fn put(&mut self, key: Key, draft: Draft<V>, doing: &mut Doing<V>) -> Change<V> {
        let Draft { mut value, bytes, lease, weight } = draft;
        value.stamp(self.head);
        let id = self.keys.find(&key);
        let before = id.and_then(|id| self.before(id, doing));
        let created = before.as_ref().map(|before| before.created);
        let version = before.as_ref().map_or(1, |before| before.version + 1);
        let previous = before.and_then(|before| before.entry).map(|(entry, _)| entry);
        let body = match bytes {
            None => Body::Object(value.clone()),
            Some(bytes) => Body::Both(Box::new((value.clone(), bytes))),
        };
        let written = Version::new(self.head, created, version, lease, weight, body);
        let create_revision = written.created;
        let (id, key) = self.write(id, key, written);
        doing.ids.push(id);
        let entry = Entry { key, value, create_revision, mod_revision: self.head, version, lease };
        Change::Put { entry, previous }
    }

    fn delete(&mut self, key: Key, doing: &mut Doing<V>) -> Change<V> {
        let id = self.keys.find(&key);
        let Some(before) = id.and_then(|id| self.before(id, doing)) else {
            return Change::Delete { previous: None, last: None };
        };
        let (id, _) = self.write(id, key, Version::new(self.head, None, 0, None, 0, Body::Gone));
        doing.ids.push(id);
        let Some((previous, last)) = before.entry else {
            return Change::Delete { previous: None, last: None };
        };
        let mut last = last.unwrap_or_else(|| previous.value.clone());
        last.stamp(self.head);
        Change::Delete { previous: Some(previous), last: Some(last) }
    }

    /// What there is of a key.
    fn before(&self, id: Id, doing: &mut Doing<V>) -> Option<Before<V>> {
        let record = self.keys.record(id)?;
        let version = &record.current;
        if version.is_gone() {
            return None;
        }
        let prepared = doing.prepared.take(&record.key, version.modified).map(|ready| ready.read);
        let copies = match (prepared, version.object()) {
            (Some(Ok(copies)), _) => Some(copies),
            (_, Some(object)) => Some(Copies { value: object.clone(), last: None }),
            (Some(Err(error)), None) => {
                doing.unread.get_or_insert(error);
                None
            }
            // Not after `examine`, which has it prepared.
            (None, None) => None,
        };
        let entry = copies.map(|Copies { value, last }| {
            let entry = Entry {
                key: record.key.clone(),
                value,
                create_revision: version.created,
                mod_revision: version.modified,
                version: version.version,
                lease: version.lease,
            };
            (entry, last)
        });
        Some(Before { created: version.created, version: version.version, entry })
    }
}
