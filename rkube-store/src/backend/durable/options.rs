use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Disk, Durable, Folder, OpenError};
use crate::Value;
use crate::backend::engine::{Options, common_options};

/// How much a store may have on disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) segment_bytes: u64,
    pub(super) quota: Option<u64>,
    pub(super) keep_free: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, quota: None, keep_free: 256 << 20 }
    }
}

/// The bounds of a store on disk.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use rkube_store::{backend::durable::Durable, testing::Text};
/// # let path = std::env::temp_dir().join(format!("rkube-builder-{}", std::process::id()));
/// let store: Durable<Text> = Durable::builder(&path).history(10_000).quota_bytes(8 << 30).open()?;
/// # drop(store);
/// # std::fs::remove_dir_all(path)?;
/// # Ok(()) }
/// ```
#[must_use]
pub struct Builder<V> {
    options: Options,
    bounds: Bounds,
    disk: Arc<dyn Disk>,
    of: PhantomData<fn() -> V>,
}

impl<V: Value> Builder<V> {
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self::on(Arc::new(Folder::new(path)))
    }

    pub(super) fn on(disk: Arc<dyn Disk>) -> Self {
        Self { options: Options::default(), bounds: Bounds::default(), disk, of: PhantomData }
    }

    common_options!();

    /// How many bytes a file of the log has before the next one is begun; 64 MiB by default. Space comes
    /// back by whole files.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.bounds.segment_bytes = bytes;
        self
    }

    /// How many bytes the store may have on disk, log and snapshot together; without bound by default.
    /// Beyond it writes fail with [`StoreError::NoSpace`](crate::StoreError::NoSpace), except those that
    /// only delete, and history is given up to make room. A snapshot that is being written is not counted.
    pub fn quota_bytes(mut self, bytes: u64) -> Self {
        self.bounds.quota = Some(bytes);
        self
    }

    /// How many bytes of the disk are left free; 256 MiB by default. When there are fewer, writes fail as
    /// they do beyond the quota. It should be more than [`Builder::segment_bytes`]: opening needs as much.
    pub fn keep_free_bytes(mut self, bytes: u64) -> Self {
        self.bounds.keep_free = bytes;
        self
    }

    /// Opens the store, or begins a new one if there is none. This reads all there is and waits for the
    /// disk: where that may take too long for a task, call it on a thread of its own.
    ///
    /// # Errors
    /// See [`OpenError`]. What was there is then untouched.
    pub fn open(self) -> Result<Durable<V>, OpenError> {
        Durable::start(self.disk, &self.options, self.bounds, None)
    }

    /// Begins a store with the state in a file that [`save`](super::save::save) wrote, at its revision: what
    /// had revisions there has the same here, and watches go on from it. Values in the file must open with
    /// this store's transformer; leases have their full time. It waits for the disk as [`Builder::open`] does.
    ///
    /// # Errors
    /// [`OpenError::Occupied`] if there is a store already, [`OpenError::Foreign`] if there is anything else;
    /// nothing is touched then. Further, what is wrong with the file, or with the disk: a folder in which it
    /// began all the same is no store, and has to be emptied first.
    pub fn restore(self, from: impl AsRef<Path>) -> Result<Durable<V>, OpenError> {
        Durable::start(self.disk, &self.options, self.bounds, Some(from.as_ref()))
    }
}
