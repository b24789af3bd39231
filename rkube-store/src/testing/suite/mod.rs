//! The suite that every backend passes: at least one case for each promise of [`Store`], and for
//! transactions, leases, limits, paging, compaction and catching up.
//!
//! A backend implements [`Harness`] and calls [`run`] in a test of its own. Cases wait by `tokio::time`
//! only, so a backend in memory runs them under paused time.
//!
//! ```
//! use std::sync::Arc;
//! use async_trait::async_trait;
//! use rkube_store::testing::{Text, suite};
//! use rkube_store::{Memory, Store};
//!
//! struct InMemory;
//!
//! #[async_trait]
//! impl suite::Harness for InMemory {
//!     async fn store(&self) -> Arc<dyn Store<Text>> {
//!         let memory = Memory::builder().build();
//!         tokio::spawn(memory.run_expiry()); // leases end although nobody calls
//!         Arc::new(memory)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let report = suite::run(Arc::new(InMemory)).await;
//! assert!(report.failures.is_empty(), "{report}");
//! # }
//! ```

mod commits;
mod concurrent;
mod leases;
mod limits;
mod quota;
mod reads;
mod unreadable;
mod watches;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::BoxFuture;

use super::Text;
use crate::{Batch, Committed, Revision, Store, Txn, Watch, WatchItem};
pub use quota::quota;

/// What the suite needs of a backend.
#[async_trait]
pub trait Harness: Send + Sync + 'static {
    /// A new, empty store.
    async fn store(&self) -> Arc<dyn Store<Text>>;

    /// The store as it is after its process was killed and the machine lost all that was not on disk.
    /// `None` for a backend that ends with its process.
    async fn after_crash(&self, store: Arc<dyn Store<Text>>) -> Option<Arc<dyn Store<Text>>> {
        drop(store);
        None
    }

    /// Whether a handle of before a crash reaches the store of after it, as the client of a server does that
    /// was restarted. One into a store of this process would be that of a process that is gone.
    fn outlives_crashes(&self) -> bool {
        false
    }

    /// Runs futures side by side until all are done. A harness on several threads should spread them.
    async fn side_by_side(&self, tasks: Vec<BoxFuture<'static, ()>>) {
        futures::future::join_all(tasks).await;
    }
}

/// A case of the suite.
#[derive(Clone, Copy)]
pub struct Case {
    /// What it shows.
    pub name: &'static str,
    /// Which of the store's promises; empty for what else is in the contract.
    pub promises: &'static [u8],
    run: for<'a> fn(&'a Place) -> BoxFuture<'a, Outcome>,
}

/// All went well, or what did not.
pub type Outcome = Result<(), Broken>;

/// A broken promise, in words.
#[derive(Debug)]
pub struct Broken(String);

impl Broken {
    /// What was expected and what came.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Broken {
    fn from(error: E) -> Self {
        Self(format!("unexpected error: {error}"))
    }
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// How many cases held.
    pub passed: usize,
    /// Which did not, and how.
    pub failures: Vec<(&'static str, Broken)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failures.len())?;
        self.failures.iter().try_for_each(|(name, broken)| write!(f, "\n{name}: {broken}"))
    }
}

/// Every case.
#[must_use]
pub fn all() -> Vec<Case> {
    [
        commits::CASES,
        reads::CASES,
        watches::CASES,
        leases::CASES,
        limits::CASES,
        unreadable::CASES,
        concurrent::CASES,
    ]
    .concat()
}

/// Runs every case, each on a store of its own.
pub async fn run(harness: Arc<dyn Harness>) -> Report {
    run_matching(harness, "").await
}

/// Runs the cases whose name contains this text.
pub async fn run_matching(harness: Arc<dyn Harness>, name: &str) -> Report {
    let mut report = Report::default();
    for case in all().into_iter().filter(|case| case.name.contains(name)) {
        let store = harness.store().await;
        let place = Place { harness: harness.clone(), store };
        match (case.run)(&place).await {
            Ok(()) => report.passed += 1,
            Err(broken) => report.failures.push((case.name, broken)),
        }
    }
    report
}

/// Where a case runs.
struct Place {
    harness: Arc<dyn Harness>,
    store: Arc<dyn Store<Text>>,
}

impl Place {
    /// Writes a key, whatever its state.
    async fn put(&self, key: &str, text: &str) -> Result<Committed<Text>, Broken> {
        Ok(self.store.commit(Txn::new().put(key, Text::new(text))).await?)
    }

    async fn remove(&self, key: &str) -> Result<Committed<Text>, Broken> {
        Ok(self.store.commit(Txn::new().remove(key)).await?)
    }
}

macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::testing::suite::Broken::new(format!($($text)+)));
        }
    };
}
macro_rules! ensure_eq {
    ($left:expr, $right:expr, $($text:tt)+) => {
        match (&$left, &$right) {
            (left, right) => if left != right {
                let text = format!($($text)+);
                let text = format!("{text}:\n  got      {left:?}\n  expected {right:?}");
                return Err($crate::testing::suite::Broken::new(text));
            }
        }
    };
}
macro_rules! cases {
    ($($name:ident: $promises:expr,)+) => {
        pub(super) const CASES: &[super::Case] = &[$(super::Case {
            name: stringify!($name),
            promises: &$promises,
            run: |place| Box::pin($name(place)),
        },)+];
    };
}
use {cases, ensure, ensure_eq};

/// Far longer than anything should take.
const LONG: Duration = Duration::from_secs(60);
/// How long nothing must come for it to count as nothing.
const SHORT: Duration = Duration::from_millis(100);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> Result<T, Broken> {
    tokio::time::timeout(LONG, future).await.map_err(|_| Broken::new(format!("{what}: nothing came")))
}

async fn next_item(watch: &mut Watch<Text>) -> Result<WatchItem<Text>, Broken> {
    let item = within("watch", watch.next()).await?;
    Ok(item.ok_or_else(|| Broken::new("the watch ended"))??)
}

async fn next_batch(watch: &mut Watch<Text>) -> Result<Arc<Batch<Text>>, Broken> {
    match next_item(watch).await? {
        WatchItem::Events(batch) => Ok(batch),
        WatchItem::Progress(revision) => {
            Err(Broken::new(format!("progress to {revision} was not asked for")))
        }
    }
}

/// The batches up to a revision, which must have one.
async fn batches_to(watch: &mut Watch<Text>, last: Revision) -> Result<Vec<Batch<Text>>, Broken> {
    let mut batches = Vec::new();
    loop {
        let batch = next_batch(watch).await?;
        let revision = batch.revision;
        ensure!(revision <= last, "the batch of revision {last} did not come, but that of {revision}");
        batches.push(Batch::clone(&batch));
        if revision == last {
            return Ok(batches);
        }
    }
}

async fn nothing_more(watch: &mut Watch<Text>) -> Outcome {
    match tokio::time::timeout(SHORT, watch.next()).await {
        Err(_) => Ok(()),
        Ok(item) => Err(Broken::new(format!("nothing was due, but this came: {item:?}"))),
    }
}
