use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::Mutex;
use smallvec::{SmallVec, smallvec};

use super::ring::{Next, Ring};
use crate::{Batch, Change, Event, Key, Prefix, Revision, WatchStats};

/// Where commits meet watchers. Locks are taken in the order: the store's state, `rings`, one ring; that of
/// `readers` alone.
pub(crate) struct Hub<V> {
    bound: usize,
    rings: Mutex<BTreeMap<Prefix, Arc<Mutex<Ring<V>>>>>,
    /// All commits up to this revision are in the rings.
    published: AtomicU64,
    /// The highest revision that progress was requested for.
    requested: AtomicU64,
    /// The watchers that read the log, and up to where each is complete.
    readers: Mutex<BTreeMap<u64, Arc<AtomicU64>>>,
    /// How many began to read it.
    begun: AtomicU64,
}

/// Who is to be woken, and what is to be dropped, when no lock is held any more.
#[must_use]
pub(crate) struct Wake<V> {
    wakers: SmallVec<[Vec<Option<Waker>>; 2]>,
    _gone: SmallVec<[Arc<Batch<V>>; 2]>,
}

impl<V> Wake<V> {
    /// No one.
    pub(crate) fn none() -> Self {
        Self { wakers: SmallVec::new(), _gone: SmallVec::new() }
    }

    fn lag(&mut self, ring: &Mutex<Ring<V>>, revision: Revision) {
        let (wakers, gone) = ring.lock().lag(revision);
        self.wakers.push(wakers);
        self._gone.extend(gone);
    }

    pub(crate) fn wake(self) {
        self.wakers.into_iter().flatten().flatten().for_each(Waker::wake);
    }
}

impl<V: Clone> Hub<V> {
    /// A hub whose rings hold up to `bound` batches, at a store's revision.
    pub(crate) fn new(bound: usize, head: Revision) -> Self {
        Self {
            bound,
            rings: Mutex::new(BTreeMap::new()),
            published: AtomicU64::new(head.0),
            requested: AtomicU64::new(0),
            readers: Mutex::default(),
            begun: AtomicU64::new(0),
        }
    }

    /// Hands a commit to the watchers. Called in the order of revisions, with the state's lock held.
    pub(crate) fn publish(&self, revision: Revision, changes: &[Change<V>]) -> Wake<V> {
        let mut wake = Wake::none();
        let rings = self.rings.lock();
        if !rings.is_empty() {
            match changes {
                [change] => publish_one(&rings, revision, change, &mut wake),
                changes => publish_many(&rings, revision, changes, &mut wake),
            }
        }
        self.published.store(revision.0, Ordering::Release);
        wake
    }

    /// Whether anybody watches a folder that has the key.
    #[cfg(feature = "etcd")]
    pub(crate) fn is_watched(&self, key: &Key) -> bool {
        let rings = self.rings.lock();
        !rings.is_empty() && key.ancestors().any(|text| rings.contains_key(text))
    }

    /// As [`Hub::publish`] for changes that are not at hand as events: those who watch any of these keys
    /// read them in the log.
    pub(crate) fn publish_in_log<'k>(
        &self,
        revision: Revision,
        keys: impl Iterator<Item = &'k Key>,
    ) -> Wake<V> {
        let mut wake = Wake::none();
        let rings = self.rings.lock();
        for ring in keys.flat_map(Key::ancestors).filter_map(|text| rings.get(text)) {
            wake.lag(ring, revision);
        }
        self.published.store(revision.0, Ordering::Release);
        wake
    }

    /// Asks the watchers that want progress to report that they reached this revision.
    pub(crate) fn request_progress(&self, revision: Revision) -> Wake<V> {
        let mut wakers = Vec::new();
        let rings = self.rings.lock();
        self.requested.fetch_max(revision.0, Ordering::AcqRel);
        rings.values().for_each(|ring| ring.lock().wake_for_progress(&mut wakers));
        Wake { wakers: smallvec![wakers], _gone: SmallVec::new() }
    }

    pub(crate) fn stats(&self) -> WatchStats {
        let mut stats = WatchStats::default();
        let rings = self.rings.lock();
        let head = Revision(self.published.load(Ordering::Acquire));
        rings.values().for_each(|ring| ring.lock().count(head, &mut stats));
        drop(rings);
        let readers = self.readers.lock();
        let slowest = readers.values().map(|reached| reached.load(Ordering::Relaxed)).min();
        stats.lagging += readers.len();
        stats.behind = stats.behind.max(slowest.map_or(0, |reached| head.0.saturating_sub(reached)));
        stats
    }

    /// Counts a watcher that reads the log from behind this revision on.
    pub(crate) fn read_log(self: &Arc<Self>, reached: Revision) -> Reading<V> {
        let (id, reached) = (self.begun.fetch_add(1, Ordering::Relaxed), Arc::new(AtomicU64::new(reached.0)));
        self.readers.lock().insert(id, reached.clone());
        Reading { hub: self.clone(), id, reached }
    }

    /// The highest revision that progress was requested for.
    pub(crate) fn requested(&self) -> Revision {
        Revision(self.requested.load(Ordering::Acquire))
    }

    /// A place at the ring of a prefix, for all commits that are published from now on.
    pub(crate) fn subscribe(self: &Arc<Self>, prefix: &Prefix, progress: bool) -> Subscription<V> {
        let mut rings = self.rings.lock();
        let ring = match rings.get(prefix.as_str()) {
            Some(ring) => ring.clone(),
            None => {
                let ring = Arc::new(Mutex::new(Ring::new(self.bound)));
                rings.insert(prefix.clone(), ring.clone());
                ring
            }
        };
        let id = ring.lock().join(progress);
        Subscription { hub: self.clone(), prefix: prefix.clone(), ring, id }
    }
}

type Rings<V> = BTreeMap<Prefix, Arc<Mutex<Ring<V>>>>;

fn event<V: Clone>(key: &Key, revision: Revision, change: &Change<V>) -> Event<V> {
    Event { key: key.clone(), revision, change: change.clone() }
}

fn push<V>(ring: &Mutex<Ring<V>>, batch: Arc<Batch<V>>, wake: &mut Wake<V>) {
    let (wakers, gone) = ring.lock().push(batch);
    wake.wakers.push(wakers);
    wake._gone.extend(gone);
}

/// The usual commit: one change, and so one batch that all rings share.
fn publish_one<V: Clone>(rings: &Rings<V>, revision: Revision, change: &Change<V>, wake: &mut Wake<V>) {
    let Some(key) = change.key() else { return };
    let mut shared: Option<Arc<Batch<V>>> = None;
    for ring in key.ancestors().filter_map(|text| rings.get(text)) {
        let batch = shared
            .get_or_insert_with(|| Arc::new(Batch { revision, events: vec![event(key, revision, change)] }));
        push(ring, batch.clone(), wake);
    }
}

/// Several changes: each ring gets those that match, in one batch.
fn publish_many<V: Clone>(rings: &Rings<V>, revision: Revision, changes: &[Change<V>], wake: &mut Wake<V>) {
    let mut matching: BTreeMap<&str, Vec<Event<V>>> = BTreeMap::new();
    for change in changes {
        let Some(key) = change.key() else { continue };
        for text in key.ancestors().filter(|text| rings.contains_key(*text)) {
            matching.entry(text).or_default().push(event(key, revision, change));
        }
    }
    for (text, events) in matching {
        if let Some(ring) = rings.get(text) {
            push(ring, Arc::new(Batch { revision, events }), wake);
        }
    }
}

/// A watcher's place in the log; dropping it gives the place up.
pub(crate) struct Reading<V> {
    hub: Arc<Hub<V>>,
    id: u64,
    reached: Arc<AtomicU64>,
}

impl<V> Reading<V> {
    /// It is complete up to here.
    pub(crate) fn reach(&self, revision: Revision) {
        self.reached.store(revision.0, Ordering::Relaxed);
    }
}

impl<V> Drop for Reading<V> {
    fn drop(&mut self) {
        self.hub.readers.lock().remove(&self.id);
    }
}

/// A watcher's place at a ring; dropping it gives the place up.
pub(crate) struct Subscription<V> {
    hub: Arc<Hub<V>>,
    prefix: Prefix,
    ring: Arc<Mutex<Ring<V>>>,
    id: usize,
}

impl<V> Subscription<V> {
    /// What comes next. If there is nothing, the waker is woken when there is; then the answer's second
    /// part is a revision up to which there surely was nothing more.
    pub(crate) fn next(&self, waker: &Waker) -> (Next<V>, Revision) {
        let mut ring = self.ring.lock();
        let next = ring.next(self.id);
        let (old, published) = match next {
            // Read under the ring's lock: a revision is noted as published after it is in the rings.
            Next::Drained => (ring.wait(self.id, waker), self.hub.published.load(Ordering::Acquire)),
            _ => (None, 0),
        };
        drop(ring);
        drop(old);
        (next, Revision(published))
    }
}

impl<V> Drop for Subscription<V> {
    fn drop(&mut self) {
        let mut rings = self.hub.rings.lock();
        let mut ring = self.ring.lock();
        let leftover = ring.leave(self.id);
        if ring.is_deserted() {
            rings.remove(self.prefix.as_str());
        }
        drop(ring);
        drop(rings);
        drop(leftover);
    }
}
