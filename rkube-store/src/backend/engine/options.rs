use std::sync::Arc;

use crate::Transform;
use crate::mvcc::Retention;

/// What every backend of this process can be told.
#[derive(Clone)]
pub(in crate::backend) struct Options {
    pub(in crate::backend) history: Retention,
    pub(in crate::backend) hot_bytes: Option<usize>,
    /// What the present entries may take in memory.
    pub(in crate::backend) quota_bytes: Option<u64>,
    pub(in crate::backend) watch_queue: usize,
    pub(in crate::backend) transform: Option<Arc<dyn Transform>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            history: Retention { revisions: 50_000, age: None },
            hot_bytes: Some(1 << 30),
            quota_bytes: None,
            watch_queue: 1024,
            transform: None,
        }
    }
}

/// The options that all builders have, for one with a field `options`.
macro_rules! common_options {
    () => {
        /// How many revisions back can be read and watched from; 50,000 by default. A revision costs 24
        /// bytes, and the value that it replaced or deleted.
        pub fn history(mut self, revisions: u64) -> Self {
            self.options.history.revisions = revisions;
            self
        }

        /// How long ago a revision may have been current to be read and watched from; without bound by
        /// default. Old history goes away as new commits come, and without any while the store's driver
        /// (`run_expiry`, or `run` of etcd's) is polled. Ages count from when the process first saw a
        /// revision, by a clock that no change of the system's time moves.
        pub fn history_age(mut self, age: std::time::Duration) -> Self {
            self.options.history.age = Some(age);
            self
        }

        /// How much all values that are objects may weigh together, by [`Value::weight`]; 1 GiB by default.
        /// Beyond it, those that were not read or written for the longest time are kept as bytes only.
        pub fn hot_bytes(mut self, bytes: usize) -> Self {
            self.options.hot_bytes = Some(bytes);
            self
        }

        /// How many batches are held ready for the watchers of one prefix; 1,024 by default. A watcher that
        /// falls behind them reads the log instead, and ends if that is compacted.
        pub fn watch_queue(mut self, batches: usize) -> Self {
            self.options.watch_queue = batches;
            self
        }

        /// What bytes at rest go through: those of cold values, and all that is written to a file.
        pub fn transform(mut self, transform: std::sync::Arc<dyn $crate::Transform>) -> Self {
            self.options.transform = Some(transform);
            self
        }

        /// The transformer that was given, if one was.
        #[must_use]
        pub fn transformer(&self) -> Option<std::sync::Arc<dyn $crate::Transform>> {
            self.options.transform.clone()
        }
    };
}
pub(in crate::backend) use common_options;
