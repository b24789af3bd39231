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
}

/// How a store of this process is doing, for its metrics.
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
}

/// How the watches of a store keep up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchStats {
    /// How many have caught up with the log and take each commit as it comes.
    pub live: usize,
    /// How many batches the slowest of these has yet to take.
    pub lag: usize,
    /// How many fell so far behind that they must read the log again.
    pub lagging: usize,
}
