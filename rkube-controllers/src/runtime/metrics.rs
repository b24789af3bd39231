//! Counters of a controller.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// The live counters of one controller; clones share them.
///
/// ```
/// let metrics = rkube_controllers::runtime::Metrics::default();
/// assert_eq!(metrics.read().reconciles, 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    reconciles: AtomicU64,
    errors: AtomicU64,
    conflicts: AtomicU64,
    panics: AtomicU64,
    active: AtomicU64,
    microseconds: AtomicU64,
}

/// What the counters showed at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetricsSnapshot {
    /// Finished calls of the reconciler.
    pub reconciles: u64,
    /// Those that failed, conflicts included.
    pub errors: u64,
    /// Those that failed because a cache lagged behind.
    pub conflicts: u64,
    /// Those that panicked.
    pub panics: u64,
    /// Workers that are busy now.
    pub active: u64,
    /// The time spent in the reconciler, in microseconds of tokio's clock.
    pub microseconds: u64,
}

impl Metrics {
    /// Reads the counters.
    pub fn read(&self) -> MetricsSnapshot {
        MetricsSnapshot {
            reconciles: self.0.reconciles.load(Relaxed),
            errors: self.0.errors.load(Relaxed),
            conflicts: self.0.conflicts.load(Relaxed),
            panics: self.0.panics.load(Relaxed),
            active: self.0.active.load(Relaxed),
            microseconds: self.0.microseconds.load(Relaxed),
        }
    }

    pub(crate) fn begin(&self) {
        self.0.active.fetch_add(1, Relaxed);
    }

    pub(crate) fn end(&self, spent: std::time::Duration, result: End) {
        self.0.active.fetch_sub(1, Relaxed);
        self.0.reconciles.fetch_add(1, Relaxed);
        self.0.microseconds.fetch_add(u64::try_from(spent.as_micros()).unwrap_or(u64::MAX), Relaxed);
        if result != End::Done {
            self.0.errors.fetch_add(1, Relaxed);
        }
        match result {
            End::Conflict => self.0.conflicts.fetch_add(1, Relaxed),
            End::Panic => self.0.panics.fetch_add(1, Relaxed),
            End::Done | End::Error => 0,
        };
    }
}

/// How a call of the reconciler ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    Error,
    Conflict,
    Panic,
}
