//! Small numbers for values that many nodes share.

use std::{borrow::Borrow, collections::HashMap, hash::Hash, sync::Arc};

use foldhash::fast::FixedState;

/// Gives equal values one number, counts its users, and gives the number to another value when the last
/// user has gone: memory follows what is in use, not what ever was.
#[derive(Debug)]
pub struct Interner<T: ?Sized> {
    ids: HashMap<Arc<T>, u32, FixedState>,
    entries: Vec<Option<(Arc<T>, u32)>>,
    free: Vec<u32>,
}

impl<T: ?Sized + Hash + Eq> Default for Interner<T> {
    fn default() -> Self {
        Self { ids: HashMap::default(), entries: Vec::new(), free: Vec::new() }
    }
}

impl<T: ?Sized> Clone for Interner<T> {
    fn clone(&self) -> Self {
        Self { ids: self.ids.clone(), entries: self.entries.clone(), free: self.free.clone() }
    }
}

impl<T: ?Sized + Hash + Eq> Interner<T>
where
    Arc<T>: Borrow<T>,
{
    /// The number of a value, one user more.
    pub fn acquire(&mut self, value: &T) -> u32
    where
        for<'a> Arc<T>: From<&'a T>,
    {
        if let Some(&id) = self.ids.get(value) {
            if let Some((_, users)) = &mut self.entries[id as usize] {
                *users += 1;
            }
            return id;
        }
        let value: Arc<T> = value.into();
        let entry = Some((value.clone(), 1));
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = entry;
                id
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        self.ids.insert(value, id);
        id
    }

    /// One user less.
    pub fn release(&mut self, id: u32) {
        let Some(entry) = self.entries.get_mut(id as usize) else { return };
        let Some((value, users)) = entry else { return };
        *users -= 1;
        if *users == 0 {
            self.ids.remove(&**value);
            *entry = None;
            self.free.push(id);
        }
    }

    /// The number of a value that is in use.
    pub fn find(&self, value: &T) -> Option<u32> {
        self.ids.get(value).copied()
    }

    /// The value of a number in use.
    pub fn get(&self, id: u32) -> Option<&T> {
        self.entries.get(id as usize)?.as_ref().map(|(value, _)| &**value)
    }

    /// Numbers are below this.
    pub fn bound(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shared_and_given_back() {
        let mut names = Interner::<str>::default();
        let (a, b) = (names.acquire("a"), names.acquire("b"));
        assert_eq!(names.acquire("a"), a);
        names.release(a);
        assert_eq!(names.find("a"), Some(a));
        names.release(a);
        assert_eq!((names.find("a"), names.get(a)), (None, None));
        assert_eq!(names.acquire("c"), a);
        assert_eq!((names.get(a), names.get(b), names.bound()), (Some("c"), Some("b"), 2));
    }
}
