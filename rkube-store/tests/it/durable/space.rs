//! Space comes back, and runs out in good time.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use rkube_store::backend::durable::{Builder, Condition, Durable};
use rkube_store::testing::Text;
use rkube_store::testing::disk::Volatile;
use rkube_store::{CommitError, Key, ListOptions, Prefix, Revision, Store, StoreError, Txn};

use super::gated::Gated;

fn on(disk: &Volatile) -> Builder<Text> {
    Durable::builder_on(Arc::new(disk.clone())).segment_bytes(20_000).keep_free_bytes(0)
}

fn put(at: u64) -> Txn<Text> {
    Txn::new().put(format!("a/{at}"), Text::new("x".repeat(1000)))
}

fn on_disk(disk: &Volatile) -> usize {
    disk.contents().values().map(Vec::len).sum()
}

fn is_full(outcome: &Result<rkube_store::Committed<Text>, CommitError<Text>>) -> bool {
    matches!(outcome, Err(CommitError::Store(StoreError::NoSpace)))
}

#[tokio::test]
async fn history_that_is_compacted_by_count_leaves_the_disk() {
    let disk = Volatile::new();
    let store = on(&disk).history(50).open().unwrap();
    for at in 0..2000 {
        store.commit(put(at % 10)).await.unwrap();
    }
    // This waits until all space is given back that can be.
    store.close().await;
    let stats = store.stats();
    assert!(stats.disk.snapshot.is_some() && stats.written_bytes > 2_000_000, "{stats:?}");
    assert!(on_disk(&disk) < 150_000, "{}", on_disk(&disk));
    drop(store);
    let store = on(&disk).history(50).open().unwrap();
    assert_eq!(store.recovery().revision, Revision(2001));
    let key = Key::new("a/3");
    assert!(store.get(&key, Some(Revision(1960))).await.unwrap().entry.is_some(), "history is still there");
    let early = store.get(&key, Some(Revision(1900))).await;
    assert!(matches!(early, Err(StoreError::Compacted { .. })), "{early:?}");
}

/// Ages follow the runtime's clock, which no change of the system's time moves; here it jumps by hours.
#[tokio::test(start_paused = true)]
async fn history_that_is_compacted_by_age_leaves_the_disk_however_the_clock_jumps() {
    let disk = Volatile::new();
    let store = on(&disk).history_age(Duration::from_secs(60)).open().unwrap();
    let lease = store.grant(Duration::from_secs(3600)).await.unwrap();
    store.commit(Txn::new().put("b/bound", Text::new("x")).lease(lease.id)).await.unwrap();
    for round in 1..=20 {
        for at in 0..50 {
            store.commit(put(at)).await.unwrap();
        }
        tokio::time::advance(Duration::from_secs(if round % 5 == 0 { 90_000 } else { 1 })).await;
    }
    // Whatever else is due comes before it.
    let last = store.commit(put(0)).await.unwrap().revision;
    assert!(store.get(&Key::new("b/bound"), None).await.unwrap().entry.is_none(), "its lease ended long ago");
    store.close().await;
    let stats = store.stats();
    assert!(stats.written_bytes > 1_000_000 && on_disk(&disk) < 150_000, "{} of {stats:?}", on_disk(&disk));
    assert_eq!(stats.store.revision, last);
    drop(store);
    let store = on(&disk).open().unwrap();
    assert_eq!(store.revision().await.unwrap(), last);
    assert_eq!(store.list(&Prefix::new("a"), ListOptions::default()).await.unwrap().entries.len(), 50);
}

#[tokio::test]
async fn deletions_and_a_compaction_give_the_disk_back() {
    let disk = Volatile::new();
    let store = on(&disk).open().unwrap();
    for at in 0..300 {
        store.commit(put(at)).await.unwrap();
    }
    assert!(on_disk(&disk) > 300_000);
    for at in 0..300 {
        store.commit(Txn::new().remove(format!("a/{at}"))).await.unwrap();
    }
    store.compact(store.revision().await.unwrap()).await.unwrap();
    store.close().await;
    assert!(on_disk(&disk) < 5_000, "{}", on_disk(&disk));
    drop(store);
    let store = on(&disk).open().unwrap();
    assert_eq!(store.recovery().revision, Revision(601), "the revision never falls");
}

/// What is asked for while a snapshot is written is done when that is there, however early the store is closed.
#[tokio::test]
async fn a_compaction_that_meets_another_one_is_done_before_the_store_is_closed() {
    let disk = Gated::for_snapshots();
    let store = Durable::<Text>::builder_on(Arc::new(disk.clone())).keep_free_bytes(0).open().unwrap();
    let first = store.commit(put(1)).await.unwrap().revision;
    let shut = disk.shut();
    store.compact(first).await.unwrap();
    while !disk.disk.contents().keys().any(|name| name.ends_with(".snapshot.new")) {
        tokio::task::yield_now().await;
    }
    store.commit(put(2)).await.unwrap();
    let last = store.commit(Txn::new().remove("a/1").remove("a/2")).await.unwrap().revision;
    store.compact(last).await.unwrap();
    let mut closed = store.close().boxed();
    assert!((&mut closed).now_or_never().is_none(), "a snapshot is being written");
    // Until nothing more is taken: only the snapshot is waited for then.
    while store.compact(last).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!((&mut closed).now_or_never().is_none(), "a snapshot is being written");
    drop(shut);
    closed.await;
    assert_eq!(store.stats().disk.snapshot, Some(last));
    assert!(on_disk(&disk.disk) < 500, "{}", on_disk(&disk.disk));
}

/// Commits that come while a snapshot is written never wait for much of it.
#[tokio::test]
async fn a_snapshot_comes_to_the_disk_in_small_pieces() {
    let disk = Gated::default();
    let open = || Durable::<Text>::builder_on(Arc::new(disk.clone())).keep_free_bytes(0);
    let store = open().segment_bytes(1 << 20).open().unwrap();
    for at in 0..24 {
        let large = Txn::new().put(format!("a/{at}"), Text::new("x".repeat(1_000_000)));
        store.commit(large).await.unwrap();
    }
    store.compact(store.revision().await.unwrap()).await.unwrap();
    store.close().await;
    assert!(store.stats().disk.snapshot_bytes > 24_000_000);
    assert!(disk.most_unsynced() < 6_000_000, "{} bytes at a time", disk.most_unsynced());
}

#[tokio::test]
async fn a_quota_refuses_writes_and_lets_deletions_through() {
    let disk = Volatile::new();
    let open = || on(&disk).quota_bytes(200_000).open().unwrap();
    let mut store = open();
    // As long as only history has to go, it goes.
    for at in 0..1000 {
        while is_full(&store.commit(put(at % 20)).await) {
            tokio::task::yield_now().await;
        }
    }
    // Until not a single one fits although all space was given back that can be.
    let (mut written, mut before) = (0, None);
    while before != Some(written) {
        before = Some(written);
        let refused = loop {
            match store.commit(put(written)).await {
                Ok(_) => written += 1,
                refused => break refused,
            }
        };
        assert!(is_full(&refused), "{refused:?}");
        store.close().await;
        drop(store);
        store = open();
    }
    assert!((150..200).contains(&written), "{written} values of 1 KB in 200 KB");
    assert!(on_disk(&disk) < 230_000, "{}", on_disk(&disk));
    assert_eq!(store.stats().condition, Condition::Full);
    assert!(is_full(&store.commit(put(1)).await));
    assert!(matches!(store.grant(Duration::from_secs(9)).await, Err(StoreError::NoSpace)));
    for at in 0..written {
        store.commit(Txn::new().remove(format!("a/{at}"))).await.unwrap();
    }
    while is_full(&store.commit(put(1)).await) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn writes_are_refused_before_the_disk_is_full() {
    let disk = Volatile::new();
    disk.set_capacity(Some(300_000));
    let store = on(&disk).keep_free_bytes(100_000).open().unwrap();
    let mut acknowledged = Vec::new();
    for at in 0..1000 {
        match store.commit(put(at)).await {
            Ok(_) => acknowledged.push(at),
            outcome => assert!(is_full(&outcome), "{outcome:?}"),
        }
    }
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
    for at in acknowledged {
        store.commit(Txn::new().remove(format!("a/{at}"))).await.unwrap();
    }
    assert!(!matches!(store.stats().condition, Condition::Failed(_)));
}

/// Somebody else filled the disk to the brim.
#[tokio::test]
async fn a_disk_that_is_full_all_the_same_loses_nothing() {
    let disk = Volatile::new();
    let store = on(&disk).open().unwrap();
    store.commit(put(0)).await.unwrap();
    disk.set_capacity(Some(on_disk(&disk) as u64 + 500));
    let torn = store.commit(put(1)).await;
    assert!(matches!(torn, Err(CommitError::Unknown(_))), "{torn:?}");
    let refused = store.commit(put(2)).await;
    assert!(matches!(refused, Err(CommitError::Store(StoreError::ReadOnly(_)))), "{refused:?}");
    assert!(store.get(&Key::new("a/0"), None).await.unwrap().entry.is_some(), "it can be read");
    drop(store);
    disk.set_capacity(None);
    let store = on(&disk).open().unwrap();
    assert!(store.recovery().cut.is_some());
    assert_eq!(store.recovery().revision, Revision(2));
    store.commit(put(1)).await.unwrap();
}
