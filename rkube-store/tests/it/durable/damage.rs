//! What is not as it was written is refused, and nothing is touched; only the end of a torn write is cut off.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use futures::FutureExt;
use rkube_store::backend::durable::{Disk, Durable, Folder, OpenError, Output, verify};
use rkube_store::testing::disk::Volatile;
use rkube_store::testing::{Dice, Text};
use rkube_store::{ListOptions, Prefix, Revision, Store, Txn};

use super::gated::Gated;

fn open(disk: &Volatile) -> Result<Durable<Text>, OpenError> {
    Durable::builder_on(Arc::new(disk.clone())).segment_bytes(3000).history(60).open()
}

/// A disk with a snapshot and several segments of the log, and what the store on it has.
async fn filled() -> (Volatile, Vec<String>) {
    let disk = Volatile::new();
    let mut store = open(&disk).unwrap();
    for at in 0..120 {
        let text = Text::new(format!("{at}").repeat(60));
        store.commit(Txn::new().put(format!("a/{}", at % 15), text)).await.unwrap();
        // A snapshot is written by a thread of its own.
        while at == 60 && store.stats().disk.snapshot.is_none() {
            store.commit(Txn::new().put("a/more", Text::new("more".repeat(100)))).await.unwrap();
        }
    }
    // The last segment may just have been begun: a test needs something to damage there.
    let mut round = 0;
    let texts = loop {
        round += 1;
        let last = Text::new(format!("{round} last").repeat(40));
        store.commit(Txn::new().put("a/last", last)).await.unwrap();
        let texts = texts(&store).await;
        drop(store);
        let log = disk.contents().into_iter().rfind(|(name, _)| name.ends_with(".log")).unwrap().1;
        if log.len() > 200 {
            break texts;
        }
        store = open(&disk).unwrap();
    };
    let files = disk.contents();
    assert!(files.keys().filter(|name| name.ends_with(".log")).count() > 2, "{:?}", files.keys());
    (disk, texts)
}

async fn texts(store: &Durable<Text>) -> Vec<String> {
    let page = store.list(&Prefix::all(), ListOptions::default()).await.unwrap();
    page.entries.iter().map(|entry| format!("{}={:?}", entry.key, entry.value)).collect()
}

/// A disk with these files.
fn disk_with(files: &BTreeMap<String, Vec<u8>>) -> Volatile {
    let disk = Volatile::new();
    files.iter().for_each(|(name, content)| disk.set_content(name, content.clone()));
    disk
}

/// It is refused, by a look at it and by an opening, and is as it was.
fn refused(files: &BTreeMap<String, Vec<u8>>) -> OpenError {
    let disk = disk_with(files);
    let error = verify(&disk).expect_err("looked at");
    let opened = open(&disk).err().expect("opened");
    assert_eq!(error.to_string(), opened.to_string());
    assert_eq!((disk.contents(), disk.changes()), (files.clone(), 0), "it was touched");
    error
}

#[tokio::test]
async fn a_flipped_bit_is_found_wherever_it_is() {
    let (disk, _) = filled().await;
    let files = disk.contents();
    let names: Vec<_> = files.keys().cloned().collect();
    let mut dice = Dice::seeded(3);
    for _ in 0..1500 {
        let mut files = files.clone();
        let name = &names[dice.roll_up_to(names.len() - 1)];
        let content = files.get_mut(name).unwrap();
        let byte = dice.roll_up_to(content.len() - 1);
        content[byte] ^= 1_u8 << dice.roll(8);
        let error = refused(&files);
        let told = error.to_string();
        assert!(told.contains(name.as_str()), "byte {byte} of {name}: {told}");
    }
}

/// A file that only has a name like one of the store's is not deleted, and not read whole.
#[tokio::test]
async fn what_has_a_name_like_ours_is_looked_at_before_it_goes() {
    let (disk, _) = filled().await;
    let files = disk.contents();
    let of = |ending: &str| files.keys().find(|name| name.ends_with(ending)).unwrap().clone();
    let (log, snapshot) = (of(".log"), of(".snapshot"));
    let others = Volatile::new();
    drop(open(&others).unwrap());
    let other = others.contents().into_iter().find(|(name, _)| name.ends_with(".log")).unwrap().1;
    // Below what the snapshot needs, far above it, and an older snapshot.
    let before = format!("{:020}.log", 0);
    let after = format!("{:020}.log", 999);
    let older = format!("{:020}.snapshot", 2);
    assert!(before < log && older < snapshot);
    for (name, content) in [
        (&before, b"the diary of somebody else, whatever its name is".repeat(3)),
        (&before, other.clone()),
        (&before, files[&log].clone()),
        (&older, files[&log].clone()),
    ] {
        let mut files = files.clone();
        files.insert(name.clone(), content);
        let told = refused(&files).to_string();
        assert!(told.contains(name.as_str()), "{told}");
    }
    let mut files = files.clone();
    files.insert(after, b"x".repeat(10));
    assert!(matches!(refused(&files), OpenError::Missing { .. }), "there is a gap before it");
}

/// A disk on which one file has no end that anybody should look for.
struct Endless(Volatile, String);

impl Disk for Endless {
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        self.0.lock()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.0.names()?.into_iter().chain([self.1.clone()]).collect())
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        if name != self.1 {
            return self.0.read(name);
        }
        Ok(Box::new(io::repeat(b'x').take(10_000).chain(TooFar)))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Output>> {
        self.0.create(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.0.sync_names()
    }

    fn free_bytes(&self) -> Option<u64> {
        self.0.free_bytes()
    }
}

struct TooFar;

impl Read for TooFar {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("it was read on and on"))
    }
}

#[tokio::test]
async fn a_foreign_file_is_known_by_how_it_begins() {
    let (disk, _) = filled().await;
    let last = disk.contents().into_keys().rfind(|name| name.ends_with(".log")).unwrap();
    let next = last.strip_suffix(".log").unwrap().parse::<u64>().unwrap() + 1;
    for sequence in [0, next] {
        let name = format!("{sequence:020}.log");
        let refused = verify(&Endless(disk.clone(), name.clone()));
        assert!(matches!(&refused, Err(OpenError::Foreign { file, .. }) if *file == name), "{refused:?}");
    }
}

#[tokio::test]
async fn a_look_at_a_copy_makes_no_file() {
    let folder = super::folder();
    drop(Durable::<Text>::open(folder.path()).unwrap());
    let names = || {
        let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.collect::<Vec<_>>()
    };
    std::fs::remove_file(folder.path().join("lock")).unwrap();
    let before = names();
    verify(&Folder::new(folder.path())).unwrap();
    assert_eq!(names(), before);
    let _open = Durable::<Text>::open(folder.path()).unwrap();
    assert!(matches!(verify(&Folder::new(folder.path())), Err(OpenError::Locked)));
}

#[tokio::test]
async fn a_log_that_ends_early_loses_its_last_write_only() {
    let (disk, whole) = filled().await;
    let files = disk.contents();
    let last = files.keys().rfind(|name| name.ends_with(".log")).unwrap().clone();
    let length = files[&last].len();
    for end in [length - 1, length - 4, length - 30, length - 100] {
        let mut files = files.clone();
        files.get_mut(&last).unwrap().truncate(end);
        let disk = disk_with(&files);
        let found = verify(&disk).unwrap();
        let store = open(&disk).unwrap();
        assert_eq!(store.recovery(), &found);
        let cut = found.cut.expect("something was cut off");
        assert_eq!((&cut.file, cut.offset + cut.bytes), (&last, end as u64));
        assert_ne!(texts(&store).await, whole);
        let committed = store.commit(Txn::new().put("a/new", Text::new("goes on"))).await.unwrap();
        assert_eq!(committed.revision, found.revision.next());
        drop(store);
        assert_eq!(open(&disk).unwrap().recovery().cut, None, "it is mended");
    }
}

/// A disk on whose log the last write has five commits, with values that are mostly zeros; the log's name,
/// where that write begins, and the revision before it.
async fn with_a_group() -> (BTreeMap<String, Vec<u8>>, String, usize, Revision) {
    let disk = Gated::default();
    let store: Durable<Text> = Durable::builder_on(Arc::new(disk.clone())).open().unwrap();
    let put = |at: usize| store.commit(Txn::new().put(format!("a/{at}"), Text::new("\0".repeat(700 * at))));
    put(1).await.unwrap();
    let shut = disk.shut();
    let changes = disk.disk.changes();
    let mut first = put(2).boxed();
    assert!((&mut first).now_or_never().is_none(), "its sync waits");
    while disk.disk.changes() == changes {
        tokio::task::yield_now().await;
    }
    let contents = disk.disk.contents();
    let (name, log) = contents.iter().rfind(|(name, _)| name.ends_with(".log")).unwrap();
    // These come while the first is being synced, so they are written together.
    let mut group: Vec<_> = (3..8).map(|at| put(at).boxed()).collect();
    assert!(group.iter_mut().all(|put| put.now_or_never().is_none()));
    drop(shut);
    let before = first.await.unwrap().revision;
    futures::future::join_all(group).await.into_iter().for_each(|done| drop(done.unwrap()));
    assert_eq!(store.stats().sync.count, 3, "the group had one");
    drop(store);
    (disk.disk.contents(), name.clone(), log.len(), before)
}

/// Whatever of the last write is on disk, all of its commits are cut off, and none before it; whatever is
/// changed in it otherwise, or lost before it, is refused.
#[tokio::test]
async fn a_group_of_commits_is_torn_as_a_whole() {
    const SECTOR: usize = 512;
    let (files, name, begins, before) = with_a_group().await;
    let (length, mut dice) = (files[&name].len(), Dice::seeded(11));
    for round in 0..300 {
        let mut files = files.clone();
        let log = files.get_mut(&name).unwrap();
        let sectors = begins / SECTOR..length.div_ceil(SECTOR);
        let sure = sectors.start + dice.roll_up_to(sectors.len() - 1);
        for sector in sectors.filter(|sector| *sector == sure || dice.roll(1 + round % 9) == 0) {
            let end = length.min((sector + 1) * SECTOR);
            log[(sector * SECTOR).max(begins)..end].fill(0);
        }
        let store = open(&disk_with(&files)).unwrap();
        let recovery = store.recovery();
        let cut = recovery.cut.as_ref().expect("it was cut off");
        assert_eq!((cut.offset, recovery.revision), (begins as u64, before), "round {round}");
        assert_eq!(texts(&store).await.len(), 2);
    }
    for _ in 0..300 {
        let mut files = files.clone();
        let byte = begins + dice.roll_up_to(length - begins - 1);
        files.get_mut(&name).unwrap()[byte] ^= 1 << dice.roll(8);
        assert!(matches!(refused(&files), OpenError::Damaged { .. }), "byte {byte}");
    }
    for sector in 0..begins / SECTOR {
        let mut files = files.clone();
        files.get_mut(&name).unwrap()[sector * SECTOR..(sector + 1) * SECTOR].fill(0);
        refused(&files);
    }
}

#[tokio::test]
async fn files_that_are_missing_are_named() {
    let (disk, _) = filled().await;
    let files = disk.contents();
    let logs: Vec<_> = files.keys().filter(|name| name.ends_with(".log")).collect();
    // Without the last one, nothing tells that there ever was another one.
    for name in &logs[..logs.len() - 1] {
        let mut files = files.clone();
        files.remove(*name);
        let error = refused(&files);
        assert!(matches!(&error, OpenError::Missing { file } if file == *name), "{name}: {error}");
    }
    let mut files = files.clone();
    files.retain(|name, _| !name.ends_with(".log"));
    assert!(matches!(refused(&files), OpenError::Missing { .. }), "a snapshot alone is no store");
}

#[tokio::test]
async fn what_is_foreign_is_not_touched() {
    let notes = BTreeMap::from([("notes.txt".to_owned(), b"mine".to_vec())]);
    let disk = disk_with(&notes);
    assert!(matches!(open(&disk), Err(OpenError::Foreign { file, .. }) if file == "notes.txt"));
    assert_eq!((disk.contents(), disk.changes()), (notes, 0));

    // A file of another store in the place of one's own.
    let (one, other) = (filled().await.0.contents(), filled().await.0.contents());
    let last = one.keys().rfind(|name| name.ends_with(".log")).unwrap();
    let mut mixed = one.clone();
    let stranger = other.iter().rfind(|(name, _)| name.ends_with(".log")).unwrap().1;
    mixed.insert(last.clone(), stranger.clone());
    assert!(matches!(refused(&mixed), OpenError::Foreign { file, .. } if file == *last));

    // A log that somebody wrote over.
    let mut other = one.clone();
    other.insert(last.clone(), b"# Shopping list\n\nmilk, bread, and whatever else there may be".to_vec());
    assert!(matches!(refused(&other), OpenError::Foreign { file, .. } if file == *last));
}

#[tokio::test]
async fn what_was_being_written_is_of_no_worth() {
    let (disk, whole) = filled().await;
    let mut files = disk.contents();
    files.insert("00000000000000009999.snapshot.new".to_owned(), b"half".to_vec());
    files.insert("00000000000000009999.log.new".to_owned(), Vec::new());
    let disk = disk_with(&files);
    assert_eq!(texts(&open(&disk).unwrap()).await, whole);
    assert!(disk.contents().keys().all(|name| !name.ends_with(".new")), "it is removed");
}
