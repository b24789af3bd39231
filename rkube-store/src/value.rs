use bytes::Bytes;

use crate::Revision;

/// What a store keeps. Cloning must be cheap (an `Arc` within): readers and watchers share one value.
///
/// A value is an object, its bytes, or both. A store encodes one at most once, and only when it needs
/// bytes (to write it down, or because the object went cold); it decodes bytes when somebody reads them.
/// `decode(encode(value))`, stamped with the same revision, must equal `value`.
pub trait Value: Clone + Send + Sync + 'static {
    /// The value as bytes. The revision need not be in them: a store stamps what it decodes.
    ///
    /// # Errors
    /// When the value has no form in bytes.
    fn encode(&self) -> Result<Bytes, CodecError>;

    /// A value from its bytes; the store calls [`Value::stamp`] with the revision that wrote it next.
    ///
    /// # Errors
    /// When the bytes are not of such a value.
    fn decode(bytes: &Bytes) -> Result<Self, CodecError>;

    /// Notes the revision that wrote this value, in the place of any earlier one.
    ///
    /// A commit calls it on each value it writes, before anyone else can see the value, so a uniquely held
    /// `Arc` can be changed in place. It must be quick and must not panic: it runs inside the commit.
    fn stamp(&mut self, revision: Revision);

    /// About how many bytes of memory the value takes while it is an object. This is counted against the
    /// budget for hot values.
    fn weight(&self) -> usize;

    /// How many bytes [`Value::encode`] would give. By default it is asked; a type that can tell without
    /// making them says so here.
    ///
    /// # Errors
    /// As [`Value::encode`].
    fn size(&self) -> Result<usize, CodecError> {
        self.encode().map(|bytes| bytes.len())
    }

    /// No less than [`Value::size`], and quicker to tell: every commit asks, and takes the exact size only
    /// where this is beyond the [`Limits`](crate::Limits). By default it is the size itself.
    fn size_bound(&self) -> usize {
        self.size().unwrap_or(usize::MAX)
    }
}

/// A value could not be turned into bytes, or bytes not into a value.
///
/// ```
/// use rkube_store::CodecError;
/// assert_eq!(CodecError::new("not JSON").to_string(), "not JSON");
/// ```
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CodecError(Box<dyn std::error::Error + Send + Sync>);

impl CodecError {
    /// Wraps the error of the codec, or a text.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}
