use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The name of a value: a path whose parts are divided by `/`, such as `/registry/pods/default/web`.
///
/// Cloning shares the text. Keys are ordered by their bytes, which is the order of every list.
///
/// ```
/// use rkube_store::Key;
/// let key = Key::new("pods/default/web");
/// assert_eq!(key.as_str(), "pods/default/web");
/// assert!(key < Key::new("pods/default/web2"));
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// A key of this text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text of the key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The texts of all prefixes that contain this key, shortest (the empty one) first.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = &str> {
        let ends = self.0.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| at + 1);
        std::iter::once(0).chain(ends).map(|end| &self.0[..end])
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&Key> for Key {
    fn from(key: &Key) -> Self {
        key.clone()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A folder of keys. Its text ends with `/` (or is empty, for every key), so that a neighbour whose name
/// merely begins alike is never part of it.
///
/// ```
/// use rkube_store::{Key, Prefix};
/// let foo = Prefix::new("a/foo");
/// assert_eq!(foo.as_str(), "a/foo/");
/// assert!(foo.contains(&Key::new("a/foo/x")));
/// assert!(!foo.contains(&Key::new("a/foobar/x")));
/// assert!(Prefix::all().contains(&Key::new("anything")));
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(Arc<str>);

impl Prefix {
    /// The folder of this text; a missing `/` at its end is added. The empty text is [`Prefix::all`].
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        if text.is_empty() || text.ends_with('/') { Self(text) } else { Self(format!("{text}/").into()) }
    }

    /// Every key there is.
    #[must_use]
    pub fn all() -> Self {
        Self("".into())
    }

    /// The folder `/private/`: what a program keeps for itself and not for those whom it serves, such as
    /// keys. Encryption at rest always seals it.
    #[must_use]
    pub fn private() -> Self {
        Self("/private/".into())
    }

    /// The text, which ends with `/` or is empty.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the key lies in this folder.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        key.0.starts_with(&*self.0)
    }
}

impl Borrow<str> for Prefix {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_never_contains_a_neighbour() {
        let foo = Prefix::new("a/foo/");
        assert_eq!(foo, Prefix::new("a/foo"));
        assert!(!foo.contains(&Key::new("a/foo")));
        assert!(!foo.contains(&Key::new("a/foo0")));
        assert!(foo.contains(&Key::new("a/foo/b/c")));
    }

    #[test]
    fn ancestors_are_exactly_the_prefixes_that_contain_a_key() {
        let key = Key::new("/a/b/c");
        let ancestors: Vec<_> = key.ancestors().collect();
        assert_eq!(ancestors, ["", "/", "/a/", "/a/b/"]);
        assert!(ancestors.iter().all(|text| Prefix::new(*text).contains(&key)));
        assert_eq!(Key::new("plain").ancestors().collect::<Vec<_>>(), [""]);
    }
}
