use std::time::Duration;

use crate::Revision;

/// How much a store holds in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Keys, with deleted ones that history still knows.
    pub keys: usize,
    /// Retained revisions.
    pub revisions: usize,
    /// Values that are objects, where a budget is set.
    pub hot_values: usize,
    /// What these weigh together.
    pub hot_bytes: usize,
    /// What the present entries take: the bytes of their keys, and what their values weigh as objects.
    pub entry_bytes: u64,
}

/// How a store is doing, seen from this process, for its metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The store's revision.
    pub revision: Revision,
    /// The oldest that can be read; the history is what lies between.
    pub compacted: Revision,
    /// What is in memory.
    pub sizes: Sizes,
    /// Its watches.
    pub watches: WatchStats,
    /// The commits that succeeded, from the call to the answer.
    pub commits: Latency,
    /// How its disk does, if it has one of its own.
    pub disk: Option<DiskStats>,
}

/// How the disk under a store does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Whether all writes are taken: not beyond a quota, on a disk that is nearly full, or after a failure.
    pub takes_writes: bool,
    /// Whether something could not be written: the store must be opened again.
    pub failed: bool,
    /// How long it took to sync what one or more commits had written.
    pub syncs: Latency,
    /// How many bytes the store has there.
    pub bytes: u64,
    /// How many were free when it was last looked at.
    pub free_bytes: Option<u64>,
    /// How many commits wait to be written.
    pub queued: usize,
}

/// How the watches of a store keep up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchStats {
    /// How many have caught up with the log and take each commit as it comes.
    pub live: usize,
    /// How many batches the slowest of these has yet to take.
    pub lag: usize,
    /// How many read the log, or will when they are next polled: they have just begun, or fell so far behind
    /// that what they need is not held for them any more.
    pub lagging: usize,
    /// How many revisions the slowest of all is behind the store, whatever of them it watches.
    pub behind: u64,
}

/// How long something took, over all times it was done.
///
/// ```
/// use std::time::Duration;
/// use rkube_store::Latency;
/// let mut latency = Latency::default();
/// (1..=100).for_each(|milliseconds| latency.note(Duration::from_millis(milliseconds)));
/// assert_eq!((latency.count, latency.max), (100, Duration::from_millis(100)));
/// let median = latency.quantile(0.5);
/// assert!(median >= Duration::from_millis(50) && median < Duration::from_millis(110));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// How many times.
    pub count: u64,
    /// All of them together.
    pub sum: Duration,
    /// The longest.
    pub max: Duration,
    /// How many took under 2 microseconds, under 4, under 8, and so on; the last one has all others.
    pub buckets: [u64; 24],
}

impl Latency {
    /// Adds one.
    pub fn note(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        self.buckets[(micros.ilog2() as usize).min(self.buckets.len() - 1)] += 1;
        self.count += 1;
        self.sum = self.sum.saturating_add(took);
        self.max = self.max.max(took);
    }

    /// The upper bound of a bucket; none for the last one.
    #[must_use]
    pub const fn bound(bucket: usize) -> Option<Duration> {
        if bucket + 1 < 24 { Some(Duration::from_micros(2 << bucket)) } else { None }
    }

    /// The upper bound of the bucket below or at which this part of all lies (0.5 is the median).
    #[must_use]
    pub fn quantile(&self, part: f64) -> Duration {
        let wanted = (self.count as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Self::bound(bucket).unwrap_or(self.max).min(self.max);
            }
        }
        self.max
    }
}
