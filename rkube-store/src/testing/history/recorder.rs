use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use parking_lot::Mutex;

use super::{Answer, Call, End, History, Operation, Watched};
use crate::testing::Text;
use crate::{
    CommitError, Committed, Key, Lease, LeaseId, Limits, ListOptions, Page, Prefix, Read, Revision, Stats,
    Store, StoreError, Txn, Watch, WatchOptions,
};

/// A store that notes what its clients ask and get. Leases and compaction pass unrecorded, so keys with a
/// lease must not be used. Clones record into one history.
#[derive(Clone)]
pub struct Recorder {
    store: Arc<dyn Store<Text>>,
    log: Arc<Log>,
    /// How many there were before this store.
    crashes: usize,
    /// Set when nobody can ask this store any more.
    ended: Arc<AtomicBool>,
}

#[derive(Default)]
struct Log {
    tick: AtomicU64,
    history: Mutex<History>,
}

impl Log {
    fn tick(&self) -> u64 {
        self.tick.fetch_add(1, Ordering::SeqCst)
    }
}

impl Recorder {
    /// In front of a new store.
    pub fn new(store: Arc<dyn Store<Text>>) -> Self {
        Self { store, log: Arc::default(), crashes: 0, ended: Arc::default() }
    }

    /// Goes on with the store as it is after a crash.
    #[must_use]
    pub fn after_crash(&self, store: Arc<dyn Store<Text>>) -> Self {
        let mut history = self.log.history.lock();
        history.crashes.push(self.log.tick());
        drop(history);
        Self { store, log: self.log.clone(), crashes: self.crashes + 1, ended: Arc::default() }
    }

    /// Whether the other one records the same history after a later crash.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        self.crashes < other.crashes
    }

    /// What was recorded until now.
    #[must_use]
    pub fn history(&self) -> History {
        self.log.history.lock().clone()
    }

    /// Notes no more calls: a handle that a client still has is that of a process that is gone.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    /// Notes the call; until it is answered, its outcome is unknown.
    fn call(&self, call: Call) -> Option<usize> {
        let mut history = self.log.history.lock();
        if self.ended.load(Ordering::SeqCst) {
            return None;
        }
        let called = self.log.tick();
        history.operations.push(Operation { called, returned: u64::MAX, call, answer: Answer::Unknown });
        Some(history.operations.len() - 1)
    }

    /// Notes the answer. One that a store gave on its way out counts: what it says is so.
    fn answer(&self, operation: Option<usize>, answer: Answer) {
        let mut history = self.log.history.lock();
        let returned = self.log.tick();
        if let Some(operation) = operation.and_then(|at| history.operations.get_mut(at)) {
            operation.returned = returned;
            operation.answer = answer;
        }
    }
}

fn refused(error: &StoreError) -> Answer {
    match error {
        StoreError::Compacted { requested, compacted } => {
            Answer::Compacted { requested: *requested, compacted: *compacted }
        }
        error => Answer::Refused(error.to_string()),
    }
}

#[async_trait]
impl Store<Text> for Recorder {
    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Read<Text>, StoreError> {
        let operation = self.call(Call::Get { key: key.clone(), at });
        let result = self.store.get(key, at).await;
        self.answer(operation, result.as_ref().map_or_else(refused, |read| Answer::Read(read.clone())));
        result
    }

    async fn list(&self, prefix: &Prefix, options: ListOptions) -> Result<Page<Text>, StoreError> {
        let operation = self.call(Call::List { prefix: prefix.clone(), options: options.clone() });
        let result = self.store.list(prefix, options).await;
        self.answer(operation, result.as_ref().map_or_else(refused, |page| Answer::Page(page.clone())));
        result
    }

    async fn commit(&self, txn: Txn<Text>) -> Result<Committed<Text>, CommitError<Text>> {
        let operation = self.call(Call::Commit(txn.clone()));
        let result = self.store.commit(txn).await;
        self.answer(
            operation,
            match &result {
                Ok(committed) => Answer::Committed(committed.clone()),
                Err(CommitError::Conflict(conflict)) => Answer::Conflict(conflict.clone()),
                Err(CommitError::Unknown(_)) => Answer::Unknown,
                Err(CommitError::Store(error)) => refused(error),
            },
        );
        result
    }

    async fn watch(&self, prefix: &Prefix, options: WatchOptions) -> Result<Watch<Text>, StoreError> {
        let opened = self.log.tick();
        let watch = self.store.watch(prefix, options).await?;
        let watched = {
            let mut history = self.log.history.lock();
            let (prefix, after) = (prefix.clone(), options.after);
            history.watches.push(Watched { opened, prefix, after, items: Vec::new(), end: End::Open });
            history.watches.len() - 1
        };
        let log = self.log.clone();
        let ending = watch.map(Some).chain(futures::stream::once(async { None }));
        Ok(Watch::new(ending.filter_map(move |item| {
            let mut history = log.history.lock();
            if let Some(watched) = history.watches.get_mut(watched) {
                match &item {
                    Some(Ok(item)) => watched.items.push((log.tick(), item.clone())),
                    Some(Err(_)) => watched.end = End::Failed,
                    None if watched.end == End::Open => watched.end = End::Silent,
                    None => {}
                }
            }
            futures::future::ready(item)
        })))
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        let operation = self.call(Call::Revision);
        let result = self.store.revision().await;
        self.answer(operation, result.as_ref().map_or_else(refused, |at| Answer::Revision(*at)));
        result
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

    async fn revoke(&self, lease: LeaseId) -> Result<(), CommitError<Text>> {
        self.store.revoke(lease).await
    }

    fn stats(&self) -> Stats {
        self.store.stats()
    }

    fn limits(&self) -> Limits {
        self.store.limits()
    }
}
