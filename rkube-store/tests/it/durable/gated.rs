//! A disk that can be made to wait, and that tells how much waited for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};
use rkube_store::backend::durable::{Disk, Output};
use rkube_store::testing::disk::Volatile;

/// A disk whose syncs wait while its gate is shut.
#[derive(Clone, Default)]
pub(super) struct Gated {
    pub(super) disk: Volatile,
    gate: Arc<Gate>,
    /// Only files with this in their name wait.
    only: &'static str,
    most_unsynced: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Gate {
    is_shut: Mutex<bool>,
    opens: Condvar,
}

impl Gated {
    /// One on which snapshots wait, and the log does not.
    pub(super) fn for_snapshots() -> Self {
        Self { only: ".snapshot", ..Self::default() }
    }

    /// The most that any file had at a time that was not on disk.
    pub(super) fn most_unsynced(&self) -> usize {
        self.most_unsynced.load(Ordering::Relaxed)
    }

    /// Until what is returned is dropped.
    pub(super) fn shut(&self) -> Shut {
        *self.gate.is_shut.lock() = true;
        Shut(self.gate.clone())
    }
}

pub(super) struct Shut(Arc<Gate>);

impl Drop for Shut {
    fn drop(&mut self) {
        *self.0.is_shut.lock() = false;
        self.0.opens.notify_all();
    }
}

impl Disk for Gated {
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        self.disk.lock()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.disk.names()
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn io::Read + Send>> {
        self.disk.read(name)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Output>> {
        let (file, waits) = (self.disk.create(name)?, name.contains(self.only));
        Ok(Box::new(GatedFile { file, waits, unsynced: 0, disk: self.clone() }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.disk.sync_names()
    }

    fn free_bytes(&self) -> Option<u64> {
        self.disk.free_bytes()
    }
}

struct GatedFile {
    file: Box<dyn Output>,
    waits: bool,
    unsynced: usize,
    disk: Gated,
}

impl Output for GatedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.unsynced += bytes.len();
        self.disk.most_unsynced.fetch_max(self.unsynced, Ordering::Relaxed);
        self.file.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        let gate = &self.disk.gate;
        gate.opens.wait_while(&mut gate.is_shut.lock(), |is_shut| *is_shut && self.waits);
        self.unsynced = 0;
        self.file.sync()
    }
}
