//! A first walk through the memory store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use rkube_store::testing::Text;
use rkube_store::{
    Change, CodecError, CommitError, Key, ListOptions, Memory, Prefix, Revision, Store, StoreError, Txn,
    Value, WatchItem, WatchOptions, WatchStats,
};

use crate::plain::Plain;

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

#[tokio::test]
async fn a_fork_goes_its_own_way() {
    for hot in [0, 1 << 30] {
        let store: Memory<Text> = Memory::builder().hot_bytes(hot).build();
        let lease = store.grant(std::time::Duration::from_secs(60)).await.unwrap();
        for at in 0..2000 {
            store.commit(Txn::create(format!("a/{at:04}"), Text::new("x"))).await.unwrap();
        }
        store.commit(Txn::new().put("a/0000", Text::new("leased")).lease(lease.id)).await.unwrap();
        store.commit(Txn::new().remove("a/0001")).await.unwrap();
        let all = || ListOptions::default();
        let before = store.list(&Prefix::all(), all()).await.unwrap();
        let fork = store.fork().await.unwrap();
        assert_eq!(fork.list(&Prefix::all(), all()).await.unwrap(), before);
        fork.revoke(lease.id).await.unwrap();
        fork.commit(Txn::new().put("a/0002", Text::new("what if"))).await.unwrap();
        assert!(fork.get(&Key::new("a/0000"), None).await.unwrap().entry.is_none());
        assert_eq!(store.list(&Prefix::all(), all()).await.unwrap(), before, "the first one is as it was");
        store.commit(Txn::create("b/1", Text::new("real"))).await.unwrap();
        assert!(fork.get(&Key::new("b/1"), None).await.unwrap().entry.is_none());
        let past = fork.list(&Prefix::all(), all().at(Revision(5))).await;
        assert!(matches!(past, Err(StoreError::Compacted { .. })), "its history begins where it forked");
        assert_ne!(fork.grant(lease.granted).await.unwrap().id, lease.id, "no lease has another one's name");
    }
}

#[tokio::test]
async fn a_fork_shares_what_it_has() {
    let store: Memory<Text> = Memory::builder().build();
    for at in 0..1000 {
        store.commit(Txn::create(format!("a/{at}"), Text::new(format!("{at}")))).await.unwrap();
    }
    let of = async |store: &Memory<Text>| {
        let page = store.list(&Prefix::all(), ListOptions::default()).await.unwrap();
        page.entries.iter().map(|entry| entry.value.as_str().as_ptr()).collect::<Vec<_>>()
    };
    let origin = of(&store).await;
    assert_eq!(of(&store.fork().await.unwrap()).await, origin, "not one text was copied");
    assert_eq!(of(&Memory::builder().copy_of(&store).await.unwrap()).await, origin);
}

/// Whatever happens to a store, what its entries take is the sum of what they are.
#[tokio::test]
async fn the_size_of_all_entries_is_that_of_each() {
    for hot in [0, 300, 1 << 30] {
        let store: Memory<Text> = Memory::builder().hot_bytes(hot).history(50).build();
        for at in 0..1000_usize {
            let key = format!("a/{}", at * 7 % 13);
            let txn = match at % 4 {
                0 => Txn::new().remove(&*key),
                _ => Txn::new().put(&*key, Text::new("x".repeat(at % 50))),
            };
            store.commit(txn).await.unwrap();
            store.get(&Key::new(format!("a/{}", at * 5 % 13)), None).await.unwrap();
            let page = store.list(&Prefix::all(), ListOptions::default()).await.unwrap();
            let each = page.entries.iter().map(|entry| entry.key.as_str().len() + entry.value.weight());
            assert_eq!(store.sizes().entry_bytes, each.sum::<usize>() as u64);
        }
        assert_eq!(store.fork().await.unwrap().sizes().entry_bytes, store.sizes().entry_bytes);
        assert_eq!(store.stats().commits.count, 1000);
    }
}

#[tokio::test]
async fn stats_tell_how_far_watchers_are_behind() {
    let store: Memory<Text> = Memory::builder().watch_queue(8).history(20).build();
    let mut watch = store.watch(&Prefix::all(), WatchOptions::after(Revision(1))).await.unwrap();
    assert!(futures::poll!(futures::StreamExt::next(&mut watch)).is_pending());
    for at in 0..5 {
        store.commit(Txn::create(format!("a/{at}"), Text::new("x"))).await.unwrap();
    }
    let stats = store.stats();
    assert_eq!((stats.watches.live, stats.watches.lag, stats.watches.lagging), (1, 5, 0));
    assert_eq!(stats.watches.behind, 5);
    for at in 5..30 {
        store.commit(Txn::create(format!("a/{at}"), Text::new("x"))).await.unwrap();
    }
    let stats = store.stats();
    assert_eq!((stats.watches.live, stats.watches.lagging, stats.watches.behind), (0, 1, 30));
    assert_eq!((stats.revision, stats.compacted, stats.sizes.revisions), (Revision(31), Revision(11), 20));
}

/// One that reads the log is the slowest there is, so it must not be the one that nobody sees.
#[tokio::test]
async fn stats_tell_of_watchers_that_read_the_log() {
    let store: Memory<Text> = Memory::builder().watch_queue(2).build();
    let put = async |at: u64| store.commit(Txn::new().put("a/1", Text::new(format!("{at}")))).await.unwrap();
    for at in 2..=1001 {
        put(at).await;
    }
    let watches = || {
        let WatchStats { live, lag, lagging, behind } = store.stats().watches;
        (live, lag, lagging, behind)
    };
    assert_eq!(watches(), (0, 0, 0, 0));
    let all = WatchOptions::after(Revision(1));
    let of_all = store.watch(&Prefix::all(), all).await.unwrap();
    let mut of_some = store.watch(&Prefix::new("a"), all).await.unwrap();
    assert_eq!(watches(), (0, 0, 2, 1000), "they have just begun");
    drop(of_all);
    for at in 1..=400 {
        of_some.next().await.unwrap().unwrap();
        assert_eq!(watches(), (0, 0, 1, 1000 - at), "what was read ahead is not yet taken");
    }
    while watches().3 > 0 {
        of_some.next().await.unwrap().unwrap();
    }
    assert!(futures::poll!(of_some.next()).is_pending());
    assert_eq!(watches(), (1, 0, 0, 0), "it has caught up");
    for at in 1..=5 {
        put(at).await;
    }
    assert_eq!(watches(), (0, 0, 1, 5), "it fell out of its queue");
    of_some.next().await.unwrap().unwrap();
    assert_eq!(watches(), (0, 0, 1, 4), "and reads the log");
    drop(of_some);
    assert_eq!(watches(), (0, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_need_not_be_counted_looks_no_further_than_the_next_key() {
    let store = store();
    for at in 0..10_000 {
        store.commit(Txn::create(format!("a/{at:05}"), Text::new("x"))).await.unwrap();
    }
    let page = store.list(&Prefix::new("a"), ListOptions::page(3)).await.unwrap();
    assert_eq!((page.entries.len(), page.more, page.remaining), (3, true, 9997));
    let page = store.list(&Prefix::new("a"), ListOptions::page(3).uncounted()).await.unwrap();
    assert_eq!((page.entries.len(), page.more, page.remaining), (3, true, 1));
}

/// A value that weighs next to nothing, however long it is, and whose bound is beyond its size.
#[derive(Clone, Debug)]
struct Light(Arc<str>);

impl Value for Light {
    fn encode(&self) -> Result<Bytes, CodecError> {
        Ok(Bytes::copy_from_slice(self.0.as_bytes()))
    }

    fn decode(bytes: &Bytes) -> Result<Self, CodecError> {
        Ok(Self(std::str::from_utf8(bytes).map_err(CodecError::new)?.into()))
    }

    fn stamp(&mut self, _: Revision) {}

    fn weight(&self) -> usize {
        1
    }

    fn size_bound(&self) -> usize {
        self.0.len() * 3
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_on_bytes_whatever_a_value_weighs_and_whichever_the_backend() {
    let stores: [Arc<dyn Store<Light>>; 2] =
        [Arc::new(Memory::<Light>::builder().build()), Arc::new(Plain::new(None))];
    for store in stores {
        let limit = store.limits().value_bytes.min(store.limits().transaction_bytes - "a/1".len());
        let put = |bytes: usize| Txn::new().put("a/1", Light("x".repeat(bytes).into()));
        store.commit(put(limit / 2)).await.unwrap();
        store.commit(put(limit)).await.unwrap();
        let refused = store.commit(put(limit + 1)).await.unwrap_err();
        let CommitError::Store(StoreError::TooLarge { bytes, limit, .. }) = refused else {
            panic!("{refused}");
        };
        assert_eq!(bytes, limit + 1);
    }
}
