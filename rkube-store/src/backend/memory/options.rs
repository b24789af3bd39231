use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Memory, Shared};
use crate::mvcc::{Codec, Marks, Retention, State};
use crate::watch::Hub;
use crate::{Transform, Value};

/// The bounds of a store in memory.
///
/// ```
/// # use rkube_store::{Memory, Value};
/// fn small<V: Value>() -> Memory<V> {
///     Memory::builder().history(100).hot_bytes(1 << 20).watch_queue(16).build()
/// }
/// ```
#[must_use]
pub struct Builder<V> {
    history: Retention,
    hot_bytes: Option<usize>,
    watch_queue: usize,
    transform: Option<Arc<dyn Transform>>,
    of: PhantomData<fn() -> V>,
}

impl<V> Default for Builder<V> {
    fn default() -> Self {
        Self {
            history: Retention { revisions: 50_000, age: None },
            hot_bytes: Some(1 << 30),
            watch_queue: 1024,
            transform: None,
            of: PhantomData,
        }
    }
}

impl<V: Value> Builder<V> {
    /// How many revisions back can be read and watched from; 50,000 by default. A revision costs 24 bytes,
    /// and the value that it replaced or deleted.
    pub fn history(mut self, revisions: u64) -> Self {
        self.history.revisions = revisions;
        self
    }

    /// How long ago a revision may have been current to be read and watched from; without bound by default.
    /// Old history goes away as new commits come.
    pub fn history_age(mut self, age: Duration) -> Self {
        self.history.age = Some(age);
        self
    }

    /// How much all values that are objects may weigh together, by [`Value::weight`]; 1 GiB by default.
    /// Beyond it, those that were not read or written for the longest time are kept as bytes only.
    pub fn hot_bytes(mut self, bytes: usize) -> Self {
        self.hot_bytes = Some(bytes);
        self
    }

    /// Keeps all values as objects; no value is ever encoded.
    pub fn all_hot(mut self) -> Self {
        self.hot_bytes = None;
        self
    }

    /// How many batches are held ready for the watchers of one prefix; 1,024 by default. A watcher that
    /// falls behind them reads the log instead, and ends if that is compacted.
    pub fn watch_queue(mut self, batches: usize) -> Self {
        self.watch_queue = batches;
        self
    }

    /// What bytes of cold values go through.
    pub fn transform(mut self, transform: Arc<dyn Transform>) -> Self {
        self.transform = Some(transform);
        self
    }

    /// The empty store, at revision 1.
    #[must_use]
    pub fn build(self) -> Memory<V> {
        let state = State::new(self.history, self.hot_bytes);
        let hub = Arc::new(Hub::new(self.watch_queue, state.head()));
        let shared = Shared {
            state: RwLock::new(state),
            hub,
            codec: Codec::new(self.transform),
            pins: Mutex::new(BTreeMap::new()),
            marks: Mutex::new(Marks::default()),
            origin: Instant::now(),
            next_end: AtomicU64::new(u64::MAX),
            ends_moved: Arc::new(Notify::new()),
        };
        Memory { shared: Arc::new(shared) }
    }
}
