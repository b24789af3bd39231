//! The history checker must find what is planted: each promise is broken once, in a history that is
//! good otherwise.

use std::sync::Arc;

use futures::StreamExt;
use rkube_store::testing::Text;
use rkube_store::testing::history::{Answer, Call, End, History, Operation, Recorder, Violation, check};
use rkube_store::{
    Batch, Change, Key, ListOptions, Memory, Prefix, Revision, Store, Txn, WatchItem, WatchOptions,
};

/// A short history that has a bit of everything.
async fn good() -> History {
    let store = Recorder::new(Arc::new(Memory::<Text>::builder().build()));
    let start = store.revision().await.unwrap();
    let mut future = store
        .watch(&Prefix::new("a"), WatchOptions::after(Revision(start.0 + 3)).with_progress())
        .await
        .unwrap();
    let mut watch = store.watch(&Prefix::new("a"), WatchOptions::after(start).with_progress()).await.unwrap();
    let one = store.commit(Txn::create("a/1", Text::new("one"))).await.unwrap().revision; // 2
    store.commit(Txn::create("a/1", Text::new("lost"))).await.unwrap_err();
    store.commit(Txn::new().put("a/2", Text::new("two")).put("b/2", Text::new("b"))).await.unwrap(); // 3
    store.commit(Txn::update("a/1", Text::new("three"), one)).await.unwrap(); // 4
    store.get(&Key::new("a/1"), None).await.unwrap();
    store.get(&Key::new("a/1"), Some(one)).await.unwrap();
    let both = Txn::new().put("a/3", Text::new("five")).put("a/4", Text::new("six"));
    store.commit(both).await.unwrap(); // 5
    store.list(&Prefix::new("a"), ListOptions::page(2)).await.unwrap();
    store.list(&Prefix::new("a"), ListOptions::page(2).at(Revision(4))).await.unwrap();
    store.commit(Txn::new().remove("a/2")).await.unwrap(); // 6
    store.request_progress().await.unwrap();
    store.revision().await.unwrap();
    for watch in [&mut watch, &mut future] {
        while !matches!(watch.next().await, Some(Ok(WatchItem::Progress(_)))) {}
    }
    store.commit(Txn::new().put("a/2", Text::new("seven"))).await.unwrap(); // 7
    watch.next().await.unwrap().unwrap();
    store.get(&Key::new("a/2"), None).await.unwrap();
    store.history()
}

fn find(history: &mut History, wanted: impl Fn(&Operation) -> bool) -> &mut Operation {
    history.operations.iter_mut().find(|operation| wanted(operation)).expect("there is one")
}

fn committed(revision: u64) -> impl Fn(&Operation) -> bool {
    move |operation| matches!(&operation.answer, Answer::Committed(it) if it.revision == Revision(revision))
}

/// The items of the watch that began at the start.
fn items(history: &mut History) -> &mut Vec<(u64, WatchItem<Text>)> {
    &mut history.watches[1].items
}

fn batch(history: &mut History, at: usize) -> &mut Batch<Text> {
    match &mut items(history)[at].1 {
        WatchItem::Events(batch) => Arc::make_mut(batch),
        WatchItem::Progress(_) => panic!("an event"),
    }
}

/// Breaks the good history and tells which promises the checker finds broken.
async fn planted(promise: u8, plant: impl FnOnce(&mut History)) {
    let mut history = good().await;
    plant(&mut history);
    let found = check(&history);
    let promises: Vec<u8> = found.iter().map(|violation| violation.promise).collect();
    assert!(promises.contains(&promise), "promise {promise} is broken, but found: {found:?}");
}

#[tokio::test]
async fn a_good_history_is_good() {
    assert_eq!(check(&good().await), Vec::<Violation>::new());
}

#[tokio::test]
async fn promise_1_revisions_increase() {
    planted(1, |history| {
        // The second write is answered with a revision below the first.
        let Answer::Committed(second) = &mut find(history, committed(3)).answer else { unreachable!() };
        second.revision = Revision(1);
    })
    .await;
    planted(1, |history| {
        let Answer::Committed(second) = &mut find(history, committed(3)).answer else { unreachable!() };
        second.revision = Revision(2);
    })
    .await;
    planted(1, |history| {
        let revision =
            |operation: &Operation| operation.called > 5 && matches!(operation.call, Call::Revision);
        find(history, revision).answer = Answer::Revision(Revision(3));
    })
    .await;
}

#[tokio::test]
async fn promise_2_one_winner_and_losers_see_it() {
    planted(2, |history| {
        // Two updates of one revision win.
        let mut twice = find(history, committed(4)).clone();
        let Answer::Committed(second) = &mut twice.answer else { unreachable!() };
        second.revision = Revision(8);
        twice.called = 1000;
        twice.returned = 1001;
        history.operations.push(twice);
    })
    .await;
    planted(2, |history| {
        let lost = find(history, |operation| matches!(operation.answer, Answer::Conflict(_)));
        let Answer::Conflict(conflict) = &mut lost.answer else { unreachable!() };
        conflict.current = None;
    })
    .await;
}

#[tokio::test]
async fn promise_3_reads_are_linearizable() {
    let latest = |operation: &Operation| matches!(operation.call, Call::Get { at: None, .. });
    planted(3, |history| {
        // It sees what was there before the last acknowledged write.
        let operation = find(history, latest);
        let Answer::Read(read) = &mut operation.answer else { unreachable!() };
        read.revision = Revision(2);
    })
    .await;
    planted(3, |history| {
        let Answer::Read(read) = &mut find(history, latest).answer else { unreachable!() };
        read.entry = None;
    })
    .await;
}

#[tokio::test]
async fn promise_4_lists_at_a_revision_are_exact() {
    let past =
        |operation: &Operation| matches!(&operation.call, Call::List { options, .. } if options.at.is_some());
    planted(4, |history| {
        let Answer::Page(page) = &mut find(history, past).answer else { unreachable!() };
        page.entries.pop();
    })
    .await;
    planted(4, |history| {
        let Answer::Page(page) = &mut find(history, past).answer else { unreachable!() };
        page.remaining += 1;
    })
    .await;
    planted(4, |history| {
        let Answer::Page(page) = &mut find(history, past).answer else { unreachable!() };
        page.revision = Revision(5);
    })
    .await;
    planted(4, |history| {
        let Answer::Page(_) = &find(history, past).answer else { unreachable!() };
        find(history, past).answer = Answer::Compacted { requested: Revision(4), compacted: Revision(3) };
    })
    .await;
}

#[tokio::test]
async fn promise_5_watches_are_in_order() {
    planted(5, |history| items(history).swap(1, 2)).await;
}

#[tokio::test]
async fn promise_6_events_come_once() {
    planted(6, |history| {
        let again = items(history)[1].clone();
        items(history).insert(2, again);
    })
    .await;
}

#[tokio::test]
async fn promise_7_revisions_are_not_split() {
    planted(7, |history| {
        // The fourth batch has two events; they come in two batches.
        let at = 3;
        let mut second = items(history)[at].clone();
        assert_eq!(batch(history, at).events.len(), 2);
        let other = batch(history, at).events.pop().unwrap();
        second.1 = WatchItem::Events(Arc::new(Batch { revision: other.revision, events: vec![other] }));
        items(history).insert(at + 1, second);
    })
    .await;
    planted(7, |history| {
        batch(history, 3).events.pop();
    })
    .await;
}

#[tokio::test]
async fn promise_8_watches_have_no_gaps() {
    planted(8, |history| {
        items(history).remove(2);
    })
    .await;
}

#[tokio::test]
async fn promise_9_watches_resume_exactly() {
    planted(9, |history| {
        items(history).remove(0);
    })
    .await;
    // One that was opened late yields what lies before its start.
    planted(9, |history| {
        history.watches[1].after = Revision(2);
        history.watches[1].opened = 1000;
    })
    .await;
}

#[tokio::test]
async fn promise_10_progress_is_true() {
    planted(10, |history| {
        let progress = items(history).iter().position(|(_, item)| matches!(item, WatchItem::Progress(_)));
        let progress = items(history).remove(progress.unwrap());
        let before_last = items(history).len() - 2;
        items(history).insert(before_last, progress);
    })
    .await;
}

#[tokio::test]
async fn promise_11_previous_and_creation_are_right() {
    planted(11, |history| {
        let Change::Put { previous, .. } = &mut batch(history, 2).events[0].change else { unreachable!() };
        *previous = None;
    })
    .await;
    planted(11, |history| {
        let Answer::Committed(it) = &mut find(history, committed(4)).answer else { unreachable!() };
        let Change::Put { previous, .. } = &mut it.changes[0] else { unreachable!() };
        previous.as_mut().unwrap().version = 7;
    })
    .await;
}

#[tokio::test]
async fn promise_12_the_future_is_not_early() {
    planted(12, |history| {
        // The watch from the future yields what the other one saw early.
        let early = items(history)[1].clone();
        history.watches[0].items.insert(0, early);
    })
    .await;
}

#[tokio::test]
async fn promise_13_progress_never_falls() {
    planted(13, |history| items(history).push((2000, WatchItem::Progress(Revision(3))))).await;
}

#[tokio::test]
async fn promise_14_no_watch_ends_silently() {
    planted(14, |history| history.watches[1].end = End::Silent).await;
}

#[tokio::test]
async fn promise_15_crashes_lose_nothing() {
    // A write that was acknowledged before a crash is not there after it.
    planted(15, |history| {
        let last = history.operations.last_mut().unwrap();
        let Answer::Read(read) = &mut last.answer else { unreachable!() };
        read.entry = None;
        let called = last.called;
        history.crashes.push(called - 1);
    })
    .await;
    // The revision falls.
    planted(15, |history| {
        let last = history.operations.last_mut().unwrap();
        let Answer::Read(read) = &mut last.answer else { unreachable!() };
        read.revision = Revision(5);
        let called = last.called;
        history.crashes.push(called - 1);
    })
    .await;
}

#[tokio::test]
async fn promise_16_unknown_is_not_failed() {
    planted(16, |history| {
        find(history, committed(3)).answer = Answer::Refused("timed out".to_owned());
    })
    .await;
    let mut honest = good().await;
    find(&mut honest, committed(3)).answer = Answer::Unknown;
    assert_eq!(check(&honest), [], "unknown and done is allowed");
}

/// Of two deletions of one key that nobody was told of, either could have been first; what else was seen tells.
#[tokio::test]
async fn an_unknown_deletion_did_all_that_was_seen_with_it() {
    let store = Recorder::new(Arc::new(Memory::<Text>::builder().build()));
    let start = store.revision().await.unwrap();
    let mut watch = store.watch(&Prefix::new("a"), WatchOptions::after(start)).await.unwrap();
    for texts in [["one", "two"], ["three", "four"]] {
        let puts = Txn::new().put("a/1", Text::new(texts[0])).put("a/2", Text::new(texts[1]));
        store.commit(puts).await.unwrap(); // 2, 4
        let one = Txn::new().remove("a/1");
        let removes = if texts[0] == "one" { one.remove("a/2") } else { one };
        store.commit(removes).await.unwrap(); // 3, 5
        for _ in 0..2 {
            watch.next().await.unwrap().unwrap();
        }
    }
    store.list(&Prefix::new("a"), ListOptions::default()).await.unwrap();
    let mut honest = store.history();
    for revision in [3, 5] {
        find(&mut honest, committed(revision)).answer = Answer::Unknown;
    }
    let is_unknown = |operation: &Operation| matches!(operation.answer, Answer::Unknown);
    let first = honest.operations.iter().position(is_unknown).unwrap();
    let last = honest.operations.iter().rposition(is_unknown).unwrap();
    honest.operations.swap(first, last);
    assert_eq!(check(&honest), []);
}

#[tokio::test]
async fn promise_17_prefixes_are_folders() {
    planted(17, |history| {
        let outside = Key::new("ab/1");
        batch(history, 0).events[0].key = outside;
    })
    .await;
    planted(17, |history| {
        let list = find(history, |operation| matches!(operation.answer, Answer::Page(_)));
        let Answer::Page(page) = &mut list.answer else { unreachable!() };
        page.entries[0].key = Key::new("ab/1");
    })
    .await;
}
