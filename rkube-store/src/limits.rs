use std::collections::BTreeSet;

use crate::{Check, Key, Op, StoreError, Txn, Value};

/// What a caller must stay within; beyond it a commit fails with [`StoreError::TooLarge`],
/// [`StoreError::TooManyOperations`], [`StoreError::DuplicateKey`] or [`StoreError::EmptyKey`].
///
/// Sizes are those of a value's own bytes, before any [`Transform`](crate::Transform), so that they do not
/// depend on how a store keeps them. A backend calls [`Limits::check`] first of all.
///
/// ```
/// use rkube_store::testing::Text;
/// use rkube_store::{Limits, StoreError, Txn};
/// assert!(Limits::DEFAULT.check(&Txn::create("a/1", Text::new("small"))).is_ok());
/// let large = Txn::create("a/1", Text::new("x".repeat(2_000_000)));
/// assert!(matches!(Limits::DEFAULT.check(&large), Err(StoreError::TooLarge { what: "value", .. })));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many operations a transaction may have, and how many checks.
    pub operations: usize,
    /// How many bytes a key may have.
    pub key_bytes: usize,
    /// How many bytes a value may have, encoded.
    pub value_bytes: usize,
    /// How many bytes all keys and values of a transaction's operations may have together with the keys of its
    /// checks; these count twice, because etcd gets each to judge it and to tell what is there instead.
    pub transaction_bytes: usize,
}

impl Limits {
    /// What every backend has: etcd's defaults (128 operations, requests of 1.5 MiB) less room for its frame.
    /// A value of the greatest size fits whatever its key is, with a few checks.
    pub const DEFAULT: Self =
        Self { operations: 128, key_bytes: 4096, value_bytes: 1_500_000, transaction_bytes: 1_550_000 };

    /// Whether a transaction is within the limits, and no key is empty or operated on twice.
    ///
    /// # Errors
    /// The first limit that it exceeds.
    pub fn check<V: Value>(&self, txn: &Txn<V>) -> Result<(), StoreError> {
        let operations = txn.ops.len().max(txn.checks.len());
        if operations > self.operations {
            return Err(StoreError::TooManyOperations { operations, limit: self.operations });
        }
        for key in txn.checks.iter().map(Check::key).chain(txn.ops.iter().map(Op::key)) {
            let bytes = key.as_str().len();
            if bytes == 0 {
                return Err(StoreError::EmptyKey);
            }
            if bytes > self.key_bytes {
                return Err(StoreError::TooLarge { what: "key", bytes, limit: self.key_bytes });
            }
        }
        if txn.ops.len() > 1 {
            let mut seen = BTreeSet::new();
            if let Some(twice) = txn.ops.iter().map(Op::key).find(|key| !seen.insert(*key)) {
                return Err(StoreError::DuplicateKey(twice.clone()));
            }
        }
        self.check_size(txn)
    }

    /// Only what may be beyond the limits, by the upper bound of its size, is measured exactly.
    fn check_size<V: Value>(&self, txn: &Txn<V>) -> Result<(), StoreError> {
        let checked: usize = txn.checks.iter().map(|check| 2 * check.key().as_str().len()).sum();
        let keys = checked + txn.ops.iter().map(|op| op.key().as_str().len()).sum::<usize>();
        let bound = puts(txn).map(|(_, value)| value.size_bound()).fold(keys, usize::saturating_add);
        if bound <= self.value_bytes.min(self.transaction_bytes) {
            return Ok(());
        }
        let mut sum = keys;
        for (key, value) in puts(txn) {
            let bytes = value.size().map_err(|source| StoreError::Codec { key: key.clone(), source })?;
            if bytes > self.value_bytes {
                return Err(StoreError::TooLarge { what: "value", bytes, limit: self.value_bytes });
            }
            sum = sum.saturating_add(bytes);
        }
        if sum > self.transaction_bytes {
            let limit = self.transaction_bytes;
            return Err(StoreError::TooLarge { what: "transaction", bytes: sum, limit });
        }
        Ok(())
    }
}

fn puts<V>(txn: &Txn<V>) -> impl Iterator<Item = (&Key, &V)> {
    txn.ops.iter().filter_map(|op| match op {
        Op::Put { key, value, .. } => Some((key, value)),
        Op::Delete { .. } => None,
    })
}
