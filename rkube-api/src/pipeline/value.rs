//! Objects as values of the store.

use bytes::Bytes;
use rkube_store::{CodecError, Revision};

use crate::{kinds, object::Object};

/// An object is stored as JSON in its hub version; the revision that wrote it is its
/// `metadata.resourceVersion`.
impl rkube_store::Value for Object {
    fn encode(&self) -> Result<Bytes, CodecError> {
        Self::encode(self).map_err(CodecError::new)
    }

    fn decode(bytes: &Bytes) -> Result<Self, CodecError> {
        let mut object = kinds::decode(bytes).map_err(CodecError::new)?;
        // Beside the body, as on an object that was never encoded: the two must be equal.
        if let Some(entries) = object.meta_mut().managed_fields.take() {
            object.keep_managed_fields(entries);
        }
        Ok(object)
    }

    fn stamp(&mut self, revision: Revision) {
        self.set_resource_version(revision.to_string());
    }

    fn weight(&self) -> usize {
        Self::weight(self)
    }

    fn size(&self) -> Result<usize, CodecError> {
        self.length().map_err(CodecError::new)
    }

    fn size_bound(&self) -> usize {
        self.length_bound()
    }
}
