//! A disk in memory whose power can be cut, whose syncs can fail, and that can be full.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use rkube_store::backend::durable::{Disk, Output};
//! use rkube_store::testing::disk::Volatile;
//! let disk = Volatile::new();
//! let mut file = disk.create("notes")?;
//! file.append(b"on disk")?;
//! file.sync()?;
//! disk.sync_names()?;
//! file.append(b", or perhaps not")?;
//! let after = disk.cut_power(7);
//! assert!(file.sync().is_err(), "the machine is off");
//! assert!(after.content("notes").unwrap().starts_with(b"on disk"));
//! # Ok(()) }
//! ```

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::Dice;
use crate::backend::durable::{Disk, Output};

/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// A folder on a disk of its own. Clones share it.
///
/// What a file's last sync came before is lost with the power, or not, sector by sector; so is every change
/// of names since names were last synced.
#[derive(Clone, Default)]
pub struct Volatile {
    machine: Arc<Mutex<Machine>>,
    locked: Arc<AtomicBool>,
}

#[derive(Default)]
struct Machine {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    names_on_disk: BTreeMap<String, usize>,
    pending: Vec<Change>,
    off: bool,
    /// How many more changes go through before the power fails.
    left: Option<u64>,
    /// How many more syncs go through before one fails.
    syncs_left: Option<u64>,
    capacity: Option<u64>,
    changes: u64,
}

#[derive(Clone, Default)]
struct File {
    content: Vec<u8>,
    /// So much is on disk, except what lies in `doubtful`.
    synced: usize,
    /// What a sync that failed should have brought there. No later sync does.
    doubtful: Vec<Range<usize>>,
}

/// A change of names.
enum Change {
    Name(String, usize),
    Rename(String, String, usize),
    Remove(String),
}

impl Volatile {
    /// An empty folder on a disk without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The power fails after so many more changes of any kind: whatever is asked for then is an error.
    pub fn fail_power_after(&self, changes: u64) {
        self.machine.lock().left = Some(changes);
    }

    /// After so many more syncs of files one fails; what it should have brought to the disk is lost with the
    /// power, or not, whatever is synced later.
    pub fn fail_sync_after(&self, syncs: u64) {
        self.machine.lock().syncs_left = Some(syncs);
    }

    /// So many bytes fit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.machine.lock().capacity = bytes;
    }

    /// How many changes were made.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.machine.lock().changes
    }

    /// The disk after the power was cut and came back; this one is dead. What was lost follows from the seed.
    #[must_use]
    pub fn cut_power(&self, seed: u64) -> Self {
        let mut dice = Dice::seeded(seed);
        let mut machine = self.machine.lock();
        machine.off = true;
        let mut names = machine.names_on_disk.clone();
        for change in &machine.pending {
            if dice.coin() {
                apply(&mut names, change);
            }
        }
        let files = machine.files.iter().map(|file| file.after_cut(&mut dice)).collect();
        let after = Machine { files, names: names.clone(), names_on_disk: names, ..Machine::default() };
        Self { machine: Arc::new(Mutex::new(after)), locked: Arc::default() }
    }

    /// The folder as another process finds it after this one was killed: what was written is there, synced or
    /// not. This handle is dead.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut machine = self.machine.lock();
        let after = Machine {
            files: std::mem::take(&mut machine.files),
            names: std::mem::take(&mut machine.names),
            names_on_disk: std::mem::take(&mut machine.names_on_disk),
            pending: std::mem::take(&mut machine.pending),
            ..Machine::default()
        };
        machine.off = true;
        Self { machine: Arc::new(Mutex::new(after)), locked: Arc::default() }
    }

    /// All files and what is in them.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let machine = self.machine.lock();
        machine.names.iter().map(|(name, id)| (name.clone(), machine.files[*id].content.clone())).collect()
    }

    /// What is in a file.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        self.contents().remove(name)
    }

    /// Puts a file there, as it is, on disk.
    pub fn set_content(&self, name: &str, content: Vec<u8>) {
        let mut machine = self.machine.lock();
        let synced = content.len();
        let id = machine.add(File { content, synced, doubtful: Vec::new() });
        machine.names.insert(name.to_owned(), id);
        machine.names_on_disk.insert(name.to_owned(), id);
    }

    fn change<T>(&self, change: impl FnOnce(&mut Machine) -> io::Result<T>) -> io::Result<T> {
        let mut machine = self.machine.lock();
        if let Some(left) = &mut machine.left {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => machine.off = true,
            }
        }
        machine.check()?;
        machine.changes += 1;
        change(&mut machine)
    }
}

fn apply(names: &mut BTreeMap<String, usize>, change: &Change) {
    match change {
        Change::Name(name, id) => {
            names.insert(name.clone(), *id);
        }
        Change::Rename(from, to, id) => {
            names.remove(from);
            names.insert(to.clone(), *id);
        }
        Change::Remove(name) => {
            names.remove(name);
        }
    }
}

impl Machine {
    fn check(&self) -> io::Result<()> {
        if self.off { Err(io::Error::other("the machine is off")) } else { Ok(()) }
    }

    fn add(&mut self, file: File) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }

    fn rename(&mut self, change: Change) {
        apply(&mut self.names, &change);
        self.pending.push(change);
    }

    fn used(&self) -> u64 {
        self.names.values().map(|id| self.files[*id].content.len() as u64).sum()
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl File {
    /// What of it is on disk when the power fails.
    fn after_cut(&self, dice: &mut Dice) -> Self {
        let length = self.synced + dice.roll_up_to(self.content.len() - self.synced);
        let mut content = self.content[..length].to_vec();
        let mut doubtful = self.doubtful.clone();
        doubtful.push(self.synced..length);
        for range in doubtful {
            let mut at = range.start;
            while at < range.end {
                let next = range.end.min((at / SECTOR + 1) * SECTOR);
                if dice.coin() {
                    content[at..next].fill(0);
                }
                at = next;
            }
        }
        Self { content, synced: length, doubtful: Vec::new() }
    }
}

impl Disk for Volatile {
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        struct Guard(Arc<AtomicBool>);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Release);
            }
        }
        self.machine.lock().check()?;
        if self.locked.swap(true, Ordering::AcqRel) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Guard(self.locked.clone())))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let machine = self.machine.lock();
        machine.check()?;
        Ok(machine.names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        let machine = self.machine.lock();
        machine.check()?;
        let id = machine.find(name)?;
        Ok(Box::new(Cursor::new(machine.files[id].content.clone())))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Output>> {
        let id = self.change(|machine| {
            let id = machine.add(File::default());
            machine.rename(Change::Name(name.to_owned(), id));
            Ok(id)
        })?;
        Ok(Box::new(Written { disk: self.clone(), id }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|machine| {
            let id = machine.find(from)?;
            machine.rename(Change::Rename(from.to_owned(), to.to_owned(), id));
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|machine| {
            machine.find(name)?;
            machine.rename(Change::Remove(name.to_owned()));
            Ok(())
        })
    }

    fn sync_names(&self) -> io::Result<()> {
        self.change(|machine| {
            machine.names_on_disk = machine.names.clone();
            machine.pending.clear();
            Ok(())
        })
    }

    fn free_bytes(&self) -> Option<u64> {
        let machine = self.machine.lock();
        machine.capacity.map(|capacity| capacity.saturating_sub(machine.used()))
    }
}

struct Written {
    disk: Volatile,
    id: usize,
}

impl Output for Written {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.change(|machine| {
            let room = machine.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(machine.used()));
            let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            machine.files[self.id].content.extend(&bytes[..fits]);
            if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.change(|machine| {
            let fails = match &mut machine.syncs_left {
                Some(0) => true,
                Some(left) => {
                    *left -= 1;
                    false
                }
                None => false,
            };
            let file = &mut machine.files[self.id];
            let unsynced = file.synced..file.content.len();
            file.synced = file.content.len();
            if fails {
                machine.syncs_left = None;
                file.doubtful.push(unsynced);
                return Err(io::Error::other("the disk did not take it"));
            }
            Ok(())
        })
    }
}
