use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::{History, Recorder};
use crate::testing::suite::Harness;
use crate::testing::{Dice, Text};
use crate::{
    CommitError, Key, ListOptions, Prefix, Revision, Store, StoreError, Txn, WatchItem, WatchOptions,
};

/// Clients that do a bit of everything at once, as dice fall, in front of a new store.
///
/// ```
/// # use std::sync::Arc;
/// # use async_trait::async_trait;
/// use rkube_store::testing::history::{Load, check};
/// # use rkube_store::testing::{Text, suite::Harness};
/// # use rkube_store::{Memory, Store};
/// # struct InMemory;
/// # #[async_trait]
/// # impl Harness for InMemory {
/// #     async fn store(&self) -> Arc<dyn Store<Text>> { Arc::new(Memory::builder().build()) }
/// # }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let harness: Arc<dyn Harness> = Arc::new(InMemory);
/// let history = Load { clients: 4, steps: 50, ..Load::seeded(7) }.run(&harness).await;
/// assert!(history.operations.len() >= 200);
/// assert_eq!(check(&history), []);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// The dice. What happens is the same for the same seed where the harness and the store are deterministic.
    pub seed: u64,
    /// How many clients.
    pub clients: u64,
    /// What each of them does, one to ten operations a step.
    pub steps: u64,
    /// How often the store is killed in the midst of it, by [`Harness::after_crash`]. A store that ends with
    /// its process goes on instead.
    pub crashes: u64,
    /// Whether history is compacted now and then.
    ///
    /// A watch that is cut off by it goes on behind it, so it may miss a deletion that nobody was told of:
    /// not for stores that lose answers.
    pub compacts: bool,
}

impl Load {
    /// Six clients of 150 steps, on a store that lives and keeps its history.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self { seed, clients: 6, steps: 150, crashes: 0, compacts: false }
    }

    /// Lets the clients loose on a new store of the harness and tells what they saw. Refusals are answers like
    /// others; [`check`](super::check) judges them.
    pub async fn run(self, harness: &Arc<dyn Harness>) -> History {
        self.run_on(harness, harness.store().await).await
    }

    /// As [`run`](Self::run), on a store of the harness that is new and empty.
    pub async fn run_on(self, harness: &Arc<dyn Harness>, store: Arc<dyn Store<Text>>) -> History {
        let recorder = Recorder::new(store.clone());
        let start = store.revision().await.unwrap_or_default();
        let run = Arc::new(Run {
            load: self,
            harness: harness.clone(),
            place: Mutex::new((store, recorder.clone())),
            steps: AtomicU64::new(0),
            working: AtomicU64::new(self.clients),
            last: AtomicU64::new(0),
        });
        let mut tasks: Vec<BoxFuture<'static, ()>> = Vec::new();
        let future = Revision(start.0 + 40);
        for (prefix, after) in [("", start), ("a", start), ("b", start), ("a/1", start), ("a", future)] {
            let (run, prefix) = (run.clone(), Prefix::new(prefix));
            tasks.push(Box::pin(async move { run.follow(&prefix, after).await }));
        }
        for name in 0..self.clients {
            tasks.push(Box::pin(Client::new(name, run.clone()).work()));
        }
        harness.side_by_side(tasks).await;
        recorder.history()
    }
}

/// How long a watch is waited for before progress is asked for.
const SHORT: Duration = Duration::from_millis(100);
/// How often nothing may come after all work is done until a watch is given up.
const PATIENCE: usize = 50;

struct Run {
    load: Load,
    harness: Arc<dyn Harness>,
    /// The store as it is since the last crash, and the recorder in front of it.
    place: Mutex<(Arc<dyn Store<Text>>, Recorder)>,
    /// How many steps were begun.
    steps: AtomicU64,
    /// How many clients still work.
    working: AtomicU64,
    /// The revision after all work was done; zero before.
    last: AtomicU64,
}

impl Run {
    fn recorder(&self) -> Recorder {
        self.place.lock().1.clone()
    }

    fn last(&self) -> u64 {
        self.last.load(Ordering::SeqCst)
    }

    /// Kills the store if its time has come.
    async fn step(&self) {
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        let Load { clients, steps, crashes, .. } = self.load;
        let every = clients * steps / (crashes + 1);
        if crashes == 0 || step == 0 || !step.is_multiple_of(every.max(1)) || step / every > crashes {
            return;
        }
        let store = self.place.lock().0.clone();
        if let Some(after) = self.harness.after_crash(store).await {
            let mut place = self.place.lock();
            let recorder = place.1.after_crash(after.clone());
            if !self.harness.outlives_crashes() {
                place.1.end();
            }
            *place = (after, recorder);
        }
    }

    async fn end(&self) {
        if self.working.fetch_sub(1, Ordering::SeqCst) == 1 {
            let recorder = self.recorder();
            let last = recorder.revision().await.map_or(u64::MAX, |at| at.0);
            self.last.store(last, Ordering::SeqCst);
            // A refusal is met by asking again.
            let _ = recorder.request_progress().await;
        }
    }

    /// Watches a folder until everything must have been seen; goes on where a watch ended with an error.
    async fn follow(&self, prefix: &Prefix, mut reached: Revision) {
        let mut patience = PATIENCE;
        while patience > 0 {
            let recorder = self.recorder();
            let options = WatchOptions::after(reached).with_progress();
            match recorder.watch(prefix, options).await {
                Ok(mut watch) => {
                    if self.read(&recorder, &mut watch, &mut reached, &mut patience).await {
                        return;
                    }
                }
                Err(StoreError::Compacted { .. }) => {
                    reached = recorder.revision().await.unwrap_or(reached);
                }
                Err(_) => tokio::time::sleep(SHORT).await,
            }
            patience -= usize::from(self.last() > 0);
        }
    }

    /// Reads a watch until there is nothing more to come (`true`), or it ended or its store was killed.
    async fn read(
        &self,
        recorder: &Recorder,
        watch: &mut crate::Watch<Text>,
        reached: &mut Revision,
        patience: &mut usize,
    ) -> bool {
        while *patience > 0 {
            match tokio::time::timeout(SHORT, watch.next()).await {
                Ok(Some(Ok(item))) => {
                    *reached = item.revision().max(*reached);
                    let last = self.last();
                    if matches!(item, WatchItem::Progress(_)) && last > 0 && reached.0 >= last {
                        return true;
                    }
                }
                Ok(Some(Err(_))) => return false,
                // No store may do this, so it is not asked again.
                Ok(None) => return true,
                Err(_) if recorder.is_before(&self.recorder()) => return false,
                Err(_) if self.last() > 0 => {
                    *patience -= 1;
                    // One that cannot answer uses the patience up.
                    let _ = recorder.request_progress().await;
                }
                Err(_) => {}
            }
        }
        true
    }
}

/// Where keys are written and lists read; some begin like others.
const FOLDERS: [&str; 4] = ["a/0", "a/1", "a/1x", "b"];

struct Client {
    run: Arc<Run>,
    name: u64,
    dice: Dice,
    recorder: Recorder,
    /// Keys and the revisions at which this client last saw them.
    known: Vec<(Key, Revision)>,
    revision: Revision,
}

impl Client {
    fn new(name: u64, run: Arc<Run>) -> Self {
        let dice = Dice::seeded(run.load.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(name));
        let recorder = run.recorder();
        Self { run, name, dice, recorder, known: Vec::new(), revision: Revision(1) }
    }

    async fn work(mut self) {
        for step in 0..self.run.load.steps {
            self.run.step().await;
            self.recorder = self.run.recorder();
            if self.step(step).await.is_err() {
                // What is away may need a moment to come back.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::task::yield_now().await;
        }
        self.run.end().await;
    }

    async fn step(&mut self, step: u64) -> Result<(), StoreError> {
        let folder = FOLDERS[self.dice.roll(4) as usize];
        let key = Key::new(format!("{folder}/{}", self.dice.roll(3)));
        let text = Text::new(format!("{}-{step}", self.name));
        match self.dice.roll(12) {
            0 => self.commit(Txn::create(&key, text)).await,
            1 | 2 => match self.pick() {
                Some((key, revision)) => self.commit(Txn::update(key, text, revision)).await,
                None => Ok(()),
            },
            3 => match self.pick() {
                Some((key, revision)) => self.commit(Txn::delete(key, revision)).await,
                None => Ok(()),
            },
            4 => self.commit(Txn::new().put(&key, text)).await,
            5 => self.commit(Txn::new().remove(&key).put(format!("{key}x"), text)).await,
            6 => {
                let read = self.recorder.get(&key, None).await?;
                self.revision = read.revision;
                self.known.extend(read.entry.map(|entry| (entry.key, entry.mod_revision)));
                Ok(())
            }
            7 => {
                let folder = if self.dice.roll(2) == 0 { "a" } else { folder };
                let page = self.recorder.list(&Prefix::new(folder), ListOptions::default()).await?;
                self.revision = page.revision;
                let seen = page.entries.into_iter().map(|entry| (entry.key, entry.mod_revision));
                self.known.extend(seen);
                Ok(())
            }
            8 => self.pages("a").await,
            9 => self.look_back(&key, folder).await,
            10 => self.watch_for_a_moment().await,
            _ => self.ask().await,
        }
    }

    async fn pages(&mut self, folder: &str) -> Result<(), StoreError> {
        let prefix = Prefix::new(folder);
        let mut page = self.recorder.list(&prefix, ListOptions::page(2)).await?;
        while page.more {
            tokio::task::yield_now().await;
            let after = page.entries.last().map(|entry| entry.key.clone());
            let options = ListOptions { at: Some(page.revision), limit: Some(2), after, uncounted: true };
            page = self.recorder.list(&prefix, options).await?;
        }
        Ok(())
    }

    fn earlier(&mut self) -> Revision {
        Revision(self.revision.0.saturating_sub(self.dice.roll(10)).max(1))
    }

    async fn look_back(&mut self, key: &Key, folder: &str) -> Result<(), StoreError> {
        let at = self.earlier();
        self.recorder.get(key, Some(at)).await?;
        self.recorder.list(&Prefix::new(folder), ListOptions::default().at(at)).await?;
        Ok(())
    }

    /// Reads what has happened, and no more.
    async fn watch_for_a_moment(&mut self) -> Result<(), StoreError> {
        let after = self.earlier();
        let mut watch = self.recorder.watch(&Prefix::all(), WatchOptions::after(after)).await?;
        for _ in after.0..self.revision.0 {
            match tokio::time::timeout(SHORT, watch.next()).await {
                Ok(Some(Ok(_))) => {}
                _ => break,
            }
        }
        Ok(())
    }

    async fn ask(&mut self) -> Result<(), StoreError> {
        self.revision = self.recorder.revision().await?;
        match self.dice.roll(8) {
            0 => self.recorder.request_progress().await,
            1 if self.run.load.compacts => {
                let at = Revision(self.revision.0.saturating_sub(20));
                self.recorder.compact(at).await
            }
            _ => Ok(()),
        }
    }

    async fn commit(&mut self, txn: Txn<Text>) -> Result<(), StoreError> {
        let current = match self.recorder.commit(txn).await {
            Ok(committed) => committed.changes.iter().filter_map(|change| change.entry().cloned()).collect(),
            Err(CommitError::Conflict(conflict)) => conflict.current.into_iter().collect::<Vec<_>>(),
            Err(CommitError::Unknown(_)) => Vec::new(),
            Err(CommitError::Store(error)) => return Err(error),
        };
        self.known.extend(current.into_iter().map(|entry| (entry.key, entry.mod_revision)));
        Ok(())
    }

    /// A key as this client last saw it, which may be long ago.
    fn pick(&mut self) -> Option<(Key, Revision)> {
        let recent = self.known.len().saturating_sub(4);
        self.known.drain(..recent);
        let at = self.dice.roll(self.known.len().max(1) as u64) as usize;
        self.known.get(at).cloned()
    }
}
