use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use foldhash::fast::RandomState;

use super::record::Record;
use crate::{Key, Prefix};

/// The place of a key's record. It is given to another key only when nothing refers to it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(u32);

/// All keys with their records. One is found by name in a hash table, by place without a search, and in
/// order by a tree that is changed only when a key comes or goes.
pub(super) struct Keys<V> {
    names: Names,
    ordered: BTreeMap<Key, Id>,
    records: Slab<Record<V>>,
}

impl<V> Keys<V> {
    pub(super) fn new() -> Self {
        Self { names: Names::new(), ordered: BTreeMap::new(), records: Slab::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.ordered.len()
    }

    pub(super) fn find(&self, key: &Key) -> Option<Id> {
        self.names.get(key)
    }

    pub(super) fn record(&self, id: Id) -> Option<&Record<V>> {
        self.records.get(id)
    }

    pub(super) fn record_mut(&mut self, id: Id) -> Option<&mut Record<V>> {
        self.records.get_mut(id)
    }

    /// Adds a record whose key is not there yet.
    pub(super) fn insert(&mut self, record: Record<V>) -> Id {
        let key = record.key.clone();
        let id = self.records.insert(record);
        self.names.insert(key.clone(), id);
        self.ordered.insert(key, id);
        id
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<Record<V>> {
        let record = self.records.remove(id)?;
        self.names.remove(&record.key);
        self.ordered.remove(&record.key);
        Some(record)
    }

    /// The records of a folder, behind a key, in order.
    pub(super) fn range(&self, prefix: &Prefix, after: Option<&Key>) -> impl Iterator<Item = &Record<V>> {
        let start = match after {
            Some(key) if key.as_str() >= prefix.as_str() => Bound::Excluded(key.as_str()),
            _ => Bound::Included(prefix.as_str()),
        };
        // The text that follows all keys of the folder: its last byte, `/`, is counted up. No key is compared.
        let end = prefix.as_str().strip_suffix('/').map(|folder| format!("{folder}0"));
        // A tree refuses a range whose end is before its start, as when a page begins behind the folder.
        let end = match (&end, start) {
            (Some(end), Bound::Excluded(start)) if **end <= *start => Bound::Included(start),
            (Some(end), _) => Bound::Excluded(end.as_str()),
            (None, _) => Bound::Unbounded,
        };
        self.ordered.range::<str, _>((start, end)).filter_map(|(_, id)| self.records.get(*id))
    }
}

/// Keys by name. Split in many tables, because one grows by moving all it has at once, under the lock.
///
/// The tables are seeded at random, so that nobody can choose names that collide; nothing ever iterates
/// over them, so this is not seen in any output.
struct Names(Box<[HashMap<Key, Id, RandomState>]>);

impl Names {
    const TABLES: usize = 256;

    fn new() -> Self {
        let seed = RandomState::default();
        Self((0..Self::TABLES).map(|_| HashMap::with_hasher(seed.clone())).collect())
    }

    /// The last bytes of a key tell keys apart best.
    fn table(key: &Key) -> usize {
        let mixed = key.as_str().bytes().rev().take(8).fold(0_u64, |sum, byte| (sum << 8) | u64::from(byte));
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize % Self::TABLES
    }

    fn get(&self, key: &Key) -> Option<Id> {
        self.0[Self::table(key)].get(key).copied()
    }

    fn insert(&mut self, key: Key, id: Id) {
        self.0[Self::table(&key)].insert(key, id);
    }

    fn remove(&mut self, key: &Key) {
        let table = &mut self.0[Self::table(key)];
        table.remove(key);
        if table.capacity() > 4 * table.len() + 64 {
            table.shrink_to(2 * table.len());
        }
    }
}

/// Records in pieces of one size, so that nothing moves when there come to be more. A piece without records
/// takes no memory.
struct Slab<T> {
    pieces: Vec<Piece<T>>,
    free: Vec<Id>,
    /// The slots of the piece that was emptied last: the next one that is needed does not have to be made.
    spare: Vec<Option<T>>,
}

struct Piece<T> {
    slots: Vec<Option<T>>,
    used: usize,
}

impl<T> Slab<T> {
    const PIECE: usize = 256;

    const fn new() -> Self {
        Self { pieces: Vec::new(), free: Vec::new(), spare: Vec::new() }
    }

    const fn place(id: Id) -> (usize, usize) {
        (id.0 as usize / Self::PIECE, id.0 as usize % Self::PIECE)
    }

    fn get(&self, id: Id) -> Option<&T> {
        let (piece, at) = Self::place(id);
        self.pieces.get(piece)?.slots.get(at)?.as_ref()
    }

    fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let (piece, at) = Self::place(id);
        self.pieces.get_mut(piece)?.slots.get_mut(at)?.as_mut()
    }

    fn insert(&mut self, item: T) -> Id {
        let id = self.free.pop().unwrap_or_else(|| self.grow());
        let (piece, at) = Self::place(id);
        let piece = &mut self.pieces[piece];
        if piece.slots.is_empty() {
            piece.slots = std::mem::take(&mut self.spare);
            piece.slots.resize_with(Self::PIECE, || None);
        }
        piece.slots[at] = Some(item);
        piece.used += 1;
        id
    }

    /// One more piece; the first of its places.
    fn grow(&mut self) -> Id {
        let first = self.pieces.len() * Self::PIECE;
        self.pieces.push(Piece { slots: Vec::new(), used: 0 });
        // The lowest is taken next.
        self.free.extend((first + 1..first + Self::PIECE).rev().map(|id| Id(id as u32)));
        Id(first as u32)
    }

    fn remove(&mut self, id: Id) -> Option<T> {
        let (piece, at) = Self::place(id);
        let piece = self.pieces.get_mut(piece)?;
        let item = piece.slots.get_mut(at)?.take()?;
        piece.used -= 1;
        if piece.used == 0 {
            self.spare = std::mem::take(&mut piece.slots);
        }
        self.free.push(id);
        Some(item)
    }

    /// How many records there is room for without asking for memory.
    #[cfg(test)]
    fn room(&self) -> usize {
        self.pieces.iter().map(|piece| piece.slots.capacity()).sum::<usize>() + self.spare.capacity()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::mvcc::record::{Body, Version};

    fn record(key: &Key) -> Record<u8> {
        Record::new(key.clone(), Version::new(crate::Revision(1), None, 1, None, 0, Body::Object(1)))
    }

    #[test]
    fn room_that_nobody_needs_is_given_back() {
        let mut slab = Slab::new();
        let ids: Vec<Id> = (0..100_000).map(|at| slab.insert(at)).collect();
        assert!(slab.room() >= 100_000);
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(slab.remove(*id), Some(at));
        }
        assert!(slab.room() <= Slab::<usize>::PIECE, "room for {}", slab.room());
        let again: Vec<Id> = (0..1000).map(|at| slab.insert(at)).collect();
        assert!(again.iter().enumerate().all(|(at, id)| slab.get(*id) == Some(&at)));
    }

    proptest! {
        /// Against an ordered set: what is found by name, by place and in order is the same.
        #[test]
        fn all_ways_to_a_key_agree(
            steps in proptest::collection::vec(("[ab/0]{1,4}", any::<bool>()), 0..200),
            prefix in "([ab]/){0,2}", after in proptest::option::of("[ab/0]{0,4}"),
        ) {
            let (mut keys, mut model) = (Keys::new(), BTreeSet::new());
            for (name, add) in steps {
                let key = Key::new(name);
                match (keys.find(&key), add) {
                    (None, true) => {
                        keys.insert(record(&key));
                        model.insert(key);
                    }
                    (Some(id), false) => {
                        prop_assert_eq!(keys.remove(id).map(|record| record.key), Some(key.clone()));
                        model.remove(&key);
                    }
                    (found, _) => prop_assert_eq!(found.is_some(), model.contains(&key)),
                }
            }
            prop_assert_eq!(keys.len(), model.len());
            for key in &model {
                let id = keys.find(key).expect("it was added");
                prop_assert_eq!(&keys.record(id).expect("it is there").key, key);
            }
            let (prefix, after) = (Prefix::new(prefix), after.map(Key::new));
            let expected: Vec<_> = model
                .iter()
                .filter(|key| prefix.contains(key) && after.as_ref().is_none_or(|after| *key > after))
                .cloned()
                .collect();
            let found: Vec<_> = keys.range(&prefix, after.as_ref()).map(|record| record.key.clone()).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
