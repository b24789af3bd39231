//! What a store on disk writes down of a state, and how it does again what was written down.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::Codec;
use super::image::{Granted, Kept};
use super::keys::Id;
use super::leases::Term;
use super::record::{Body, Version, weight_of};
use super::state::{Dropped, State};
use crate::{Key, LeaseId, Revision, StoreError, Value};

/// What is written of a version besides its key and value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) created: Revision,
    pub(crate) modified: Revision,
    pub(crate) version: u64,
    pub(crate) lease: Option<LeaseId>,
}

impl<V: Value> Kept<V> {
    /// One that was read from a file.
    pub(crate) fn cold(key: Key, facts: Facts, bytes: Arc<[u8]>) -> Self {
        let Facts { created, modified, version, lease } = facts;
        let (weight, body) = (weight_of(&bytes), Body::Bytes(bytes));
        Self { key, version: Version::new(modified, Some(created), version, lease, weight, body) }
    }

    pub(crate) fn facts(&self) -> Facts {
        let Version { created, modified, version, lease, .. } = self.version;
        Facts { created, modified, version, lease }
    }

    /// The value as it is kept at rest by another codec than that which keeps it here.
    pub(crate) fn resealed(&self, of: &Codec, by: &Codec) -> Result<Arc<[u8]>, StoreError> {
        if of.is_same(by) {
            return self.sealed(of);
        }
        match self.version.stored(&self.key) {
            Some(stored) => by.seal(&self.key, &stored.load(of)?.value),
            None => Ok(Arc::from([])),
        }
    }

    /// The value as it is kept at rest; encodes it where nobody has yet.
    fn sealed(&self, codec: &Codec) -> Result<Arc<[u8]>, StoreError> {
        match &self.version.body {
            Body::Object(value) => codec.seal(&self.key, value),
            Body::Bytes(bytes) => Ok(bytes.clone()),
            Body::Both(both) => Ok(both.1.clone()),
            // A deletion is never kept.
            Body::Gone => Ok(Arc::from([])),
        }
    }
}

impl Granted {
    /// One that begins anew at the origin: while the store was closed, nobody could keep it alive.
    pub(crate) fn anew(lease: LeaseId, time_to_live: Duration) -> Self {
        Self { lease, term: Term { time_to_live, deadline: time_to_live } }
    }
}

/// One operation of a commit that was written down.
pub(crate) enum Replay {
    Put { key: Key, bytes: Arc<[u8]>, lease: Option<LeaseId> },
    Delete { key: Key },
}

impl<V: Value> State<V> {
    /// Does a commit again that was written down; it becomes visible.
    pub(crate) fn replay(&mut self, ops: impl IntoIterator<Item = Replay>) {
        self.head = self.head.next();
        let mut ids = SmallVec::<[Id; 4]>::new();
        for op in ops {
            match op {
                Replay::Put { key, bytes, lease } => {
                    self.has_cold = true;
                    let current = self.current(&key);
                    let created = current.map(|current| current.created);
                    let version = current.map_or(1, |current| current.version + 1);
                    let (weight, body) = (weight_of(&bytes), Body::Bytes(bytes));
                    let written = Version::new(self.head, created, version, lease, weight, body);
                    ids.push(self.write(self.keys.find(&key), key, written).0);
                }
                Replay::Delete { key } if self.current(&key).is_some() => {
                    let gone = Version::new(self.head, None, 0, None, 0, Body::Gone);
                    ids.push(self.write(self.keys.find(&key), key, gone).0);
                }
                Replay::Delete { .. } => {}
            }
        }
        self.log.push(&ids);
        self.visible = self.head;
    }

    /// Applies the bound on the number of revisions, so that a long log need not fit into memory whole.
    pub(crate) fn bound_replayed(&mut self) {
        // More than a commit adds, so that what a compaction left behind goes away soon.
        const REVISIONS: usize = 8;
        self.retain_count();
        self.trim(REVISIONS, None, &mut Dropped::none());
    }
}
