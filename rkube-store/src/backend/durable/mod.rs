//! The backend on disk: the same state as in memory, behind a log that every commit is written to before
//! anybody sees it. Feature `durable`.
//!
//! # How it works
//!
//! Commits are applied in memory one after the other and handed to a thread, which writes all that came
//! while it was busy as one frame, syncs it, and only then shows it to readers and watchers and answers
//! whoever committed. So many writers share one sync, and a single one waits for nothing but its own.
//!
//! The log lies in files of bounded size. When those at its beginning hold only history that was
//! compacted, the state at the oldest readable revision is written to a snapshot, and they are removed.
//!
//! Opening reads the snapshot and the log behind it. The write that a crash interrupted is cut off and
//! reported ([`Recovery::cut`]); it was never acknowledged. Whatever else is not as it was written is an
//! [`OpenError`], and nothing is touched. Leases begin anew with their full time to live.
//!
//! # When the disk fails
//!
//! After an error of the disk it is not known what of the last write is there, and a later sync that
//! succeeds would not tell either. So nothing is tried again: commits in flight end as
//! [`CommitError::Unknown`](crate::CommitError::Unknown), later ones as
//! [`StoreError::ReadOnly`](crate::StoreError::ReadOnly), what is durable can still be read, and opening
//! the store again finds out.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use rkube_store::backend::durable::Durable;
//! use rkube_store::testing::Text;
//! use rkube_store::{Key, Store, Txn};
//! # let path = std::env::temp_dir().join(format!("rkube-durable-{}", std::process::id()));
//! let store: Durable<Text> = Durable::open(&path)?;
//! store.commit(Txn::create("pods/a", Text::new("hello"))).await?;
//! drop(store);
//!
//! let store: Durable<Text> = Durable::open(&path)?;
//! assert_eq!(store.recovery().replayed, 1);
//! assert!(store.get(&Key::new("pods/a"), None).await?.entry.is_some());
//! # drop(store);
//! # std::fs::remove_dir_all(path)?;
//! # Ok(()) }
//! ```

mod codec;
mod disk;
mod error;
mod frame;
mod layout;
mod open;
mod options;
mod queue;
mod raw;
pub mod save;
mod snapshot;
mod stats;
mod writer;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::engine::{Engine, Options, store_by_engine};
use crate::Value;
use crate::mvcc::Codec;
pub use disk::{Disk, Folder, Output};
pub use error::OpenError;
pub use open::{Cut, Recovery, verify};
use options::Bounds;
pub use options::Builder;
use queue::Queue;
pub use raw::Raw;
use stats::Figures;
pub use stats::{Condition, DiskUse, Stats};
use writer::Writer;

/// A store on disk; see [`backend::durable`](self). Clones share one store, which is closed when the last of
/// them is dropped: that waits until what was begun is on disk.
pub struct Durable<V: Value> {
    engine: Arc<Engine<V>>,
    log: Arc<Log<V>>,
}

impl<V: Value> Clone for Durable<V> {
    fn clone(&self) -> Self {
        Self { engine: self.engine.clone(), log: self.log.clone() }
    }
}

/// The thread that writes.
struct Log<V: Value> {
    queue: Arc<Queue<V>>,
    thread: Option<JoinHandle<()>>,
    figures: Arc<Mutex<Figures>>,
    ended: watch::Receiver<bool>,
    recovery: Recovery,
}

impl<V: Value> Drop for Log<V> {
    fn drop(&mut self) {
        self.queue.stop.store(true, Ordering::Release);
        self.queue.close();
        if let Some(thread) = self.thread.take()
            // The last handle may go with a task that the thread itself has just woken.
            && thread.thread().id() != std::thread::current().id()
        {
            // It panics only with what is not ours, and told so.
            let _ = thread.join();
        }
    }
}

impl<V: Value> Durable<V> {
    /// The store in this folder, or a new one if there is none; see [`Builder::open`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        Self::builder(path).open()
    }

    /// A store in a folder, with bounds of its own.
    pub fn builder(path: impl Into<PathBuf>) -> Builder<V> {
        Builder::new(path)
    }

    /// A store on another disk than a folder.
    pub fn builder_on(disk: Arc<dyn Disk>) -> Builder<V> {
        Builder::on(disk)
    }

    fn start(
        disk: Arc<dyn Disk>,
        options: &Options,
        bounds: Bounds,
        from: Option<&Path>,
    ) -> Result<Self, OpenError> {
        // Before the lock, which writes: a foreign folder is not touched.
        open::list(&*disk)?;
        let lock = open::lock(&*disk)?;
        if let Some(from) = from {
            if !open::list(&*disk)?.is_new() {
                return Err(OpenError::Occupied);
            }
            open::begin_from::<V>(&*disk, from, options)?;
        }
        let mut found = match open::read(&*disk, options)? {
            Some(found) => found,
            None => open::begin(options, open::name_store()?),
        };
        let tail = open::make_ready(&*disk, &mut found)?;
        let queue = Arc::new(Queue::new(Codec::new(options.transform.clone())));
        let (disk_use, recovery) = (found.files, found.recovery);
        let engine = Engine::new(found.state, options, Instant::now(), Some(queue.clone()));
        let figures = Arc::new(Mutex::new(Figures::default()));
        let writer = Writer::new(
            engine.clone(),
            queue.clone(),
            disk,
            bounds,
            writer::Place { tail, last: recovery.revision, files: disk_use },
            figures.clone(),
        );
        let thread = std::thread::Builder::new().name("rkube-log".to_owned());
        let runtime = tokio::runtime::Handle::try_current().ok();
        let (end, ended) = watch::channel(false);
        let thread = thread.spawn(move || {
            // So that its times are those of the runtime.
            let _time = runtime.as_ref().map(tokio::runtime::Handle::enter);
            writer.run();
            drop(lock);
            end.send_replace(true);
        });
        let thread = Some(thread.map_err(OpenError::io("start the log's thread"))?);
        Ok(Self { engine, log: Arc::new(Log { queue, thread, figures, ended, recovery }) })
    }

    /// What was found when it was opened.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.log.recovery
    }

    /// Ends leases in time, and ages history, for as long as it is polled. It returns when the store is gone.
    pub fn run_expiry(&self) -> impl Future<Output = ()> + Send + use<V> {
        self.engine.run_expiry()
    }

    fn figures(&self) -> crate::Stats {
        let Stats { store, condition, queued, sync, disk, .. } = self.stats();
        let disk = crate::DiskStats {
            takes_writes: condition == Condition::Open,
            failed: matches!(condition, Condition::Failed(_)),
            syncs: sync,
            bytes: disk.log_bytes + disk.snapshot_bytes,
            free_bytes: disk.free_bytes,
            queued,
        };
        crate::Stats { disk: Some(disk), ..store }
    }

    /// How it is doing.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let figures = *self.log.figures.lock();
        Stats {
            store: self.engine.stats(),
            condition: self.log.queue.condition(),
            queued: self.log.queue.len(),
            commits: figures.commit.count,
            commit: figures.commit,
            sync: figures.sync,
            written_bytes: figures.written_bytes,
            disk: figures.disk,
        }
    }

    /// Closes the store: waits until all that was begun is on disk, and what a compaction gives back is given
    /// back. Afterwards it can still be read, and be opened anew.
    pub async fn close(&self) {
        self.log.queue.close();
        let mut ended = self.log.ended.clone();
        // The thread has the sender, so an error means that it is gone, too.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

store_by_engine!(Durable);
