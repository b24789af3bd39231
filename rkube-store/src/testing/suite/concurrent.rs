//! Many clients at once; what they saw is held against all promises.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures::StreamExt;
use futures::future::BoxFuture;

use super::{Broken, Outcome, Place, SHORT, cases, ensure};
use crate::testing::Text;
use crate::testing::history::{self, Recorder};
use crate::{
    CommitError, Key, ListOptions, Prefix, Revision, Store, StoreError, Txn, Watch, WatchItem, WatchOptions,
};

cases! {
    the_history_of_concurrent_clients_keeps_the_promises: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 16, 17],
}

const CLIENTS: u64 = 6;
const STEPS: u64 = 150;

async fn the_history_of_concurrent_clients_keeps_the_promises(place: &Place) -> Outcome {
    let recorder = Recorder::new(place.store.clone());
    let start = recorder.revision().await?;
    let run = Arc::new(Run { running: AtomicUsize::new(CLIENTS as usize), last: AtomicU64::new(0) });
    let mut tasks: Vec<BoxFuture<'static, ()>> = Vec::new();
    for (prefix, after) in
        [("", start), ("a", start), ("b", start), ("a/1", start), ("a", Revision(start.0 + 40))]
    {
        let options = WatchOptions::after(after).with_progress();
        let watch = recorder.watch(&Prefix::new(prefix), options).await?;
        tasks.push(Box::pin(follow(recorder.clone(), watch, run.clone())));
    }
    for client in 0..CLIENTS {
        tasks.push(Box::pin(work(recorder.clone(), client, run.clone())));
    }
    place.harness.side_by_side(tasks).await;
    let recorded = recorder.history();
    let expected = (CLIENTS * STEPS) as usize;
    ensure!(recorded.operations.len() >= expected, "only {} operations", recorded.operations.len());
    let violations = history::check(&recorded);
    let shown: Vec<_> = violations.iter().take(5).map(ToString::to_string).collect();
    ensure!(violations.is_empty(), "{} violations, such as\n{}", violations.len(), shown.join("\n"));
    Ok(())
}

struct Run {
    /// How many clients still work.
    running: AtomicUsize,
    /// The revision after all work was done.
    last: AtomicU64,
}

/// Reads a watch until it is known to have seen everything.
async fn follow(recorder: Recorder, mut watch: Watch<Text>, run: Arc<Run>) {
    loop {
        match tokio::time::timeout(SHORT, watch.next()).await {
            Ok(Some(Ok(WatchItem::Progress(at)))) => {
                let last = run.last.load(Ordering::SeqCst);
                if last > 0 && at.0 >= last {
                    return;
                }
            }
            Ok(Some(Ok(WatchItem::Events(_)))) => {}
            Ok(Some(Err(_)) | None) => return,
            Err(_) => {
                if run.last.load(Ordering::SeqCst) > 0 && recorder.request_progress().await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn work(recorder: Recorder, client: u64, run: Arc<Run>) {
    let mut client =
        Client { recorder, name: client, dice: Dice(client), known: Vec::new(), revision: Revision::ZERO };
    for step in 0..STEPS {
        // Refusals are answers like others; the checker judges them.
        let _ = client.step(step).await;
        tokio::task::yield_now().await;
    }
    if run.running.fetch_sub(1, Ordering::SeqCst) == 1 {
        let last = client.recorder.revision().await.map_or(u64::MAX, |at| at.0);
        run.last.store(last, Ordering::SeqCst);
        let _ = client.recorder.request_progress().await;
    }
}

/// A client that does a bit of everything, as its dice fall.
struct Client {
    recorder: Recorder,
    name: u64,
    dice: Dice,
    /// Keys and the revisions at which this client last saw them.
    known: Vec<(Key, Revision)>,
    revision: Revision,
}

impl Client {
    async fn step(&mut self, step: u64) -> Result<(), Broken> {
        let folder = if self.dice.roll(3) == 0 { "b" } else { "a" };
        let key = Key::new(format!("{folder}/{}/{}", self.dice.roll(2), self.dice.roll(3)));
        let text = Text::new(format!("{}-{step}", self.name));
        match self.dice.roll(10) {
            0 => self.commit(Txn::create(&key, text)).await?,
            1 | 2 => {
                if let Some((key, revision)) = self.pick() {
                    self.commit(Txn::update(key, text, revision)).await?;
                }
            }
            3 => {
                if let Some((key, revision)) = self.pick() {
                    self.commit(Txn::delete(key, revision)).await?;
                }
            }
            4 => self.commit(Txn::new().put(&key, text)).await?,
            5 => self.commit(Txn::new().remove(&key).put(format!("{key}x"), text)).await?,
            6 => {
                let read = self.recorder.get(&key, None).await?;
                self.revision = read.revision;
                self.known.extend(read.entry.map(|entry| (entry.key, entry.mod_revision)));
            }
            7 => {
                let page = self.recorder.list(&Prefix::new(folder), ListOptions::default()).await?;
                self.revision = page.revision;
                let seen = page.entries.into_iter().map(|entry| (entry.key, entry.mod_revision));
                self.known.extend(seen);
            }
            8 => self.pages(folder).await?,
            _ => {
                let back = self.dice.roll(10);
                let at = Revision(self.revision.0.saturating_sub(back).max(1));
                self.recorder.get(&key, Some(at)).await?;
                self.revision = self.recorder.revision().await?;
            }
        }
        Ok(())
    }

    async fn pages(&mut self, folder: &str) -> Result<(), StoreError> {
        let prefix = Prefix::new(folder);
        let mut page = self.recorder.list(&prefix, ListOptions::page(2)).await?;
        while page.more {
            tokio::task::yield_now().await;
            let after = page.entries.last().map(|entry| entry.key.clone());
            let options = ListOptions { at: Some(page.revision), limit: Some(2), after };
            page = self.recorder.list(&prefix, options).await?;
        }
        Ok(())
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

/// Numbers that look random and are the same in every run (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % sides
    }
}
