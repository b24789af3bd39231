//! Objects as values of the store.

use bytes::Bytes;
use rkube_store::{CodecError, Revision, Value};

use crate::{kinds, object::Object};

/// An object is stored as JSON in its hub version; the revision that wrote it is its
/// `metadata.resourceVersion`.
impl Value for Object {
    fn encode(&self) -> Result<Bytes, CodecError> {
        Self::encode(self).map_err(CodecError::new)
    }

    fn decode(bytes: &Bytes) -> Result<Self, CodecError> {
        kinds::decode(bytes).map_err(CodecError::new)
    }

    fn stamp(&mut self, revision: Revision) {
        self.meta_mut().resource_version = Some(revision.to_string());
    }

    fn weight(&self) -> usize {
        Self::weight(self)
    }
}
