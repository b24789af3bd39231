//! Leases.

use std::time::Duration;

use super::{Broken, Outcome, Place, cases, ensure, ensure_eq, next_batch};
use crate::testing::Text;
use crate::{CommitError, Key, LeaseId, ListOptions, Prefix, Store, StoreError, Txn, WatchOptions};

cases! {
    the_end_of_a_lease_deletes_its_keys_in_one_commit: [7],
    a_lease_lives_as_long_as_it_is_kept_alive: [],
    a_revoked_lease_deletes_its_keys_at_once: [],
    a_key_written_without_its_lease_outlives_it: [],
    a_key_moves_from_lease_to_lease: [],
    a_lease_that_is_over_is_an_error: [16],
    a_fork_goes_its_own_way: [],
}

/// Within what every backend can grant.
const TTL: Duration = Duration::from_secs(5);

async fn exists(place: &Place, key: &str) -> Result<bool, StoreError> {
    Ok(place.store.get(&Key::new(key), None).await?.entry.is_some())
}

async fn put(place: &Place, key: &str, lease: LeaseId) -> Outcome {
    place.store.commit(Txn::new().put(key, Text::new(key)).lease(lease)).await?;
    Ok(())
}

async fn the_end_of_a_lease_deletes_its_keys_in_one_commit(place: &Place) -> Outcome {
    let lease = place.store.grant(TTL).await?;
    ensure!(lease.granted >= TTL && lease.remaining <= lease.granted, "asked for {TTL:?}, got {lease:?}");
    put(place, "a/1", lease.id).await?;
    put(place, "a/2", lease.id).await?;
    let entry = place.store.get(&Key::new("a/1"), None).await?.entry;
    ensure_eq!(entry.and_then(|entry| entry.lease), Some(lease.id), "the lease of a/1");
    place.put("a/3", "unbound").await?;
    let after = place.store.revision().await?;
    let mut watch = place.store.watch(&Prefix::new("a"), WatchOptions::after(after)).await?;
    let batch = next_batch(&mut watch).await?;
    let keys: Vec<_> = batch.events.iter().map(|event| event.key.as_str()).collect();
    ensure_eq!(keys, ["a/1", "a/2"], "the keys deleted together");
    for event in &batch.events {
        ensure!(event.change.is_delete() && event.change.previous().is_some(), "no deletion: {event:?}");
    }
    let left = [exists(place, "a/1").await?, exists(place, "a/2").await?, exists(place, "a/3").await?];
    ensure_eq!(left, [false, false, true], "what is left");
    Ok(())
}

async fn a_lease_lives_as_long_as_it_is_kept_alive(place: &Place) -> Outcome {
    let lease = place.store.grant(TTL).await?;
    put(place, "a/1", lease.id).await?;
    let step = lease.granted.mul_f64(0.6);
    for _ in 0..4 {
        tokio::time::sleep(step).await;
        ensure!(exists(place, "a/1").await?, "the lease ended although it was kept alive");
        let left = place.store.time_to_live(lease.id).await?.remaining;
        ensure!(left <= lease.granted.mul_f64(0.5), "{left:?} are left after {step:?}");
        let kept = place.store.keep_alive(lease.id).await?;
        ensure!(kept.remaining > lease.granted.mul_f64(0.5), "kept alive, but {:?} remain", kept.remaining);
    }
    gone_in_time(place, "a/1", lease.granted).await
}

async fn gone_in_time(place: &Place, key: &str, granted: Duration) -> Outcome {
    for _ in 0..40 {
        if !exists(place, key).await? {
            return Ok(());
        }
        tokio::time::sleep(granted.mul_f64(0.1)).await;
    }
    Err(Broken::new(format!("{key} is still there long after its lease ended")))
}

async fn a_revoked_lease_deletes_its_keys_at_once(place: &Place) -> Outcome {
    let lease = place.store.grant(TTL).await?;
    put(place, "a/1", lease.id).await?;
    put(place, "b/2", lease.id).await?;
    let before = place.store.revision().await?;
    place.store.revoke(lease.id).await?;
    ensure!(!exists(place, "a/1").await? && !exists(place, "b/2").await?, "a key outlived its lease");
    ensure_eq!(place.store.revision().await?, before.next(), "the revision after one commit");
    Ok(())
}

async fn a_key_written_without_its_lease_outlives_it(place: &Place) -> Outcome {
    let lease = place.store.grant(TTL).await?;
    put(place, "a/1", lease.id).await?;
    put(place, "a/2", lease.id).await?;
    place.put("a/1", "free").await?;
    place.remove("a/2").await?;
    place.put("a/2", "another life").await?;
    place.store.revoke(lease.id).await?;
    ensure!(
        exists(place, "a/1").await? && exists(place, "a/2").await?,
        "a key died with a lease it had left"
    );
    Ok(())
}

async fn a_key_moves_from_lease_to_lease(place: &Place) -> Outcome {
    let (first, second) = (place.store.grant(TTL).await?, place.store.grant(TTL * 100).await?);
    ensure!(first.id != second.id, "two leases have one name");
    put(place, "a/1", first.id).await?;
    put(place, "a/1", second.id).await?;
    place.store.revoke(first.id).await?;
    ensure!(exists(place, "a/1").await?, "the key died with its former lease");
    place.store.revoke(second.id).await?;
    ensure!(!exists(place, "a/1").await?, "the key outlived its lease");
    Ok(())
}

async fn a_lease_that_is_over_is_an_error(place: &Place) -> Outcome {
    let lease = place.store.grant(TTL).await?;
    place.store.revoke(lease.id).await?;
    let refused = place.store.commit(Txn::new().put("a/1", Text::new("x")).lease(lease.id)).await;
    let lost = |error: &StoreError| matches!(error, StoreError::LeaseNotFound(id) if *id == lease.id);
    ensure!(
        matches!(&refused, Err(CommitError::Store(error)) if lost(error)),
        "a write with a lease that is over: {refused:?}"
    );
    ensure!(!exists(place, "a/1").await?, "a refused write was done");
    let kept = place.store.keep_alive(lease.id).await;
    ensure!(kept.as_ref().is_err_and(lost), "a lease that is over was kept alive: {kept:?}");
    let asked = place.store.time_to_live(lease.id).await;
    ensure!(asked.as_ref().is_err_and(lost), "a lease that is over has time: {asked:?}");
    let revoked = place.store.revoke(lease.id).await;
    ensure!(matches!(&revoked, Err(CommitError::Store(error)) if lost(error)), "revoked twice: {revoked:?}");
    Ok(())
}

async fn a_fork_goes_its_own_way(place: &Place) -> Outcome {
    let all = ListOptions::default;
    let lease = place.store.grant(TTL * 20).await?;
    put(place, "a/leased", lease.id).await?;
    place.put("a/1", "1").await?;
    place.put("a/1", "2").await?;
    place.put("a/gone", "1").await?;
    let last = place.remove("a/gone").await?.revision;
    let before = place.store.list(&Prefix::all(), all()).await?;
    let fork = place.store.fork().await?;
    let forked = fork.list(&Prefix::all(), all()).await?;
    ensure_eq!(forked.entries, before.entries, "the state of the fork");
    ensure!(forked.revision >= last, "the revision fell to {}", forked.revision);
    let left = fork.time_to_live(lease.id).await?;
    ensure!(left.granted == lease.granted && !left.remaining.is_zero(), "the fork's lease is {left:?}");
    fork.revoke(lease.id).await?;
    fork.commit(Txn::new().put("a/1", Text::new("what if"))).await?;
    ensure_eq!(place.store.list(&Prefix::all(), all()).await?.entries, before.entries, "the first one");
    place.put("b/1", "real").await?;
    let keys = fork.list(&Prefix::all(), all()).await?.entries;
    let keys: Vec<_> = keys.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect();
    ensure_eq!(keys, [("a/1", "what if")], "what is left in the fork");
    Ok(())
}
