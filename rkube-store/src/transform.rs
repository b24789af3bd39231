use bytes::Bytes;

use crate::Key;

/// Changes values at the store's edge: what lies at rest (cold values in memory, records on disk, values
/// in etcd) went through `seal`, and whatever is read from there goes through `open`. For encryption.
///
/// Objects that are still objects are not bytes and are not transformed.
///
/// ```
/// use bytes::Bytes;
/// use rkube_store::{Key, Transform, TransformError};
///
/// /// Not encryption: it only shows the shape.
/// struct Mask(u8);
/// impl Transform for Mask {
///     fn seal(&self, _: &Key, plain: Bytes) -> Result<Bytes, TransformError> {
///         Ok(plain.iter().map(|byte| byte ^ self.0).collect())
///     }
///     fn open(&self, key: &Key, sealed: Bytes) -> Result<Bytes, TransformError> {
///         self.seal(key, sealed)
///     }
/// }
/// let mask = Mask(7);
/// let key = Key::new("secrets/a");
/// let sealed = mask.seal(&key, Bytes::from_static(b"word")).unwrap();
/// assert_ne!(&*sealed, b"word");
/// assert_eq!(&*mask.open(&key, sealed).unwrap(), b"word");
/// ```
pub trait Transform: Send + Sync + 'static {
    /// The bytes to keep at rest. The key may be bound into them, so that a sealed value cannot be moved.
    ///
    /// # Errors
    /// When the bytes cannot be sealed, for example because a key service cannot be reached.
    fn seal(&self, key: &Key, plain: Bytes) -> Result<Bytes, TransformError>;

    /// The plain bytes again.
    ///
    /// # Errors
    /// When they were sealed with a key that this transformer does not hold, or were damaged.
    fn open(&self, key: &Key, sealed: Bytes) -> Result<Bytes, TransformError>;
}

/// Why bytes could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransformError {
    /// The bytes were sealed with a key that is not at hand.
    #[error("sealed with encryption key {id:?}, which is not at hand")]
    UnknownKey {
        /// The name of the encryption key, as the sealed bytes give it.
        id: String,
    },
    /// The bytes do not open with the encryption key that they name: a wrong key of that name, or damage.
    #[error("does not open with encryption key {id:?}: {reason}")]
    Damaged {
        /// The name of the encryption key that was tried.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// The bytes are plain, although values of this key must be sealed.
    #[error("not sealed, although it must be")]
    NotSealed,
    /// The transformer itself failed.
    #[error("transformer failed: {0}")]
    Failed(Box<dyn std::error::Error + Send + Sync>),
}
