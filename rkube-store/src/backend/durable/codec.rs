//! The one place that knows how records look in bytes: bincode, in a form of our own types only.
//!
//! A change of these types, or of bincode, is a new [`FORMAT`](super::layout::FORMAT).

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bincode::Options;
use serde::{Deserialize, Serialize};

use crate::backend::engine::Record;
use crate::mvcc::{Facts, Granted, Kept, Replay};
use crate::{Key, LeaseId, Revision, Value};

/// Bytes that are whole by their checksum, but are no record: a bug, or a clever forgery.
#[derive(Debug, thiserror::Error)]
#[error("no record: {0}")]
pub(super) struct NoRecord(String);

impl NoRecord {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl From<bincode::Error> for NoRecord {
    fn from(error: bincode::Error) -> Self {
        Self(error.to_string())
    }
}

/// What a line of the log says.
#[derive(Serialize, Deserialize)]
pub(super) enum Line<'a> {
    /// A commit took this revision.
    Commit {
        revision: u64,
        ends: Option<u64>,
        #[serde(borrow, with = "serde_bytes")]
        operations: &'a [u8],
    },
    Grant {
        lease: u64,
        time_to_live: Duration,
    },
    End {
        lease: u64,
    },
    Compact {
        at: u64,
    },
}

#[derive(Serialize, Deserialize)]
enum Operation<'a> {
    Put {
        key: &'a str,
        lease: Option<u64>,
        #[serde(borrow, with = "serde_bytes")]
        value: &'a [u8],
    },
    Delete {
        key: &'a str,
    },
}

/// A line of a snapshot.
#[derive(Serialize, Deserialize)]
pub(super) enum Saved<'a> {
    Entry {
        key: &'a str,
        created: u64,
        modified: u64,
        version: u64,
        lease: Option<u64>,
        #[serde(borrow, with = "serde_bytes")]
        value: &'a [u8],
    },
    Lease {
        lease: u64,
        time_to_live: Duration,
    },
    /// The highest name that a lease had.
    LastLease {
        lease: u64,
    },
    /// The last line, by which one knows that none is missing.
    End {
        entries: u64,
    },
}

fn options() -> impl Options {
    bincode::DefaultOptions::new()
}

/// Appends a line behind its length.
fn push(to: &mut Vec<u8>, line: &impl Serialize) -> Result<(), NoRecord> {
    let at = to.len();
    to.extend([0; 4]);
    options().serialize_into(&mut *to, line)?;
    let length = u32::try_from(to.len() - at - 4).map_err(|error| NoRecord(error.to_string()))?;
    to[at..at + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// The lines of a frame's payload.
pub(super) fn lines<'a, T: Deserialize<'a>>(
    mut payload: &'a [u8],
) -> impl Iterator<Item = Result<T, NoRecord>> {
    std::iter::from_fn(move || {
        if payload.is_empty() {
            return None;
        }
        let line = payload.split_first_chunk::<4>().and_then(|(length, rest)| {
            rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
        });
        let Some((line, rest)) = line else {
            payload = &[];
            return Some(Err(NoRecord("a line ends early".to_owned())));
        };
        payload = rest;
        Some(options().deserialize(line).map_err(NoRecord::from))
    })
}

/// Appends what an entry writes. Nothing for one that writes nothing.
pub(super) fn push_record(to: &mut Vec<u8>, revision: Revision, record: &Record) -> Result<(), NoRecord> {
    let line = match record {
        Record::Nothing => return Ok(()),
        Record::Commit { operations, ends } => {
            Line::Commit { revision: revision.0, ends: ends.map(|lease| lease.0.get()), operations }
        }
        Record::End(lease) => Line::End { lease: lease.0.get() },
        Record::Grant { lease, time_to_live } => {
            Line::Grant { lease: lease.0.get(), time_to_live: *time_to_live }
        }
        Record::Compact(at) => Line::Compact { at: at.0 },
    };
    push(to, &line)
}

/// Appends a put to a transaction's operations.
pub(super) fn push_put(
    to: &mut Vec<u8>,
    key: &Key,
    lease: Option<LeaseId>,
    value: &[u8],
) -> Result<(), NoRecord> {
    push(to, &Operation::Put { key: key.as_str(), lease: lease.map(|lease| lease.0.get()), value })
}

/// Appends a deletion to a transaction's operations.
pub(super) fn push_delete(to: &mut Vec<u8>, key: &Key) -> Result<(), NoRecord> {
    push(to, &Operation::Delete { key: key.as_str() })
}

/// A commit's operations again.
pub(super) fn operations(bytes: &[u8]) -> Result<Vec<Replay>, NoRecord> {
    let replay = |operation| {
        Ok(match operation? {
            Operation::Put { key, lease, value } => {
                Replay::Put { key: Key::new(key), bytes: Arc::from(value), lease: lease_id(lease)? }
            }
            Operation::Delete { key } => Replay::Delete { key: Key::new(key) },
        })
    };
    lines(bytes).map(replay).collect()
}

/// The name of a lease from its number.
pub(super) fn lease(number: u64) -> Result<LeaseId, NoRecord> {
    NonZeroU64::new(number).map(LeaseId).ok_or_else(|| NoRecord("a lease without a name".to_owned()))
}

fn lease_id(number: Option<u64>) -> Result<Option<LeaseId>, NoRecord> {
    number.map(lease).transpose()
}

/// Appends an entry to a snapshot.
pub(super) fn push_kept<V: Value>(to: &mut Vec<u8>, kept: &Kept<V>, value: &[u8]) -> Result<(), NoRecord> {
    let Facts { created, modified, version, lease } = kept.facts();
    push(
        to,
        &Saved::Entry {
            key: kept.key.as_str(),
            created: created.0,
            modified: modified.0,
            version,
            lease: lease.map(|lease| lease.0.get()),
            value,
        },
    )
}

/// Appends a lease to a snapshot.
pub(super) fn push_lease(to: &mut Vec<u8>, granted: Granted) -> Result<(), NoRecord> {
    push(to, &Saved::Lease { lease: granted.lease.0.get(), time_to_live: granted.term.time_to_live })
}

/// Appends a snapshot's other lines.
pub(super) fn push_saved(to: &mut Vec<u8>, line: &Saved<'_>) -> Result<(), NoRecord> {
    push(to, line)
}

impl Saved<'_> {
    /// An entry, if it is one.
    pub(super) fn kept<V: Value>(&self) -> Result<Option<Kept<V>>, NoRecord> {
        let Self::Entry { key, created, modified, version, lease, value } = *self else { return Ok(None) };
        let (created, modified) = (Revision(created), Revision(modified));
        let facts = Facts { created, modified, version, lease: lease_id(lease)? };
        Ok(Some(Kept::cold(Key::new(key), facts, Arc::from(value))))
    }
}
