//! Which files there are, and how they begin.
//!
//! ```text
//! lock                              held by the process that has the store open
//! 00000000000000000007.log          a segment of the log, by its number
//! 00000000000000050001.snapshot     the state at a revision
//! *.new                             being written; of no worth
//! ```

use std::io::{self, Read};

use super::error::OpenError;
use super::frame::Salt;
use crate::Revision;

pub(super) const LOCK: &str = "lock";
/// The format of files that this version writes, and the only one it reads.
pub(super) const FORMAT: u32 = 1;
/// What file systems put into their root.
const NOT_OURS_BUT_FINE: &str = "lost+found";
const NEW: &str = ".new";
const LOG: &str = ".log";
const SNAPSHOT: &str = ".snapshot";

pub(super) fn log_name(sequence: u64) -> String {
    format!("{sequence:020}{LOG}")
}

pub(super) fn snapshot_name(revision: Revision) -> String {
    format!("{:020}{SNAPSHOT}", revision.0)
}

pub(super) fn new_name(name: &str) -> String {
    format!("{name}{NEW}")
}

/// The files of a folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// Segments of the log by number, in order.
    pub(super) logs: Vec<u64>,
    /// Snapshots by revision, in order.
    pub(super) snapshots: Vec<Revision>,
    /// What was being written.
    pub(super) unfinished: Vec<String>,
    /// What is not ours, the first one by name.
    pub(super) foreign: Option<String>,
}

impl Listing {
    pub(super) fn sort(names: impl IntoIterator<Item = String>) -> Self {
        let mut files = Self::default();
        for name in names {
            let number = |ending: &str| -> Option<u64> {
                name.strip_suffix(ending).filter(|digits| digits.len() == 20)?.parse().ok()
            };
            if let Some(sequence) = number(LOG) {
                files.logs.push(sequence);
            } else if let Some(revision) = number(SNAPSHOT) {
                files.snapshots.push(Revision(revision));
            } else if [LOG, SNAPSHOT].iter().any(|kind| name.ends_with(&format!("{kind}{NEW}"))) {
                files.unfinished.push(name);
            } else if ![LOCK, NOT_OURS_BUT_FINE].contains(&&*name)
                && files.foreign.as_ref().is_none_or(|first| name < *first)
            {
                files.foreign = Some(name);
            }
        }
        files.logs.sort_unstable();
        files.snapshots.sort_unstable();
        files
    }

    /// Whether there is no store yet.
    pub(super) fn is_new(&self) -> bool {
        self.logs.is_empty() && self.snapshots.is_empty()
    }
}

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Log,
    Snapshot,
    /// A state that stands alone.
    Saved,
}

impl Kind {
    const fn magic(self) -> [u8; 8] {
        match self {
            Self::Log => *b"rkubeLOG",
            Self::Snapshot => *b"rkubeSNP",
            Self::Saved => *b"rkubeSAV",
        }
    }
}

/// How a file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The store it belongs to, a random number.
    pub(super) store: u64,
    /// The segment's number; for a snapshot, the first segment that must be there besides.
    pub(super) sequence: u64,
    /// The store's revision when the segment began, or of the snapshot.
    pub(super) revision: Revision,
    /// The number of the first frame.
    pub(super) frame: u64,
}

impl Header {
    pub(super) const BYTES: usize = 48;

    /// The checksums of the file's frames depend on this.
    pub(super) fn salt(&self) -> Salt {
        let mixed = (self.store ^ self.sequence.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Salt((mixed >> 32) as u32)
    }

    pub(super) fn encode(&self, kind: Kind) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&kind.magic());
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        for (at, number) in [self.store, self.sequence, self.revision.0, self.frame].into_iter().enumerate() {
            bytes[12 + 8 * at..20 + 8 * at].copy_from_slice(&number.to_le_bytes());
        }
        let sum = crc32c::crc32c(&bytes[..44]);
        bytes[44..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The header of a file, or why it is none of ours.
    pub(super) fn decode(file: &str, bytes: &[u8], kind: Kind) -> Result<Self, OpenError> {
        let foreign = |reason: &str| OpenError::Foreign { file: file.to_owned(), reason: reason.to_owned() };
        let Some(bytes) = bytes.first_chunk::<{ Self::BYTES }>() else {
            return Err(foreign("it is shorter than any file of a store"));
        };
        let four = |at: usize| bytes[at..].first_chunk::<4>().map_or(0, |four| u32::from_le_bytes(*four));
        let eight = |at: usize| bytes[at..].first_chunk::<8>().map_or(0, |eight| u64::from_le_bytes(*eight));
        let whole = crc32c::crc32c(&bytes[..44]) == four(44);
        if bytes[..8] != kind.magic() {
            return Err(foreign("it does not begin like a file of a store"));
        }
        if !whole {
            return Err(OpenError::damaged(file, 0, "its header's checksum is wrong"));
        }
        if four(8) != FORMAT {
            return Err(OpenError::Format { file: file.to_owned(), found: four(8), known: FORMAT });
        }
        Ok(Self { store: eight(12), sequence: eight(20), revision: Revision(eight(28)), frame: eight(36) })
    }
}

/// Reads exactly so many bytes, or what there is.
pub(super) fn read_up_to(from: &mut dyn Read, bytes: usize, into: &mut Vec<u8>) -> io::Result<()> {
    into.clear();
    from.take(bytes as u64).read_to_end(into).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { store: 7, sequence: 3, revision: Revision(40), frame: 9 };

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let bytes = HEADER.encode(Kind::Log);
        assert_eq!(Header::decode("x", &bytes, Kind::Log).unwrap(), HEADER);
        assert!(matches!(Header::decode("x", &bytes, Kind::Snapshot), Err(OpenError::Foreign { .. })));
        assert!(matches!(Header::decode("x", &bytes[..40], Kind::Log), Err(OpenError::Foreign { .. })));
    }

    #[test]
    fn a_format_of_the_future_is_named() {
        let mut bytes = HEADER.encode(Kind::Log);
        bytes[8..12].copy_from_slice(&(FORMAT + 1).to_le_bytes());
        let sum = crc32c::crc32c(&bytes[..44]);
        bytes[44..].copy_from_slice(&sum.to_le_bytes());
        let refused = Header::decode("x", &bytes, Kind::Log);
        assert!(
            matches!(refused, Err(OpenError::Format { found, known: FORMAT, .. }) if found == FORMAT + 1)
        );
    }

    #[test]
    fn files_are_told_apart_by_their_names() {
        let names = [
            "lock",
            "lost+found",
            "00000000000000000002.log",
            "00000000000000000001.log",
            "00000000000000000050.snapshot",
            "00000000000000000003.log.new",
            "2.log",
            "notes",
        ];
        let listing = Listing::sort(names.map(str::to_owned));
        assert_eq!((listing.logs, listing.snapshots), (vec![1, 2], vec![Revision(50)]));
        assert_eq!(listing.unfinished, ["00000000000000000003.log.new"]);
        assert_eq!(listing.foreign.as_deref(), Some("2.log"));
    }
}
