use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Codec;
use crate::{Entry, Key, LeaseId, Revision, StoreError, Value};

/// One write of a key.
pub(super) struct Version<V> {
    pub(super) modified: Revision,
    pub(super) created: Revision,
    pub(super) version: u64,
    pub(super) lease: Option<LeaseId>,
    /// What the object weighs, where it is one.
    pub(super) weight: u32,
    /// Counted among the hot ones: it has a place in their queue, and its weight is in their sum.
    pub(super) hot: bool,
    /// Read since it was last passed over: it gets a second chance before it goes cold.
    pub(super) touched: AtomicBool,
    pub(super) body: Body<V>,
}

/// A value in its present form.
pub(super) enum Body<V> {
    /// The key was deleted here.
    Gone,
    /// Hot, never encoded.
    Object(V),
    /// Cold.
    Bytes(Arc<[u8]>),
    /// Hot again: the bytes are kept, so that it is encoded only once.
    Both(Box<(V, Arc<[u8]>)>),
}

impl<V> Version<V> {
    /// A version of a life that began at `created`, or begins here.
    pub(super) fn new(
        modified: Revision,
        created: Option<Revision>,
        version: u64,
        lease: Option<LeaseId>,
        weight: u32,
        body: Body<V>,
    ) -> Self {
        let created = created.unwrap_or(modified);
        Self { modified, created, version, lease, weight, hot: false, touched: AtomicBool::new(false), body }
    }
}

/// What a value weighs that nobody has decoded yet: its bytes.
#[cfg(any(feature = "durable", feature = "etcd"))]
pub(super) fn weight_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

impl<V: Value> Version<V> {
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.body, Body::Gone)
    }

    /// What it takes while it is its key's present version.
    pub(super) fn bytes(&self, key: &Key) -> u64 {
        if self.is_gone() { 0 } else { key.as_str().len() as u64 + u64::from(self.weight) }
    }

    /// The object, if it is one.
    pub(super) fn object(&self) -> Option<&V> {
        match &self.body {
            Body::Object(value) => Some(value),
            Body::Both(both) => Some(&both.0),
            Body::Gone | Body::Bytes(_) => None,
        }
    }

    /// A copy that can be taken out of the lock; `None` where the key was deleted.
    pub(super) fn stored(&self, key: &Key) -> Option<Stored<V>> {
        let held = match &self.body {
            Body::Gone => return None,
            Body::Object(value) => Held::Object(value.clone()),
            Body::Both(both) => Held::Object(both.0.clone()),
            Body::Bytes(bytes) => Held::Bytes(bytes.clone()),
        };
        Some(Stored {
            key: key.clone(),
            created: self.created,
            modified: self.modified,
            version: self.version,
            lease: self.lease,
            held,
        })
    }

    /// A copy that shares the value and is not counted as hot.
    pub(super) fn share(&self) -> Self {
        let body = match &self.body {
            Body::Gone => Body::Gone,
            Body::Object(value) => Body::Object(value.clone()),
            Body::Bytes(bytes) => Body::Bytes(bytes.clone()),
            Body::Both(both) => Body::Both(both.clone()),
        };
        Self::new(self.modified, Some(self.created), self.version, self.lease, self.weight, body)
    }

    pub(super) fn touch(&self) {
        // Looked at first: readers on many cores should not write to one cache line for nothing.
        if self.hot && !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Relaxed);
        }
    }
}

/// A key with its versions.
pub(super) struct Record<V> {
    pub(super) key: Key,
    pub(super) current: Version<V>,
    /// The earlier ones, oldest first. Most keys have none, so this is thin.
    older: Option<Box<Older<V>>>,
}

struct Older<V>(VecDeque<Version<V>>);

impl<V> Record<V> {
    pub(super) fn new(key: Key, current: Version<V>) -> Self {
        Self { key, current, older: None }
    }
}

impl<V: Value> Record<V> {
    /// A new version; the current one becomes history.
    pub(super) fn push(&mut self, version: Version<V>) {
        let before = std::mem::replace(&mut self.current, version);
        self.older.get_or_insert_with(|| Box::new(Older(VecDeque::with_capacity(1)))).0.push_back(before);
    }

    /// The version that was current at a revision.
    pub(super) fn at(&self, revision: Revision) -> Option<&Version<V>> {
        if self.current.modified <= revision {
            return Some(&self.current);
        }
        let older = &self.older.as_ref()?.0;
        let after = older.partition_point(|version| version.modified <= revision);
        older.get(after.checked_sub(1)?)
    }

    /// The version that was written at exactly this revision.
    pub(super) fn written_at(&mut self, revision: Revision) -> Option<&mut Version<V>> {
        if self.current.modified == revision {
            return Some(&mut self.current);
        }
        let older = &mut self.older.as_mut()?.0;
        let at = older.binary_search_by_key(&revision, |version| version.modified).ok()?;
        older.get_mut(at)
    }

    /// Drops what nobody can read once nothing under `revision`, at which the key was written, is
    /// readable. Returns whether nothing is left of the key.
    pub(super) fn forget_before(&mut self, revision: Revision, dropped: &mut Vec<Version<V>>) -> bool {
        if let Some(older) = &mut self.older {
            while let Some(first) = older.0.front() {
                let superseded = first.modified < revision || (first.modified == revision && first.is_gone());
                if !superseded {
                    break;
                }
                dropped.extend(older.0.pop_front());
            }
            if older.0.is_empty() {
                self.older = None;
            } else if older.0.capacity() > 4 * older.0.len() + 8 {
                older.0.shrink_to(2 * older.0.len());
            }
        }
        self.older.is_none() && self.current.is_gone() && self.current.modified <= revision
    }
}

/// A value taken out of the store's lock, perhaps still as bytes.
#[derive(Clone)]
pub(crate) struct Stored<V> {
    pub(crate) key: Key,
    pub(crate) created: Revision,
    pub(crate) modified: Revision,
    pub(crate) version: u64,
    pub(crate) lease: Option<LeaseId>,
    pub(super) held: Held<V>,
}

#[derive(Clone)]
pub(super) enum Held<V> {
    Object(V),
    Bytes(Arc<[u8]>),
}

impl<V: Value> Stored<V> {
    /// Whether it has to be decoded.
    pub(crate) fn is_cold(&self) -> bool {
        matches!(self.held, Held::Bytes(_))
    }

    /// The entry; decodes where needed, so not to be called with a lock held.
    pub(crate) fn load(self, codec: &Codec) -> Result<Entry<V>, StoreError> {
        let value = match self.held {
            Held::Object(value) => value,
            Held::Bytes(bytes) => codec.open(&self.key, bytes, self.modified)?,
        };
        Ok(Entry {
            key: self.key,
            value,
            create_revision: self.created,
            mod_revision: self.modified,
            version: self.version,
            lease: self.lease,
        })
    }
}
