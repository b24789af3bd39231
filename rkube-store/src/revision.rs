use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// A point in the history of a store. Each commit that changes something takes the next one.
///
/// It prints as a plain decimal number and can be read back.
///
/// ```
/// use rkube_store::Revision;
/// let revision = Revision(41).next();
/// assert_eq!(revision.to_string(), "42");
/// assert_eq!("42".parse(), Ok(revision));
/// assert!(Revision::ZERO < revision);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// Before everything: no write has this revision, and a watch after it starts at the beginning.
    pub const ZERO: Self = Self(0);

    /// The revision that follows this one; the last one stays the last.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The revision before this one; zero stays zero.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Revision {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}
