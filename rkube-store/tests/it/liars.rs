//! A suite and a checker are worth what they find: here are stores that break one promise each, and both
//! must name it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;
use rkube_store::testing::history::{Load, check};
use rkube_store::testing::{Text, suite};
use rkube_store::{
    Batch, Change, Check, CommitError, Committed, Key, Lease, LeaseId, ListOptions, Memory, Page, Prefix,
    Read, Revision, Stats, Store, StoreError, Txn, Watch, WatchError, WatchItem, WatchOptions,
};

use crate::suite::{drive, spread};

type Item = Result<WatchItem<Text>, WatchError>;

/// A good store that breaks the promise of this number; none with zero.
struct Liar {
    lie: u8,
    memory: Memory<Text>,
    /// Counts what a lie is told of now and then.
    turn: AtomicU64,
    disk: Mutex<Disk>,
}

/// What outlives a crash: all that was committed, by revision.
#[derive(Default)]
struct Disk {
    written: BTreeMap<Revision, Txn<Text>>,
    /// In the order in which they were granted, and whether each was revoked.
    leases: Vec<(Lease, bool)>,
    dead: bool,
}

impl Liar {
    fn new(lie: u8) -> Self {
        let memory = Memory::builder().build();
        drive(memory.run_expiry());
        Self { lie, memory, turn: AtomicU64::new(0), disk: Mutex::default() }
    }

    /// Whether to lie this time: with a promise to break, and one time in so many.
    fn lies(&self, promise: u8, one_in: u64) -> bool {
        self.lie == promise && (self.turn.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(one_in)
    }

    fn alive(&self) -> Result<(), StoreError> {
        if self.disk.lock().dead { Err(StoreError::Unavailable("killed".to_owned())) } else { Ok(()) }
    }

    fn head(&self) -> Revision {
        self.memory.stats().revision
    }
}

#[async_trait]
impl Store<Text> for Liar {
    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Read<Text>, StoreError> {
        self.alive()?;
        if at.is_none() && self.lies(3, 5) {
            let past = self.head().previous();
            return self.memory.get(key, Some(past)).await;
        }
        self.memory.get(key, at).await
    }

    async fn list(&self, prefix: &Prefix, mut options: ListOptions) -> Result<Page<Text>, StoreError> {
        self.alive()?;
        if let Some(at) = options.at
            && self.lies(4, 5)
        {
            options.at = None;
            let page = self.memory.list(prefix, options).await?;
            return Ok(Page { revision: at, ..page });
        }
        if self.lie == 17 && options.limit.is_none() {
            let mut page = self.memory.list(&Prefix::all(), options).await?;
            page.entries.retain(|entry| begins(&entry.key, prefix));
            return Ok(page);
        }
        self.memory.list(prefix, options).await
    }

    async fn commit(&self, mut txn: Txn<Text>) -> Result<Committed<Text>, CommitError<Text>> {
        if self.lies(2, 3) {
            txn.checks.retain(|check| !matches!(check, Check::Unchanged { .. }));
        }
        let committed = {
            let mut disk = self.disk.lock();
            if disk.dead {
                return Err(StoreError::Unavailable("killed".to_owned()).into());
            }
            let committed = self.memory.commit(txn.clone()).now_or_never().expect("memory does not wait")?;
            if committed.changes.iter().any(|change| change.key().is_some()) {
                disk.written.insert(committed.revision, txn);
            }
            committed
        };
        if self.lies(16, 10) {
            return Err(StoreError::Unavailable("timed out".to_owned()).into());
        }
        Ok(committed)
    }

    async fn watch(&self, prefix: &Prefix, mut options: WatchOptions) -> Result<Watch<Text>, StoreError> {
        self.alive()?;
        let head = self.head();
        match self.lie {
            9 if options.after < head => options.after = options.after.next(),
            12 if options.after > head => options.after = head,
            17 => {
                let (all, prefix) = (self.memory.watch(&Prefix::all(), options).await?, prefix.clone());
                return Ok(Watch::new(all.filter_map(move |item| {
                    let only = only(item, |key| begins(key, &prefix));
                    futures::future::ready(only)
                })));
            }
            _ => {}
        }
        let watch = self.memory.watch(prefix, options).await?;
        Ok(distorted(self.lie, watch))
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.alive()?;
        let at = self.memory.revision().await?;
        Ok(if self.lies(1, 5) { at.previous() } else { at })
    }

    async fn request_progress(&self) -> Result<(), StoreError> {
        self.alive()?;
        self.memory.request_progress().await
    }

    async fn compact(&self, at: Revision) -> Result<(), StoreError> {
        self.memory.compact(at).await
    }

    async fn grant(&self, time_to_live: Duration) -> Result<Lease, StoreError> {
        let lease = self.memory.grant(time_to_live).await?;
        self.disk.lock().leases.push((lease, false));
        Ok(lease)
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Lease, StoreError> {
        self.memory.keep_alive(lease).await
    }

    async fn time_to_live(&self, lease: LeaseId) -> Result<Lease, StoreError> {
        self.memory.time_to_live(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), CommitError<Text>> {
        let mut end = self.memory.list(&Prefix::all(), ListOptions::default()).await?.entries;
        end.retain(|entry| entry.lease == Some(lease));
        self.memory.revoke(lease).await?;
        let mut disk = self.disk.lock();
        if !end.is_empty() {
            let txn = end.into_iter().fold(Txn::new(), |txn, entry| txn.remove(entry.key));
            disk.written.insert(self.head(), txn);
        }
        disk.leases.iter_mut().filter(|(known, _)| known.id == lease).for_each(|(_, over)| *over = true);
        Ok(())
    }

    fn stats(&self) -> Stats {
        self.memory.stats()
    }
}

/// As if a folder were all keys that begin like its name.
fn begins(key: &Key, prefix: &Prefix) -> bool {
    key.as_str().starts_with(prefix.as_str().trim_end_matches('/'))
}

fn only(item: Item, wanted: impl Fn(&Key) -> bool) -> Option<Item> {
    let Ok(WatchItem::Events(batch)) = item else { return Some(item) };
    let mut batch = Batch::clone(&batch);
    batch.events.retain(|event| wanted(&event.key));
    (!batch.events.is_empty()).then(|| Ok(WatchItem::Events(Arc::new(batch))))
}

/// What the watch yields when it breaks this promise.
fn distorted(lie: u8, watch: Watch<Text>) -> Watch<Text> {
    let mut turn = 0;
    let counted = watch.map(move |item| {
        turn += u64::from(matches!(item, Ok(WatchItem::Events(_))));
        (turn, item)
    });
    match lie {
        5 => Watch::new(swapped(Watch::new(counted.map(|(_, item)| item)))),
        7 => Watch::new(counted.flat_map(|(_, item)| stream::iter(split(item)))),
        14 => Watch::new(
            counted.take_while(|(turn, _)| futures::future::ready(*turn < 30)).map(|(_, item)| item),
        ),
        lie => Watch::new(counted.flat_map(move |(turn, item)| stream::iter(replaced(lie, turn, item)))),
    }
}

/// The items that come in the place of one.
fn replaced(lie: u8, turn: u64, item: Item) -> Vec<Item> {
    match (lie, &item) {
        (6, Ok(WatchItem::Events(batch))) if turn.is_multiple_of(5) => {
            vec![Ok(WatchItem::Events(batch.clone())), item]
        }
        (8, Ok(WatchItem::Events(_))) if turn.is_multiple_of(5) => Vec::new(),
        // Progress to what is only about to be yielded.
        (10, Ok(WatchItem::Events(batch))) if turn.is_multiple_of(5) => {
            vec![Ok(WatchItem::Progress(batch.revision)), item]
        }
        (11, Ok(WatchItem::Events(batch))) => {
            let mut batch = Batch::clone(batch);
            for event in &mut batch.events {
                if let Change::Put { previous, .. } = &mut event.change {
                    *previous = None;
                }
            }
            vec![Ok(WatchItem::Events(Arc::new(batch)))]
        }
        (13, Ok(WatchItem::Progress(at))) => {
            let before = Revision(at.0.saturating_sub(2));
            vec![item, Ok(WatchItem::Progress(before))]
        }
        _ => vec![item],
    }
}

/// Each revision in two batches, where it can be.
fn split(item: Item) -> Vec<Item> {
    let Ok(WatchItem::Events(batch)) = &item else { return vec![item] };
    let one = |event| Batch { revision: batch.revision, events: vec![event] };
    batch.events.iter().cloned().map(|event| Ok(WatchItem::Events(Arc::new(one(event))))).collect()
}

/// Of two batches that are both ready, the later first.
fn swapped(watch: Watch<Text>) -> impl futures::Stream<Item = Item> + Send {
    stream::unfold((watch, None), |(mut watch, held): (_, Option<Item>)| async move {
        if let Some(held) = held {
            return Some((held, (watch, None)));
        }
        let first = watch.next().await?;
        if !matches!(first, Ok(WatchItem::Events(_))) {
            return Some((first, (watch, None)));
        }
        match watch.next().now_or_never().flatten() {
            Some(second @ Ok(WatchItem::Events(_))) => Some((second, (watch, Some(first)))),
            other => Some((first, (watch, other))),
        }
    })
}

/// A harness of liars. It kills them, too; one that breaks the fifteenth promise loses its last writes then.
struct Liars {
    lie: u8,
    all: Mutex<Vec<Arc<Liar>>>,
}

impl Liars {
    fn new(lie: u8) -> Self {
        Self { lie, all: Mutex::default() }
    }

    fn add(&self, liar: Liar) -> Arc<dyn Store<Text>> {
        let liar = Arc::new(liar);
        self.all.lock().push(liar.clone());
        liar
    }
}

#[async_trait]
impl suite::Harness for Liars {
    async fn store(&self) -> Arc<dyn Store<Text>> {
        self.add(Liar::new(self.lie))
    }

    async fn after_crash(&self, store: Arc<dyn Store<Text>>) -> Option<Arc<dyn Store<Text>>> {
        let before = self
            .all
            .lock()
            .iter()
            .find(|liar| Arc::as_ptr(liar).cast::<()>() == Arc::as_ptr(&store).cast())
            .cloned()?;
        let (mut written, leases) = {
            let mut disk = before.disk.lock();
            disk.dead = true;
            (std::mem::take(&mut disk.written), std::mem::take(&mut disk.leases))
        };
        if self.lie == 15 {
            let kept = written.len().saturating_sub(3);
            written = written.into_iter().take(kept).collect();
        }
        let after = Liar::new(self.lie);
        for (lease, _) in &leases {
            after.grant(lease.granted).await.ok()?;
        }
        for txn in written.into_values() {
            after.commit(txn).await.ok()?;
        }
        for (lease, _) in leases.iter().filter(|(_, over)| *over) {
            after.revoke(lease.id).await.ok()?;
        }
        Some(self.add(after))
    }

    async fn side_by_side(&self, tasks: Vec<BoxFuture<'static, ()>>) {
        spread(tasks).await;
    }
}

/// The promises of which a case of its own fails, and the promises that the checker finds broken.
async fn found(lie: u8) -> (BTreeSet<u8>, BTreeSet<u8>) {
    let harness: Arc<dyn suite::Harness> = Arc::new(Liars::new(lie));
    let report = suite::run(harness.clone()).await;
    let failed: BTreeSet<_> = report.failures.iter().map(|(name, _)| *name).collect();
    // Those of many clients at once stand for nearly all promises, and are no proof for any of them.
    let cases = suite::all().into_iter().filter(|case| !case.name.contains("concurrent_clients"));
    let cases = cases.filter(|case| failed.contains(&case.name));
    let by_suite = cases.flat_map(|case| case.promises).copied().collect();
    let load = Load { crashes: u64::from(lie == 15) * 3, ..Load::seeded(u64::from(lie)) };
    let by_checker = check(&load.run(&harness).await).iter().map(|violation| violation.promise).collect();
    (by_suite, by_checker)
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lie_passes() {
    assert_eq!(found(0).await, (BTreeSet::new(), BTreeSet::new()));
}

/// The checker must name the promise, and no other but those that cannot be kept without it.
macro_rules! broken {
    ($($name:ident: $promise:literal $(with $with:expr)?,)+) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            let (by_suite, by_checker) = found($promise).await;
            assert!(by_suite.contains(&$promise), "the suite finds {by_suite:?}");
            assert!(by_checker.contains(&$promise), "the checker finds {by_checker:?}");
            let others = by_checker.into_iter().filter(|found| *found != $promise);
            $(let others = others.filter(|found| !$with.contains(found));)?
            assert_eq!(others.collect::<Vec<_>>(), [], "the checker blames others, too");
        }
    )+};
}
broken! {
    a_revision_that_falls: 1,
    a_lost_update: 2,
    a_stale_read: 3,
    a_list_of_another_revision: 4,
    // A watch may be dropped before the batch that was held back.
    events_out_of_order: 5 with [8, 9],
    an_event_twice: 6,
    a_split_revision: 7,
    a_gap: 8 with [10],
    a_watch_that_resumes_too_late: 9,
    progress_too_early: 10,
    a_forgotten_previous_value: 11,
    events_of_before_the_start: 12,
    progress_that_falls: 13,
    a_watch_that_ends_in_silence: 14,
    // Its revisions are given again, and so nothing fits.
    writes_lost_in_a_crash: 15 with 1..=14,
    a_failure_that_was_none: 16,
    a_neighbour_of_the_folder: 17,
}
