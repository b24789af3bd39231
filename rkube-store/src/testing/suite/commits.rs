//! Transactions.

use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::num::NonZeroU64;
use std::sync::Arc;

use super::{Outcome, Place, cases, ensure, ensure_eq};
use crate::testing::Text;
use crate::{Change, Check, CommitError, Key, LeaseId, Prefix, Revision, Txn};

cases! {
    revisions_strictly_increase: [1],
    one_of_many_racing_updates_wins_and_losers_see_the_winner: [2],
    one_of_many_racing_creates_wins: [2],
    a_conflict_names_the_check_and_writes_nothing: [2],
    an_error_means_that_nothing_was_written: [16],
    all_operations_of_a_transaction_share_one_revision: [7],
    checks_are_judged_on_the_state_before_the_operations: [],
    a_transaction_that_changes_nothing_takes_no_revision: [1],
    a_value_is_stamped_with_its_revision: [],
    versions_count_from_each_creation: [11],
    changes_tell_previous_and_creation: [11],
    acknowledged_writes_survive_a_crash: [15],
}

async fn revisions_strictly_increase(place: &Place) -> Outcome {
    let mut last = place.store.revision().await?;
    ensure!(last > Revision::ZERO, "a store begins above zero, which means the beginning");
    for round in 0..20 {
        let committed = place.put(&format!("a/{}", round % 3), "x").await?;
        ensure!(committed.revision > last, "{} does not exceed {last}", committed.revision);
        last = place.store.revision().await?;
        ensure!(last >= committed.revision, "revision() {last} is behind a write, {}", committed.revision);
    }
    Ok(())
}

async fn one_of_many_racing_updates_wins_and_losers_see_the_winner(place: &Place) -> Outcome {
    let key = Key::new("race/one");
    let mut revision = place.put(key.as_str(), "start").await?.revision;
    for round in 0..10 {
        let outcomes =
            race(place, 16, |client| Txn::update(&key, Text::new(format!("{round}-{client}")), revision))
                .await;
        let won: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
        ensure_eq!(won.len(), 1, "winners");
        revision = won[0].revision;
        let winner = won[0].changes[0].entry();
        for outcome in &outcomes {
            match outcome {
                Ok(_) => {}
                Err(CommitError::Conflict(conflict)) => {
                    ensure_eq!(conflict.current.as_ref(), winner, "what a loser is told");
                }
                Err(error) => ensure!(false, "a loser got {error}"),
            }
        }
    }
    Ok(())
}

async fn one_of_many_racing_creates_wins(place: &Place) -> Outcome {
    let outcomes = race(place, 16, |client| Txn::create("race/new", Text::new(format!("{client}")))).await;
    ensure_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "winners");
    Ok(())
}

type Outcomes = Vec<Result<crate::Committed<Text>, CommitError<Text>>>;

async fn race(place: &Place, clients: usize, txn: impl Fn(usize) -> Txn<Text>) -> Outcomes {
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let tasks = (0..clients).map(|client| -> BoxFuture<'static, ()> {
        let (store, outcomes, txn) = (place.store.clone(), outcomes.clone(), txn(client));
        Box::pin(async move {
            let outcome = store.commit(txn).await;
            outcomes.lock().push(outcome);
        })
    });
    place.harness.side_by_side(tasks.collect()).await;
    let mut outcomes = outcomes.lock();
    std::mem::take(&mut *outcomes)
}

async fn a_conflict_names_the_check_and_writes_nothing(place: &Place) -> Outcome {
    let first = place.put("a/1", "1").await?;
    let before = place.store.revision().await?;
    let checks: [(Txn<Text>, &str, bool); 4] = [
        (Txn::new().check(Check::Absent(Key::new("a/1"))), "a/1", true),
        (Txn::new().check(Check::Exists(Key::new("a/2"))), "a/2", false),
        (
            Txn::new().check(Check::Unchanged { key: Key::new("a/1"), revision: Revision(u64::MAX) }),
            "a/1",
            true,
        ),
        (Txn::new().check(Check::Unchanged { key: Key::new("a/2"), revision: first.revision }), "a/2", false),
    ];
    for (txn, key, exists) in checks {
        let mut txn = txn.put("a/3", Text::new("3")).remove("a/1");
        txn.checks.insert(0, Check::Exists(Key::new("a/1")));
        match place.store.commit(txn).await {
            Err(CommitError::Conflict(conflict)) => {
                ensure_eq!((conflict.check, conflict.key.as_str()), (1, key), "the check that failed");
                let current = conflict.current.map(|entry| entry.mod_revision);
                ensure_eq!(current, exists.then_some(first.revision), "the current value of {key}");
            }
            other => ensure!(false, "no conflict, but {other:?}"),
        }
    }
    ensure_eq!(place.store.revision().await?, before, "the revision after conflicts");
    ensure!(place.store.get(&Key::new("a/3"), None).await?.entry.is_none(), "a conflict wrote something");
    Ok(())
}

async fn an_error_means_that_nothing_was_written(place: &Place) -> Outcome {
    let limit = place.store.limits().value_bytes;
    let nobody = LeaseId(NonZeroU64::MIN.saturating_add(1 << 40));
    for round in 0..20 {
        let key = format!("a/{round}");
        let refused = [
            Txn::new().put(&*key, Text::new("x".repeat(limit + 1))),
            Txn::new().put(&*key, Text::new("x")).remove(&*key),
            Txn::new().put(&*key, Text::new("x")).put("a/leased", Text::new("x")).lease(nobody),
            Txn::new().put(&*key, Text::new("x")).check(Check::Exists(Key::new("a/none"))),
        ];
        for txn in refused.into_iter().chain([Txn::new().put(&*key, Text::new("good"))]) {
            let outcome = place.store.commit(txn).await;
            let there = place.store.get(&Key::new(&*key), None).await?.entry;
            match outcome {
                Ok(_) => ensure!(there.is_some(), "{key}: acknowledged, but {there:?} is there"),
                Err(CommitError::Unknown(_)) => {}
                Err(error) => ensure!(there.is_none(), "{key}: {error}, but {there:?} is there"),
            }
        }
    }
    Ok(())
}

async fn all_operations_of_a_transaction_share_one_revision(place: &Place) -> Outcome {
    let old = place.put("a/old", "old").await?;
    let txn = Txn::delete("a/old", old.revision).put("a/1", Text::new("1")).put("b/2", Text::new("2"));
    let committed = place.store.commit(txn).await?;
    ensure_eq!(committed.changes.len(), 3, "one change an operation");
    for key in ["a/1", "b/2"] {
        let entry = place.store.get(&Key::new(key), None).await?.entry;
        ensure_eq!(entry.map(|entry| entry.mod_revision), Some(committed.revision), "{key}");
    }
    ensure!(place.store.get(&Key::new("a/old"), None).await?.entry.is_none(), "a/old is still there");
    let before = place.store.list(&Prefix::all(), crate::ListOptions::default().at(old.revision)).await?;
    ensure_eq!(before.entries.len(), 1, "entries just before the transaction");
    Ok(())
}

async fn checks_are_judged_on_the_state_before_the_operations(place: &Place) -> Outcome {
    let txn = Txn::new()
        .put("a/1", Text::new("1"))
        .check(Check::Absent(Key::new("a/1")))
        .check(Check::Absent(Key::new("a/1")));
    place.store.commit(txn).await?;
    let only = Txn::new().check(Check::Exists(Key::new("a/1")));
    ensure!(place.store.commit(only).await?.changes.is_empty(), "checks alone change nothing");
    Ok(())
}

async fn a_transaction_that_changes_nothing_takes_no_revision(place: &Place) -> Outcome {
    let before = place.put("a/1", "1").await?.revision;
    let committed = place.remove("a/none").await?;
    ensure_eq!(committed.revision, before, "the revision of a deletion of nothing");
    let nothing = Change::Delete { previous: None, last: None };
    ensure_eq!(committed.changes, [nothing], "its change");
    ensure_eq!(
        place.store.commit(Txn::new()).await?.revision,
        before,
        "the revision of an empty transaction"
    );
    ensure_eq!(place.store.revision().await?, before, "the store's revision");
    Ok(())
}

async fn a_value_is_stamped_with_its_revision(place: &Place) -> Outcome {
    let key = Key::new("a/1");
    let created = place.put("a/1", "1").await?;
    let updated = place.put("a/1", "2").await?;
    let deleted = place.remove("a/1").await?;
    let stamp = |change: &Change<Text>| change.entry().map(|entry| entry.value.revision());
    ensure_eq!(stamp(&created.changes[0]), Some(created.revision), "the stamp in the answer");
    let old = place.store.get(&key, Some(created.revision)).await?.entry;
    ensure_eq!(old.map(|entry| entry.value.revision()), Some(created.revision), "the stamp of history");
    let Change::Delete { previous, last } = &deleted.changes[0] else {
        return Err(super::Broken::new("a deletion is no put"));
    };
    let stamps = (previous.as_ref().map(|entry| entry.value.revision()), last.as_ref().map(Text::revision));
    ensure_eq!(stamps, (Some(updated.revision), Some(deleted.revision)), "the stamps of a deletion");
    Ok(())
}

async fn versions_count_from_each_creation(place: &Place) -> Outcome {
    let key = Key::new("a/1");
    for round in 0..2 {
        let created = place.put("a/1", "1").await?.revision;
        let last = place.put("a/1", "2").await?.revision;
        let entry = place.store.get(&key, None).await?.entry;
        let numbers = entry.map(|entry| (entry.create_revision, entry.mod_revision, entry.version));
        ensure_eq!(numbers, Some((created, last, 2)), "life {round}: created, modified, version");
        place.remove("a/1").await?;
    }
    Ok(())
}

async fn changes_tell_previous_and_creation(place: &Place) -> Outcome {
    let mut previous = None;
    for (round, creates) in [true, false, false].into_iter().enumerate() {
        let committed = place.put("a/1", &format!("{round}")).await?;
        let change = &committed.changes[0];
        ensure_eq!(change.is_create(), creates, "write {round} creates");
        ensure_eq!(change.previous(), previous.as_ref(), "what was there before write {round}");
        previous = change.entry().cloned();
    }
    let deleted = place.remove("a/1").await?;
    ensure_eq!(deleted.changes[0].previous(), previous.as_ref(), "what was there before the deletion");
    ensure!(place.put("a/1", "again").await?.changes[0].is_create(), "the key came into being again");
    Ok(())
}

async fn acknowledged_writes_survive_a_crash(place: &Place) -> Outcome {
    let mut expected = Vec::new();
    for at in 0..50 {
        let committed = place.put(&format!("a/{at:02}"), &format!("{at}")).await?;
        expected.extend(committed.changes[0].entry().cloned());
    }
    let last = place.remove("a/00").await?.revision;
    expected.remove(0);
    // A store in memory has no life after its process: the promise is void.
    let Some(after) = place.harness.after_crash(place.store.clone()).await else { return Ok(()) };
    let page = after.list(&Prefix::new("a"), crate::ListOptions::default()).await?;
    ensure_eq!(page.entries, expected, "what was acknowledged");
    ensure!(page.revision >= last, "the revision fell from {last} to {}", page.revision);
    let next = after.commit(Txn::new().put("a/new", Text::new("new"))).await?.revision;
    ensure!(next > last, "revision {next} was given before the crash already");
    Ok(())
}
