use std::sync::Arc;

use bytes::Bytes;

use crate::{Key, Revision, StoreError, Transform, Value};

/// From values to bytes at rest and back: the value's own codec, then the transformer, if there is one.
#[derive(Clone, Default)]
pub(crate) struct Codec {
    transform: Option<Arc<dyn Transform>>,
}

impl Codec {
    pub(crate) fn new(transform: Option<Arc<dyn Transform>>) -> Self {
        Self { transform }
    }

    /// Whether what one seals is what the other one seals.
    #[cfg(feature = "durable")]
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (&self.transform, &other.transform) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// The bytes to keep, without spare capacity.
    pub(crate) fn seal<V: Value>(&self, key: &Key, value: &V) -> Result<Arc<[u8]>, StoreError> {
        let plain = value.encode().map_err(|source| StoreError::Codec { key: key.clone(), source })?;
        let sealed = match &self.transform {
            None => plain,
            Some(transform) => transform
                .seal(key, plain)
                .map_err(|source| StoreError::Transform { key: key.clone(), source })?,
        };
        Ok(Arc::from(&*sealed))
    }

    /// The value again, stamped.
    pub(crate) fn open<V: Value>(
        &self,
        key: &Key,
        sealed: Arc<[u8]>,
        revision: Revision,
    ) -> Result<V, StoreError> {
        let sealed = Bytes::from_owner(sealed);
        let plain = match &self.transform {
            None => sealed,
            Some(transform) => transform
                .open(key, sealed)
                .map_err(|source| StoreError::Transform { key: key.clone(), source })?,
        };
        let mut value = V::decode(&plain).map_err(|source| StoreError::Codec { key: key.clone(), source })?;
        value.stamp(revision);
        Ok(value)
    }
}
