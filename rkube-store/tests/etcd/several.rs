//! Several servers on one etcd, in front of which a client meets another one each time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rkube_store::backend::etcd::Etcd;
use rkube_store::testing::Text;
use rkube_store::{
    CommitError, Committed, Key, Lease, LeaseId, ListOptions, Page, Prefix, Read, Revision, Stats, Store,
    StoreError, Txn, Watch, WatchOptions,
};

/// Calls go to one store after the other.
pub(crate) struct Several {
    stores: Vec<Etcd<Text>>,
    calls: AtomicUsize,
}

impl Several {
    pub(crate) fn new(stores: Vec<Etcd<Text>>) -> Self {
        Self { stores, calls: AtomicUsize::new(0) }
    }

    fn next(&self) -> &Etcd<Text> {
        &self.stores[self.calls.fetch_add(1, Ordering::Relaxed) % self.stores.len()]
    }
}

#[async_trait]
impl Store<Text> for Several {
    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Read<Text>, StoreError> {
        self.next().get(key, at).await
    }

    async fn list(&self, prefix: &Prefix, options: ListOptions) -> Result<Page<Text>, StoreError> {
        self.next().list(prefix, options).await
    }

    async fn commit(&self, txn: Txn<Text>) -> Result<Committed<Text>, CommitError<Text>> {
        self.next().commit(txn).await
    }

    async fn watch(&self, prefix: &Prefix, options: WatchOptions) -> Result<Watch<Text>, StoreError> {
        self.next().watch(prefix, options).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.next().revision().await
    }

    /// A watch is at one server only, so all are asked.
    async fn request_progress(&self) -> Result<(), StoreError> {
        for store in &self.stores {
            store.request_progress().await?;
        }
        Ok(())
    }

    async fn compact(&self, at: Revision) -> Result<(), StoreError> {
        self.next().compact(at).await
    }

    async fn grant(&self, time_to_live: Duration) -> Result<Lease, StoreError> {
        self.next().grant(time_to_live).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Lease, StoreError> {
        self.next().keep_alive(lease).await
    }

    async fn time_to_live(&self, lease: LeaseId) -> Result<Lease, StoreError> {
        self.next().time_to_live(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), CommitError<Text>> {
        self.next().revoke(lease).await
    }

    fn stats(&self) -> Stats {
        self.next().stats()
    }
}
