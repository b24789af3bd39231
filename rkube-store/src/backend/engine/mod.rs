//! What all backends of this process share: the state behind its lock, the hub, reads, watches, leases and
//! commits; and the seam at which a durable backend comes in, the journal.
//!
//! All state lies behind one lock that is held for a few hundred nanoseconds a commit. What takes long
//! happens outside of it: values are encoded and decoded, watchers woken, old versions dropped; long lists
//! are read in pieces, at one revision.

mod commit;
mod copy;
#[cfg_attr(not(feature = "durable"), allow(dead_code, reason = "the seam for a backend on disk"))]
mod journal;
mod options;
mod read;
#[cfg(feature = "etcd")]
mod replica;
mod watcher;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::mvcc::{Codec, Dropped, Marks, State};
use crate::watch::Hub;
use crate::{
    CommitError, Latency, Lease, LeaseId, Prefix, Revision, Sizes, Stats, StoreError, Value, Watch,
    WatchOptions,
};
#[cfg(feature = "durable")]
pub(super) use copy::Copying;
use journal::Receiver;
#[cfg_attr(not(feature = "durable"), allow(unused_imports, reason = "the seam for a backend on disk"))]
pub(super) use journal::{Entry, Journal, Lost, Record, Sealed, Writes};
pub(super) use options::{Options, common_options};
#[cfg(feature = "durable")]
pub(super) use read::Pin;
use read::Pins;

/// A store's heart. Watches and a journal hold it, too.
pub(super) struct Engine<V> {
    pub(super) state: RwLock<State<V>>,
    pub(super) hub: Arc<Hub<V>>,
    pub(super) codec: Codec,
    journal: Option<Arc<dyn Journal<V>>>,
    options: Options,
    /// The revisions that long reads look at; what they may still need is not trimmed.
    pins: Pins,
    marks: Mutex<Marks>,
    commits: Mutex<Latency>,
    /// Times within count from here.
    origin: Instant,
    /// When the next lease ends, in nanoseconds from the origin; `u64::MAX` for never.
    next_end: AtomicU64,
    /// Whether history is being aged although nothing is written. A commit rings where it is not.
    aging: AtomicBool,
    /// Rung when `next_end` moved, or there is history to age.
    ends_moved: Arc<Notify>,
}

impl<V> Drop for Engine<V> {
    fn drop(&mut self) {
        self.ends_moved.notify_waiters();
    }
}

impl<V: Value> Engine<V> {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Ends the leases whose time is over. Costs next to nothing where there are none.
    fn expire(&self) {
        let end = self.next_end.load(Ordering::Acquire);
        if end == u64::MAX {
            return;
        }
        let now = self.now();
        if now < Duration::from_nanos(end) {
            return;
        }
        // Where nothing can be written any more, leases stay as they are, and need not be looked at again.
        if self.journal.as_ref().is_some_and(|journal| journal.admit(Writes::Less).is_err()) {
            self.next_end.store(u64::MAX, Ordering::Release);
            return;
        }
        loop {
            let due = self.state.read().next_end().filter(|(end, _)| *end <= now);
            let Some((_, id)) = due else { break };
            match self.end_lease(id, Some(now)) {
                Ok(_) | Err(CommitError::Store(StoreError::LeaseNotFound(_))) => {}
                Err(error) => {
                    // It must not hold up all other leases, and does not end in memory alone.
                    tracing::error!(lease = %id, %error, "a lease cannot end now; it gets its time once more");
                    let _ = self.state.write().keep_alive(id, now);
                }
            }
        }
        self.note_next_end(&self.state.read());
    }

    /// Whether something may be written now.
    fn admit(&self, state: &State<V>, writes: Writes) -> Result<(), StoreError> {
        let quota = self.options.quota_bytes.filter(|_| writes == Writes::More);
        if quota.is_some_and(|quota| state.entry_bytes() >= quota) {
            return Err(StoreError::NoSpace);
        }
        self.journal.as_ref().map_or(Ok(()), |journal| journal.admit(writes))
    }

    /// Called with the state's lock held, so that the note is never older than the state.
    fn note_next_end(&self, state: &State<V>) {
        let end = state.next_end().map_or(u64::MAX, |(end, _)| {
            u64::try_from(end.as_nanos()).unwrap_or(u64::MAX - 1).min(u64::MAX - 1)
        });
        if self.next_end.swap(end, Ordering::AcqRel) != end {
            self.ends_moved.notify_waiters();
        }
    }

    fn pinned(&self) -> Option<Revision> {
        self.pins.lock().first_key_value().map(|(revision, _)| *revision)
    }

    /// Bounds history after commits.
    fn bound_history(&self, state: &mut State<V>, commits: usize, dropped: &mut Dropped<V>) {
        // More than commits add, so that what a long read or a compaction left behind goes away soon.
        const REVISIONS: usize = 7;
        let now = if state.has_age() { self.now() } else { Duration::ZERO };
        state.retain(&mut self.marks.lock(), now);
        state.trim(commits + REVISIONS, self.pinned(), dropped);
        if state.has_age() && !self.aging.swap(true, Ordering::AcqRel) {
            self.ends_moved.notify_waiters();
        }
    }

    /// Ages history by the time alone. Gives when to look again, unless there is no more to age.
    fn age_history(&self) -> Option<Duration> {
        const REVISIONS: usize = 1024;
        let pause = Marks::pause(self.options.history.age?);
        loop {
            let (now, mut dropped) = (self.now(), Dropped::none());
            let mut state = self.state.write();
            state.retain(&mut self.marks.lock(), now);
            let more = state.trim(REVISIONS, self.pinned(), &mut dropped);
            let young = state.floor() < state.visible();
            if !more {
                // With the lock held: a commit that comes next finds it as it is.
                self.aging.store(young, Ordering::Release);
                return young.then(|| now + pause);
            }
        }
    }
}

/// The operations of [`Store`](crate::Store) that need no file of their own.
impl<V: Value> Engine<V> {
    /// Around a state, which is shown whole. Without a journal commits are shown at once.
    pub(super) fn new(
        mut state: State<V>,
        options: &Options,
        origin: Instant,
        journal: Option<Arc<dyn Journal<V>>>,
    ) -> Arc<Self> {
        state.show(state.head());
        let engine = Self {
            hub: Arc::new(Hub::new(options.watch_queue, state.head())),
            state: RwLock::new(state),
            codec: Codec::new(options.transform.clone()),
            journal,
            options: options.clone(),
            pins: Pins::default(),
            marks: Mutex::new(Marks::default()),
            commits: Mutex::default(),
            origin,
            next_end: AtomicU64::new(u64::MAX),
            aging: AtomicBool::new(false),
            ends_moved: Arc::new(Notify::new()),
        };
        engine.note_next_end(&engine.state.read());
        Arc::new(engine)
    }

    /// Ends leases in time, and ages history, for as long as it is polled. It returns when the store is gone.
    pub(super) fn run_expiry(self: &Arc<Self>) -> impl Future<Output = ()> + Send + use<V> {
        let (engine, ends_moved) = (Arc::downgrade(self), self.ends_moved.clone());
        async move {
            loop {
                let moved = ends_moved.notified();
                let Some(engine) = engine.upgrade() else { return };
                engine.expire();
                let end = Some(engine.next_end.load(Ordering::Acquire)).filter(|end| *end != u64::MAX);
                let due = end.map(Duration::from_nanos).into_iter().chain(engine.age_history()).min();
                let until = due.map(|due| engine.origin + due);
                drop(engine);
                match until {
                    None => moved.await,
                    Some(until) => {
                        tokio::select! {
                            biased;
                            () = moved => {}
                            () = tokio::time::sleep_until(until) => {}
                        }
                    }
                }
            }
        }
    }

    pub(super) fn sizes(&self) -> Sizes {
        self.state.read().sizes()
    }

    /// A commit that began then is done.
    pub(super) fn note_commit(&self, since: Instant) {
        self.commits.lock().note(since.elapsed());
    }

    pub(super) fn stats(&self) -> Stats {
        let state = self.state.read();
        let (revision, compacted, sizes) = (state.visible(), state.floor(), state.sizes());
        drop(state);
        let commits = *self.commits.lock();
        Stats { revision, compacted, sizes, watches: self.hub.stats(), commits, disk: None }
    }

    /// The oldest revision that can be read.
    #[cfg(feature = "etcd")]
    pub(super) fn floor(&self) -> Revision {
        self.state.read().floor()
    }

    pub(super) fn watch(
        self: &Arc<Self>,
        prefix: &Prefix,
        options: WatchOptions,
    ) -> Result<Watch<V>, StoreError> {
        watcher::watch(self, prefix, options)
    }

    pub(super) fn revision(&self) -> Revision {
        self.expire();
        self.state.read().visible()
    }

    pub(super) fn request_progress(&self) {
        self.expire();
        let state = self.state.read();
        let wake = self.hub.request_progress(state.visible());
        drop(state);
        wake.wake();
    }

    /// Compacts all that was before now, because space is short.
    #[cfg(feature = "durable")]
    pub(super) fn forget_history(&self) {
        let mut state = self.state.write();
        let now = state.visible();
        // It is readable, so nothing can be wrong with it.
        let _ = state.compact(now);
    }

    pub(super) async fn compact(&self, at: Revision) -> Result<(), StoreError> {
        const REVISIONS: usize = 1024;
        let noted = {
            let mut state = self.state.write();
            state.compact(at)?;
            self.note(&state, Record::Compact(at))
        };
        noted.end().await.map_err(read_only)?;
        loop {
            let mut dropped = Dropped::none();
            let more = {
                let mut state = self.state.write();
                state.trim(REVISIONS, self.pinned(), &mut dropped)
            };
            drop(dropped);
            if !more || self.pinned().is_some_and(|pinned| pinned < at) {
                break;
            }
            tokio::task::yield_now().await;
        }
        if let Some(journal) = &self.journal {
            journal.compacted();
        }
        Ok(())
    }

    pub(super) async fn grant(&self, time_to_live: Duration) -> Result<Lease, StoreError> {
        self.expire();
        let (lease, noted) = {
            let mut state = self.state.write();
            self.admit(&state, Writes::More)?;
            let lease = state.grant(time_to_live, self.now());
            self.note_next_end(&state);
            (lease, self.note(&state, Record::Grant { lease: lease.id, time_to_live }))
        };
        noted.end().await.map_err(read_only)?;
        Ok(lease)
    }

    pub(super) async fn keep_alive(&self, lease: LeaseId) -> Result<Lease, StoreError> {
        self.expire();
        let kept = {
            let mut state = self.state.write();
            let kept = state.keep_alive(lease, self.now());
            self.note_next_end(&state);
            kept
        };
        self.told(kept).await
    }

    pub(super) async fn time_to_live(&self, lease: LeaseId) -> Result<Lease, StoreError> {
        self.expire();
        let found = self.state.read().lease(lease, self.now());
        self.told(found).await
    }

    /// That a lease is over is told when it is durable.
    async fn told(&self, lease: Result<Lease, StoreError>) -> Result<Lease, StoreError> {
        if lease.is_err() {
            self.settled().await?;
        }
        lease
    }

    pub(super) async fn revoke(&self, lease: LeaseId) -> Result<(), CommitError<V>> {
        self.expire();
        let found = self.state.read().lease(lease, self.now());
        self.told(found).await?;
        self.end_lease(lease, None)?.end().await.map(|_| ())
    }
}

/// What is no commit and may not have become durable.
fn read_only<V>(error: CommitError<V>) -> StoreError {
    match error {
        CommitError::Store(error) => error,
        error => StoreError::ReadOnly(error.to_string()),
    }
}

/// Makes a backend with a field `engine` a [`Store`](crate::Store).
macro_rules! store_by_engine {
    ($backend:ident) => {
        #[async_trait::async_trait]
        impl<V: $crate::Value> $crate::Store<V> for $backend<V> {
            async fn get(
                &self,
                key: &$crate::Key,
                at: Option<$crate::Revision>,
            ) -> Result<$crate::Read<V>, $crate::StoreError> {
                self.engine.get(key, at)
            }

            async fn list(
                &self,
                prefix: &$crate::Prefix,
                options: $crate::ListOptions,
            ) -> Result<$crate::Page<V>, $crate::StoreError> {
                self.engine.list(prefix, options).await
            }

            async fn commit(
                &self,
                txn: $crate::Txn<V>,
            ) -> Result<$crate::Committed<V>, $crate::CommitError<V>> {
                self.engine.commit(txn).await
            }

            async fn watch(
                &self,
                prefix: &$crate::Prefix,
                options: $crate::WatchOptions,
            ) -> Result<$crate::Watch<V>, $crate::StoreError> {
                self.engine.watch(prefix, options)
            }

            async fn revision(&self) -> Result<$crate::Revision, $crate::StoreError> {
                Ok(self.engine.revision())
            }

            async fn request_progress(&self) -> Result<(), $crate::StoreError> {
                self.engine.request_progress();
                Ok(())
            }

            async fn compact(&self, at: $crate::Revision) -> Result<(), $crate::StoreError> {
                self.engine.compact(at).await
            }

            async fn grant(
                &self,
                time_to_live: std::time::Duration,
            ) -> Result<$crate::Lease, $crate::StoreError> {
                self.engine.grant(time_to_live).await
            }

            async fn keep_alive(&self, lease: $crate::LeaseId) -> Result<$crate::Lease, $crate::StoreError> {
                self.engine.keep_alive(lease).await
            }

            async fn time_to_live(
                &self,
                lease: $crate::LeaseId,
            ) -> Result<$crate::Lease, $crate::StoreError> {
                self.engine.time_to_live(lease).await
            }

            async fn revoke(&self, lease: $crate::LeaseId) -> Result<(), $crate::CommitError<V>> {
                self.engine.revoke(lease).await
            }

            fn stats(&self) -> $crate::Stats {
                self.figures()
            }

            async fn fork(&self) -> Result<$crate::Memory<V>, $crate::StoreError> {
                Ok($crate::Memory::of(self.engine.fork().await?))
            }
        }
    };
}
pub(super) use store_by_engine;
