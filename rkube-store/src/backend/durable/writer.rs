use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::codec;
use super::disk::Disk;
use super::error::OpenError;
use super::frame;
use super::layout::{Header, Kind, log_name, new_name, snapshot_name};
use super::open::{self, Files, Tail};
use super::options::Bounds;
use super::queue::{Ending, Queue, Work, lose};
use super::snapshot::{self, Saved};
use super::stats::{Condition, DiskUse, Figures};
use crate::backend::engine::{Engine, Entry, Pin, Record};
use crate::{Revision, Value};

/// About how many bytes are written and synced at once, at most.
const FRAME_BYTES: usize = 8 << 20;
/// How many bytes a record may have, so that the frame that it ends is none too long.
pub(super) const RECORD_BYTES: usize = frame::LONGEST - 2 * FRAME_BYTES;

/// Where the log goes on.
pub(super) struct Place {
    pub(super) tail: Tail,
    /// The last revision in it.
    pub(super) last: Revision,
    pub(super) files: Files,
}

/// The log's thread: the only one that changes what is on disk.
pub(super) struct Writer<V: Value> {
    engine: Arc<Engine<V>>,
    queue: Arc<Queue<V>>,
    disk: Arc<dyn Disk>,
    bounds: Bounds,
    place: Place,
    buffer: Vec<u8>,
    figures: Arc<Mutex<Figures>>,
    saving: Option<JoinHandle<()>>,
    /// A compaction came while a snapshot was being written.
    compacted: bool,
    /// There is no room for more.
    full: bool,
    /// Set after a snapshot failed: not before the log has so many bytes is another one begun.
    not_before: u64,
}

/// Why nothing more is written, and what was not.
struct Failure<V> {
    error: OpenError,
    entries: Vec<Entry<V>>,
}

impl<V> From<OpenError> for Failure<V> {
    fn from(error: OpenError) -> Self {
        Self { error, entries: Vec::new() }
    }
}

impl<V: Value> Writer<V> {
    pub(super) fn new(
        engine: Arc<Engine<V>>,
        queue: Arc<Queue<V>>,
        disk: Arc<dyn Disk>,
        bounds: Bounds,
        place: Place,
        figures: Arc<Mutex<Figures>>,
    ) -> Self {
        let mut writer = Self {
            engine,
            queue,
            disk,
            bounds,
            place,
            buffer: Vec::new(),
            figures,
            saving: None,
            compacted: false,
            full: false,
            not_before: 0,
        };
        writer.measure();
        writer
    }

    /// Works until the queue is closed.
    pub(super) fn run(mut self) {
        let ending = Ending(self.queue.clone());
        let mut failed: Option<String> = None;
        loop {
            let work = self.queue.take();
            let closing = work.closing;
            match &failed {
                Some(reason) => lose(work.entries, reason),
                None => {
                    if let Err(Failure { error, entries }) = self.work(work) {
                        let reason = error.to_string();
                        error!(reason, "the store takes no more writes: it must be opened again");
                        // First of all: nobody who is told may still begin anything.
                        self.queue.set(Condition::Failed(reason.clone()));
                        lose(entries, &reason);
                        failed = Some(reason);
                    }
                }
            }
            if closing && self.queue.end() {
                break;
            }
        }
        if let Err(error) = self.give_back(failed.is_some()) {
            warn!(%error, "not all space was given back");
        }
        drop(ending);
    }

    /// Waits for the snapshot that is being written, and for the next one, if that one left anything to do.
    fn give_back(&mut self, failed: bool) -> Result<(), OpenError> {
        while let Some(saving) = self.saving.take() {
            // It catches its panics.
            let _ = saving.join();
            if let Some(saved) = self.queue.take().saved.filter(|_| !failed) {
                self.install(saved)?;
                self.measure();
                if !self.queue.stop.load(Ordering::Acquire) {
                    self.reclaim()?;
                }
            }
        }
        self.measure();
        Ok(())
    }

    fn work(&mut self, work: Work<V>) -> Result<(), Failure<V>> {
        let mut entries = work.entries;
        while !entries.is_empty() {
            let written = self.write(&entries);
            match written {
                Ok(count) => {
                    let left = entries.split_off(count);
                    self.settle(std::mem::replace(&mut entries, left));
                }
                Err(error) => return Err(Failure { error, entries }),
            }
        }
        // Behind the entries, so that all that was applied when the snapshot was taken is on disk.
        if let Some(saved) = work.saved {
            self.install(saved)?;
        }
        if self.place.tail.bytes >= self.bounds.segment_bytes {
            self.rotate()?;
        }
        self.compacted |= work.compacted;
        self.measure();
        Ok(self.reclaim()?)
    }

    /// Makes as many entries durable as go into one frame; returns how many.
    fn write(&mut self, entries: &[Entry<V>]) -> Result<usize, OpenError> {
        let tail = &mut self.place.tail;
        frame::begin(&mut self.buffer);
        let mut count = 0;
        for entry in entries {
            codec::push_record(&mut self.buffer, entry.committed.revision, &entry.record)
                .map_err(|error| OpenError::Unwritable(error.to_string()))?;
            if matches!(entry.record, Record::Commit { .. }) {
                self.place.last = entry.committed.revision;
            }
            count += 1;
            if self.buffer.len() >= FRAME_BYTES {
                break;
            }
        }
        if self.buffer.len() == frame::HEADER {
            return Ok(count);
        }
        frame::end(&mut self.buffer, tail.bytes, tail.frame, tail.header.salt())
            .map_err(|error| OpenError::Unwritable(error.to_string()))?;
        let doing = || format!("write {}", log_name(tail.header.sequence));
        tail.file.append(&self.buffer).map_err(OpenError::io(doing()))?;
        let began = Instant::now();
        tail.file.sync().map_err(OpenError::io(doing()))?;
        let synced = began.elapsed();
        tail.frame += 1;
        tail.bytes += self.buffer.len() as u64;
        let mut figures = self.figures.lock();
        figures.sync.note(synced);
        figures.written_bytes += self.buffer.len() as u64;
        Ok(count)
    }

    fn settle(&self, entries: Vec<Entry<V>>) {
        {
            let now = Instant::now();
            let mut figures = self.figures.lock();
            let commits = entries.iter().filter(|entry| matches!(entry.record, Record::Commit { .. }));
            commits.for_each(|entry| figures.commit.note(now.saturating_duration_since(entry.since)));
        }
        self.engine.settle(entries);
    }

    /// Begins the next file of the log.
    fn rotate(&mut self) -> Result<(), OpenError> {
        let Place { tail, last, files } = &mut self.place;
        let header = open::next_header(&tail.header, *last, tail.frame);
        let file = open::begin_segment(&*self.disk, header.sequence, &header.encode(Kind::Log))?;
        let full =
            std::mem::replace(tail, Tail { file, header, bytes: Header::BYTES as u64, frame: tail.frame });
        files.sealed.push(open::Segment { sequence: full.header.sequence, last: *last, bytes: full.bytes });
        Ok(())
    }

    /// Begins a snapshot if it gives back enough space.
    fn reclaim(&mut self) -> Result<(), OpenError> {
        if self.saving.is_some() {
            return Ok(());
        }
        let (base, snapshot_bytes) = self.place.files.snapshot.unwrap_or_default();
        let log_bytes = self.log_bytes();
        // A deletion takes about a sixteenth of the value that it deletes, so there is something to gain.
        let pressed = self.full && log_bytes > snapshot_bytes / 16;
        if pressed && self.place.last > base && log_bytes >= self.not_before {
            self.engine.forget_history();
            self.compacted = true;
        }
        // Held from here on, so that what is written then is what was judged.
        let pin = self.engine.pin_oldest()?;
        let floor = pin.revision;
        if floor <= base {
            return Ok(());
        }
        let asked = std::mem::take(&mut self.compacted);
        let goes = |segment: &&open::Segment| segment.last <= floor;
        let sealed = self.place.files.sealed.iter().take_while(goes).map(|segment| segment.bytes);
        // All of the log is history: the file that is written to can go, too.
        let whole = self.place.last <= floor && self.place.tail.bytes > Header::BYTES as u64;
        let freed = sealed.sum::<u64>() + if whole { self.place.tail.bytes } else { 0 };
        // As much log as the last snapshot had: so what is written for snapshots is about what is written
        // for commits, however large the state is.
        let pays = freed > 0 && freed >= snapshot_bytes && log_bytes >= self.not_before;
        if pays || asked && freed + snapshot_bytes > 0 {
            if whole {
                self.rotate()?;
            }
            self.save(pin)?;
        }
        Ok(())
    }

    /// Begins to write the state at a revision.
    fn save(&mut self, pin: Pin) -> Result<(), OpenError> {
        let floor = pin.revision;
        let needed = self.place.files.sealed.iter().find(|segment| segment.last > floor);
        let sequence = needed.map_or(self.place.tail.header.sequence, |segment| segment.sequence);
        let header = Header { sequence, revision: floor, frame: 1, ..self.place.tail.header };
        let (engine, disk) = (self.engine.clone(), self.disk.clone());
        let (queue, reserve) = (self.queue.clone(), self.bounds.keep_free / 2);
        let thread = std::thread::Builder::new().name("rkube-snapshot".to_owned()).spawn(move || {
            let save = || snapshot::write(&engine, &*disk, (pin, header), reserve, &queue.stop);
            let saved = std::panic::catch_unwind(std::panic::AssertUnwindSafe(save));
            let panicked = || OpenError::Unwritable("a value panicked while it was encoded".to_owned());
            queue.saved(saved.unwrap_or_else(|_| Err(panicked())));
        });
        self.saving = Some(thread.map_err(OpenError::io("start the snapshot's thread"))?);
        Ok(())
    }

    /// Gives a snapshot its name and removes what it makes useless.
    fn install(&mut self, saved: Result<Saved, OpenError>) -> Result<(), OpenError> {
        self.saving = None;
        let saved = match saved {
            Ok(saved) => saved,
            Err(error) => {
                // Nothing is lost: the log is all there.
                warn!(%error, "no snapshot was written: space is not given back");
                self.not_before = self.log_bytes() + self.bounds.segment_bytes / 16;
                return Ok(());
            }
        };
        let name = saved.name();
        let unfinished = new_name(&name);
        self.disk.rename(&unfinished, &name).map_err(OpenError::io(format!("rename {unfinished}")))?;
        self.disk.sync_names().map_err(OpenError::io(format!("sync the name of {name}")))?;
        let files = &mut self.place.files;
        let before = files.snapshot.replace((saved.header.revision, saved.bytes));
        let needed = files.sealed.partition_point(|segment| segment.sequence < saved.header.sequence);
        let logs = files.sealed.drain(..needed).map(|segment| log_name(segment.sequence));
        let useless: Vec<_> =
            before.map(|(revision, _)| snapshot_name(revision)).into_iter().chain(logs).collect();
        info!(snapshot = name, bytes = saved.bytes, removed = useless.len(), "wrote a snapshot");
        for name in useless {
            if let Err(error) = self.disk.remove(&name) {
                // The next start tries again.
                warn!(%error, name, "a file of no use stays");
            }
        }
        Ok(())
    }

    fn log_bytes(&self) -> u64 {
        let sealed: u64 = self.place.files.sealed.iter().map(|segment| segment.bytes).sum();
        sealed + self.place.tail.bytes
    }

    /// Looks at how much space is used and left.
    fn measure(&mut self) {
        let files = &self.place.files;
        let disk = DiskUse {
            segments: files.sealed.len() + 1,
            log_bytes: self.log_bytes(),
            snapshot: files.snapshot.map(|(revision, _)| revision),
            snapshot_bytes: files.snapshot.map_or(0, |(_, bytes)| bytes),
            free_bytes: self.disk.free_bytes(),
        };
        self.full = self.bounds.quota.is_some_and(|quota| disk.bytes() >= quota)
            || disk.free_bytes.is_some_and(|free| free < self.bounds.keep_free);
        self.queue.set(if self.full { Condition::Full } else { Condition::Open });
        self.figures.lock().disk = disk;
    }
}
