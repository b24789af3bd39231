//! The records of what is taken: one key an address or port, holding whose it is.

use rkube_store::{Check, Key, Op, Txn};
use serde_json::{Map, json};

use crate::{
    error::ApiError,
    object::{Dynamic, Object},
    pipeline::Reader,
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
        txn.ops.push(Op::Put { key, value: record(item, owner), lease: None });
    }

    /// Gives an item back.
    pub(super) fn give(self, item: &str, txn: &mut Txn<Object>) {
        txn.ops.push(Op::Delete { key: self.key(item) });
    }
}

fn record(item: &str, owner: &Object) -> Object {
    let mut fields = Map::new();
    let parent = json!({"resource": "services", "namespace": owner.namespace(), "name": owner.name()});
    fields.insert("spec".into(), json!({"parentRef": parent}));
    let mut record = Dynamic {
        api_version: "internal.rkube.io/v1".into(),
        kind: "Reservation".into(),
        metadata: Default::default(),
        fields,
    };
    record.metadata.name = Some(item.to_owned());
    Object::new(record)
}
