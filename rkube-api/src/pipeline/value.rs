//! Objects as values of the store.

use std::collections::BTreeMap;

use bytes::Bytes;
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use rkube_store::{CodecError, Revision};
use serde_json::Value;

use crate::{
    kinds,
    object::{Dynamic, Object},
};

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
        self.meta_mut().resource_version = Some(revision.to_string());
    }

    fn weight(&self) -> usize {
        let meta = self.meta();
        let texts = [&meta.annotations, &meta.labels].into_iter().flatten().flatten();
        let texts: usize = texts.map(|(key, value)| key.len() + value.len()).sum();
        Self::weight(self) + texts + data(self)
    }
}

/// The kinds whose size is in their data, not in their struct.
fn data(object: &Object) -> usize {
    let bytes = |data: &BTreeMap<String, ByteString>| -> usize {
        data.iter().map(|(key, value)| key.len() + value.0.len()).sum()
    };
    if let Some(map) = object.as_kind::<ConfigMap>() {
        let text = map.data.iter().flatten().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        text + map.binary_data.as_ref().map_or(0, bytes)
    } else if let Some(secret) = object.as_kind::<Secret>() {
        secret.data.as_ref().map_or(0, bytes)
    } else if let Some(dynamic) = object.as_kind::<Dynamic>() {
        dynamic.fields.iter().map(|(name, value)| name.len() + size(value)).sum()
    } else {
        0
    }
}

/// About how many bytes of memory a JSON value takes besides itself.
fn size(value: &Value) -> usize {
    let each = size_of::<Value>();
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => each,
        Value::String(text) => each + text.len(),
        Value::Array(list) => each + list.iter().map(size).sum::<usize>(),
        Value::Object(map) => {
            each + map.iter().map(|(name, value)| each + name.len() + size(value)).sum::<usize>()
        }
    }
}
