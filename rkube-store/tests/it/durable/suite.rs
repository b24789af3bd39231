//! The suite and the history checker, on a real folder and on a disk that loses what was not synced.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use rkube_store::backend::durable::{Builder, Disk, Durable, Folder, Output};
use rkube_store::testing::disk::Volatile;
use rkube_store::testing::history::{Load, check};
use rkube_store::testing::suite::{Harness, all, quota};
use rkube_store::testing::{Dice, Text};
use rkube_store::{Store, Transform};

use super::folder;
use crate::cold::Toy;
use crate::suite::{cannot_read, drive, passes, spread};

/// Where a store lies, and how it comes back from a crash.
trait Ground: Send + Sync + 'static {
    fn disk(&self) -> Arc<dyn Disk>;
    fn after_crash(&mut self);
}

/// A folder, and whether the process that has it open still lives.
struct Real(tempfile::TempDir, Arc<RwLock<bool>>);

impl Real {
    fn path(&self) -> PathBuf {
        self.0.path().join("store")
    }
}

impl Ground for Real {
    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(Mortal { folder: Folder::new(self.path()), dead: self.1.clone() })
    }

    /// A copy of the files, since the dead one still has its lock.
    fn after_crash(&mut self) {
        *self.1.write() = true;
        let after = Self(folder(), Arc::default());
        std::fs::create_dir(after.path()).unwrap();
        for entry in std::fs::read_dir(self.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), after.path().join(entry.file_name())).unwrap();
        }
        *self = after;
    }
}

/// A folder whose process does nothing more once it is dead.
#[derive(Clone)]
struct Mortal {
    folder: Folder,
    dead: Arc<RwLock<bool>>,
}

impl Mortal {
    fn change<T>(&self, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let dead = self.dead.read();
        if *dead { Err(io::Error::other("killed")) } else { change() }
    }
}

impl Disk for Mortal {
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        self.folder.lock()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.folder.names()
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn io::Read + Send>> {
        self.folder.read(name)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Output>> {
        let file = self.change(|| self.folder.create(name))?;
        Ok(Box::new(MortalFile { file, disk: self.clone() }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|| self.folder.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|| self.folder.remove(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.change(|| self.folder.sync_names())
    }

    fn free_bytes(&self) -> Option<u64> {
        self.folder.free_bytes()
    }
}

struct MortalFile {
    file: Box<dyn Output>,
    disk: Mortal,
}

impl Output for MortalFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.change(|| self.file.append(bytes))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.change(|| self.file.sync())
    }
}

struct Lossy(Volatile, Dice);

impl Ground for Lossy {
    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.0.clone())
    }

    fn after_crash(&mut self) {
        self.0 = self.0.cut_power(self.1.roll(u64::MAX));
    }
}

/// Makes stores on grounds of a kind, and knows the one that is killed.
struct OfDurable<G> {
    ground: fn(u64) -> G,
    cramped: bool,
    transform: Option<Arc<dyn Transform>>,
    seed: u64,
    places: Mutex<Vec<(Arc<dyn Store<Text>>, G)>>,
}

impl<G: Ground> OfDurable<G> {
    fn new(ground: fn(u64) -> G, cramped: bool, seed: u64) -> Self {
        let transform = cramped.then(|| -> Arc<dyn Transform> { Arc::new(Toy::new(["k1"])) });
        Self { ground, cramped, transform, seed, places: Mutex::default() }
    }

    fn open(&self, ground: G) -> Arc<dyn Store<Text>> {
        let builder = Durable::builder_on(ground.disk());
        let builder =
            if self.cramped { builder.segment_bytes(2000).hot_bytes(0).watch_queue(2) } else { builder };
        let builder = self.transform.iter().cloned().fold(builder, Builder::transform);
        let store = builder.open().unwrap();
        drive(store.run_expiry());
        let store: Arc<dyn Store<Text>> = Arc::new(store);
        self.places.lock().push((store.clone(), ground));
        store
    }
}

#[async_trait]
impl<G: Ground> Harness for OfDurable<G> {
    async fn store(&self) -> Arc<dyn Store<Text>> {
        self.places.lock().clear();
        self.open((self.ground)(self.seed))
    }

    async fn after_crash(&self, store: Arc<dyn Store<Text>>) -> Option<Arc<dyn Store<Text>>> {
        let mut places = self.places.lock();
        let at = places.iter().position(|(known, _)| Arc::ptr_eq(known, &store))?;
        let (_, mut ground) = places.swap_remove(at);
        drop(places);
        ground.after_crash();
        Some(self.open(ground))
    }

    async fn side_by_side(&self, tasks: Vec<BoxFuture<'static, ()>>) {
        spread(tasks).await;
    }
}

fn real(_: u64) -> Real {
    Real(folder(), Arc::default())
}

fn lossy(seed: u64) -> Lossy {
    Lossy(Volatile::new(), Dice::seeded(seed))
}

/// As cramped as can be, on a disk that loses what was not synced, with this transformer.
#[cfg(feature = "encrypt")]
pub(super) fn sealed(transform: Arc<dyn Transform>) -> impl Harness {
    OfDurable { transform: Some(transform), ..OfDurable::new(lossy, true, 11) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_on_a_folder() {
    cannot_read(&OfDurable::new(real, false, 0)).await;
    passes(OfDurable::new(real, false, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_on_a_disk_that_loses_what_was_not_synced() {
    passes(OfDurable::new(lossy, true, 7)).await;
    assert!(all().iter().any(|case| case.promises.contains(&15)));
}

/// The quota lies where no rewriting of what is there makes room for one more.
#[tokio::test]
async fn a_quota_of_disk() {
    for hot in [0, 1 << 30] {
        let builder = Durable::builder_on(Arc::new(Volatile::new())).segment_bytes(20_000).keep_free_bytes(0);
        let store = builder.hot_bytes(hot).quota_bytes(195_000).open().unwrap();
        quota(Arc::new(store)).await.unwrap();
    }
}

/// Concurrent clients, and power cuts while they work.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn histories_with_power_cuts_keep_the_promises() {
    let mut operations = 0;
    for seed in 0..10 {
        let harness: Arc<dyn Harness> = Arc::new(OfDurable::new(lossy, seed % 2 == 0, seed));
        let load =
            Load { clients: 8, steps: 100, crashes: 10, compacts: seed % 3 == 0, ..Load::seeded(seed) };
        let history = load.run(&harness).await;
        assert_eq!(history.crashes.len(), 10);
        assert_eq!(check(&history), [], "seed {seed}");
        operations += history.operations.len();
    }
    assert!(operations >= 5000, "only {operations} operations");
}
