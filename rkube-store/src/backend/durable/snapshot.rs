//! Snapshots: the state at a revision in a file.

use std::io::{self, BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use super::codec::{self, NoRecord, Saved as Line};
use super::disk::{Disk, Output};
use super::error::OpenError;
use super::frame::{self, Head};
use super::layout::{Header, Kind, new_name, read_up_to, snapshot_name};
use crate::backend::engine::{Copying, Engine, Options, Pin};
use crate::mvcc::{Codec, Granted, State};
use crate::{Revision, StoreError, Value};

/// About how many bytes a frame of a snapshot has.
const FRAME_BYTES: usize = 256 << 10;
/// After about how many bytes they are synced. A sync of the log may have to wait for all that other files of
/// its disk have not on disk yet, and commits wait for it.
const SYNC_BYTES: u64 = 4 << 20;

/// A file that entries are written to.
pub(super) struct Target<'a> {
    pub(super) file: Box<dyn Output>,
    /// What it is called when something goes wrong.
    pub(super) name: &'a str,
    pub(super) kind: Kind,
    pub(super) header: Header,
    /// So many bytes of this disk are left to others.
    pub(super) reserve: Option<(&'a dyn Disk, u64)>,
}

/// Writes frames one after the other.
struct Frames<'a> {
    reserve: Option<(&'a dyn Disk, u64)>,
    file: Box<dyn Output>,
    header: Header,
    number: u64,
    buffer: Vec<u8>,
    bytes: u64,
    /// So many of them are on disk.
    synced: u64,
    doing: String,
}

impl<'a> Frames<'a> {
    fn begin(target: Target<'a>) -> Result<Self, OpenError> {
        let Target { mut file, name, kind, header, reserve } = target;
        let doing = format!("write {name}");
        file.append(&header.encode(kind)).map_err(OpenError::io(&doing))?;
        let mut buffer = Vec::with_capacity(FRAME_BYTES + (64 << 10));
        frame::begin(&mut buffer);
        let (number, bytes) = (header.frame, Header::BYTES as u64);
        Ok(Self { reserve, file, header, number, buffer, bytes, synced: 0, doing })
    }

    /// Adds lines; writes when there are enough of them.
    fn add(&mut self, line: impl FnOnce(&mut Vec<u8>) -> Result<(), NoRecord>) -> Result<(), OpenError> {
        line(&mut self.buffer).map_err(|error| OpenError::Unwritable(error.to_string()))?;
        if self.buffer.len() >= FRAME_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), OpenError> {
        frame::end(&mut self.buffer, self.bytes, self.number, self.header.salt())
            .map_err(|error| OpenError::Unwritable(error.to_string()))?;
        if let Some((disk, reserve)) = self.reserve {
            let needed = reserve.saturating_add(self.buffer.len() as u64);
            if disk.free_bytes().is_some_and(|free| free < needed) {
                return Err(OpenError::io(&*self.doing)(io::ErrorKind::StorageFull.into()));
            }
        }
        self.file.append(&self.buffer).map_err(OpenError::io(&self.doing))?;
        self.bytes += self.buffer.len() as u64;
        self.number += 1;
        frame::begin(&mut self.buffer);
        if self.bytes - self.synced >= SYNC_BYTES { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<(), OpenError> {
        self.synced = self.bytes;
        self.file.sync().map_err(OpenError::io(&self.doing))
    }

    fn finish(mut self) -> Result<u64, OpenError> {
        self.flush()?;
        self.sync()?;
        Ok(self.bytes)
    }
}

/// A snapshot that has its file, but not yet its name.
pub(super) struct Saved {
    pub(super) header: Header,
    pub(super) bytes: u64,
}

impl Saved {
    pub(super) fn name(&self) -> String {
        snapshot_name(self.header.revision)
    }
}

/// Writes the state at a revision to a file that has yet to get its name. May take long; commits go on
/// meanwhile. Leases are those of now: the name must wait until all that was applied by then is durable. Ends
/// early, with an error, when told to, or when so few bytes of the
/// disk are free.
pub(super) fn write<V: Value>(
    engine: &Engine<V>,
    disk: &dyn Disk,
    (pin, header): (Pin, Header),
    reserve: u64,
    stop: &AtomicBool,
) -> Result<Saved, OpenError> {
    let mut copying = engine.copying(pin);
    let name = new_name(&snapshot_name(header.revision));
    let written = disk.create(&name).map_err(OpenError::io(format!("write {name}"))).and_then(|file| {
        let reserve = Some((disk, reserve));
        let target = Target { file, name: &name, kind: Kind::Snapshot, header, reserve };
        write_entries(engine, &engine.codec, target, &mut copying, stop)
    });
    if written.is_err() {
        // Of no worth, and no harm if it stays: the next start removes it.
        let _ = disk.remove(&name);
    }
    Ok(Saved { header, bytes: written? })
}

/// Writes a file: how it begins, then the entries. Returns how many bytes it has; they are on disk.
pub(super) fn write_entries<V: Value>(
    engine: &Engine<V>,
    values: &Codec,
    target: Target<'_>,
    copying: &mut Copying<'_, V>,
    stop: &AtomicBool,
) -> Result<u64, OpenError> {
    let (leases, last_lease) = {
        let state = engine.state.read();
        (state.granted(), state.last_lease())
    };
    let mut frames = Frames::begin(target)?;
    frames.add(|to| codec::push_saved(to, &Line::LastLease { lease: last_lease }))?;
    for granted in leases {
        frames.add(|to| codec::push_lease(to, granted))?;
    }
    let mut entries = 0;
    while let Some(piece) = copying.next_piece() {
        if stop.load(Ordering::Acquire) {
            return Err(StoreError::Unavailable("the store is closed".to_owned()).into());
        }
        for kept in piece {
            let value = kept.resealed(&engine.codec, values)?;
            frames.add(|to| codec::push_kept(to, &kept, &value))?;
            entries += 1;
        }
    }
    frames.add(|to| codec::push_saved(to, &Line::End { entries }))?;
    frames.finish()
}

/// Reads a snapshot into a state. Returns its header and how many bytes it has.
pub(super) fn read<V: Value>(
    from: Box<dyn Read + Send>,
    name: &str,
    kind: Kind,
    options: &Options,
) -> Result<(State<V>, Header, u64), OpenError> {
    let mut from = BufReader::with_capacity(FRAME_BYTES, from);
    let mut buffer = Vec::new();
    let doing = || OpenError::io(format!("read {name}"));
    read_up_to(&mut from, Header::BYTES, &mut buffer).map_err(doing())?;
    let header = Header::decode(name, &buffer, kind)?;
    let mut state = State::starting_at(header.revision, options.history.clone(), options.hot_bytes);
    let (mut number, mut offset) = (header.frame, Header::BYTES);
    let mut loaded = Loaded::default();
    while !loaded.ended {
        let damaged = |reason: &str| OpenError::damaged(name, offset, reason);
        read_up_to(&mut from, frame::HEADER, &mut buffer).map_err(doing())?;
        let head = Head::parse(&buffer, header.salt()).filter(|head| head.number == number);
        let head = head.ok_or_else(|| damaged("a frame's header is not good"))?;
        read_up_to(&mut from, head.rest(), &mut buffer).map_err(doing())?;
        let payload = head.payload(&buffer, header.salt());
        let payload = payload.ok_or_else(|| damaged("a frame's checksum is wrong"))?;
        loaded
            .add(&mut state, header.revision, &payload)
            .map_err(|error| OpenError::damaged(name, offset, error.to_string()))?;
        offset += frame::HEADER + head.rest();
        number += 1;
    }
    read_up_to(&mut from, 1, &mut buffer).map_err(doing())?;
    if !buffer.is_empty() {
        return Err(OpenError::damaged(name, offset, "something follows its end"));
    }
    Ok((state, header, offset as u64))
}

/// What was read of a snapshot.
#[derive(Default)]
struct Loaded {
    entries: u64,
    ended: bool,
}

impl Loaded {
    fn add<V: Value>(
        &mut self,
        state: &mut State<V>,
        revision: Revision,
        payload: &[u8],
    ) -> Result<(), NoRecord> {
        for line in codec::lines::<Line<'_>>(payload) {
            let line = line?;
            match line {
                Line::LastLease { lease } => state.skip_leases(lease),
                Line::Lease { lease, time_to_live } => {
                    state.regrant(Granted::anew(codec::lease(lease)?, time_to_live));
                }
                Line::End { entries } if entries == self.entries => self.ended = true,
                Line::End { .. } => return Err(NoRecord::new("entries are missing")),
                Line::Entry { modified, .. } if modified > revision.0 => {
                    return Err(NoRecord::new("an entry is newer than the snapshot"));
                }
                Line::Entry { .. } => {
                    if let Some(kept) = line.kept()? {
                        state.place(kept);
                        self.entries += 1;
                    }
                }
            }
        }
        Ok(())
    }
}
