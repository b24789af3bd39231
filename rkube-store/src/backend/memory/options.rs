use std::collections::BTreeSet;
use std::marker::PhantomData;

use tokio::time::Instant;

use super::Memory;
#[cfg(feature = "durable")]
use crate::backend::durable::OpenError;
use crate::backend::engine::{Engine, Options, common_options};
use crate::mvcc::{Granted, Kept, State};
use crate::{ListOptions, Prefix, Store, StoreError, Value};

/// The bounds of a store in memory.
///
/// ```
/// # use rkube_store::{Memory, Value};
/// fn small<V: Value>() -> Memory<V> {
///     Memory::builder().history(100).hot_bytes(1 << 20).watch_queue(16).build()
/// }
/// ```
#[must_use]
pub struct Builder<V> {
    options: Options,
    of: PhantomData<fn() -> V>,
}

impl<V> Default for Builder<V> {
    fn default() -> Self {
        Self { options: Options::default(), of: PhantomData }
    }
}

impl<V: Value> Builder<V> {
    common_options!();

    /// Keeps all values as objects; no value is ever encoded.
    pub fn all_hot(mut self) -> Self {
        self.options.hot_bytes = None;
        self
    }

    /// How much the present entries may take, as [`Sizes::entry_bytes`](crate::Sizes::entry_bytes) counts
    /// them; without bound by default. When they do, commits that put something are refused with
    /// [`StoreError::NoSpace`], whatever its size; those that only delete are done.
    pub fn quota_bytes(mut self, bytes: u64) -> Self {
        self.options.quota_bytes = Some(bytes);
        self
    }

    /// The empty store, at revision 1.
    #[must_use]
    pub fn build(self) -> Memory<V> {
        let state = State::new(self.options.history.clone(), self.options.hot_bytes);
        Memory::of(Engine::new(state, &self.options, Instant::now(), None))
    }

    /// A store with the state that was [saved](crate::backend::durable::save) to a file: the same revision,
    /// the same entries with theirs, all leases with their full time to live. History begins anew. Values
    /// are opened with this builder's transformer. This reads the whole file and waits for the disk.
    ///
    /// # Errors
    /// What is wrong with the file. Feature `durable`.
    #[cfg(feature = "durable")]
    pub fn restore(self, path: impl AsRef<std::path::Path>) -> Result<Memory<V>, OpenError> {
        let origin = Instant::now();
        let state = crate::backend::durable::save::read(path.as_ref(), &self.options)?;
        Ok(Memory::of(Engine::new(state, &self.options, origin, None)))
    }

    /// A store with the present state of any other one; see [`Store::fork`], which knows cheaper ways.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn copy_of<S: Store<V> + ?Sized>(self, store: &S) -> Result<Memory<V>, StoreError> {
        let page = store.list(&Prefix::all(), ListOptions::default()).await?;
        let origin = Instant::now();
        let mut state =
            State::starting_at(page.revision, self.options.history.clone(), self.options.hot_bytes);
        let bound: BTreeSet<_> = page.entries.iter().filter_map(|entry| entry.lease).collect();
        let mut over = BTreeSet::new();
        for id in bound {
            match store.time_to_live(id).await {
                Ok(lease) => state.regrant(Granted::until(lease, origin.elapsed() + lease.remaining)),
                Err(StoreError::LeaseNotFound(_)) => {
                    over.insert(id);
                }
                Err(error) => return Err(error),
            }
        }
        for entry in page.entries {
            match entry.lease.filter(|lease| over.contains(lease)) {
                None => state.place(Kept::hot(entry)),
                // What ended with its lease since it was listed must not live on without one, unless it was
                // freed from it before.
                Some(lease) => {
                    let now = store.get(&entry.key, None).await?.entry;
                    if now.is_some_and(|now| now.lease != Some(lease)) {
                        state.place(Kept::hot(entry).unbound());
                    }
                }
            }
        }
        Ok(Memory::of(Engine::new(state, &self.options, origin, None)))
    }
}
