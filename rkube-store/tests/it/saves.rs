//! A store's state in a file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use rkube_store::backend::durable::{Durable, OpenError, save};
use rkube_store::testing::Text;
use rkube_store::{
    CommitError, Key, ListOptions, Memory, Page, Prefix, Revision, Store, StoreError, Transform, Txn,
    WatchOptions,
};

use crate::cold::Toy;
use crate::plain::Plain;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("saved")
    }

    fn names(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.0.path()).unwrap();
        names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}

async fn all(store: &dyn Store<Text>) -> Page<Text> {
    store.list(&Prefix::all(), ListOptions::default()).await.unwrap()
}

/// Writes, changes, deletes, leases.
async fn fill(store: &dyn Store<Text>, keys: usize) {
    for at in 0..keys {
        store
            .commit(Txn::create(format!("a/{at:04}"), Text::new(format!("{at} {}", "x".repeat(400)))))
            .await
            .unwrap();
    }
    for at in 0..keys / 3 {
        store.commit(Txn::new().put(format!("a/{at:04}"), Text::new("again"))).await.unwrap();
        store.commit(Txn::new().remove(format!("a/{:04}", keys - 1 - at))).await.unwrap();
    }
    let lease = store.grant(Duration::from_secs(600)).await.unwrap();
    store.commit(Txn::new().put("b/leased", Text::new("leased")).lease(lease.id)).await.unwrap();
}

#[tokio::test]
async fn a_folder_begins_with_what_was_saved_at_its_revision() {
    let (place, folder) = (Place::new(), Place::new());
    let store = Memory::builder().build();
    fill(&store, 100).await;
    let before = all(&store).await;
    save::save(&store, place.path(), None).await.unwrap();

    let restored = Durable::<Text>::builder(folder.path()).restore(place.path()).unwrap();
    assert_eq!(all(&restored).await, before, "with its revision, and those of all keys");
    assert_eq!(restored.recovery().snapshot, Some(before.revision));
    let mut watch = restored.watch(&Prefix::all(), WatchOptions::after(before.revision)).await.unwrap();
    let next = restored.commit(Txn::new().put("a/new", Text::new("new"))).await.unwrap().revision;
    assert_eq!(next, before.revision.next());
    assert_eq!(watch.next().await.unwrap().unwrap().revision(), next);
    let lease = before.entries.iter().find_map(|entry| entry.lease).unwrap();
    assert_eq!(restored.time_to_live(lease).await.unwrap().granted, Duration::from_secs(600));
    assert!(restored.grant(Duration::from_secs(9)).await.unwrap().id > lease, "no name is given twice");
    let early = restored.get(&Key::new("a/0000"), Some(before.revision.previous())).await;
    assert!(matches!(early, Err(StoreError::Compacted { .. })), "history begins here: {early:?}");
    let now = all(&restored).await;
    drop((restored, watch));

    let again = Durable::<Text>::builder(folder.path()).restore(place.path());
    assert!(matches!(again, Err(OpenError::Occupied)), "what is there is not overwritten");
    let opened = Durable::<Text>::open(folder.path()).unwrap();
    assert_eq!((all(&opened).await, opened.recovery().replayed), (now, 1));
    let foreign = Durable::<Text>::builder(place.0.path()).restore(place.path());
    assert!(matches!(foreign, Err(OpenError::Foreign { .. })), "nor is what is no store's");
    assert_eq!(place.names(), ["saved"]);
}

#[tokio::test]
async fn any_store_can_be_saved_and_goes_on() {
    let (place, folder) = (Place::new(), Place::new());
    let stores: [Arc<dyn Store<Text>>; 4] = [
        Arc::new(Memory::builder().build()),
        Arc::new(Memory::builder().hot_bytes(0).transform(Arc::new(Toy::new(["k1"]))).build()),
        Arc::new(Plain::new(None)),
        Arc::new(Durable::open(folder.path()).unwrap()),
    ];
    for store in stores {
        fill(&*store, 800).await;
        let before = all(&*store).await;
        assert_eq!(save::save(&*store, place.path(), None).await.unwrap(), before.revision);
        assert_eq!(place.names(), ["saved"], "and nothing else is left");
        let again: Memory<Text> = Memory::builder().restore(place.path()).unwrap();
        assert_eq!(all(&again).await, before);

        let lease = before.entries.iter().find_map(|entry| entry.lease).unwrap();
        assert_eq!(again.time_to_live(lease).await.unwrap().granted, Duration::from_secs(600));
        assert_ne!(again.grant(Duration::from_secs(1)).await.unwrap().id, lease);
        let past = again.get(&Key::new("a/0000"), Some(before.revision.previous())).await;
        assert!(matches!(past, Err(StoreError::Compacted { .. })), "{past:?}");
        let next = again.commit(Txn::new().put("a/0000", Text::new("next"))).await.unwrap();
        assert_eq!(next.revision, before.revision.next());
        assert_eq!(next.changes[0].previous(), before.entries.first());
        again.revoke(lease).await.unwrap();
        assert!(again.get(&Key::new("b/leased"), None).await.unwrap().entry.is_none());
    }
}

#[tokio::test]
async fn an_empty_store_can_be_saved() {
    let place = Place::new();
    save::save(&Memory::<Text>::builder().build(), place.path(), None).await.unwrap();
    let again: Memory<Text> = Memory::builder().restore(place.path()).unwrap();
    assert_eq!((all(&again).await.entries, again.revision().await.unwrap()), (vec![], Revision(1)));
}

#[tokio::test]
async fn a_damaged_file_is_refused_wherever_the_damage_is() {
    let place = Place::new();
    let store: Memory<Text> = Memory::builder().build();
    fill(&store, 12).await;
    save::save(&store, place.path(), None).await.unwrap();
    let good = std::fs::read(place.path()).unwrap();
    let restored = |bytes: &[u8]| {
        std::fs::write(place.path(), bytes).unwrap();
        Memory::<Text>::builder().restore(place.path())
    };
    assert!(restored(&good).is_ok());
    let refused = |error: &OpenError| matches!(error, OpenError::Damaged { .. } | OpenError::Foreign { .. });
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        let error = restored(&flipped).err().unwrap_or_else(|| panic!("byte {at}"));
        assert!(refused(&error) && error.to_string().contains("saved"), "byte {at}: {error}");
        let error = restored(&good[..at]).err().unwrap_or_else(|| panic!("cut at {at}"));
        assert!(refused(&error), "cut at {at}: {error}");
    }
    let error = restored(&[&*good, b"x"].concat()).err().unwrap();
    assert!(refused(&error), "{error}");
}

#[tokio::test]
async fn what_is_no_saved_state_is_refused() {
    let (place, folder) = (Place::new(), Place::new());
    let restored = |path: PathBuf| Memory::<Text>::builder().restore(path).err().unwrap();
    assert!(matches!(restored(place.path()), OpenError::Io { .. }), "there is none");
    std::fs::write(place.path(), vec![b'x'; 1000]).unwrap();
    assert!(matches!(restored(place.path()), OpenError::Foreign { .. }));
    let durable: Durable<Text> = Durable::open(folder.path()).unwrap();
    fill(&durable, 10).await;
    drop(durable);
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        assert!(matches!(restored(path.clone()), OpenError::Foreign { .. }), "{path:?} is a store's file");
    }
}

#[tokio::test]
async fn a_save_that_fails_leaves_the_older_one() {
    let place = Place::new();
    let good: Memory<Text> = Memory::builder().build();
    fill(&good, 10).await;
    save::save(&good, place.path(), None).await.unwrap();
    let before = std::fs::read(place.path()).unwrap();
    struct Full;
    impl Transform for Full {
        fn seal(&self, _: &Key, _: bytes::Bytes) -> Result<bytes::Bytes, rkube_store::TransformError> {
            Err(rkube_store::TransformError::UnknownKey { id: "lost".to_owned() })
        }
        fn open(&self, _: &Key, sealed: bytes::Bytes) -> Result<bytes::Bytes, rkube_store::TransformError> {
            Ok(sealed)
        }
    }
    let error = save::save(&good, place.path(), Some(Arc::new(Full))).await.unwrap_err();
    assert!(matches!(error, OpenError::Store(StoreError::Transform { .. })), "{error}");
    assert_eq!(std::fs::read(place.path()).unwrap(), before);
    assert_eq!(place.names(), ["saved"]);
    let nowhere = place.path().join("nowhere").join("saved");
    assert!(matches!(save::save(&good, nowhere, None).await, Err(OpenError::Io { .. })));
}

/// Holds every save up until another one is as far.
struct Together(std::sync::Barrier);

impl Transform for Together {
    fn seal(&self, _: &Key, plain: bytes::Bytes) -> Result<bytes::Bytes, rkube_store::TransformError> {
        self.0.wait();
        Ok(plain)
    }
    fn open(&self, _: &Key, sealed: bytes::Bytes) -> Result<bytes::Bytes, rkube_store::TransformError> {
        Ok(sealed)
    }
}

#[tokio::test]
async fn saves_to_one_path_do_not_disturb_each_other() {
    let place = Place::new();
    let theirs = place.path().with_extension("new");
    std::fs::write(&theirs, "somebody else's").unwrap();
    let store: Memory<Text> = Memory::builder().build();
    store.commit(Txn::create("a/1", Text::new("x".repeat(1000)))).await.unwrap();
    for _ in 0..20 {
        let together = Arc::new(Together(std::sync::Barrier::new(2)));
        let save = || save::save(&store, place.path(), Some(together.clone()));
        let (one, other) = futures::future::join(save(), save()).await;
        assert_eq!((one.unwrap(), other.unwrap()), (Revision(2), Revision(2)));
        let again: Memory<Text> = Memory::builder().restore(place.path()).unwrap();
        assert_eq!(all(&again).await, all(&store).await);
    }
    let mut names = place.names();
    names.sort();
    assert_eq!(names, ["saved", "saved.new"]);
    assert_eq!(std::fs::read_to_string(theirs).unwrap(), "somebody else's");
}

#[cfg(unix)]
#[tokio::test]
async fn any_path_will_do() {
    use std::os::unix::ffi::OsStrExt;

    let place = Place::new();
    let store: Memory<Text> = Memory::builder().build();
    fill(&store, 10).await;
    for name in [&b"not \xff utf-8 \xfe"[..], &b"not \xfe utf-8 \xff"[..], &[b'x'; 255][..]] {
        let path = place.0.path().join(std::ffi::OsStr::from_bytes(name));
        save::save(&store, &path, None).await.unwrap();
        assert!(path.exists());
        let again: Memory<Text> = Memory::builder().restore(&path).unwrap();
        assert_eq!(all(&again).await, all(&store).await);
    }
    assert_eq!(place.names().len(), 3);
}

#[tokio::test]
async fn a_transformer_seals_what_is_saved() {
    let place = Place::new();
    let store: Memory<Text> = Memory::builder().build();
    store.commit(Txn::create("secrets/a", Text::new("a plain secret"))).await.unwrap();
    let holds = || std::fs::read(place.path()).unwrap().windows(14).any(|bytes| bytes == b"a plain secret");
    save::save(&store, place.path(), None).await.unwrap();
    assert!(holds());
    save::save(&store, place.path(), Some(Arc::new(Toy::new(["k1"])))).await.unwrap();
    assert!(!holds());
    let opened = |key| Memory::<Text>::builder().transform(Arc::new(Toy::new([key]))).restore(place.path());
    assert_eq!(all(&opened("k1").unwrap()).await, all(&store).await);
    let wrong = opened("k2").unwrap().get(&Key::new("secrets/a"), None).await;
    assert!(matches!(wrong, Err(StoreError::Transform { .. })), "{wrong:?}");
}

#[tokio::test]
async fn a_state_can_be_loaded_into_any_store() {
    let store: Memory<Text> = Memory::builder().build();
    fill(&store, 500).await;
    let texts = |page: Page<Text>| -> Vec<(Key, String)> {
        page.entries.into_iter().map(|entry| (entry.key, entry.value.as_str().to_owned())).collect()
    };
    let large = Txn::create("large/1", Text::new("x".repeat(1_400_000)));
    store.commit(large).await.unwrap();
    let other = Plain::new(None);
    let last = save::load(&store, &other).await.unwrap();
    assert_eq!(Store::<Text>::revision(&other).await.unwrap(), last);
    assert_eq!(texts(all(&other).await), texts(all(&store).await));
    let leased = Store::<Text>::get(&other, &Key::new("b/leased"), None).await.unwrap().entry.unwrap();
    let left = Store::<Text>::time_to_live(&other, leased.lease.unwrap()).await.unwrap().granted;
    assert!(left <= Duration::from_secs(600) && left > Duration::from_secs(500), "{left:?}");
    let twice = save::load(&store, &other).await;
    assert!(matches!(twice, Err(CommitError::Conflict(_))), "{twice:?}");
}
