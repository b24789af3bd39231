//! A second backend, the plainest there is: it keeps bytes only, in ordered maps, and everything that
//! goes in or out is encoded and decoded. It shares no code with the memory backend, so that it shows that
//! the seam holds for stores that keep no objects.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use parking_lot::Mutex;
use rkube_store::backend::durable::Raw;
use rkube_store::testing::model::Model;
use rkube_store::{
    Batch, Change, Check, CommitError, Committed, Conflict, Entry, Event, Key, Lease, LeaseId, Limits,
    ListOptions, Op, Page, Prefix, Read, Revision, Stats, Store, StoreError, Transform, Txn, Value, Watch,
    WatchError, WatchItem, WatchOptions,
};
use tokio::sync::watch;
use tokio::time::Instant;

#[derive(Clone)]
pub(crate) struct Plain {
    state: Arc<Mutex<State>>,
    head: watch::Sender<(Revision, u64)>,
    transform: Option<Arc<dyn Transform>>,
}

struct State {
    model: Model<Raw>,
    leases: BTreeMap<LeaseId, (Duration, Instant)>,
    granted: u64,
    progress: u64,
}

impl Plain {
    pub(crate) fn new(transform: Option<Arc<dyn Transform>>) -> Self {
        let limits = Limits { value_bytes: usize::MAX, transaction_bytes: usize::MAX, ..Limits::DEFAULT };
        let model = Model::new().with_limits(limits);
        let state = State { model, leases: BTreeMap::new(), granted: 0, progress: 0 };
        Self { state: Arc::new(Mutex::new(state)), head: watch::Sender::new((Revision(1), 0)), transform }
    }

    fn codec(&self) -> Codec {
        Codec(self.transform.clone())
    }

    /// Ends what is due, and lets watchers see what is new.
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let now = Instant::now();
        let due: Vec<_> =
            state.leases.iter().filter(|(_, (_, end))| *end <= now).map(|(id, _)| *id).collect();
        for id in due {
            state.leases.remove(&id);
            state.model.end_lease(id);
        }
        let result = work(&mut state);
        let now = (state.model.head(), state.progress);
        self.head.send_if_modified(|head| std::mem::replace(head, now) != now);
        result
    }

    /// The host's driver: ends leases although nobody calls.
    pub(crate) async fn run_expiry(self) {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            self.with(|_| ());
        }
    }
}

#[derive(Clone)]
struct Codec(Option<Arc<dyn Transform>>);

impl Codec {
    fn seal<V: Value>(&self, key: &Key, value: &V) -> Result<Raw, StoreError> {
        let plain = value.encode().map_err(|source| StoreError::Codec { key: key.clone(), source })?;
        let Some(transform) = &self.0 else { return Ok(Raw(plain)) };
        let sealed = transform.seal(key, plain);
        sealed.map(Raw).map_err(|source| StoreError::Transform { key: key.clone(), source })
    }

    fn value<V: Value>(&self, key: &Key, raw: &Raw, stamp: Revision) -> Result<V, StoreError> {
        let plain = match &self.0 {
            None => raw.0.clone(),
            Some(transform) => transform
                .open(key, raw.0.clone())
                .map_err(|source| StoreError::Transform { key: key.clone(), source })?,
        };
        let mut value = V::decode(&plain).map_err(|source| StoreError::Codec { key: key.clone(), source })?;
        value.stamp(stamp);
        Ok(value)
    }

    fn entry<V: Value>(&self, raw: &Entry<Raw>) -> Result<Entry<V>, StoreError> {
        Ok(Entry {
            key: raw.key.clone(),
            value: self.value(&raw.key, &raw.value, raw.mod_revision)?,
            create_revision: raw.create_revision,
            mod_revision: raw.mod_revision,
            version: raw.version,
            lease: raw.lease,
        })
    }

    fn change<V: Value>(&self, raw: &Change<Raw>, revision: Revision) -> Result<Change<V>, StoreError> {
        let previous = raw.previous().map(|entry| self.entry(entry)).transpose()?;
        Ok(match raw {
            Change::Put { entry, .. } => Change::Put { entry: self.entry(entry)?, previous },
            Change::Delete { previous: before, .. } => {
                let last = before.as_ref().map(|entry| self.value(&entry.key, &entry.value, revision));
                Change::Delete { previous, last: last.transpose()? }
            }
        })
    }

    /// As a change, of which the new value is at hand.
    fn put<V: Value>(
        &self,
        raw: &Change<Raw>,
        mut value: V,
        revision: Revision,
    ) -> Result<Change<V>, StoreError> {
        let Some(Entry { key, create_revision, mod_revision, version, lease, .. }) = raw.entry().cloned()
        else {
            return self.change(raw, revision);
        };
        value.stamp(revision);
        let entry = Entry { key, value, create_revision, mod_revision, version, lease };
        Ok(Change::Put { entry, previous: raw.previous().map(|entry| self.entry(entry)).transpose()? })
    }

    fn batch<V: Value>(&self, raw: &Batch<Raw>) -> Result<Batch<V>, StoreError> {
        let event = |event: &Event<Raw>| {
            let change = self.change(&event.change, event.revision)?;
            Ok(Event { key: event.key.clone(), revision: event.revision, change })
        };
        let events = raw.events.iter().map(event).collect::<Result<_, StoreError>>()?;
        Ok(Batch { revision: raw.revision, events })
    }
}

fn lease(id: LeaseId, granted: Duration, end: Instant) -> Lease {
    Lease { id, granted, remaining: end.saturating_duration_since(Instant::now()) }
}

#[async_trait]
impl<V: Value> Store<V> for Plain {
    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Read<V>, StoreError> {
        let (raw, head) = self.with(|state| (state.model.get(key, at), state.model.head()));
        let entry = raw?.map(|entry| self.codec().entry(&entry)).transpose()?;
        Ok(Read { entry, revision: at.unwrap_or(head) })
    }

    async fn list(&self, prefix: &Prefix, options: ListOptions) -> Result<Page<V>, StoreError> {
        let (raw, head) = self.with(|state| (state.model.list(prefix, options.at), state.model.head()));
        let mut raw = raw?;
        raw.retain(|entry| options.after.as_ref().is_none_or(|after| entry.key > *after));
        let shown = options.limit.unwrap_or(usize::MAX).min(raw.len());
        let remaining = (raw.len() - shown) as u64;
        let entries = raw[..shown].iter().map(|entry| self.codec().entry(entry)).collect::<Result<_, _>>()?;
        Ok(Page { entries, revision: options.at.unwrap_or(head), more: remaining > 0, remaining })
    }

    async fn commit(&self, txn: Txn<V>) -> Result<Committed<V>, CommitError<V>> {
        let codec = self.codec();
        // The limits are on values' own bytes, not on what a transformer makes of them.
        Limits::DEFAULT.check(&txn)?;
        let mut raw = Txn { checks: txn.checks, ops: Vec::new() };
        for op in &txn.ops {
            raw.ops.push(match op {
                Op::Delete { key } => Op::Delete { key: key.clone() },
                Op::Put { key, value, lease } => {
                    Op::Put { value: codec.seal(key, value)?, key: key.clone(), lease: *lease }
                }
            });
        }
        match self.with(|state| state.model.commit(raw)) {
            Ok(Committed { revision, changes }) => {
                let changes = txn.ops.into_iter().zip(&changes).map(|(op, change)| match op {
                    Op::Put { value, .. } => codec.put(change, value, revision),
                    Op::Delete { .. } => codec.change(change, revision),
                });
                let changes = changes.collect::<Result<_, _>>();
                // It is done, whatever can be told of it.
                let changes = changes.map_err(|error| CommitError::Unknown(error.to_string()))?;
                Ok(Committed { revision, changes })
            }
            Err(CommitError::Conflict(Conflict { check, key, current, revision })) => {
                let current = current.map(|entry| codec.entry(&entry)).transpose()?;
                Err(CommitError::Conflict(Conflict { check, key, current, revision }))
            }
            Err(CommitError::Unknown(reason)) => Err(CommitError::Unknown(reason)),
            Err(CommitError::Store(error)) => Err(error.into()),
        }
    }

    async fn watch(&self, prefix: &Prefix, options: WatchOptions) -> Result<Watch<V>, StoreError> {
        let asked =
            self.with(|state| state.model.events(&Prefix::all(), options.after).map(|_| state.progress))?;
        let watcher = Watcher {
            state: self.state.clone(),
            head: self.head.subscribe(),
            codec: self.codec(),
            prefix: prefix.clone(),
            options,
            reached: options.after,
            asked,
            ready: Vec::new(),
        };
        Ok(Watch::new(stream::unfold(Some(watcher), |watcher| async move {
            let mut watcher = watcher?;
            match watcher.next::<V>().await {
                Ok(item) => Some((Ok(item), Some(watcher))),
                Err(error) => Some((Err(error), None)),
            }
        })))
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.with(|state| state.model.head()))
    }

    async fn request_progress(&self) -> Result<(), StoreError> {
        self.with(|state| state.progress += 1);
        Ok(())
    }

    async fn compact(&self, at: Revision) -> Result<(), StoreError> {
        self.with(|state| state.model.compact(at))
    }

    async fn grant(&self, time_to_live: Duration) -> Result<Lease, StoreError> {
        Ok(self.with(|state| {
            state.granted += 1;
            let id = LeaseId(NonZeroU64::new(state.granted).unwrap());
            let end = Instant::now() + time_to_live;
            state.leases.insert(id, (time_to_live, end));
            state.model.add_lease(id);
            lease(id, time_to_live, end)
        }))
    }

    async fn keep_alive(&self, id: LeaseId) -> Result<Lease, StoreError> {
        self.with(|state| {
            let (granted, end) = state.leases.get_mut(&id).ok_or(StoreError::LeaseNotFound(id))?;
            *end = Instant::now() + *granted;
            Ok(lease(id, *granted, *end))
        })
    }

    async fn time_to_live(&self, id: LeaseId) -> Result<Lease, StoreError> {
        self.with(|state| {
            let (granted, end) = state.leases.get(&id).ok_or(StoreError::LeaseNotFound(id))?;
            Ok(lease(id, *granted, *end))
        })
    }

    fn stats(&self) -> Stats {
        let state = self.state.lock();
        Stats { revision: state.model.head(), compacted: state.model.compacted(), ..Stats::default() }
    }

    async fn revoke(&self, id: LeaseId) -> Result<(), CommitError<V>> {
        self.with(|state| {
            state.leases.remove(&id).ok_or(StoreError::LeaseNotFound(id))?;
            state.model.end_lease(id);
            Ok(())
        })
    }
}

struct Watcher {
    state: Arc<Mutex<State>>,
    head: watch::Receiver<(Revision, u64)>,
    codec: Codec,
    prefix: Prefix,
    options: WatchOptions,
    reached: Revision,
    asked: u64,
    /// In reverse order.
    ready: Vec<Batch<Raw>>,
}

impl Watcher {
    async fn next<V: Value>(&mut self) -> Result<WatchItem<V>, WatchError> {
        loop {
            if let Some(batch) = self.ready.pop() {
                self.reached = batch.revision;
                return Ok(WatchItem::Events(Arc::new(self.codec.batch(&batch)?)));
            }
            let progress = self.read()?;
            if !self.ready.is_empty() {
                continue;
            }
            if progress > self.asked && self.options.progress {
                self.asked = progress;
                return Ok(WatchItem::Progress(self.reached));
            }
            if self.head.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn read(&mut self) -> Result<u64, WatchError> {
        self.head.mark_unchanged();
        let state = self.state.lock();
        if self.reached < state.model.compacted() {
            let (delivered, compacted) = (self.reached, state.model.compacted());
            return Err(WatchError::Slow { delivered, compacted });
        }
        self.ready = state.model.events(&self.prefix, self.reached)?;
        self.ready.reverse();
        if self.ready.is_empty() {
            self.reached = self.reached.max(state.model.head());
        }
        Ok(state.progress)
    }
}

#[tokio::test]
async fn it_keeps_bytes_only() {
    let store = Plain::new(None);
    let text = rkube_store::testing::Text::new("hello");
    store.commit(Txn::new().check(Check::Absent(Key::new("a/1"))).put("a/1", text)).await.unwrap();
    let raw = store.with(|state| state.model.get(&Key::new("a/1"), None)).unwrap().unwrap();
    assert_eq!(raw.value, Raw(Bytes::from_static(b"hello")));
}
