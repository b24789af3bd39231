//! The records of what is taken: one key an address or port, holding whose it is.

use rkube_store::{Check, Key, Op, Txn};

use crate::{
    error::ApiError,
    object::Object,
    pipeline::{Reader, record},
};

/// A pool of records.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pool {
    /// Addresses of services.
    Addresses,
    /// Ports on nodes.
    Ports,
}

impl Pool {
    fn key(self, item: &str) -> Key {
        let folder = match self {
            Self::Addresses => "serviceips",
            Self::Ports => "servicenodeports",
        };
        Key::new(format!("/registry/ranges/{folder}/{item}"))
    }

    /// Whether an item is taken now.
    pub(super) async fn is_taken(self, reader: &Reader, item: &str) -> Result<bool, ApiError> {
        Ok(reader.entry(&self.key(item)).await?.is_some())
    }

    /// Takes an item, if it is still free when the transaction is committed.
    pub(super) fn take(self, item: &str, owner: &Object, txn: &mut Txn<Object>) {
        let key = self.key(item);
        txn.checks.push(Check::Absent(key.clone()));
        txn.ops.push(Op::Put { key, value: record(item, "services", owner), lease: None });
    }

    /// Gives an item back.
    pub(super) fn give(self, item: &str, txn: &mut Txn<Object>) {
        txn.ops.push(Op::Delete { key: self.key(item) });
    }
}
