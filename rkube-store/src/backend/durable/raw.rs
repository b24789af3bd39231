use bytes::Bytes;

use crate::{CodecError, Revision, Value};

/// A value as it is at rest, whatever it is: for tools that look at stores without knowing what they hold.
///
/// ```
/// use rkube_store::backend::durable::Raw;
/// use rkube_store::Value;
/// let raw = Raw(b"anything".as_slice().into());
/// assert_eq!(raw.encode().unwrap(), raw.0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw(pub Bytes);

impl Value for Raw {
    fn encode(&self) -> Result<Bytes, CodecError> {
        Ok(self.0.clone())
    }

    fn decode(bytes: &Bytes) -> Result<Self, CodecError> {
        Ok(Self(bytes.clone()))
    }

    fn stamp(&mut self, _: Revision) {}

    fn weight(&self) -> usize {
        self.0.len()
    }
}
