//! What a store is like after it was closed and opened again.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use rkube_store::backend::durable::{Condition, Durable, OpenError};
use rkube_store::testing::Text;
use rkube_store::{
    Change, CommitError, Key, ListOptions, Prefix, Revision, Store, StoreError, Txn, WatchItem, WatchOptions,
};

use super::folder;

fn open(folder: &tempfile::TempDir) -> Durable<Text> {
    Durable::open(folder.path()).unwrap()
}

async fn put(store: &Durable<Text>, key: &str, text: &str) -> Revision {
    store.commit(Txn::new().put(key, Text::new(text))).await.unwrap().revision
}

#[tokio::test]
async fn all_that_was_there_is_there_again() {
    let folder = folder();
    let store = open(&folder);
    put(&store, "a/1", "one").await;
    let both = Txn::new().put("a/2", Text::new("two")).put("b/1", Text::new("other"));
    store.commit(both).await.unwrap();
    put(&store, "a/1", "one again").await;
    let last = store.commit(Txn::new().remove("a/2")).await.unwrap().revision;
    let all = |at| ListOptions { at, ..ListOptions::default() };
    let before = store.list(&Prefix::all(), all(None)).await.unwrap();
    let earlier = store.list(&Prefix::all(), all(Some(Revision(3)))).await.unwrap();
    drop(store);

    let store = open(&folder);
    let recovery = store.recovery().clone();
    assert_eq!((recovery.replayed, recovery.revision, recovery.cut), (4, last, None));
    assert_eq!(store.list(&Prefix::all(), all(None)).await.unwrap(), before);
    assert_eq!(store.list(&Prefix::all(), all(Some(Revision(3)))).await.unwrap(), earlier);
    let next = put(&store, "a/2", "a new life").await;
    assert_eq!(next, last.next());
    let entry = store.get(&Key::new("a/1"), None).await.unwrap().entry.unwrap();
    assert_eq!((entry.version, entry.create_revision, entry.mod_revision), (2, Revision(2), Revision(4)));
    assert_eq!(entry.value.revision(), entry.mod_revision, "decoded values are stamped");
}

#[tokio::test]
async fn a_watch_goes_on_where_it_ended_before() {
    let folder = folder();
    let store = open(&folder);
    let seen = put(&store, "a/1", "one").await;
    put(&store, "a/2", "two").await;
    store.commit(Txn::new().remove("a/1")).await.unwrap();
    drop(store);

    let store = open(&folder);
    let mut watch = store.watch(&Prefix::new("a"), WatchOptions::after(seen)).await.unwrap();
    put(&store, "a/3", "three").await;
    let mut events = Vec::new();
    while events.len() < 3 {
        let Some(Ok(WatchItem::Events(batch))) = watch.next().await else { panic!("an event") };
        events.extend(batch.events.clone());
    }
    let told: Vec<_> =
        events.iter().map(|event| (event.key.as_str(), event.revision.0, event.change.is_delete())).collect();
    assert_eq!(told, [("a/2", 3, false), ("a/1", 4, true), ("a/3", 5, false)]);
    let Change::Delete { previous: Some(previous), .. } = &events[1].change else { panic!("a deletion") };
    assert_eq!(previous.value.as_str(), "one", "the value before is known from before the restart");
}

#[tokio::test(start_paused = true)]
async fn leases_begin_anew_and_keep_their_keys() {
    const TTL: Duration = Duration::from_secs(100);
    let folder = folder();
    let store = open(&folder);
    let (kept, revoked) = (store.grant(TTL).await.unwrap(), store.grant(TTL).await.unwrap());
    let bound = |key: &str, lease| Txn::new().put(key, Text::new("x")).lease(lease);
    store.commit(bound("a/kept", kept.id)).await.unwrap();
    store.commit(bound("a/revoked", revoked.id)).await.unwrap();
    tokio::time::sleep(TTL / 2).await;
    store.revoke(revoked.id).await.unwrap();
    drop(store);

    let store = open(&folder);
    let lease = store.time_to_live(kept.id).await.unwrap();
    assert_eq!((lease.granted, lease.remaining), (TTL, TTL), "nobody could keep it alive meanwhile");
    let gone = store.time_to_live(revoked.id).await;
    assert!(matches!(gone, Err(StoreError::LeaseNotFound(id)) if id == revoked.id));
    let another = store.grant(TTL * 2).await.unwrap();
    assert!(another.id > revoked.id, "no name is given twice");
    let mut watch =
        store.watch(&Prefix::all(), WatchOptions::after(store.recovery().revision)).await.unwrap();
    tokio::time::sleep(TTL).await;
    // Any call ends what is over; that is seen when it is on disk.
    store.revision().await.unwrap();
    let Some(Ok(WatchItem::Events(batch))) = watch.next().await else { panic!("an event") };
    assert!(batch.events[0].key.as_str() == "a/kept" && batch.events[0].change.is_delete(), "{batch:?}");
}

#[tokio::test]
async fn compaction_is_remembered() {
    let folder = folder();
    let store = open(&folder);
    for at in 0..10 {
        put(&store, "a/1", &at.to_string()).await;
    }
    store.compact(Revision(7)).await.unwrap();
    drop(store);
    let store = open(&folder);
    let key = Key::new("a/1");
    let early = store.get(&key, Some(Revision(6))).await;
    assert!(matches!(early, Err(StoreError::Compacted { compacted: Revision(7), .. })), "{early:?}");
    assert_eq!(store.get(&key, Some(Revision(7))).await.unwrap().entry.unwrap().value.as_str(), "5");
}

#[tokio::test]
async fn a_second_store_in_the_same_folder_is_refused() {
    let folder = folder();
    let store = open(&folder);
    let clone = store.clone();
    drop(store);
    let second = Durable::<Text>::open(folder.path());
    assert!(matches!(second, Err(OpenError::Locked)));
    put(&clone, "a/1", "the first one goes on").await;
    drop(clone);
    open(&folder);
}

#[tokio::test]
async fn a_closed_store_can_be_read_and_opened_anew() {
    let folder = folder();
    let store = open(&folder);
    for at in 0..50 {
        put(&store, &format!("a/{at}"), &"x".repeat(1000)).await;
        store.commit(Txn::new().remove(format!("a/{at}"))).await.unwrap();
    }
    let last = put(&store, "a/1", "one").await;
    let before = store.stats().disk.bytes();
    store.compact(last).await.unwrap();
    store.close().await;
    store.close().await;
    assert!(store.stats().disk.bytes() < before / 10, "the compaction was waited for");
    let refused = store.commit(Txn::new().put("a/2", Text::new("two"))).await;
    assert!(matches!(refused, Err(CommitError::Store(StoreError::Unavailable(_)))), "{refused:?}");
    assert!(store.get(&Key::new("a/1"), None).await.unwrap().entry.is_some());
    let again = open(&folder);
    assert_eq!((again.recovery().snapshot, again.recovery().revision), (Some(last), last));
}

#[tokio::test]
async fn stats_tell_how_it_is_doing() {
    let folder = folder();
    let store = open(&folder);
    let mut watch = store.watch(&Prefix::all(), WatchOptions::after(Revision(1))).await.unwrap();
    assert!(watch.next().now_or_never().is_none());
    for at in 0..10 {
        put(&store, &format!("a/{at}"), "value").await;
    }
    // The space is measured behind the answer to a commit.
    while store.stats().disk.log_bytes < store.stats().written_bytes {
        tokio::task::yield_now().await;
    }
    let stats = store.stats();
    assert_eq!((stats.commits, stats.commit.count, stats.sync.count, stats.queued), (10, 10, 10, 0));
    assert_eq!((stats.condition, stats.disk.segments), (Condition::Open, 1));
    assert_eq!((stats.store.sizes.revisions, stats.store.watches.lag), (10, 10));
    assert!(stats.disk.log_bytes > stats.written_bytes && stats.disk.free_bytes.is_some());
    assert!(stats.sync.max > Duration::ZERO && stats.commit.sum >= stats.sync.sum);
}
