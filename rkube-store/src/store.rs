use std::time::Duration;

use async_trait::async_trait;

use crate::{
    CommitError, Committed, Entry, Key, Lease, LeaseId, Limits, Memory, Prefix, Revision, Stats, StoreError,
    Txn, Value, Watch, WatchOptions,
};

/// A revisioned key-value store. Used as `Arc<dyn Store<V>>`.
///
/// # What every store promises
///
/// The suite in `rkube_store::testing` checks these for any backend.
///
/// 1. There is one revision, and it strictly increases; a write's revision exceeds every revision that was
///    returned before the write began.
/// 2. Of any number of racing compare-and-swaps on one revision of a key, exactly one wins; a loser is told
///    the current value.
/// 3. [`get`](Store::get) and [`list`](Store::list) are linearizable unless a revision is given: they see
///    every write that was acknowledged before they began.
/// 4. A list at a revision is exactly the state at that revision, or [`StoreError::Compacted`]. Pages
///    taken at one revision join to exactly that state, whatever is written meanwhile.
/// 5. A watch yields events in the order of revisions.
/// 6. It yields no event twice.
/// 7. It is atomic: all events of one revision that match come in one batch.
/// 8. It has no gaps.
/// 9. It resumes: a watch after revision R yields exactly the events with revisions above R; if those are
///    no longer all there, [`watch`](Store::watch) fails with [`StoreError::Compacted`] before any event.
/// 10. [`WatchItem::Progress`](crate::WatchItem::Progress) with R means that all events up to R were yielded.
/// 11. The previous state and [`Change::is_create`](crate::Change::is_create) of an event are right.
/// 12. A watch that starts after a revision in the future yields nothing before that revision has passed.
/// 13. Progress never goes back, neither behind earlier progress nor behind an event yielded before it.
/// 14. A watcher that is not polled is complete when it is polled again, or ends with an error; it never
///     silently misses anything, and it never blocks a writer.
/// 15. After a kill and the loss of all that was not yet on disk, every acknowledged write exists and the
///     revision never falls. (A store in memory ends with its process; its promise is void, not broken.)
/// 16. A write whose outcome is not known is [`CommitError::Unknown`], never reported as failed. All
///     other errors mean that nothing was written.
/// 17. The prefix `a/foo/` never yields `a/foobar/`.
///
/// Dropping the future of a commit does not take the commit back: it may happen or not, but all or nothing.
///
/// # Values that cannot be read
///
/// A value at rest that does not decode, or whose encryption key is missing, is
/// [`StoreError::Codec`] or [`StoreError::Transform`] wherever it would have to be shown: to readers, to the
/// losers of a compare-and-swap, and to watches, which end at that event and can begin anew behind it. It
/// stands in nobody's way: it is deleted and overwritten like any other, and goes with its lease. As nobody
/// can tell what was there, such a commit ends as [`CommitError::Unknown`], which says that it is done. (A
/// store that still holds the value as an object can tell, and does.)
///
/// # Limits
///
/// [`Limits`] are the same on every backend, so that no caller sees which one it has.
///
/// ```
/// use std::sync::Arc;
/// use rkube_store::{CommitError, Key, Store, StoreError, Txn, Value};
///
/// /// Changes a value until no other writer comes in between: a loser goes on from the current value.
/// async fn edit<V: Value>(
///     store: &Arc<dyn Store<V>>, key: &Key, change: impl Fn(&mut V),
/// ) -> Result<(), StoreError> {
///     let mut current = store.get(key, None).await?.entry;
///     while let Some(entry) = current {
///         let mut value = entry.value;
///         change(&mut value);
///         match store.commit(Txn::update(key, value, entry.mod_revision)).await {
///             Ok(_) => return Ok(()),
///             Err(CommitError::Conflict(conflict)) => current = conflict.current,
///             Err(CommitError::Store(error)) => return Err(error),
///             Err(CommitError::Unknown(reason)) => return Err(StoreError::Unavailable(reason)),
///         }
///     }
///     Ok(())
/// }
/// ```
#[async_trait]
pub trait Store<V: Value>: Send + Sync + 'static {
    /// The entry of a key, now or at a revision.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] or [`StoreError::Future`] for a revision that cannot be read.
    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Read<V>, StoreError>;

    /// The entries of a folder, by key, now or at a revision, all or a page.
    ///
    /// # Errors
    /// As [`Store::get`].
    async fn list(&self, prefix: &Prefix, options: ListOptions) -> Result<Page<V>, StoreError>;

    /// Does all operations of a transaction at one revision, if all its checks hold.
    ///
    /// # Errors
    /// [`CommitError::Conflict`] with the first check that does not hold, [`CommitError::Unknown`], or the
    /// reason why nothing was done.
    async fn commit(&self, txn: Txn<V>) -> Result<Committed<V>, CommitError<V>>;

    /// All events of a folder after a revision: those that happened already, then each as it happens.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] if some of them are gone.
    async fn watch(&self, prefix: &Prefix, options: WatchOptions) -> Result<Watch<V>, StoreError>;

    /// The store's revision: not under that of any write that was acknowledged before the call.
    ///
    /// # Errors
    /// When the backend cannot tell.
    async fn revision(&self) -> Result<Revision, StoreError>;

    /// Has every watch that asked for progress yield a [`WatchItem::Progress`](crate::WatchItem::Progress),
    /// once it has yielded all events up to the store's present revision.
    ///
    /// # Errors
    /// When the backend cannot be reached.
    async fn request_progress(&self) -> Result<(), StoreError>;

    /// Forgets history: afterwards nothing below this revision can be read, and no watch can start below it.
    /// The current state, and the state at the revision, stay. It is no error to compact again. Space comes
    /// back by it, but maybe only behind the answer: a store that was full may refuse writes for a while yet.
    ///
    /// # Errors
    /// [`StoreError::Future`] for a revision that has not happened.
    async fn compact(&self, at: Revision) -> Result<(), StoreError>;

    /// Begins a lease. Time runs by `tokio::time`, or in another process.
    ///
    /// # Errors
    /// When the backend cannot grant it.
    async fn grant(&self, time_to_live: Duration) -> Result<Lease, StoreError>;

    /// Starts the lease's time to live again.
    ///
    /// # Errors
    /// [`StoreError::LeaseNotFound`] if it is over.
    async fn keep_alive(&self, lease: LeaseId) -> Result<Lease, StoreError>;

    /// The lease as it is.
    ///
    /// # Errors
    /// [`StoreError::LeaseNotFound`] if it is over.
    async fn time_to_live(&self, lease: LeaseId) -> Result<Lease, StoreError>;

    /// Ends a lease now and deletes its keys, in one commit.
    ///
    /// # Errors
    /// [`StoreError::LeaseNotFound`] if it is over already, or as [`Store::commit`].
    async fn revoke(&self, lease: LeaseId) -> Result<(), CommitError<V>>;

    /// A store in memory with this one's present state, for what may be tried: what happens to one does not
    /// happen to the other. Values that are objects are shared, not copied. Entries keep their revisions, and
    /// leases that hold keys go on in both; history begins anew, with the bounds of this store where it has
    /// such. The host drives the copy's leases by [`Memory::run_expiry`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use rkube_store::testing::Text;
    /// use rkube_store::{Key, Memory, Store, Txn};
    /// let store = Memory::builder().build();
    /// store.commit(Txn::create("a/1", Text::new("real"))).await?;
    /// let fork = store.fork().await?;
    /// fork.commit(Txn::new().put("a/1", Text::new("what if"))).await?;
    /// let read = store.get(&Key::new("a/1"), None).await?;
    /// assert_eq!(read.entry.map(|entry| entry.value.as_str().to_owned()).as_deref(), Some("real"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Store::list`].
    async fn fork(&self) -> Result<Memory<V>, StoreError> {
        Memory::builder().copy_of(self).await
    }

    /// How it is doing, as far as this process can see without asking another one.
    fn stats(&self) -> Stats;

    /// What a caller must stay within.
    fn limits(&self) -> Limits {
        Limits::DEFAULT
    }
}

/// The answer to a get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<V> {
    /// The entry, if the key exists.
    pub entry: Option<Entry<V>>,
    /// The store's revision when it was read, or the one that was asked for.
    pub revision: Revision,
}

/// What to list.
///
/// ```
/// use rkube_store::{Key, ListOptions, Revision};
/// let next_page = ListOptions::page(500).after(Key::new("pods/default/web-499")).at(Revision(7));
/// assert_eq!((next_page.limit, next_page.at), (Some(500), Some(Revision(7))));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// The revision to read at; `None` is now.
    pub at: Option<Revision>,
    /// How many entries at most; `None` is all, zero only counts.
    pub limit: Option<usize>,
    /// Begin behind this key.
    pub after: Option<Key>,
    /// Nobody wants to know how many there are behind the page, only whether: to count them takes time in
    /// proportion to their number. A backend to which counting comes for free may count.
    pub uncounted: bool,
}

impl ListOptions {
    /// At most this many entries.
    #[must_use]
    pub fn page(limit: usize) -> Self {
        Self { limit: Some(limit), ..Self::default() }
    }

    /// The state at a revision.
    #[must_use]
    pub fn at(mut self, revision: Revision) -> Self {
        self.at = Some(revision);
        self
    }

    /// Only keys behind this one.
    #[must_use]
    pub fn after(mut self, key: Key) -> Self {
        self.after = Some(key);
        self
    }

    /// Without [`Page::remaining`].
    #[must_use]
    pub fn uncounted(mut self) -> Self {
        self.uncounted = true;
        self
    }
}

/// The answer to a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<V> {
    /// The entries, by key.
    pub entries: Vec<Entry<V>>,
    /// The revision whose state this is. Further pages are taken at it.
    pub revision: Revision,
    /// Whether there are more behind the last one.
    pub more: bool,
    /// How many more; where the options leave that out, any number that is zero only if `more` is not set.
    pub remaining: u64,
}
