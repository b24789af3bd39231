//! The backend in memory: as fast as a store can be, gone with its process.
//!
//! All state lies behind one lock that is held for a few hundred nanoseconds a commit. What takes long
//! happens outside of it: values are encoded and decoded, watchers woken, old versions dropped; long lists
//! are read in pieces, at one revision. The store needs no task of its own. Only the end of leases does,
//! where nobody calls the store: whoever sets it up spawns [`Memory::run_expiry`]; without it leases end at
//! the next call of any kind.
//!
//! ```
//! use std::time::Duration;
//! use rkube_store::backend::memory::Memory;
//! # use bytes::Bytes;
//! # use rkube_store::{CodecError, Revision, Value};
//! # #[derive(Clone)]
//! # struct Text(std::sync::Arc<str>);
//! # impl Value for Text {
//! #     fn encode(&self) -> Result<Bytes, CodecError> { Ok(Bytes::copy_from_slice(self.0.as_bytes())) }
//! #     fn decode(_: &Bytes) -> Result<Self, CodecError> { Ok(Text("".into())) }
//! #     fn stamp(&mut self, _: Revision) {}
//! #     fn weight(&self) -> usize { self.0.len() }
//! # }
//! let store: Memory<Text> = Memory::builder()
//!     .history(10_000)
//!     .history_age(Duration::from_secs(300))
//!     .hot_bytes(64 << 20)
//!     .build();
//! let expiry = store.run_expiry(); // to be spawned by the host
//! # drop(expiry);
//! ```

mod commit;
mod options;
mod read;
mod watcher;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::mvcc::{Codec, Dropped, Marks, State};
use crate::watch::Hub;
use crate::{
    CommitError, Committed, Key, Lease, LeaseId, ListOptions, Page, Prefix, Read, Revision, Store,
    StoreError, Txn, Value, Watch, WatchOptions,
};
pub use options::Builder;

/// A store in memory; see [`backend::memory`](self). Clones share one store.
pub struct Memory<V> {
    shared: Arc<Shared<V>>,
}

impl<V> Clone for Memory<V> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

struct Shared<V> {
    state: RwLock<State<V>>,
    hub: Arc<Hub<V>>,
    codec: Codec,
    /// The revisions that long reads look at; what they may still need is not trimmed.
    pins: Mutex<BTreeMap<Revision, usize>>,
    marks: Mutex<Marks>,
    /// Times within count from here.
    origin: Instant,
    /// When the next lease ends, in nanoseconds from the origin; `u64::MAX` for never.
    next_end: AtomicU64,
    /// Rung when `next_end` moved.
    ends_moved: Arc<Notify>,
}

impl<V> Drop for Shared<V> {
    fn drop(&mut self) {
        self.ends_moved.notify_waiters();
    }
}

impl<V: Value> Memory<V> {
    /// A store with bounds of its own.
    pub fn builder() -> Builder<V> {
        Builder::default()
    }

    /// Ends leases in time for as long as it is polled. It returns when the store is gone.
    pub fn run_expiry(&self) -> impl Future<Output = ()> + Send + use<V> {
        let (store, ends_moved) = (Arc::downgrade(&self.shared), self.shared.ends_moved.clone());
        async move {
            loop {
                let moved = ends_moved.notified();
                let Some(shared) = store.upgrade() else { return };
                shared.expire();
                let end = shared.next_end.load(Ordering::Acquire);
                let until = shared.origin + Duration::from_nanos(end);
                drop(shared);
                match end {
                    u64::MAX => moved.await,
                    _ => {
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

    /// How much is in memory.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        self.shared.state.read().sizes()
    }
}

/// How much a store holds in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Keys, with deleted ones that history still knows.
    pub keys: usize,
    /// Retained revisions.
    pub revisions: usize,
    /// Values that are objects, where a budget is set.
    pub hot_values: usize,
    /// What these weigh together.
    pub hot_bytes: usize,
}

impl<V: Value> Shared<V> {
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
        loop {
            let due = self.state.read().next_end().filter(|(end, _)| *end <= now);
            let Some((_, id)) = due else { break };
            if let Err(error) = self.end_lease(id, Some(now)) {
                // A value that cannot be decoded must not hold up all other leases for ever.
                tracing::error!(lease = %id, %error, "the keys of an ended lease could not be deleted");
                self.state.write().end_lease(id);
            }
        }
        self.note_next_end(&self.state.read());
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

    /// Bounds history after a commit.
    fn bound_history(&self, state: &mut State<V>, dropped: &mut Dropped<V>) {
        // More than a commit adds, so that what a long read or a compaction left behind goes away soon.
        const REVISIONS: usize = 8;
        let now = if state.has_age() { self.now() } else { Duration::ZERO };
        state.retain(&mut self.marks.lock(), now);
        state.trim(REVISIONS, self.pinned(), dropped);
    }
}

#[async_trait]
impl<V: Value> Store<V> for Memory<V> {
    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Read<V>, StoreError> {
        self.shared.get(key, at)
    }

    async fn list(&self, prefix: &Prefix, options: ListOptions) -> Result<Page<V>, StoreError> {
        self.shared.list(prefix, options).await
    }

    async fn commit(&self, txn: Txn<V>) -> Result<Committed<V>, CommitError<V>> {
        self.shared.commit(txn)
    }

    async fn watch(&self, prefix: &Prefix, options: WatchOptions) -> Result<Watch<V>, StoreError> {
        watcher::watch(&self.shared, prefix, options)
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.shared.expire();
        Ok(self.shared.state.read().head())
    }

    async fn request_progress(&self) -> Result<(), StoreError> {
        self.shared.expire();
        let state = self.shared.state.read();
        let wake = self.shared.hub.request_progress(state.head());
        drop(state);
        wake.wake();
        Ok(())
    }

    async fn compact(&self, at: Revision) -> Result<(), StoreError> {
        const REVISIONS: usize = 1024;
        self.shared.state.write().compact(at)?;
        loop {
            let mut dropped = Dropped::none();
            let more = {
                let mut state = self.shared.state.write();
                state.trim(REVISIONS, self.shared.pinned(), &mut dropped)
            };
            drop(dropped);
            if !more || self.shared.pinned().is_some_and(|pinned| pinned < at) {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    async fn grant(&self, time_to_live: Duration) -> Result<Lease, StoreError> {
        self.shared.expire();
        let mut state = self.shared.state.write();
        let lease = state.grant(time_to_live, self.shared.now());
        self.shared.note_next_end(&state);
        Ok(lease)
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Lease, StoreError> {
        self.shared.expire();
        let mut state = self.shared.state.write();
        let lease = state.keep_alive(lease, self.shared.now())?;
        self.shared.note_next_end(&state);
        Ok(lease)
    }

    async fn time_to_live(&self, lease: LeaseId) -> Result<Lease, StoreError> {
        self.shared.expire();
        self.shared.state.read().lease(lease, self.shared.now())
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), CommitError<V>> {
        self.shared.expire();
        self.shared.state.read().lease(lease, self.shared.now())?;
        self.shared.end_lease(lease, None)
    }
}
