use crate::{Latency, Revision};

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

/// What the log's thread counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) commit: Latency,
    pub(super) sync: Latency,
    pub(super) written_bytes: u64,
    pub(super) disk: DiskUse,
}
