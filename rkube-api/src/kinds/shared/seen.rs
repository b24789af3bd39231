//! What was seen already: on the stack as long as it is little, ordered when it is much, so that long
//! lists stay cheap too.

use std::collections::BTreeSet;

use smallvec::SmallVec;

const FEW: usize = 16;

/// A set that needs no memory of its own for a few members.
pub(crate) struct Seen<T> {
    few: SmallVec<[T; FEW]>,
    many: BTreeSet<T>,
}

impl<T: Ord> Seen<T> {
    /// Nothing seen.
    pub(crate) fn new() -> Self {
        Self { few: SmallVec::new(), many: BTreeSet::new() }
    }

    /// All of these, seen.
    pub(crate) fn all(values: impl IntoIterator<Item = T>) -> Self {
        let mut seen = Self::new();
        for value in values {
            seen.insert(value);
        }
        seen
    }

    /// Whether it was seen.
    pub(crate) fn contains(&self, value: &T) -> bool {
        self.few.contains(value) || self.many.contains(value)
    }

    /// Notes it, and says whether it is new.
    pub(crate) fn insert(&mut self, value: T) -> bool {
        if self.few.contains(&value) {
            false
        } else if self.few.len() < FEW {
            self.few.push(value);
            true
        } else {
            self.many.insert(value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_remembers_few_and_many() {
        let mut seen = Seen::new();
        assert!((0..100).all(|n| seen.insert(n)));
        assert!((0..100).all(|n| seen.contains(&n) && !seen.insert(n)));
        assert!(!seen.contains(&100));
    }
}
