use crate::{Change, Key, LeaseId, Revision};

/// A transaction: if all checks hold, all operations happen at one revision; otherwise none does.
///
/// Operations are done in order, at most one a key. Checks see the state before all of them. A transaction
/// that changes nothing (no operations, or only deletions of absent keys) takes no revision.
///
/// ```
/// use rkube_store::{Check, Key, Revision, Txn};
/// let create = Txn::create("pods/a", "value");
/// assert_eq!(create.checks, [Check::Absent(Key::new("pods/a"))]);
///
/// let move_it = Txn::delete("pods/a", Revision(7))
///     .check(Check::Absent(Key::new("pods/b")))
///     .put("pods/b", "value");
/// assert_eq!((move_it.checks.len(), move_it.ops.len()), (2, 2));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn<V> {
    /// What must hold. All of it is judged on the state before the operations.
    pub checks: Vec<Check>,
    /// What is then done.
    pub ops: Vec<Op<V>>,
}

impl<V> Txn<V> {
    /// Nothing yet: no checks, no operations.
    #[must_use]
    pub const fn new() -> Self {
        Self { checks: Vec::new(), ops: Vec::new() }
    }

    /// Puts the value if the key is absent.
    pub fn create(key: impl Into<Key>, value: V) -> Self {
        let key = key.into();
        Self { checks: vec![Check::Absent(key.clone())], ops: vec![Op::Put { key, value, lease: None }] }
    }

    /// Puts the value if the key is still as that revision left it.
    pub fn update(key: impl Into<Key>, value: V, if_revision: Revision) -> Self {
        let key = key.into();
        let check = Check::Unchanged { key: key.clone(), revision: if_revision };
        Self { checks: vec![check], ops: vec![Op::Put { key, value, lease: None }] }
    }

    /// Deletes the key if it is still as that revision left it.
    pub fn delete(key: impl Into<Key>, if_revision: Revision) -> Self {
        let key = key.into();
        let check = Check::Unchanged { key: key.clone(), revision: if_revision };
        Self { checks: vec![check], ops: vec![Op::Delete { key }] }
    }

    /// Adds a check.
    #[must_use]
    pub fn check(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    /// Adds a put, whatever the key's state.
    #[must_use]
    pub fn put(mut self, key: impl Into<Key>, value: V) -> Self {
        self.ops.push(Op::Put { key: key.into(), value, lease: None });
        self
    }

    /// Adds a deletion, whatever the key's state.
    #[must_use]
    pub fn remove(mut self, key: impl Into<Key>) -> Self {
        self.ops.push(Op::Delete { key: key.into() });
        self
    }

    /// Adds all checks and operations of another transaction behind its own.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.checks.extend(other.checks);
        self.ops.extend(other.ops);
        self
    }

    /// Binds all puts so far to a lease.
    #[must_use]
    pub fn lease(mut self, id: LeaseId) -> Self {
        for op in &mut self.ops {
            if let Op::Put { lease, .. } = op {
                *lease = Some(id);
            }
        }
        self
    }
}

impl<V> Default for Txn<V> {
    fn default() -> Self {
        Self::new()
    }
}

/// A condition on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The key does not exist.
    Absent(Key),
    /// The key exists, with any value.
    Exists(Key),
    /// The key exists and was last written at exactly this revision.
    Unchanged {
        /// The key.
        key: Key,
        /// The `mod_revision` it must have.
        revision: Revision,
    },
}

impl Check {
    /// The key that is looked at.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Absent(key) | Self::Exists(key) | Self::Unchanged { key, .. } => key,
        }
    }

    /// Whether it holds for a key that was last written at this revision (`None`: does not exist).
    #[must_use]
    pub fn holds(&self, written: Option<Revision>) -> bool {
        match self {
            Self::Absent(_) => written.is_none(),
            Self::Exists(_) => written.is_some(),
            Self::Unchanged { revision, .. } => written == Some(*revision),
        }
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op<V> {
    /// Write a value.
    Put {
        /// Where.
        key: Key,
        /// What; the commit stamps it.
        value: V,
        /// The lease to bind the key to; `None` takes it off the one it was bound to.
        lease: Option<LeaseId>,
    },
    /// Delete a key, if it is there.
    Delete {
        /// Which.
        key: Key,
    },
}

impl<V> Op<V> {
    /// The key it changes.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed<V> {
    /// The revision of the commit; if nothing changed, the store's revision at that time.
    pub revision: Revision,
    /// One an operation, in order.
    pub changes: Vec<Change<V>>,
}
