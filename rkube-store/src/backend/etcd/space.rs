//! Where the store's keys lie among etcd's.

use std::sync::Arc;

use bytes::Bytes;

use super::wire::KeyValue;
use crate::mvcc::{Codec, Present};
use crate::{Entry, Key, LeaseId, Prefix, Revision, StoreError, Value};

/// The key by which the servers that share an etcd agree who compacts it; kube-apiserver's, so that it
/// takes part where it shares the etcd, too.
pub(super) const COMPACTION: &str = "compact_rev_key";

/// The part of etcd's keys that is the store's.
pub(super) struct Space {
    prefix: String,
}

impl Space {
    pub(super) fn new(prefix: String) -> Self {
        Self { prefix }
    }

    /// A key as etcd has it.
    pub(super) fn key(&self, key: &Key) -> Bytes {
        Bytes::from(format!("{}{key}", self.prefix))
    }

    /// A key of etcd as the store has it, if it is the store's.
    pub(super) fn name(&self, key: &[u8]) -> Option<Key> {
        let name = std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?;
        (!name.is_empty() && key != COMPACTION.as_bytes()).then(|| Key::new(name))
    }

    /// The first key of a folder (behind a key, if one is given), and the one that follows the last.
    pub(super) fn range(&self, prefix: &Prefix, after: Option<&Key>) -> (Bytes, Bytes) {
        let folder = format!("{}{prefix}", self.prefix);
        let end = Bytes::from(end(folder.as_bytes()));
        let start = match after {
            Some(after) if after.as_str() >= prefix.as_str() => format!("{}{after}\0", self.prefix),
            // etcd's own word for the very first key; the empty one is none.
            _ if folder.is_empty() => "\0".to_owned(),
            _ => folder,
        };
        (start.into(), end)
    }
}

/// What follows every key that begins like this; a zero byte is etcd's word for no end.
fn end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// A number of etcd, which are never negative where they count something.
fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// A revision as etcd writes it. None is beyond its range, so what is beyond is the last.
pub(super) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

impl KeyValue {
    pub(super) fn revision(&self) -> Revision {
        Revision(count(self.mod_revision))
    }

    pub(super) fn present<V: Value>(&self) -> Present<V> {
        Present {
            created: Revision(count(self.create_revision)),
            modified: self.revision(),
            version: count(self.version),
            lease: lease(self.lease),
            bytes: Arc::from(&*self.value),
            object: None,
        }
    }

    pub(super) fn entry<V: Value>(&self, key: &Key, codec: &Codec) -> Result<Entry<V>, StoreError> {
        self.present().stored(key).load(codec)
    }
}

pub(super) fn lease(id: i64) -> Option<LeaseId> {
    std::num::NonZeroU64::new(count(id)).map(LeaseId)
}

pub(super) fn lease_number(id: LeaseId) -> i64 {
    i64::try_from(id.0.get()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts((start, end): (Bytes, Bytes)) -> (String, String) {
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        (text(start), text(end))
    }

    #[test]
    fn a_folder_ends_before_its_neighbours() {
        let space = Space::new("/one".to_owned());
        let foo = Prefix::new("/a/foo");
        assert_eq!(texts(space.range(&foo, None)), ("/one/a/foo/".into(), "/one/a/foo0".into()));
        let after = Key::new("/a/foo/7");
        assert_eq!(texts(space.range(&foo, Some(&after))).0, "/one/a/foo/7\0");
        let before = Key::new("/a/fo");
        assert_eq!(texts(space.range(&foo, Some(&before))).0, "/one/a/foo/");
        assert_eq!(texts(space.range(&Prefix::all(), None)), ("/one".into(), "/onf".into()));
        let whole = Space::new(String::new());
        assert_eq!(texts(whole.range(&Prefix::all(), None)), ("\0".into(), "\0".into()));
        assert_eq!(end(&[1, 255]), [2]);
    }

    #[test]
    fn what_is_not_the_stores_has_no_name() {
        let space = Space::new("/one/".to_owned());
        assert_eq!(space.name(b"/one/a"), Some(Key::new("a")));
        for foreign in [&b"/two/a"[..], b"/one", b"/one/", b"/one/\xff"] {
            assert_eq!(space.name(foreign), None);
        }
        assert_eq!(Space::new(String::new()).name(COMPACTION.as_bytes()), None);
    }
}
