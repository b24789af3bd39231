//! Opening: reads everything without touching anything, and only then makes the folder ready to write.

use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use tokio::time::Instant;
use tracing::{info, warn};

use super::codec::{self, Line, NoRecord};
use super::disk::{Disk, Output};
use super::error::OpenError;
use super::frame::{self, Bad};
use super::layout::{Header, Kind, LOCK, Listing, log_name, new_name, read_up_to, snapshot_name};
use super::{save, snapshot};
use crate::backend::engine::{Engine, Options};
use crate::mvcc::{Granted, State};
use crate::{Revision, Value};

/// What was found when a store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The revision of the snapshot that it began with.
    pub snapshot: Option<Revision>,
    /// How many commits of the log were done again.
    pub replayed: u64,
    /// The store's revision.
    pub revision: Revision,
    /// The write that the last crash interrupted. It was never acknowledged, and is gone.
    pub cut: Option<Cut>,
}

/// The unfinished end of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub file: String,
    /// Up to here it is good.
    pub offset: u64,
    /// How many bytes were cut off.
    pub bytes: u64,
}

/// A segment that is full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) sequence: u64,
    /// The store's revision at its end.
    pub(super) last: Revision,
    pub(super) bytes: u64,
}

/// What a store consists of, besides the last segment.
#[derive(Default)]
pub(super) struct Files {
    /// The snapshot's revision and size.
    pub(super) snapshot: Option<(Revision, u64)>,
    /// The segments that are full, in order.
    pub(super) sealed: Vec<Segment>,
}

/// A store as it was read.
pub(super) struct Found<V> {
    pub(super) state: State<V>,
    pub(super) recovery: Recovery,
    pub(super) files: Files,
    /// The last segment: its header, what is good of it, and the number of the next frame.
    last: Option<(Header, Vec<u8>, u64)>,
    /// The store's own number.
    store: u64,
    /// Files that are of no use any more.
    leftover: Vec<String>,
}

/// The end of the log, to be written on.
pub(super) struct Tail {
    pub(super) file: Box<dyn Output>,
    pub(super) header: Header,
    pub(super) bytes: u64,
    pub(super) frame: u64,
}

/// Reads a store. `None` if there is none yet.
pub(super) fn read<V: Value>(disk: &dyn Disk, options: &Options) -> Result<Option<Found<V>>, OpenError> {
    let files = list(disk)?;
    if files.is_new() {
        return Ok(None);
    }
    let mut reading = Reading::begin(disk, &files, options)?;
    let count = files.logs.len();
    for (at, sequence) in files.logs.iter().enumerate() {
        reading.segment(disk, *sequence, at + 1 == count)?;
    }
    reading.finish(files).map(Some)
}

/// What is there, unless it is somebody else's.
pub(super) fn list(disk: &dyn Disk) -> Result<Listing, OpenError> {
    let mut files = Listing::sort(disk.names().map_err(OpenError::io("list the folder"))?);
    match files.foreign.take().filter(|_| files.is_new()) {
        Some(file) => Err(OpenError::Foreign {
            file,
            reason: "the folder has no store, but other files: give the store a folder of its own".into(),
        }),
        None => Ok(files),
    }
}

/// A file, and how it begins: those bytes are read already.
fn begin_reading(
    disk: &dyn Disk,
    name: &str,
    kind: Kind,
) -> Result<(Box<dyn Read + Send>, Vec<u8>, Header), OpenError> {
    let mut bytes = Vec::new();
    let from = disk.read(name).and_then(|mut from| {
        read_up_to(&mut from, Header::BYTES, &mut bytes)?;
        Ok(from)
    });
    let from = from.map_err(OpenError::io(format!("read {name}")))?;
    let header = Header::decode(name, &bytes, kind)?;
    Ok((from, bytes, header))
}

struct Reading<V> {
    found: Found<V>,
    /// The next segment, if its number is known already.
    sequence: Option<u64>,
    /// The next frame, if its number is known already.
    frame: Option<u64>,
    /// Before this there is nothing to be done again.
    base: Revision,
}

impl<V: Value> Reading<V> {
    fn begin(disk: &dyn Disk, files: &Listing, options: &Options) -> Result<Self, OpenError> {
        let mut reading = Self {
            found: Found {
                state: State::new(options.history.clone(), options.hot_bytes),
                recovery: Recovery::default(),
                files: Files::default(),
                last: None,
                store: 0,
                leftover: files.unfinished.clone(),
            },
            sequence: Some(1),
            frame: None,
            base: Revision(1),
        };
        if let Some((newest, older)) = files.snapshots.split_last() {
            let name = snapshot_name(*newest);
            let from = disk.read(&name).map_err(OpenError::io(format!("read {name}")))?;
            let (state, header, bytes) = snapshot::read(from, &name, Kind::Snapshot, options)?;
            if header.revision != *newest {
                return Err(OpenError::damaged(&name, 0, "its name gives another revision"));
            }
            let found = &mut reading.found;
            found.state = state;
            found.files.snapshot = Some((header.revision, bytes));
            found.recovery.snapshot = Some(header.revision);
            found.store = header.store;
            for revision in older {
                let name = snapshot_name(*revision);
                let (_, _, of_older) = begin_reading(disk, &name, Kind::Snapshot)?;
                reading.check_owner(&name, of_older)?;
                reading.found.leftover.push(name);
            }
            reading.sequence = Some(header.sequence);
            reading.base = header.revision;
        }
        Ok(reading)
    }

    fn segment(&mut self, disk: &dyn Disk, sequence: u64, is_last: bool) -> Result<(), OpenError> {
        let name = log_name(sequence);
        let expected = self.sequence.unwrap_or(sequence);
        if sequence > expected {
            return Err(OpenError::Missing { file: log_name(expected) });
        }
        // How it begins is looked at first: whose file it is, however large.
        let (mut from, mut bytes, header) = begin_reading(disk, &name, Kind::Log)?;
        self.check_owner(&name, header)?;
        if header.sequence != sequence {
            return Err(OpenError::damaged(&name, 0, "its name gives another number"));
        }
        if sequence < expected {
            // The snapshot has it all.
            self.found.leftover.push(name);
            return Ok(());
        }
        self.check_header(&name, header)?;
        from.read_to_end(&mut bytes).map_err(OpenError::io(format!("read {name}")))?;
        let salt = header.salt();
        let (mut at, mut number) = (Header::BYTES, header.frame);
        while at < bytes.len() {
            let Some((payload, length)) = frame::read(&bytes[at..], number, salt) else { break };
            self.replay(&payload).map_err(|error| OpenError::damaged(&name, at, error.to_string()))?;
            at += length;
            number += 1;
        }
        if at < bytes.len() {
            if !is_last || frame::judge(&bytes, at, number, salt) == Bad::Damaged {
                return Err(OpenError::damaged(
                    &name,
                    at,
                    "a checksum is wrong, and it is no unfinished write",
                ));
            }
            let cut = (bytes.len() - at) as u64;
            warn!(file = name, offset = at, bytes = cut, "cut off a write that a crash interrupted");
            self.found.recovery.cut = Some(Cut { file: name, offset: at as u64, bytes: cut });
            bytes.truncate(at);
        }
        self.frame = Some(number);
        self.sequence = Some(sequence + 1);
        if is_last {
            self.found.last = Some((header, bytes, number));
        } else {
            self.found.files.sealed.push(Segment { sequence, last: self.reached(), bytes: at as u64 });
        }
        Ok(())
    }

    /// The revision up to which the log was read.
    fn reached(&self) -> Revision {
        self.found.state.head()
    }

    /// All files are of the store that the first one is of.
    fn check_owner(&mut self, name: &str, header: Header) -> Result<(), OpenError> {
        if self.found.store == 0 {
            self.found.store = header.store;
        }
        if header.store != self.found.store {
            let reason = "it is of another store".to_owned();
            return Err(OpenError::Foreign { file: name.to_owned(), reason });
        }
        Ok(())
    }

    fn check_header(&self, name: &str, header: Header) -> Result<(), OpenError> {
        let first = self.frame.is_none();
        if self.frame.is_some_and(|frame| frame != header.frame) {
            return Err(OpenError::damaged(name, 0, "the end of the segment before it is missing"));
        }
        // Behind a snapshot, the first segment may begin with what the snapshot has.
        let follows = if first { header.revision <= self.base } else { header.revision <= self.reached() };
        if !follows {
            return Err(OpenError::damaged(name, 0, "commits before it are missing"));
        }
        Ok(())
    }

    fn replay(&mut self, payload: &[u8]) -> Result<(), NoRecord> {
        let state = &mut self.found.state;
        for line in codec::lines::<Line<'_>>(payload) {
            match line? {
                Line::Commit { revision, ends, operations } => {
                    // The snapshot has the commits up to its own; but its leases may be older than they.
                    if Revision(revision) > self.base {
                        if Revision(revision) != state.head().next() {
                            return Err(NoRecord::new("a revision is missing"));
                        }
                        state.replay(codec::operations(operations)?);
                        state.bound_replayed();
                        self.found.recovery.replayed += 1;
                    }
                    if let Some(lease) = ends {
                        state.end_lease(codec::lease(lease)?);
                    }
                }
                Line::Grant { lease, time_to_live } => {
                    state.regrant(Granted::anew(codec::lease(lease)?, time_to_live));
                }
                Line::End { lease } => state.end_lease(codec::lease(lease)?),
                Line::Compact { at } => {
                    // What it compacted may lie before the snapshot.
                    let at = Revision(at).min(state.head());
                    state.compact(at).map_err(|error| NoRecord::new(error.to_string()))?;
                }
            }
        }
        Ok(())
    }

    fn finish(mut self, files: Listing) -> Result<Found<V>, OpenError> {
        if self.found.last.is_none() {
            return Err(OpenError::Missing { file: log_name(self.sequence.unwrap_or(1)) });
        }
        self.found.recovery.revision = self.found.state.head();
        let Recovery { snapshot, replayed, revision, .. } = &self.found.recovery;
        info!(?snapshot, replayed, %revision, segments = files.logs.len(), "opened the store");
        Ok(self.found)
    }
}

/// Makes a store that was read ready to be written on. Its last segment is written anew, so that all that
/// was read is on disk, whatever became of an earlier process's last sync; and what is of no use goes.
pub(super) fn make_ready<V>(disk: &dyn Disk, found: &mut Found<V>) -> Result<Tail, OpenError> {
    let Some((header, good, frame)) = found.last.take() else {
        return Err(OpenError::Missing { file: log_name(1) });
    };
    if !found.leftover.is_empty() {
        // The snapshot that makes them useless may have its name only in memory yet.
        disk.sync_names().map_err(OpenError::io("sync the names of files"))?;
    }
    for name in found.leftover.drain(..) {
        disk.remove(&name).map_err(OpenError::io(format!("remove {name}")))?;
    }
    let file = begin_segment(disk, header.sequence, &good)?;
    Ok(Tail { file, header, bytes: good.len() as u64, frame })
}

/// A segment with its first bytes, there whole or not at all.
pub(super) fn begin_segment(
    disk: &dyn Disk,
    sequence: u64,
    bytes: &[u8],
) -> Result<Box<dyn Output>, OpenError> {
    let name = log_name(sequence);
    let unfinished = new_name(&name);
    let doing = || OpenError::io(format!("begin {name}"));
    let mut file = disk.create(&unfinished).map_err(doing())?;
    let written = file.append(bytes).and_then(|()| file.sync());
    if written.is_err() {
        // Of no worth, and no harm if it stays.
        let _ = disk.remove(&unfinished);
    }
    written.map_err(doing())?;
    disk.rename(&unfinished, &name).map_err(doing())?;
    disk.sync_names().map_err(doing())?;
    Ok(file)
}

/// The header of the segment that follows.
pub(super) fn next_header(before: &Header, revision: Revision, frame: u64) -> Header {
    Header { sequence: before.sequence + 1, revision, frame, ..*before }
}

/// Looks a store over, reading all of it and changing nothing. A copy without the file `lock` is open nowhere,
/// and must not be opened meanwhile.
///
/// # Errors
/// What is wrong with it; [`OpenError::Locked`] while it is in use.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use rkube_store::backend::durable::{self, Durable, Folder};
/// use rkube_store::testing::Text;
/// # let path = std::env::temp_dir().join(format!("rkube-verify-{}", std::process::id()));
/// drop(Durable::<Text>::open(&path)?);
/// let found = durable::verify(&Folder::new(&path))?;
/// assert_eq!((found.replayed, found.cut), (0, None));
/// # std::fs::remove_dir_all(path)?;
/// # Ok(()) }
/// ```
pub fn verify(disk: &dyn Disk) -> Result<Recovery, OpenError> {
    if list(disk)?.is_new() {
        return Err(OpenError::Missing { file: log_name(1) });
    }
    // Whoever opens a store makes the file first, so there is nobody to keep out where there is none.
    let is_locked = disk.names().map_err(OpenError::io("list the folder"))?.iter().any(|name| name == LOCK);
    let _lock = is_locked.then(|| lock(disk)).transpose()?;
    match read::<super::Raw>(disk, &Options::default())? {
        Some(found) => Ok(found.recovery),
        None => Err(OpenError::Missing { file: log_name(1) }),
    }
}

pub(super) fn lock(disk: &dyn Disk) -> Result<Box<dyn Send + Sync>, OpenError> {
    disk.lock().map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => OpenError::Locked,
        _ => OpenError::Io { doing: "lock the folder".to_owned(), source: error },
    })
}

/// A random number, so that files of two stores are told apart.
pub(super) fn name_store() -> Result<u64, OpenError> {
    let random = getrandom::u64().map_err(|error| std::io::Error::other(error.to_string()));
    Ok(random.map_err(OpenError::io("name the store"))?.max(1))
}

/// Writes a new store with the state in a saved file: a snapshot, and a log in which nothing is yet.
pub(super) fn begin_from<V: Value>(disk: &dyn Disk, path: &Path, options: &Options) -> Result<(), OpenError> {
    let engine = Engine::<V>::new(save::read(path, options)?, options, Instant::now(), None);
    let pin = engine.pin_oldest()?;
    let header = Header { store: name_store()?, sequence: 1, revision: pin.revision, frame: 1 };
    let saved = snapshot::write(&engine, disk, (pin, header), 0, &AtomicBool::new(false))?;
    let name = saved.name();
    disk.rename(&new_name(&name), &name).map_err(OpenError::io(format!("begin {name}")))?;
    begin_segment(disk, header.sequence, &header.encode(Kind::Log)).map(drop)
}

/// A new store.
pub(super) fn begin<V: Value>(options: &Options, store: u64) -> Found<V> {
    let state = State::new(options.history.clone(), options.hot_bytes);
    let header = Header { store, sequence: 1, revision: state.head(), frame: 1 };
    let recovery = Recovery { revision: state.head(), ..Recovery::default() };
    let last = Some((header, header.encode(Kind::Log).to_vec(), header.frame));
    Found { state, recovery, files: Files::default(), last, store, leftover: Vec::new() }
}
