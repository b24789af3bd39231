//! Watches.

use futures::StreamExt;

use super::{
    Broken, Outcome, Place, batches_to, cases, ensure, ensure_eq, next_batch, next_item, nothing_more, within,
};
use crate::testing::Text;
use crate::{Batch, Change, Prefix, Revision, StoreError, Txn, Watch, WatchItem, WatchOptions};

cases! {
    events_come_in_order_once_and_without_gaps: [5, 6, 8],
    a_revision_is_never_split: [7],
    history_and_live_events_are_the_same: [8, 9],
    a_watch_resumes_after_any_revision: [9],
    a_watch_of_the_compacted_past_fails_before_any_event: [9],
    a_watch_just_above_compaction_is_complete: [9],
    events_tell_previous_and_creation: [11],
    a_watch_in_the_future_yields_nothing_early: [12],
    a_watch_after_the_end_of_revisions_yields_nothing: [12],
    progress_comes_after_all_events_and_never_falls: [10, 13],
    progress_comes_only_where_it_was_asked_for: [10],
    a_slow_watcher_is_complete_or_ends_with_an_error: [14],
    watchers_that_are_not_polled_block_nobody: [14],
    a_prefix_never_yields_its_neighbours: [17],
    watches_come_and_go: [],
}

async fn watch(place: &Place, prefix: &str, after: Revision) -> Result<Watch<Text>, StoreError> {
    place.store.watch(&Prefix::new(prefix), WatchOptions::after(after)).await
}

async fn events_come_in_order_once_and_without_gaps(place: &Place) -> Outcome {
    let start = place.store.revision().await?;
    let mut live = watch(place, "a", start).await?;
    let mut expected = Vec::new();
    for at in 0..100 {
        expected.push(place.put(&format!("a/{}", at % 7), "x").await?.revision);
        place.put("b/1", "x").await?;
    }
    let got = batches_to(&mut live, *expected.last().unwrap_or(&start)).await?;
    let got: Vec<_> = got.iter().map(|batch| batch.revision).collect();
    ensure_eq!(got, expected, "the revisions seen");
    nothing_more(&mut live).await
}

async fn a_watch_after_the_end_of_revisions_yields_nothing(place: &Place) -> Outcome {
    let mut never = watch(place, "a", Revision(u64::MAX)).await?;
    place.put("a/1", "x").await?;
    nothing_more(&mut never).await
}

async fn a_revision_is_never_split(place: &Place) -> Outcome {
    let start = place.store.revision().await?;
    let mut live = watch(place, "a", start).await?;
    let mut txn = Txn::new();
    for at in 0..40 {
        txn = txn.put(format!("a/{at:02}"), Text::new("x")).put(format!("b/{at:02}"), Text::new("x"));
    }
    let committed = place.store.commit(txn).await?;
    let mut history = watch(place, "a", start).await?;
    for watch in [&mut live, &mut history] {
        let batch = next_batch(watch).await?;
        ensure_eq!((batch.revision, batch.events.len()), (committed.revision, 40), "revision, events");
        let ordered = batch.events.iter().enumerate();
        let ordered = ordered.filter(|(at, event)| event.key.as_str() == format!("a/{at:02}")).count();
        ensure_eq!(ordered, 40, "events in the order of the operations");
        ensure!(
            batch.events.iter().all(|event| event.revision == batch.revision),
            "an event has another revision"
        );
    }
    Ok(())
}

/// Creates, changes, deletes, and does several at once; returns the last revision in `a/`.
async fn mixed(place: &Place) -> Result<Revision, Broken> {
    for at in 0..10 {
        place.put(&format!("a/{}", at % 4), &format!("{at}")).await?;
        if at % 3 == 0 {
            place.remove(&format!("a/{}", at % 4)).await?;
        }
        let both = Txn::new().put("a/both", Text::new(format!("{at}"))).put("b/both", Text::new("b"));
        place.store.commit(both).await?;
        place.put("b/other", "x").await?;
    }
    let last = Txn::new().remove("a/both").put("a/last", Text::new("last"));
    Ok(place.store.commit(last).await?.revision)
}

async fn history_and_live_events_are_the_same(place: &Place) -> Outcome {
    let start = place.store.revision().await?;
    let mut live = watch(place, "a", start).await?;
    nothing_more(&mut live).await?;
    let last = mixed(place).await?;
    let mut history = watch(place, "a", start).await?;
    let mut everything = place.store.watch(&Prefix::all(), WatchOptions::after(start)).await?;
    let live = batches_to(&mut live, last).await?;
    ensure_eq!(batches_to(&mut history, last).await?, live, "history, and what was seen live");
    let mut all = batches_to(&mut everything, last).await?;
    let a = Prefix::new("a");
    all.iter_mut().for_each(|batch| batch.events.retain(|event| a.contains(&event.key)));
    all.retain(|batch| !batch.events.is_empty());
    ensure_eq!(all, live, "what a watch of everything sees of the folder");
    Ok(())
}

async fn a_watch_resumes_after_any_revision(place: &Place) -> Outcome {
    let start = place.store.revision().await?;
    let last = mixed(place).await?;
    let whole = batches_to(&mut watch(place, "a", start).await?, last).await?;
    for after in (start.0..last.0).map(Revision) {
        let mut resumed = watch(place, "a", after).await?;
        let expected: Vec<Batch<Text>> =
            whole.iter().filter(|batch| batch.revision > after).cloned().collect();
        ensure_eq!(batches_to(&mut resumed, last).await?, expected, "what comes after {after}");
    }
    let mut from_the_end = watch(place, "a", last).await?;
    let next = place.put("a/next", "x").await?.revision;
    ensure_eq!(next_batch(&mut from_the_end).await?.revision, next, "the first event after the end");
    Ok(())
}

async fn a_watch_of_the_compacted_past_fails_before_any_event(place: &Place) -> Outcome {
    let start = place.store.revision().await?;
    let last = mixed(place).await?;
    place.store.compact(last).await?;
    for after in [Revision::ZERO, start, Revision(last.0 - 1)] {
        match watch(place, "a", after).await {
            Err(StoreError::Compacted { requested, compacted }) => {
                ensure_eq!((requested, compacted), (after, last), "requested, compacted");
            }
            other => ensure!(false, "a watch after {after} must be refused, but: {other:?}"),
        }
    }
    Ok(())
}

async fn a_watch_just_above_compaction_is_complete(place: &Place) -> Outcome {
    place.put("a/1", "old").await?;
    let kept = place.put("a/1", "kept").await?;
    place.put("b/1", "b").await?;
    let updated = place.put("a/1", "new").await?;
    place.store.compact(Revision(updated.revision.0 - 1)).await?;
    let deleted = place.remove("a/1").await?;
    let mut watch = watch(place, "a", Revision(updated.revision.0 - 1)).await?;
    let batches = batches_to(&mut watch, deleted.revision).await?;
    ensure_eq!(batches.len(), 2, "batches");
    let previous = batches[0].events[0].change.previous();
    ensure_eq!(previous, kept.changes[0].entry(), "the previous value, written below the compaction");
    ensure_eq!(batches[1].events[0].change, deleted.changes[0], "the deletion");
    Ok(())
}

async fn events_tell_previous_and_creation(place: &Place) -> Outcome {
    let start = place.store.revision().await?;
    let mut live = watch(place, "a", start).await?;
    let first = place.put("a/1", "1").await?;
    let second = place.put("a/1", "2").await?;
    let third = place.remove("a/1").await?;
    let fourth = place.put("a/1", "4").await?;
    let mut history = watch(place, "a", start).await?;
    for watch in [&mut live, &mut history] {
        for (committed, creates) in [(&first, true), (&second, false), (&third, false), (&fourth, true)] {
            let batch = next_batch(watch).await?;
            ensure_eq!(batch.events.len(), 1, "events at {}", batch.revision);
            let change = &batch.events[0].change;
            ensure_eq!(change, &committed.changes[0], "the event and the committer's answer");
            ensure_eq!(change.is_create(), creates, "creation at {}", batch.revision);
            if let Change::Delete { last, .. } = change {
                let stamp = last.as_ref().map(Text::revision);
                ensure_eq!(stamp, Some(committed.revision), "the stamp of what was deleted");
            }
        }
    }
    Ok(())
}

async fn a_watch_in_the_future_yields_nothing_early(place: &Place) -> Outcome {
    let start = place.put("a/1", "1").await?.revision;
    let mut future = watch(place, "a", Revision(start.0 + 3)).await?;
    for _ in 0..3 {
        place.put("a/1", "early").await?;
        nothing_more(&mut future).await?;
    }
    let due = place.put("a/1", "due").await?.revision;
    ensure_eq!(next_batch(&mut future).await?.revision, due, "the first event");
    Ok(())
}

async fn progress_comes_after_all_events_and_never_falls(place: &Place) -> Outcome {
    let start = place.store.revision().await?;
    let options = WatchOptions::after(start).with_progress();
    let mut watch = place.store.watch(&Prefix::new("a"), options).await?;
    let mut reached = start;
    for round in 0..10_u32 {
        let seen_by_watch = place.put("a/1", "x").await?.revision;
        let current = place.put("b/1", "not watched").await?.revision;
        place.store.request_progress().await?;
        if round % 2 == 0 {
            place.put("a/2", "later").await?;
        }
        let mut events = Vec::new();
        loop {
            match next_item(&mut watch).await? {
                WatchItem::Events(batch) => {
                    ensure!(batch.revision > reached, "{} after {reached}", batch.revision);
                    reached = batch.revision;
                    events.push(batch.revision);
                }
                WatchItem::Progress(revision) => {
                    ensure!(revision >= reached, "progress to {revision} after {reached}");
                    reached = revision;
                    if revision >= current {
                        break;
                    }
                }
            }
        }
        ensure!(
            events.contains(&seen_by_watch),
            "progress to {reached} came before the event {seen_by_watch}"
        );
        if round % 2 == 0 && !events.iter().any(|event| *event > current) {
            reached = next_item(&mut watch).await?.revision();
        }
    }
    Ok(())
}

async fn progress_comes_only_where_it_was_asked_for(place: &Place) -> Outcome {
    let start = place.store.revision().await?;
    let mut plain = watch(place, "a", start).await?;
    let mut asked = place.store.watch(&Prefix::new("c"), WatchOptions::after(start).with_progress()).await?;
    let current = place.put("b/1", "x").await?.revision;
    place.store.request_progress().await?;
    let item = next_item(&mut asked).await?;
    ensure!(matches!(item, WatchItem::Progress(at) if at >= current), "progress to {current}, but {item:?}");
    nothing_more(&mut plain).await
}

async fn a_slow_watcher_is_complete_or_ends_with_an_error(place: &Place) -> Outcome {
    let start = place.store.revision().await?;
    let mut slow = watch(place, "a", start).await?;
    nothing_more(&mut slow).await?;
    let mut expected = Vec::new();
    for at in 0..5_000 {
        expected.push(place.put(&format!("a/{}", at % 5), "x").await?.revision);
    }
    let middle = expected[2_500];
    let mut half = watch(place, "a", start).await?;
    let mut first = vec![next_batch(&mut half).await?.revision];
    place.store.compact(middle).await?;
    for (watch, seen) in [(&mut slow, &mut Vec::new()), (&mut half, &mut first)] {
        let last = expected.last().copied();
        while seen.last().copied() != last {
            match within("a slow watch", watch.next()).await? {
                Some(Ok(WatchItem::Events(batch))) => seen.push(batch.revision),
                Some(Ok(WatchItem::Progress(_))) => {}
                Some(Err(_)) => break,
                None => ensure!(false, "the watch ended without an error after {} events", seen.len()),
            }
        }
        ensure!(expected.starts_with(seen), "a slow watcher missed something among {} events", seen.len());
    }
    Ok(())
}

async fn watchers_that_are_not_polled_block_nobody(place: &Place) -> Outcome {
    let start = place.store.revision().await?;
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(watch(place, "a", start).await?);
    }
    let mut live = watch(place, "a", start).await?;
    let mut last = start;
    for _ in 0..3_000 {
        last = within("a write beside idle watchers", place.put("a/1", "x")).await??.revision;
        ensure_eq!(next_batch(&mut live).await?.revision, last, "what the live watcher sees");
    }
    drop(idle);
    ensure!(place.put("a/1", "x").await?.revision > last, "writes go on");
    Ok(())
}

async fn a_prefix_never_yields_its_neighbours(place: &Place) -> Outcome {
    let start = place.store.revision().await?;
    let mut live = watch(place, "a/foo/", start).await?;
    for key in ["a/foobar/1", "a/foo", "a/foo0/1", "a/fo/1", "b/foo/1"] {
        place.put(key, "x").await?;
    }
    let both = Txn::new().put("a/foobar/1", Text::new("x")).put("a/foo/1", Text::new("x"));
    place.store.commit(both).await?;
    let mut history = watch(place, "a/foo", start).await?;
    for watch in [&mut live, &mut history] {
        let batch = next_batch(watch).await?;
        let keys: Vec<_> = batch.events.iter().map(|event| event.key.as_str()).collect();
        ensure_eq!(keys, ["a/foo/1"], "the keys seen in a/foo/");
        nothing_more(watch).await?;
    }
    Ok(())
}

async fn watches_come_and_go(place: &Place) -> Outcome {
    let mut stays = watch(place, "a", place.store.revision().await?).await?;
    for round in 0..20 {
        let mut short = watch(place, "a", place.store.revision().await?).await?;
        nothing_more(&mut short).await?;
        let written = place.put("a/1", &format!("{round}")).await?.revision;
        ensure_eq!(next_batch(&mut short).await?.revision, written, "the event of round {round}");
        let dropped_unread = watch(place, "a", written).await?;
        place.put("b/1", "x").await?;
        drop((short, dropped_unread));
        ensure_eq!(next_batch(&mut stays).await?.revision, written, "what the first watch sees");
    }
    Ok(())
}
