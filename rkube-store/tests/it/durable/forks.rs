//! Forks and saves of a store whose leases end meanwhile: applied, but not yet on disk and so not yet shown.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rkube_store::backend::durable::{Durable, save};
use rkube_store::testing::{Dice, Text};
use rkube_store::{Lease, ListOptions, Memory, Prefix, Store, StoreError, Txn};

use super::gated::Gated;

const TTL: Duration = Duration::from_secs(600);

async fn keys(store: &dyn Store<Text>) -> BTreeSet<String> {
    let page = store.list(&Prefix::all(), ListOptions::default()).await.unwrap();
    page.entries.into_iter().map(|entry| entry.key.as_str().to_owned()).collect()
}

/// Every key that is bound has its lease, and goes with it.
async fn is_whole(copy: &Memory<Text>, seed: u64) {
    let page = copy.list(&Prefix::all(), ListOptions::default()).await.unwrap();
    for lease in page.entries.iter().filter_map(|entry| entry.lease).collect::<BTreeSet<_>>() {
        copy.revoke(lease).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    let left = keys(copy).await;
    assert!(left.iter().all(|key| key.starts_with("free/")), "seed {seed}: {left:?} outlived their leases");
    assert!(left.contains("free/1"), "seed {seed}: {left:?}");
}

#[tokio::test]
async fn a_copy_has_no_key_whose_lease_has_ended() {
    for seed in 0..40 {
        let mut dice = Dice::seeded(seed);
        let disk = Gated::default();
        let store: Durable<Text> = Durable::builder_on(Arc::new(disk.clone())).open().unwrap();
        store.commit(Txn::create("free/1", Text::new("stays"))).await.unwrap();
        let mut leases: Vec<Lease> = Vec::new();
        for at in 0..6 {
            let lease = store.grant(TTL).await.unwrap();
            for key in 0..=dice.roll(3) {
                let bound = Txn::create(format!("bound/{at}/{key}"), Text::new("x")).lease(lease.id);
                store.commit(bound).await.unwrap();
            }
            leases.push(lease);
        }
        let before = keys(&store).await;
        let shut = disk.shut();
        let mut begun: Vec<BoxFuture<'_, ()>> = Vec::new();
        let (mut forks, mut ended) = (Vec::new(), 0);
        for step in 0..12 {
            match dice.roll(3) {
                0 => {
                    let put = store.commit(Txn::create(format!("free/{seed}-{step}"), Text::new("x")));
                    begun.push(put.map(|done| drop(done.unwrap())).boxed());
                }
                1 if !leases.is_empty() => {
                    let lease = leases.swap_remove(dice.roll_up_to(leases.len() - 1));
                    begun.push(store.revoke(lease.id).map(|done| done.unwrap()).boxed());
                    ended += 1;
                }
                _ => forks.push((store.fork().await.unwrap(), ended)),
            }
            if let Some(last) = begun.last_mut() {
                assert!(last.now_or_never().is_none(), "nothing is on disk yet");
            }
        }
        forks.push((store.fork().await.unwrap(), ended));
        assert_eq!(keys(&store).await, before, "nothing is shown yet");
        drop(shut);
        futures::future::join_all(begun).await;
        for (fork, ended) in forks {
            let leases: BTreeSet<_> =
                keys(&fork).await.into_iter().filter(|key| key.ends_with("/0")).collect();
            assert_eq!(leases.len(), 6 - ended, "seed {seed}: {leases:?}");
            is_whole(&fork, seed).await;
        }
    }
}

#[tokio::test]
async fn a_save_has_no_key_whose_lease_has_ended() {
    let (disk, folder) = (Gated::default(), super::folder());
    let path = folder.path().join("saved");
    let store: Durable<Text> = Durable::builder_on(Arc::new(disk.clone())).open().unwrap();
    store.commit(Txn::create("free/1", Text::new("stays"))).await.unwrap();
    let (ends, stays) = (store.grant(TTL).await.unwrap(), store.grant(TTL).await.unwrap());
    store.commit(Txn::create("bound/1", Text::new("x")).lease(ends.id)).await.unwrap();
    store.commit(Txn::create("bound/2", Text::new("x")).lease(stays.id)).await.unwrap();
    let shut = disk.shut();
    let mut revoked = store.revoke(ends.id).boxed();
    assert!((&mut revoked).now_or_never().is_none(), "it is not on disk yet");
    save::save(&store, &path, None).await.unwrap();
    drop(shut);
    revoked.await.unwrap();
    let again: Memory<Text> = Memory::builder().restore(&path).unwrap();
    let over = again.time_to_live(ends.id).await;
    assert!(matches!(over, Err(StoreError::LeaseNotFound(_))), "{over:?}");
    assert_eq!(keys(&again).await, ["bound/2", "free/1"].map(str::to_owned).into());
    is_whole(&again, 0).await;
}

/// It is there at each revision, so also in a copy of any.
#[tokio::test]
async fn a_key_that_was_freed_from_its_lease_before_that_ended_is_in_a_copy() {
    let disk = Gated::default();
    let store: Durable<Text> = Durable::builder_on(Arc::new(disk.clone())).open().unwrap();
    let lease = store.grant(TTL).await.unwrap();
    for key in ["bound/1", "bound/2"] {
        store.commit(Txn::create(key, Text::new("x")).lease(lease.id)).await.unwrap();
    }
    let shut = disk.shut();
    let mut freed = store.commit(Txn::new().put("bound/1", Text::new("y"))).boxed();
    assert!((&mut freed).now_or_never().is_none(), "it is not on disk yet");
    let mut revoked = store.revoke(lease.id).boxed();
    assert!((&mut revoked).now_or_never().is_none(), "nor is this");
    let fork = store.fork().await.unwrap();
    let entries = fork.list(&Prefix::all(), ListOptions::default()).await.unwrap().entries;
    let found: Vec<_> = entries.iter().map(|it| (it.key.as_str(), it.value.as_str(), it.lease)).collect();
    assert_eq!(found, [("bound/1", "x", None)]);
    drop(shut);
    freed.await.unwrap();
    revoked.await.unwrap();
    assert_eq!(keys(&store).await, ["bound/1".to_owned()].into());
}
