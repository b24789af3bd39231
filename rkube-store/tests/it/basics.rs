//! A first walk through the memory store.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use rkube_store::testing::Text;
use rkube_store::{
    Change, CommitError, Key, ListOptions, Memory, Prefix, Revision, Store, StoreError, Txn, WatchItem,
    WatchOptions,
};

fn store() -> Arc<dyn Store<Text>> {
    Arc::new(Memory::builder().build())
}

#[tokio::test(start_paused = true)]
async fn a_value_lives_and_dies() {
    let store = store();
    let key = Key::new("pods/a");
    let mut watch = store.watch(&Prefix::new("pods"), WatchOptions::after(Revision(1))).await.unwrap();
    assert!(watch.next().now_or_never().is_none());
    let created = store.commit(Txn::create(&key, Text::new("1"))).await.unwrap();
    let Err(CommitError::Conflict(conflict)) = store.commit(Txn::create(&key, Text::new("x"))).await else {
        panic!("a second create must conflict");
    };
    assert_eq!(conflict.current.unwrap().value.as_str(), "1");
    let updated = store.commit(Txn::update(&key, Text::new("2"), created.revision)).await.unwrap();
    let deleted = store.commit(Txn::delete(&key, updated.revision)).await.unwrap();
    let Change::Delete { previous: Some(previous), last: Some(last) } = &deleted.changes[0] else {
        panic!("a deletion has what was there: {deleted:?}");
    };
    assert_eq!((previous.value.revision(), last.revision()), (updated.revision, deleted.revision));

    for (expected, committed) in [&created, &updated, &deleted].into_iter().enumerate() {
        let Some(Ok(WatchItem::Events(batch))) = watch.next().await else { panic!("event {expected}") };
        assert_eq!(batch.revision, committed.revision);
        assert_eq!(batch.events[0].change, committed.changes[0]);
    }
    let mut again = store.watch(&Prefix::new("pods"), WatchOptions::after(Revision(1))).await.unwrap();
    for committed in [&created, &updated, &deleted] {
        let Some(Ok(WatchItem::Events(batch))) = again.next().await else { panic!("history") };
        assert_eq!(batch.events[0].change, committed.changes[0], "history tells the same as live");
    }
    let old = store.get(&key, Some(created.revision)).await.unwrap().entry.unwrap();
    assert_eq!(old.value.as_str(), "1");
    store.compact(updated.revision).await.unwrap();
    let gone = store.list(&Prefix::new("pods"), ListOptions::default().at(created.revision)).await;
    assert!(matches!(gone, Err(StoreError::Compacted { .. })));
}

#[tokio::test(start_paused = true)]
async fn leases_end_with_and_without_the_driver() {
    let memory = Memory::<Text>::builder().build();
    let lease = memory.grant(Duration::from_secs(10)).await.unwrap();
    memory.commit(Txn::create("events/a", Text::new("1")).lease(lease.id)).await.unwrap();
    tokio::time::advance(Duration::from_secs(6)).await;
    memory.keep_alive(lease.id).await.unwrap();
    tokio::time::advance(Duration::from_secs(9)).await;
    assert!(memory.get(&Key::new("events/a"), None).await.unwrap().entry.is_some());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(memory.get(&Key::new("events/a"), None).await.unwrap().entry.is_none());
    assert!(matches!(memory.keep_alive(lease.id).await, Err(StoreError::LeaseNotFound(_))));

    let start = memory.revision().await.unwrap();
    let mut watch = memory.watch(&Prefix::new("events"), WatchOptions::after(start)).await.unwrap();
    let lease = memory.grant(Duration::from_secs(10)).await.unwrap();
    memory.commit(Txn::create("events/b", Text::new("1")).lease(lease.id)).await.unwrap();
    let mut driver = Box::pin(memory.run_expiry());
    watch.next().await.unwrap().unwrap();
    let ended = tokio::select! {
        biased;
        () = &mut driver => panic!("it never returns"),
        item = watch.next() => item.unwrap().unwrap(),
    };
    let WatchItem::Events(batch) = ended else { panic!("an event") };
    assert!(batch.events[0].change.is_delete());
}

#[tokio::test(start_paused = true)]
async fn a_lagging_watcher_reads_the_log_and_ends_when_that_is_gone() {
    let memory = Memory::<Text>::builder().history(100).watch_queue(4).build();
    let all = Prefix::all();
    let mut watch = memory.watch(&all, WatchOptions::after(Revision(1)).with_progress()).await.unwrap();
    assert!(watch.next().now_or_never().is_none());
    for at in 0..90 {
        memory.commit(Txn::new().put(format!("a/{}", at % 7), Text::new(format!("{at}")))).await.unwrap();
    }
    for at in 0..90 {
        let Some(Ok(item)) = watch.next().await else { panic!("event {at}") };
        assert_eq!(item.revision(), Revision(at + 2));
    }
    memory.request_progress().await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap(), WatchItem::Progress(Revision(91)));
    for at in 0..200 {
        memory.commit(Txn::new().put(format!("a/{}", at % 7), Text::new(format!("{at}")))).await.unwrap();
    }
    assert!(watch.next().await.unwrap().is_err());
    assert!(watch.next().await.is_none());
    assert_eq!(memory.sizes().revisions, 100);
}
