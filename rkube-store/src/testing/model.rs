//! A store as a plain value: every revision's whole state, kept side by side. Slow, and easy to believe.
//!
//! ```
//! use rkube_store::testing::{Text, model::Model};
//! use rkube_store::{Key, Prefix, Revision, Txn};
//!
//! let mut model = Model::new();
//! let committed = model.commit(Txn::create("a/1", Text::new("one"))).unwrap();
//! model.commit(Txn::delete("a/1", committed.revision)).unwrap();
//! assert!(model.get(&Key::new("a/1"), Some(committed.revision)).unwrap().is_some());
//! assert!(model.get(&Key::new("a/1"), None).unwrap().is_none());
//! assert_eq!(model.events(&Prefix::new("a"), Revision(1)).unwrap().len(), 2);
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Batch, Change, CommitError, Committed, Conflict, Entry, Event, Key, LeaseId, Limits, Op, Prefix,
    Revision, StoreError, Txn, Value,
};

type States<V> = BTreeMap<Revision, BTreeMap<Key, Entry<V>>>;

/// A store as a value.
#[derive(Clone, Debug)]
pub struct Model<V> {
    head: Revision,
    compacted: Revision,
    /// The state after each revision that can be read.
    states: States<V>,
    log: Vec<Batch<V>>,
    leases: BTreeSet<LeaseId>,
    limits: Limits,
}

impl<V: Value> Default for Model<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Value> Model<V> {
    /// Empty, at revision 1.
    #[must_use]
    pub fn new() -> Self {
        let states = BTreeMap::from([(Revision::ZERO, BTreeMap::new()), (Revision(1), BTreeMap::new())]);
        Self {
            head: Revision(1),
            compacted: Revision::ZERO,
            states,
            log: Vec::new(),
            leases: BTreeSet::new(),
            limits: Limits::DEFAULT,
        }
    }

    /// With other limits than the usual ones.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The current revision.
    #[must_use]
    pub const fn head(&self) -> Revision {
        self.head
    }

    /// The oldest revision that can be read.
    #[must_use]
    pub const fn compacted(&self) -> Revision {
        self.compacted
    }

    /// The whole state at a revision.
    ///
    /// # Errors
    /// [`StoreError::Compacted`], [`StoreError::Future`].
    pub fn state(&self, at: Option<Revision>) -> Result<&BTreeMap<Key, Entry<V>>, StoreError> {
        let requested = at.unwrap_or(self.head);
        if requested > self.head {
            return Err(StoreError::Future { requested, current: self.head });
        }
        if requested < self.compacted {
            return Err(StoreError::Compacted { requested, compacted: self.compacted });
        }
        self.states
            .get(&requested)
            .ok_or_else(|| StoreError::Unavailable("the model lost a state".to_owned()))
    }

    /// As [`Store::get`](crate::Store::get).
    ///
    /// # Errors
    /// As [`Model::state`].
    pub fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Entry<V>>, StoreError> {
        Ok(self.state(at)?.get(key).cloned())
    }

    /// All entries of a folder.
    ///
    /// # Errors
    /// As [`Model::state`].
    pub fn list(&self, prefix: &Prefix, at: Option<Revision>) -> Result<Vec<Entry<V>>, StoreError> {
        let of_prefix = |entry: &&Entry<V>| prefix.contains(&entry.key);
        Ok(self.state(at)?.values().filter(of_prefix).cloned().collect())
    }

    /// All batches that a watch of a folder yields after a revision.
    ///
    /// # Errors
    /// [`StoreError::Compacted`].
    pub fn events(&self, prefix: &Prefix, after: Revision) -> Result<Vec<Batch<V>>, StoreError> {
        if after < self.compacted {
            return Err(StoreError::Compacted { requested: after, compacted: self.compacted });
        }
        let later = self.log.iter().filter(|batch| batch.revision > after);
        let matching = later.map(|batch| Batch {
            revision: batch.revision,
            events: batch.events.iter().filter(|event| prefix.contains(&event.key)).cloned().collect(),
        });
        Ok(matching.filter(|batch| !batch.events.is_empty()).collect())
    }

    /// As [`Store::compact`](crate::Store::compact).
    ///
    /// # Errors
    /// [`StoreError::Future`].
    pub fn compact(&mut self, at: Revision) -> Result<(), StoreError> {
        if at > self.head {
            return Err(StoreError::Future { requested: at, current: self.head });
        }
        self.compacted = self.compacted.max(at);
        self.states = self.states.split_off(&self.compacted);
        self.log.retain(|batch| batch.revision > self.compacted);
        Ok(())
    }

    /// Lets a lease be used.
    pub fn add_lease(&mut self, id: LeaseId) {
        self.leases.insert(id);
    }

    /// Ends a lease and deletes its keys in one commit.
    pub fn end_lease(&mut self, id: LeaseId) {
        if self.leases.remove(&id) {
            let bound = self.states.get(&self.head).into_iter().flatten();
            let bound = bound.filter(|(_, entry)| entry.lease == Some(id));
            let ops = bound.map(|(key, _)| Op::Delete { key: key.clone() }).collect();
            self.apply(ops);
        }
    }

    /// As [`Store::commit`](crate::Store::commit). Sizes of values are always taken exactly.
    ///
    /// # Errors
    /// As there, but never unknown.
    pub fn commit(&mut self, txn: Txn<V>) -> Result<Committed<V>, CommitError<V>> {
        within_limits(&txn, &self.limits)?;
        let state = self.state(None)?;
        for (check, condition) in txn.checks.iter().enumerate() {
            let key = condition.key();
            let current = state.get(key);
            if !condition.holds(current.map(|entry| entry.mod_revision)) {
                let (key, current) = (key.clone(), current.cloned());
                return Err(CommitError::Conflict(Conflict { check, key, current, revision: self.head }));
            }
        }
        for op in &txn.ops {
            if let Op::Put { lease: Some(id), .. } = op
                && !self.leases.contains(id)
            {
                return Err(StoreError::LeaseNotFound(*id).into());
            }
        }
        Ok(self.apply(txn.ops))
    }

    fn apply(&mut self, ops: Vec<Op<V>>) -> Committed<V> {
        let mut state = self.states.get(&self.head).cloned().unwrap_or_default();
        let revision = self.head.next();
        let changes: Vec<_> = ops.into_iter().map(|op| change(&mut state, op, revision)).collect();
        let events: Vec<_> = changes
            .iter()
            .filter_map(|change| Some(Event { key: change.key()?.clone(), revision, change: change.clone() }))
            .collect();
        if events.is_empty() {
            return Committed { revision: self.head, changes };
        }
        self.head = revision;
        self.states.insert(revision, state);
        self.log.push(Batch { revision, events });
        Committed { revision, changes }
    }
}

pub(super) fn change<V: Value>(
    state: &mut BTreeMap<Key, Entry<V>>,
    op: Op<V>,
    revision: Revision,
) -> Change<V> {
    match op {
        Op::Delete { key } => {
            let previous = state.remove(&key);
            let last = previous.as_ref().map(|entry| {
                let mut last = entry.value.clone();
                last.stamp(revision);
                last
            });
            Change::Delete { previous, last }
        }
        Op::Put { key, mut value, lease } => {
            value.stamp(revision);
            let previous = state.get(&key).cloned();
            let entry = Entry {
                key: key.clone(),
                value,
                create_revision: previous.as_ref().map_or(revision, |entry| entry.create_revision),
                mod_revision: revision,
                version: previous.as_ref().map_or(1, |entry| entry.version + 1),
                lease,
            };
            state.insert(key, entry.clone());
            Change::Put { entry, previous }
        }
    }
}

fn within_limits<V: Value>(txn: &Txn<V>, limits: &Limits) -> Result<(), StoreError> {
    let operations = txn.ops.len().max(txn.checks.len());
    if operations > limits.operations {
        return Err(StoreError::TooManyOperations { operations, limit: limits.operations });
    }
    let keys = txn.ops.iter().map(Op::key);
    for key in keys.clone().chain(txn.checks.iter().map(crate::Check::key)) {
        match key.as_str().len() {
            0 => return Err(StoreError::EmptyKey),
            bytes if bytes > limits.key_bytes => {
                return Err(StoreError::TooLarge { what: "key", bytes, limit: limits.key_bytes });
            }
            _ => {}
        }
    }
    let mut seen = BTreeSet::new();
    for key in keys {
        if !seen.insert(key) {
            return Err(StoreError::DuplicateKey(key.clone()));
        }
    }
    let mut sum = txn.checks.iter().map(|check| 2 * check.key().as_str().len()).sum::<usize>();
    for op in &txn.ops {
        sum += op.key().as_str().len();
        if let Op::Put { key, value, .. } = op {
            let encoded = value.encode().map_err(|source| StoreError::Codec { key: key.clone(), source })?;
            if encoded.len() > limits.value_bytes {
                let limit = limits.value_bytes;
                return Err(StoreError::TooLarge { what: "value", bytes: encoded.len(), limit });
            }
            sum += encoded.len();
        }
    }
    if sum > limits.transaction_bytes {
        let limit = limits.transaction_bytes;
        return Err(StoreError::TooLarge { what: "transaction", bytes: sum, limit });
    }
    Ok(())
}
