//! Encryption at rest: a [`Transform`] that seals the values of chosen folders, and always those of
//! [`Prefix::private`]. Feature `encrypt`.
//!
//! A value is sealed with AES-256-GCM under a key of its own, which HKDF-SHA256 derives from the encryption
//! key and 32 random bytes that are kept beside it; so one encryption key can seal any number of values.
//! The store's key is bound in, so that a sealed value opens nowhere else. The name of the encryption key
//! stands in front: the first key seals, all of them open. To rotate, put a new key first, write every
//! value again ([`reseal`]), then take the old key out.
//!
//! ```
//! use bytes::Bytes;
//! use rkube_store::encrypt::{Encryption, EncryptionKey};
//! use rkube_store::{Key, Prefix, Transform};
//!
//! # let (new, old) = ([1; 32], [2; 32]); // from a file or a key service, never from code
//! let encryption = Encryption::new(
//!     [Prefix::new("/registry/secrets")],
//!     [EncryptionKey::new("2026-11", new)?, EncryptionKey::new("2026-05", old)?],
//! )?;
//! let key = Key::new("/registry/secrets/default/db");
//! let sealed = encryption.seal(&key, Bytes::from_static(b"swordfish"))?;
//! assert!(!sealed.windows(9).any(|window| window == b"swordfish"));
//! assert_eq!(encryption.open(&key, sealed)?, "swordfish");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use aws_lc_rs::rand;
use bytes::Bytes;

use crate::{
    Check, CommitError, Key, ListOptions, Op, Prefix, Store, StoreError, Transform, TransformError, Txn,
    Value,
};

/// What sealed bytes begin with; then the length of the key's name, the name, salt, nonce and ciphertext.
const MAGIC: &[u8] = b"\0rkube:sealed:1\0";
const SALT_BYTES: usize = 32;
const KEY_BYTES: usize = 32;
/// With more, what is added to each value of a large transaction would not fit beside the limits that all
/// backends have.
const LONGEST_NAME: usize = 64;

/// A secret and its name, which is written beside what it seals.
pub struct EncryptionKey {
    id: String,
    secret: Prk,
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptionKey({:?})", self.id)
    }
}

impl EncryptionKey {
    /// A key of 32 secret random bytes.
    ///
    /// # Errors
    /// [`EncryptionError::Name`] for a name that is empty or has more than 64 bytes.
    pub fn new(id: impl Into<String>, secret: [u8; KEY_BYTES]) -> Result<Self, EncryptionError> {
        let id = id.into();
        if id.is_empty() || id.len() > LONGEST_NAME {
            return Err(EncryptionError::Name(id));
        }
        Ok(Self { id, secret: Salt::new(HKDF_SHA256, b"rkube encryption at rest").extract(&secret) })
    }

    fn cipher(&self, salt: &[u8]) -> Result<RandomizedNonceKey, Unspecified> {
        let mut key = [0; KEY_BYTES];
        self.secret.expand(&[b"value", salt], HKDF_SHA256)?.fill(&mut key)?;
        RandomizedNonceKey::new(&AES_256_GCM, &key)
    }
}

/// Why an [`Encryption`] could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncryptionError {
    /// A name must have 1 to 64 bytes.
    #[error("{0:?} is no name for an encryption key: it must have 1 to {LONGEST_NAME} bytes")]
    Name(String),
    /// Two keys have one name, so nobody could tell which one opens a value.
    #[error("two encryption keys are named {0:?}")]
    Twice(String),
    /// There is no key to seal with.
    #[error("no encryption key is given")]
    NoKey,
}

/// Seals the values of chosen folders; see [`encrypt`](self).
#[derive(Debug)]
pub struct Encryption {
    folders: Vec<Prefix>,
    first: EncryptionKey,
    others: Vec<EncryptionKey>,
    reads_plain: bool,
}

impl Encryption {
    /// Seals what lies in these folders, and in [`Prefix::private`], with the first key, and opens what any
    /// of the keys sealed.
    ///
    /// # Errors
    /// [`EncryptionError`] without a key, or if two have one name.
    pub fn new(
        folders: impl IntoIterator<Item = Prefix>,
        keys: impl IntoIterator<Item = EncryptionKey>,
    ) -> Result<Self, EncryptionError> {
        let mut keys = keys.into_iter();
        let first = keys.next().ok_or(EncryptionError::NoKey)?;
        let mut others: Vec<EncryptionKey> = Vec::new();
        for key in keys {
            if key.id == first.id || others.iter().any(|other| other.id == key.id) {
                return Err(EncryptionError::Twice(key.id));
            }
            others.push(key);
        }
        let folders = folders.into_iter().chain([Prefix::private()]).collect();
        Ok(Self { folders, first, others, reads_plain: false })
    }

    /// Also reads values in the chosen folders that are not sealed, as they were written before there was
    /// encryption. Without this they are an error, so that nobody can put plain ones in the place of sealed.
    #[must_use]
    pub fn reading_plain(mut self) -> Self {
        self.reads_plain = true;
        self
    }

    fn is_chosen(&self, key: &Key) -> bool {
        self.folders.iter().any(|folder| folder.contains(key))
    }

    fn key(&self, id: &str) -> Option<&EncryptionKey> {
        std::iter::once(&self.first).chain(&self.others).find(|key| key.id == id)
    }
}

/// Writes every value in these folders again, and those of [`Prefix::private`], so that the store's transformer
/// seals them with its first key: after that nothing needs the others. It returns how many it wrote; watchers
/// see each as changed. What somebody else writes meanwhile is sealed anew by that.
///
/// # Errors
/// What the store said; what was written by then stays.
pub async fn reseal<V: Value, S: Store<V> + ?Sized>(
    store: &S,
    folders: impl IntoIterator<Item = Prefix>,
) -> Result<u64, CommitError<V>> {
    let mut written = 0;
    for folder in folders.into_iter().chain([Prefix::private()]) {
        for entry in store.list(&folder, ListOptions::default()).await?.entries {
            let unchanged = Check::Unchanged { key: entry.key.clone(), revision: entry.mod_revision };
            let again = Op::Put { key: entry.key, value: entry.value, lease: entry.lease };
            match store.commit(Txn { checks: vec![unchanged], ops: vec![again] }).await {
                Ok(_) => written += 1,
                // It was written or deleted meanwhile, or its lease has ended.
                Err(CommitError::Conflict(_) | CommitError::Store(StoreError::LeaseNotFound(_))) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(written)
}

fn failed(_: Unspecified) -> TransformError {
    TransformError::Failed("the cipher failed".into())
}

impl Transform for Encryption {
    fn seal(&self, key: &Key, plain: Bytes) -> Result<Bytes, TransformError> {
        // What looks sealed is sealed, too, or it could not be told from what is.
        if !self.is_chosen(key) && !plain.starts_with(MAGIC) {
            return Ok(plain);
        }
        let mut salt = [0; SALT_BYTES];
        rand::fill(&mut salt).map_err(failed)?;
        let cipher = self.first.cipher(&salt).map_err(failed)?;
        let mut text = plain.to_vec();
        let aad = Aad::from(key.as_str().as_bytes());
        let nonce = cipher.seal_in_place_append_tag(aad, &mut text).map_err(failed)?;
        let id = self.first.id.as_bytes();
        let length = [u8::try_from(id.len()).unwrap_or(u8::MAX)];
        Ok(Bytes::from([MAGIC, &length, id, &salt, nonce.as_ref(), &text].concat()))
    }

    fn open(&self, key: &Key, sealed: Bytes) -> Result<Bytes, TransformError> {
        let Some(rest) = sealed.strip_prefix(MAGIC) else {
            return match self.is_chosen(key) && !self.reads_plain {
                true => Err(TransformError::NotSealed),
                false => Ok(sealed),
            };
        };
        let (id, rest) = name(rest).ok_or_else(|| cut(String::new()))?;
        let secret = self.key(&id).ok_or_else(|| TransformError::UnknownKey { id: id.clone() })?;
        let parts = rest.split_at_checked(SALT_BYTES);
        let parts = parts.and_then(|(salt, rest)| Some((salt, rest.split_at_checked(NONCE_LEN)?)));
        let (salt, (nonce, text)) = parts.ok_or_else(|| cut(id.clone()))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(failed)?;
        let cipher = secret.cipher(salt).map_err(failed)?;
        let mut text = text.to_vec();
        let aad = Aad::from(key.as_str().as_bytes());
        let opened = cipher.open_in_place(nonce, aad, &mut text).map(|plain| plain.len());
        let reason = "it was changed, or sealed for another key of the store".to_owned();
        let length = opened.map_err(|_| TransformError::Damaged { id, reason })?;
        text.truncate(length);
        Ok(Bytes::from(text))
    }
}

fn cut(id: String) -> TransformError {
    TransformError::Damaged { id, reason: "it is cut off".to_owned() }
}

/// The name in front, and what follows it.
fn name(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (id, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((String::from_utf8_lossy(id).into_owned(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"the password is swordfish";

    fn of(keys: &[(&str, u8)]) -> Encryption {
        let keys = keys.iter().map(|(id, byte)| EncryptionKey::new(*id, [*byte; 32]).unwrap());
        Encryption::new([Prefix::new("secrets")], keys).unwrap()
    }

    fn key() -> Key {
        Key::new("secrets/a")
    }

    fn sealed_in(by: &Encryption, key: &str) -> bool {
        by.seal(&Key::new(key), Bytes::from_static(SECRET)).unwrap() != SECRET
    }

    fn sealed(by: &Encryption) -> Bytes {
        by.seal(&key(), Bytes::from_static(SECRET)).unwrap()
    }

    #[test]
    fn no_plaintext_is_at_rest_and_no_two_seals_are_equal() {
        let encryption = of(&[("k1", 1)]);
        let (one, two) = (sealed(&encryption), sealed(&encryption));
        assert_ne!(one, two);
        for bytes in [&one, &two] {
            assert!(!bytes.windows(4).any(|window| SECRET.windows(4).any(|plain| plain == window)));
            assert_eq!(encryption.open(&key(), bytes.clone()).unwrap(), SECRET);
        }
        assert!(!format!("{encryption:?}").contains("1, 1"), "no secret is shown");
    }

    #[test]
    fn keys_rotate() {
        let (old, both) = (of(&[("k1", 1)]), of(&[("k2", 2), ("k1", 1)]));
        assert_eq!(both.open(&key(), sealed(&old)).unwrap(), SECRET, "all keys read");
        let unknown = old.open(&key(), sealed(&both));
        assert!(matches!(unknown, Err(TransformError::UnknownKey { id }) if id == "k2"), "the first writes");
    }

    #[test]
    fn what_does_not_open_names_its_key() {
        let encryption = of(&[("k1", 1)]);
        let bytes = sealed(&encryption);
        let damaged = |result: Result<Bytes, TransformError>| match result {
            Err(TransformError::Damaged { id, .. }) => assert_eq!(id, "k1"),
            other => panic!("not damaged: {other:?}"),
        };
        damaged(encryption.open(&Key::new("secrets/b"), bytes.clone()));
        damaged(of(&[("k1", 9)]).open(&key(), bytes.clone()));
        let behind_the_name = MAGIC.len() + 3;
        for at in behind_the_name..bytes.len() {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1;
            damaged(encryption.open(&key(), Bytes::from(flipped)));
            damaged(encryption.open(&key(), bytes.slice(..at)));
        }
        for at in 0..behind_the_name {
            assert!(encryption.open(&key(), bytes.slice(..at)).is_err(), "cut off after {at} bytes");
        }
    }

    #[test]
    fn only_chosen_folders_are_sealed() {
        let (encryption, other) = (of(&[("k1", 1)]), Key::new("secretsnot/a"));
        let plain = Bytes::from_static(SECRET);
        assert_eq!(encryption.seal(&other, plain.clone()).unwrap(), plain);
        assert_eq!(encryption.open(&other, plain.clone()).unwrap(), plain);
        assert!(matches!(encryption.open(&key(), plain.clone()), Err(TransformError::NotSealed)));
        assert_eq!(encryption.reading_plain().open(&key(), plain.clone()).unwrap(), plain);
        assert!(sealed_in(&of(&[("k1", 1)]), "/private/a"), "chosen by nobody");
        let confusing = Bytes::from(MAGIC.to_vec());
        let encryption = of(&[("k1", 1)]);
        let bytes = encryption.seal(&other, confusing.clone()).unwrap();
        assert_eq!(encryption.open(&other, bytes).unwrap(), confusing, "what looks sealed comes back");
    }

    #[test]
    fn keys_that_cannot_be_told_apart_are_refused() {
        let key = |id: &str| EncryptionKey::new(id, [0; 32]);
        assert!(matches!(key(""), Err(EncryptionError::Name(_))));
        assert!(matches!(key(&"x".repeat(65)), Err(EncryptionError::Name(_))));
        assert!(matches!(Encryption::new([], []), Err(EncryptionError::NoKey)));
        let twice = Encryption::new([], [key("a").unwrap(), key("b").unwrap(), key("b").unwrap()]);
        assert!(matches!(twice, Err(EncryptionError::Twice(id)) if id == "b"));
    }
}
