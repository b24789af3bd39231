//! The records of taken addresses: one key an address, holding whose it is.

use rkube_store::{Check, Key, Op, Txn};

use crate::{
    error::ApiError,
    object::Object,
    pipeline::{Reader, record},
};

fn key(address: &str) -> Key {
    Key::new(format!("/registry/ranges/serviceips/{address}"))
}

/// Whether an address is taken now.
pub(super) async fn is_taken(reader: &Reader, address: &str) -> Result<bool, ApiError> {
    Ok(reader.entry(&key(address)).await?.is_some())
}

/// Takes an address, if it is still free when the transaction is committed.
pub(super) fn take(address: &str, owner: &Object, txn: &mut Txn<Object>) {
    let key = key(address);
    txn.checks.push(Check::Absent(key.clone()));
    txn.ops.push(Op::Put { key, value: record(address, "services", owner), lease: None });
}

/// Gives an address back.
pub(super) fn give(address: &str, txn: &mut Txn<Object>) {
    txn.ops.push(Op::Delete { key: key(address) });
}
