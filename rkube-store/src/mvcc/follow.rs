//! A state that follows a store elsewhere: that one gives the revisions, and this one has the same.

use std::sync::Arc;

use smallvec::SmallVec;

use super::image::Kept;
use super::keys::Id;
use super::record::{Body, Held, Stored, Version, weight_of};
use super::state::State;
use crate::{Key, LeaseId, Revision, Value};

/// A key as the other store has it.
pub(crate) struct Row<V> {
    pub(crate) key: Key,
    /// `None`: it was deleted.
    pub(crate) present: Option<Present<V>>,
}

/// What is there of a key that exists.
pub(crate) struct Present<V> {
    pub(crate) created: Revision,
    pub(crate) modified: Revision,
    pub(crate) version: u64,
    pub(crate) lease: Option<LeaseId>,
    /// As they lie in the other store: the value's own, sealed.
    pub(crate) bytes: Arc<[u8]>,
    /// The value, where it was decoded already, and what it weighs.
    pub(crate) object: Option<(V, u32)>,
}

impl<V: Value> Present<V> {
    /// As a value to be read.
    pub(crate) fn stored(&self, key: &Key) -> Stored<V> {
        let held = match &self.object {
            Some((value, _)) => Held::Object(value.clone()),
            None => Held::Bytes(self.bytes.clone()),
        };
        Stored {
            key: key.clone(),
            created: self.created,
            modified: self.modified,
            version: self.version,
            lease: self.lease,
            held,
        }
    }

    /// As it is kept.
    pub(crate) fn kept(self, key: Key) -> Kept<V> {
        Kept { key, version: self.into_version() }
    }

    fn into_version(self) -> Version<V> {
        let (weight, body) = match self.object {
            Some((value, weight)) => (weight, Body::Both(Box::new((value, self.bytes)))),
            None => (weight_of(&self.bytes), Body::Bytes(self.bytes)),
        };
        Version::new(self.modified, Some(self.created), self.version, self.lease, weight, body)
    }
}

impl<V: Value> State<V> {
    /// Does what one revision of the other store did; the head must be just before it.
    pub(crate) fn follow(&mut self, rows: Vec<Row<V>>) {
        self.head = self.head.next();
        // What comes from elsewhere comes as bytes.
        self.has_cold = true;
        let mut ids = SmallVec::<[Id; 4]>::new();
        for Row { key, present } in rows {
            let id = self.keys.find(&key);
            let version = match present {
                Some(present) => present.into_version(),
                None if self.current(&key).is_none() => continue,
                None => Version::new(self.head, None, 0, None, 0, Body::Gone),
            };
            ids.push(self.write(id, key, version).0);
        }
        self.log.push(&ids);
    }

    /// Passes over revisions of the other store that changed nothing here, as many as `steps` at once.
    /// Returns whether the head is there.
    pub(crate) fn skip(&mut self, to: Revision, steps: usize) -> bool {
        for _ in 0..steps {
            if self.head >= to {
                break;
            }
            self.head = self.head.next();
            self.log.push(&[]);
        }
        self.head >= to
    }

    /// A key's present value.
    pub(crate) fn present(&self, key: &Key) -> Option<Stored<V>> {
        self.current(key)?.stored(key)
    }

    /// The object that one revision wrote to a key, if it is at hand.
    pub(crate) fn held(&self, key: &Key, modified: Revision) -> Option<V> {
        let record = self.keys.record(self.keys.find(key)?)?;
        let version = record.at(modified).filter(|version| version.modified == modified)?;
        version.object().cloned()
    }

    /// Whether a key was written or deleted after a revision. It must be one that can be read.
    pub(crate) fn changed_after(&self, key: &Key, revision: Revision) -> bool {
        let record = self.keys.find(key).and_then(|id| self.keys.record(id));
        record.is_some_and(|record| record.current.modified > revision)
    }
}
