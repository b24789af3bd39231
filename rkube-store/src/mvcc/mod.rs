//! The pure, synchronous heart of a store: a key's versions, the log of revisions, transactions,
//! compaction, leases. It knows no locks, no tasks and no clock: whoever holds it passes the time.
//!
//! A backend in front of it decides when a commit is visible. Every read is at a revision, so a durable
//! backend can apply a commit, write it down, and let readers have the revision only when it is on disk.

mod codec;
#[cfg(feature = "etcd")]
mod follow;
mod hot;
mod image;
mod keys;
mod leases;
mod log;
mod record;
#[cfg(feature = "durable")]
mod replay;
mod state;
mod txn;

pub(crate) use codec::Codec;
#[cfg(feature = "etcd")]
pub(crate) use follow::{Present, Row};
pub(crate) use image::{Granted, Kept};
#[cfg(feature = "etcd")]
pub(crate) use record::Stored;
#[cfg(feature = "durable")]
pub(crate) use replay::{Facts, Replay};
pub(crate) use state::{Dropped, Marks, Retention, State, Written};
pub(crate) use txn::{Applied, Prepared, Refusal, Unread};
