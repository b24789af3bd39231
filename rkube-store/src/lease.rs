use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

/// The name of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub NonZeroU64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A time to live that keys can be bound to: when it ends, they are deleted, all in one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its name, to bind keys with.
    pub id: LeaseId,
    /// The time to live that was granted; keeping it alive starts it again. A backend may grant more than
    /// was asked for (etcd: whole seconds, and not under a few), never less.
    pub granted: Duration,
    /// How much of that is left.
    pub remaining: Duration,
}
