//! The backend on etcd: the state of several API servers, on as many machines as etcd has members.
//!
//! Keys are etcd's keys (`/registry/<group>/<resource>/<namespace>/<name>`), values its values, revisions
//! its revisions. A commit is one transaction of etcd. Reads and watches come from a cache in this process
//! that follows etcd by one watch of everything; a read first asks etcd for its revision (many reads share
//! one question) and waits until the cache is there, so it sees every write of every server. Where the cache
//! does not come there soon, or its history does not reach back so far, etcd itself is read.
//!
//! Revisions count all of etcd's writes, so the cache must see all of them to know where it is: the user
//! that the store connects as must be allowed to read every key. A notice of progress of etcd's own would
//! do, but etcd before 3.5.8 may send one ahead of events.
//!
//! An etcd that used up its quota (`--quota-backend-bytes`, 2 GiB unless told) refuses writes, which are
//! [`StoreError::NoSpace`] then, and takes deletions. What they and a compaction free comes back only by its
//! operator, and writes with it: `etcdctl defrag` on each member, then `etcdctl alarm disarm`.
//!
//! Whoever sets the store up spawns [`Etcd::run`]; without it watches stand still.
//!
//! ```no_run
//! # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
//! use rkube_store::backend::etcd::Etcd;
//! use rkube_store::testing::Text;
//! use rkube_store::{Store, Txn};
//! let store = Etcd::<Text>::builder(["http://127.0.0.1:2379"]).connect().await?;
//! let driver = store.run(); // to be spawned by the host
//! let committed = store.commit(Txn::create("pods/a", Text::new("hello"))).await?;
//! assert!(store.revision().await? >= committed.revision);
//! # drop(driver);
//! # Ok(()) }
//! ```

mod cache;
mod client;
mod commit;
mod compact;
mod feed;
mod leases;
mod options;
mod read;
mod space;
mod wire;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::backend::engine::Options;
use crate::{
    CommitError, Committed, Key, Lease, LeaseId, ListOptions, Page, Prefix, Read, Revision, Stats, Store,
    StoreError, Txn, Value, Watch, WatchOptions,
};
use cache::Cache;
use client::{Client, Failure};
pub use options::{Builder, EtcdError};
use read::Rounds;
use space::Space;

/// A store on etcd; see [`backend::etcd`](self). Clones share one connection and one cache.
pub struct Etcd<V> {
    shared: Arc<Shared<V>>,
    /// Tells the driver that somebody has the store.
    user: watch::Receiver<()>,
}

impl<V> Clone for Etcd<V> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), user: self.user.clone() }
    }
}

/// What the store and its driver share.
struct Shared<V> {
    client: Client,
    space: Space,
    options: Options,
    compact_after: Option<Duration>,
    cache: RwLock<Arc<Cache<V>>>,
    rounds: Rounds,
    users: watch::Sender<()>,
}

impl<V: Value> Etcd<V> {
    /// A store on the etcd with these endpoints, such as `http://127.0.0.1:2379`.
    pub fn builder(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Builder<V> {
        Builder::new(endpoints.into_iter().map(Into::into).collect())
    }

    /// Connects and reads what is there.
    async fn connect(builder: Builder<V>) -> Result<Self, EtcdError> {
        let client = Client::new(&builder.connect)?;
        let space = Space::new(builder.prefix);
        let cache = feed::load(&client, &space, &builder.options).await?;
        let (users, user) = watch::channel(());
        let shared = Shared {
            client,
            space,
            options: builder.options,
            compact_after: builder.compact_after,
            cache: RwLock::new(Arc::new(cache)),
            rounds: Rounds::default(),
            users,
        };
        Ok(Self { shared: Arc::new(shared), user })
    }

    /// Follows etcd, compacts its history, and ages what is kept of it here, for as long as it is polled. It
    /// returns when the store is gone.
    pub fn run(&self) -> impl Future<Output = ()> + Send + use<V> {
        let shared = self.shared.clone();
        async move {
            tokio::select! {
                biased;
                () = shared.users.closed() => {}
                () = shared.follow() => {}
                () = shared.compact_by_time() => {}
                () = shared.age() => {}
            }
        }
    }
}

impl<V: Value> Shared<V> {
    fn cache(&self) -> Arc<Cache<V>> {
        self.cache.read().clone()
    }

    /// Ages one cache after the other.
    async fn age(&self) {
        loop {
            self.cache().age().await;
        }
    }
}

/// What a failed call means where nothing can have been changed by it, or does not matter if it was.
fn unavailable(failure: Failure) -> StoreError {
    StoreError::Unavailable(failure.text())
}

/// Whether etcd refused because its quota is used up. It says so of the call that took the last space, too,
/// which it did.
fn is_full(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(text) if text.contains("database space exceeded"))
}

#[async_trait]
impl<V: Value> Store<V> for Etcd<V> {
    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Read<V>, StoreError> {
        self.shared.get(key, at).await
    }

    async fn list(&self, prefix: &Prefix, options: ListOptions) -> Result<Page<V>, StoreError> {
        self.shared.list(prefix, options).await
    }

    async fn commit(&self, txn: Txn<V>) -> Result<Committed<V>, CommitError<V>> {
        self.limits().check(&txn)?;
        let since = Instant::now();
        let committed = self.shared.commit(txn).await?;
        self.shared.cache().engine.note_commit(since);
        Ok(committed)
    }

    async fn watch(&self, prefix: &Prefix, options: WatchOptions) -> Result<Watch<V>, StoreError> {
        self.shared.cache().watch(prefix, options)
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.shared.current().await
    }

    async fn request_progress(&self) -> Result<(), StoreError> {
        self.shared.request_progress().await
    }

    async fn compact(&self, at: Revision) -> Result<(), StoreError> {
        self.shared.compact(at).await
    }

    async fn grant(&self, time_to_live: Duration) -> Result<Lease, StoreError> {
        self.shared.client.grant(time_to_live).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Lease, StoreError> {
        self.shared.client.keep_alive(lease).await
    }

    async fn time_to_live(&self, lease: LeaseId) -> Result<Lease, StoreError> {
        self.shared.client.time_to_live(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), CommitError<V>> {
        self.shared.client.revoke(lease).await
    }

    fn stats(&self) -> Stats {
        self.shared.cache().engine.stats()
    }
}
