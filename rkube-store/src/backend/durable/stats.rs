use std::time::Duration;

use crate::Revision;

/// How a durable store is doing, for its metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// What every store of this process can tell.
    pub store: crate::Stats,
    /// Whether it takes writes.
    pub condition: Condition,
    /// How many transactions were committed since it was opened.
    pub commits: u64,
    /// From when a commit was applied until it was durable and shown.
    pub commit: Latency,
    /// How long the disk took to sync what one or more commits had written.
    pub sync: Latency,
    /// How many entries wait to be written.
    pub queued: usize,
    /// How many bytes were appended to the log since it was opened.
    pub written_bytes: u64,
    /// What is on disk.
    pub disk: DiskUse,
}

/// What a store has on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// Segments of the log.
    pub segments: usize,
    /// Their bytes.
    pub log_bytes: u64,
    /// The revision of the snapshot that the log begins at, if there is one.
    pub snapshot: Option<Revision>,
    /// Its bytes.
    pub snapshot_bytes: u64,
    /// How many bytes were free when it was last looked at.
    pub free_bytes: Option<u64>,
}

impl DiskUse {
    /// All bytes together.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.log_bytes + self.snapshot_bytes
    }
}

/// Whether a store takes writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// It does.
    #[default]
    Open,
    /// Only those that take away: its quota is used up, or the disk is nearly full.
    Full,
    /// It was closed.
    Closed,
    /// None, since something could not be written, for this reason: it must be opened again.
    Failed(String),
}

/// How long something took, over all times it was done.
///
/// ```
/// use std::time::Duration;
/// use rkube_store::backend::durable::Latency;
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

    /// The upper bound of the bucket below or at which this part of all lies (0.5 is the median).
    #[must_use]
    pub fn quantile(&self, part: f64) -> Duration {
        let wanted = (self.count as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_micros(2 << bucket).min(self.max);
            }
        }
        self.max
    }
}

/// What the log's thread counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) commit: Latency,
    pub(super) sync: Latency,
    pub(super) written_bytes: u64,
    pub(super) disk: DiskUse,
}
