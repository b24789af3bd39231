//! Faults around a real store: what clients must live with when the store is far away.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use std::sync::Arc;
//! use rkube_store::testing::{Text, faults::{Fault, Faulty}};
//! use rkube_store::{CommitError, Key, Memory, Store, Txn};
//!
//! let store = Faulty::new(Arc::new(Memory::<Text>::builder().build()));
//! store.plan([Fault::LoseAnswer]);
//! let outcome = store.commit(Txn::create("a/1", Text::new("1"))).await;
//! assert!(matches!(outcome, Err(CommitError::Unknown(_))));
//! assert!(store.get(&Key::new("a/1"), None).await.unwrap().entry.is_some(), "but it was written");
//! # }
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    CommitError, Committed, Key, Lease, LeaseId, Limits, ListOptions, Page, Prefix, Read, Revision, Stats,
    Store, StoreError, Txn, Value, Watch, WatchError, WatchOptions,
};

/// What happens to a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// None: it goes through.
    Pass,
    /// It does not reach the store, and the client is not told: the outcome is unknown.
    LoseRequest,
    /// It is done, but the client is not told: the outcome is unknown.
    LoseAnswer,
    /// The store is unavailable; it is not done, and the client is told so.
    Refuse,
}

/// A store around another one, with faults.
pub struct Faulty<V> {
    store: Arc<dyn Store<V>>,
    plan: Mutex<VecDeque<Fault>>,
    /// Whether reads are refused.
    unreadable: AtomicBool,
    /// Counts how often watches were cut.
    cuts: watch::Sender<u64>,
}

impl<V: Value> Faulty<V> {
    /// Around a store; without a plan there are no faults.
    pub fn new(store: Arc<dyn Store<V>>) -> Self {
        Self {
            store,
            plan: Mutex::default(),
            unreadable: AtomicBool::new(false),
            cuts: watch::Sender::new(0),
        }
    }

    /// What happens to the next commits, one each.
    pub fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan.lock().extend(faults);
    }

    /// From now on refuses to be read, or can be read again.
    pub fn refuse_reads(&self, refuse: bool) {
        self.unreadable.store(refuse, Ordering::Release);
    }

    fn check_readable(&self) -> Result<(), StoreError> {
        match self.unreadable.load(Ordering::Acquire) {
            true => Err(StoreError::Unavailable("by plan".to_owned())),
            false => Ok(()),
        }
    }

    /// Ends all watches with an error.
    pub fn cut_watches(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

#[async_trait]
impl<V: Value> Store<V> for Faulty<V> {
    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Read<V>, StoreError> {
        self.check_readable()?;
        self.store.get(key, at).await
    }

    async fn list(&self, prefix: &Prefix, options: ListOptions) -> Result<Page<V>, StoreError> {
        self.check_readable()?;
        self.store.list(prefix, options).await
    }

    async fn commit(&self, txn: Txn<V>) -> Result<Committed<V>, CommitError<V>> {
        let fault = self.plan.lock().pop_front().unwrap_or(Fault::Pass);
        let unknown = || CommitError::Unknown("no answer came in time".to_owned());
        match fault {
            Fault::Pass => self.store.commit(txn).await,
            Fault::LoseRequest => Err(unknown()),
            Fault::LoseAnswer => {
                self.store.commit(txn).await?;
                Err(unknown())
            }
            Fault::Refuse => Err(StoreError::Unavailable("by plan".to_owned()).into()),
        }
    }

    async fn watch(&self, prefix: &Prefix, options: WatchOptions) -> Result<Watch<V>, StoreError> {
        let mut cuts = self.cuts.subscribe();
        let watch = self.store.watch(prefix, options).await?;
        let cut = async move {
            // Without a sender no cut can come any more; the watch goes on.
            if cuts.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let error = futures::stream::once(async {
            Err(WatchError::Store(StoreError::Unavailable("the watch was cut off by plan".to_owned())))
        });
        Ok(Watch::new(watch.take_until(cut).chain(error)))
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.check_readable()?;
        self.store.revision().await
    }

    async fn request_progress(&self) -> Result<(), StoreError> {
        self.store.request_progress().await
    }

    async fn compact(&self, at: Revision) -> Result<(), StoreError> {
        self.store.compact(at).await
    }

    async fn grant(&self, time_to_live: Duration) -> Result<Lease, StoreError> {
        self.store.grant(time_to_live).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Lease, StoreError> {
        self.store.keep_alive(lease).await
    }

    async fn time_to_live(&self, lease: LeaseId) -> Result<Lease, StoreError> {
        self.store.time_to_live(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), CommitError<V>> {
        self.store.revoke(lease).await
    }

    fn stats(&self) -> Stats {
        self.store.stats()
    }

    fn limits(&self) -> Limits {
        self.store.limits()
    }
}
