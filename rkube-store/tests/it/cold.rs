//! Values that go cold, and the transformer at the store's edge.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use rkube_store::testing::Text;
use rkube_store::{
    CodecError, CommitError, Key, ListOptions, Memory, Prefix, Revision, Store, StoreError, Transform,
    TransformError, Txn, Value, WatchItem, WatchOptions,
};

/// A toy of a keyed transformer. It hides text from a search, and notices a wrong key; it is no cipher.
pub(crate) struct Toy {
    /// The first one seals.
    keys: Vec<String>,
    /// What lies at rest.
    sealed: Mutex<Vec<Bytes>>,
}

impl Toy {
    pub(crate) fn new(keys: impl IntoIterator<Item = &'static str>) -> Self {
        Self { keys: keys.into_iter().map(str::to_owned).collect(), sealed: Mutex::default() }
    }

    fn mask(id: &str, key: &Key, bytes: &[u8]) -> Vec<u8> {
        let stream = id.bytes().chain(key.as_str().bytes()).cycle();
        let mut turn = key.as_str().bytes().fold(0_u8, |sum, byte| sum.wrapping_mul(17).wrapping_add(byte));
        bytes
            .iter()
            .zip(stream)
            .map(|(byte, with)| {
                turn = turn.wrapping_mul(31).wrapping_add(with | 1);
                byte ^ turn
            })
            .collect()
    }
}

impl Transform for Toy {
    fn seal(&self, key: &Key, plain: Bytes) -> Result<Bytes, TransformError> {
        let id = &self.keys[0];
        let checked = [b"ok", &*plain].concat();
        let sealed = Bytes::from([id.as_bytes(), b":", &Self::mask(id, key, &checked)].concat());
        self.sealed.lock().push(sealed.clone());
        Ok(sealed)
    }

    fn open(&self, key: &Key, sealed: Bytes) -> Result<Bytes, TransformError> {
        let colon = sealed.iter().position(|byte| *byte == b':').unwrap_or(0);
        let id = String::from_utf8_lossy(&sealed[..colon]).into_owned();
        if !self.keys.contains(&id) {
            return Err(TransformError::UnknownKey { id });
        }
        let plain = Self::mask(&id, key, &sealed[colon + 1..]);
        match plain.strip_prefix(b"ok") {
            Some(plain) => Ok(Bytes::copy_from_slice(plain)),
            None => Err(TransformError::Damaged { id, reason: "the check does not match".to_owned() }),
        }
    }
}

/// Forgets its keys on demand.
struct Forgetful {
    toy: Toy,
    forgot: AtomicUsize,
}

impl Transform for Forgetful {
    fn seal(&self, key: &Key, plain: Bytes) -> Result<Bytes, TransformError> {
        self.toy.seal(key, plain)
    }

    fn open(&self, key: &Key, sealed: Bytes) -> Result<Bytes, TransformError> {
        match self.forgot.load(Ordering::SeqCst) {
            0 => self.toy.open(key, sealed),
            _ => Toy::new(["other"]).open(key, sealed),
        }
    }
}

async fn put(store: &Memory<Text>, key: &str, text: &str) -> Revision {
    store.commit(Txn::new().put(key, Text::new(text))).await.unwrap().revision
}

#[tokio::test]
async fn plaintext_is_not_at_rest_and_comes_back() {
    let toy = Arc::new(Toy::new(["k1"]));
    let store: Memory<Text> = Memory::builder().hot_bytes(0).transform(toy.clone()).build();
    let secret = "the password is swordfish";
    for at in 0..5 {
        put(&store, &format!("secrets/{at}"), secret).await;
    }
    assert_eq!(store.sizes().hot_values, 0);
    let sealed = toy.sealed.lock().clone();
    assert_eq!(sealed.len(), 5, "each value is encoded once");
    for bytes in &sealed {
        assert!(bytes.starts_with(b"k1:"));
        assert!(!bytes.windows(9).any(|window| window == b"swordfish"), "plaintext at rest");
    }
    let page = store.list(&Prefix::new("secrets"), ListOptions::default()).await.unwrap();
    assert!(page.entries.iter().all(|entry| entry.value.as_str() == secret));
    assert!(page.entries.iter().all(|entry| entry.value.revision() == entry.mod_revision));
}

#[tokio::test]
async fn a_wrong_key_is_an_error_that_names_it() {
    let forgetful = Arc::new(Forgetful { toy: Toy::new(["k1"]), forgot: AtomicUsize::new(0) });
    let store: Memory<Text> = Memory::builder().hot_bytes(0).transform(forgetful.clone()).build();
    let start = store.revision().await.unwrap();
    let written = put(&store, "secrets/a", "one").await;
    let mut watch = store.watch(&Prefix::new("secrets"), WatchOptions::after(start)).await.unwrap();
    forgetful.forgot.store(1, Ordering::SeqCst);
    let get = store.get(&Key::new("secrets/a"), None).await.unwrap_err();
    let list = store.list(&Prefix::all(), ListOptions::default()).await.unwrap_err();
    let create = store.commit(Txn::create("secrets/a", Text::new("two"))).await.unwrap_err();
    let CommitError::Store(create) = create else { panic!("{create}") };
    for error in [get, list, create] {
        let text = error.to_string();
        assert!(text.contains("secrets/a") && text.contains("\"k1\""), "{text}");
        assert!(matches!(error, StoreError::Transform { source: TransformError::UnknownKey { .. }, .. }));
    }
    assert!(watch.next().await.unwrap().is_err());
    assert!(watch.next().await.is_none());
    let wrong = Toy::new(["k1"]).open(&Key::new("secrets/b"), forgetful.toy.sealed.lock()[0].clone());
    assert!(
        matches!(wrong, Err(TransformError::Damaged { id, .. }) if id == "k1"),
        "a value moved to another key"
    );
    forgetful.forgot.store(0, Ordering::SeqCst);
    assert_eq!(put(&store, "secrets/a", "two").await, written.next(), "nothing was written meanwhile");
    // What is written in its place is written, although nobody can tell what was there.
    forgetful.forgot.store(1, Ordering::SeqCst);
    let update = store.commit(Txn::update("secrets/a", Text::new("three"), written.next())).await;
    let Err(CommitError::Unknown(reason)) = update else { panic!("{update:?}") };
    assert!(reason.contains("at revision 4") && reason.contains("\"k1\""), "{reason}");
    forgetful.forgot.store(0, Ordering::SeqCst);
    let read = store.get(&Key::new("secrets/a"), None).await.unwrap().entry.unwrap();
    assert_eq!((read.value.as_str(), read.version), ("three", 3));
}

/// Counts how often it is encoded and decoded.
#[derive(Clone)]
struct Counted {
    text: Arc<str>,
    revision: Revision,
}

static ENCODED: AtomicUsize = AtomicUsize::new(0);
static DECODED: AtomicUsize = AtomicUsize::new(0);

impl Value for Counted {
    fn encode(&self) -> Result<Bytes, CodecError> {
        ENCODED.fetch_add(1, Ordering::SeqCst);
        Ok(Bytes::copy_from_slice(self.text.as_bytes()))
    }

    fn decode(bytes: &Bytes) -> Result<Self, CodecError> {
        DECODED.fetch_add(1, Ordering::SeqCst);
        let text = std::str::from_utf8(bytes).map_err(CodecError::new)?;
        Ok(Self { text: text.into(), revision: Revision::ZERO })
    }

    fn stamp(&mut self, revision: Revision) {
        self.revision = revision;
    }

    fn weight(&self) -> usize {
        100
    }

    fn size(&self) -> Result<usize, CodecError> {
        Ok(self.text.len())
    }
}

#[tokio::test]
async fn what_is_read_stays_hot_and_what_went_cold_is_encoded_once() {
    let store: Memory<Counted> = Memory::builder().hot_bytes(1000).build();
    let value = |text: &str| Counted { text: text.into(), revision: Revision::ZERO };
    for at in 0..10 {
        store.commit(Txn::create(format!("a/{at}"), value("x"))).await.unwrap();
    }
    assert_eq!((ENCODED.load(Ordering::SeqCst), store.sizes().hot_values), (0, 10), "within the budget");
    store.get(&Key::new("a/0"), None).await.unwrap();
    for at in 10..19 {
        store.commit(Txn::create(format!("a/{at}"), value("x"))).await.unwrap();
    }
    assert_eq!((ENCODED.load(Ordering::SeqCst), store.sizes().hot_bytes), (9, 1000));
    store.get(&Key::new("a/0"), None).await.unwrap();
    assert_eq!(DECODED.load(Ordering::SeqCst), 0, "it was read, so others went cold before it");
    for _ in 0..3 {
        let read = store.get(&Key::new("a/1"), None).await.unwrap();
        let entry = read.entry.unwrap();
        assert_eq!(entry.value.revision, entry.mod_revision);
    }
    assert_eq!(DECODED.load(Ordering::SeqCst), 1, "decoded once, then hot again");
    for at in 20..40 {
        store.commit(Txn::create(format!("a/{at}"), value("x"))).await.unwrap();
    }
    assert!(store.sizes().hot_bytes <= 1000);
    assert_eq!(ENCODED.load(Ordering::SeqCst) + 10, 39, "each value that is cold was encoded once");
}

#[tokio::test]
async fn stale_places_do_not_pile_up() {
    let store: Memory<Text> = Memory::builder().history(10).build();
    for round in 0..20_000 {
        put(&store, &format!("a/{}", round % 3), "x").await;
    }
    let sizes = store.sizes();
    assert_eq!((sizes.keys, sizes.revisions), (3, 10));
    assert!(sizes.hot_values <= 13, "{sizes:?}");
    for at in 0..3 {
        store.commit(Txn::new().remove(format!("a/{at}"))).await.unwrap();
    }
    for _ in 0..20 {
        put(&store, "b/1", "x").await;
    }
    assert_eq!(store.sizes().keys, 1, "deleted keys leave with their history");
}

#[tokio::test(start_paused = true)]
async fn history_is_bounded_by_age() {
    let minute = std::time::Duration::from_secs(60);
    let store: Memory<Text> = Memory::builder().history_age(minute).build();
    let old = put(&store, "a/1", "old").await;
    tokio::time::advance(minute / 2).await;
    let middle = put(&store, "a/1", "middle").await;
    tokio::time::advance(minute * 3 / 4).await;
    put(&store, "a/1", "new").await;
    let at = |revision| ListOptions::default().at(revision);
    store.list(&Prefix::all(), at(middle)).await.unwrap();
    store.list(&Prefix::all(), at(old)).await.unwrap();
    tokio::time::advance(minute).await;
    put(&store, "a/1", "newer").await;
    let gone = store.list(&Prefix::all(), at(old)).await;
    assert!(matches!(gone, Err(StoreError::Compacted { .. })));
    assert!(store.sizes().revisions <= 3);
}

#[tokio::test(start_paused = true)]
async fn history_ages_though_nothing_is_written() {
    let minute = std::time::Duration::from_secs(60);
    let store: Memory<Text> = Memory::builder().history_age(minute).build();
    crate::suite::drive(store.run_expiry());
    for round in 0..2 {
        let first = put(&store, "a/1", "first").await;
        for at in 0..3000 {
            put(&store, "a/1", &format!("{round}-{at}")).await;
        }
        let last = put(&store, "a/1", "last").await;
        store.commit(Txn::new().remove("a/2")).await.unwrap();
        tokio::time::sleep(minute * 3 / 4).await;
        store.list(&Prefix::all(), ListOptions::default().at(first)).await.unwrap();
        tokio::time::sleep(minute / 2).await;
        assert_eq!((store.sizes().revisions, store.sizes().keys), (0, 1), "nothing is left but the present");
        let gone = store.list(&Prefix::all(), ListOptions::default().at(first)).await;
        assert!(matches!(gone, Err(StoreError::Compacted { .. })));
        let gone = store.watch(&Prefix::all(), WatchOptions::after(first)).await;
        assert!(matches!(gone, Err(StoreError::Compacted { .. })));
        let page = store.list(&Prefix::all(), ListOptions::default()).await.unwrap();
        assert_eq!((page.entries[0].value.as_str(), page.revision), ("last", last));
        store.watch(&Prefix::all(), WatchOptions::after(page.revision)).await.unwrap();
    }
}

#[tokio::test]
async fn cold_history_is_what_live_watchers_saw() {
    let store: Memory<Text> = Memory::builder().hot_bytes(0).build();
    let start = store.revision().await.unwrap();
    let mut live = store.watch(&Prefix::new("a"), WatchOptions::after(start)).await.unwrap();
    for round in 0..50 {
        if round % 4 == 3 {
            store.commit(Txn::new().remove("a/1")).await.unwrap();
        } else {
            put(&store, "a/1", &format!("{round}")).await;
        }
    }
    let mut history = store.watch(&Prefix::new("a"), WatchOptions::after(start)).await.unwrap();
    for _ in 0..50 {
        let (Some(Ok(WatchItem::Events(live))), Some(Ok(WatchItem::Events(history)))) =
            (live.next().await, history.next().await)
        else {
            panic!("an event")
        };
        assert_eq!(live, history);
    }
}
