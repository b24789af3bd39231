use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::{CodecError, Revision, Value};

/// Nobody would write this by chance.
const UNREADABLE: &str = "\0unreadable\0";

/// The simplest value: a text and the revision that wrote it.
///
/// ```
/// use rkube_store::Value;
/// use rkube_store::testing::Text;
/// assert_eq!(Text::new("a").as_str(), "a");
/// assert!(Text::decode(&Text::unreadable().encode().unwrap()).is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text {
    text: Arc<str>,
    revision: Revision,
}

impl Text {
    /// A text that was not written yet.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self { text: text.into(), revision: Revision::ZERO }
    }

    /// A text that is refused when it is decoded: to see what a store does with what it cannot read.
    #[must_use]
    pub fn unreadable() -> Self {
        Self::new(UNREADABLE)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The revision that it was last stamped with.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }
}

impl Value for Text {
    fn encode(&self) -> Result<Bytes, CodecError> {
        Ok(Bytes::copy_from_slice(self.text.as_bytes()))
    }

    fn decode(bytes: &Bytes) -> Result<Self, CodecError> {
        match std::str::from_utf8(bytes) {
            Ok(UNREADABLE) => Err(CodecError::new("marked as unreadable")),
            text => text.map(Self::new).map_err(CodecError::new),
        }
    }

    fn stamp(&mut self, revision: Revision) {
        self.revision = revision;
    }

    fn weight(&self) -> usize {
        self.text.len() + size_of::<Self>()
    }

    fn size(&self) -> Result<usize, CodecError> {
        Ok(self.text.len())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{}", self.text, self.revision)
    }
}
