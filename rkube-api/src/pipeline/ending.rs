//! The end of a namespace: from the transaction in which its deletion begins until it is gone, a marker lies
//! beside it. A create looks, in its own transaction, that there is none, so nothing can be made behind the
//! back of whoever empties the namespace. Other changes of the namespace do not touch the marker: they make
//! no create wait or fail.

use async_trait::async_trait;
use rkube_store::{Key, Txn};

use super::{Pool, Reservation, record};
use crate::{error::ApiError, object::Object};

/// Where the marker of a namespace lies.
pub(crate) fn marker(namespace: &str) -> Key {
    Key::new(format!("/registry/ending/namespaces/{namespace}"))
}

/// Writes and removes the markers.
pub(super) struct NamespaceEnds;

#[async_trait]
impl Reservation for NamespaceEnds {
    fn resource(&self) -> (&str, &str) {
        ("", "namespaces")
    }

    async fn reserve(
        &self,
        _: &Pool<'_>,
        old: Option<&Object>,
        new: Option<&mut Object>,
        txn: &mut Txn<Object>,
    ) -> Result<(), ApiError> {
        let ends = |object: &Object| object.meta().deletion_timestamp.is_some();
        let next = std::mem::take(txn);
        *txn = match (old, new) {
            (Some(old), None) => next.remove(marker(old.name())),
            (old, Some(new)) if ends(new) && !old.is_some_and(ends) => {
                next.put(marker(new.name()), record(new.name(), "namespaces", new))
            }
            _ => next,
        };
        Ok(())
    }
}
