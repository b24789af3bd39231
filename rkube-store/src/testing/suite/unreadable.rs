//! Values that cannot be read, wherever nothing but their bytes is left.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::{Broken, Outcome, Place, cases, ensure, ensure_eq, next_batch, within};
use crate::testing::Text;
use crate::{
    Change, CommitError, Committed, Key, LeaseId, Prefix, Revision, Store, StoreError, Txn, WatchError,
    WatchOptions,
};

cases! {
    what_cannot_be_read_can_be_deleted: [8, 16],
    what_cannot_be_read_can_be_overwritten: [11, 16],
    what_cannot_be_read_does_not_hold_up_its_end: [15],
}

const KEY: &str = "a/1";

/// A store with a value that is refused when it is decoded.
struct Marked {
    store: Arc<dyn Store<Text>>,
    written: Revision,
    /// The store still has it as an object.
    readable: bool,
}

impl Marked {
    async fn begin(place: &Place, lease: Option<LeaseId>) -> Result<Self, Broken> {
        let txn = Txn::new().put(KEY, Text::unreadable());
        let txn = lease.into_iter().fold(txn, Txn::lease);
        let written = place.store.commit(txn).await?.revision;
        let crashed = place.harness.after_crash(place.store.clone()).await;
        let store = crashed.unwrap_or_else(|| place.store.clone());
        let readable = match store.get(&Key::new(KEY), None).await {
            Ok(read) => {
                ensure!(read.entry.is_some(), "what was written is gone");
                true
            }
            Err(StoreError::Codec { key, .. }) if key.as_str() == KEY => false,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { store, written, readable })
    }

    /// Whether an outcome is right for what replaced the value.
    fn judge(&self, outcome: &Result<Committed<Text>, CommitError<Text>>) -> Outcome {
        match outcome {
            Ok(_) if self.readable => Ok(()),
            Err(CommitError::Unknown(_)) if !self.readable => Ok(()),
            outcome => Err(Broken::new(format!("readable is {}, but {outcome:?}", self.readable))),
        }
    }

    async fn is_gone(&self) -> Result<bool, Broken> {
        Ok(self.store.get(&Key::new(KEY), None).await?.entry.is_none())
    }
}

async fn what_cannot_be_read_can_be_deleted(place: &Place) -> Outcome {
    let marked = Marked::begin(place, None).await?;
    let store = &marked.store;
    let before = store.revision().await?;
    let mut of_it = store.watch(&Prefix::new("a"), WatchOptions::after(before)).await?;
    let mut of_other = store.watch(&Prefix::new("b"), WatchOptions::after(before)).await?;
    marked.judge(&store.commit(Txn::delete(KEY, marked.written)).await)?;
    ensure!(marked.is_gone().await?, "it is still there");
    let deleted = store.revision().await?;
    ensure!(deleted > before, "a deletion took no revision after {before}");

    let other = store.commit(Txn::create("b/1", Text::new("fine"))).await?.revision;
    ensure_eq!(next_batch(&mut of_other).await?.revision, other, "the event of another folder");
    match within("the watch of it", of_it.next()).await? {
        Some(Ok(item)) => ensure!(marked.readable && item.revision() == deleted, "{item:?}"),
        Some(Err(WatchError::Store(StoreError::Codec { key, .. }))) => {
            ensure!(!marked.readable && key.as_str() == KEY, "the watch ended for {key}");
        }
        end => ensure!(false, "the watch gave {end:?}"),
    }

    let mut again = store.watch(&Prefix::new("a"), WatchOptions::after(deleted)).await?;
    let created = store.commit(Txn::create(KEY, Text::new("new"))).await?;
    ensure!(created.changes[0].is_create(), "the key came into being again");
    ensure_eq!(next_batch(&mut again).await?.revision, created.revision, "the event behind it");
    Ok(())
}

async fn what_cannot_be_read_can_be_overwritten(place: &Place) -> Outcome {
    let marked = Marked::begin(place, None).await?;
    let store = &marked.store;
    let txn = Txn::update(KEY, Text::new("new"), marked.written).put("a/2", Text::new("besides"));
    marked.judge(&store.commit(txn).await)?;
    let entry = store.get(&Key::new(KEY), None).await?.entry;
    let entry = entry.ok_or_else(|| Broken::new("it is gone"))?;
    let facts = (entry.value.as_str(), entry.create_revision, entry.version);
    ensure_eq!(facts, ("new", marked.written, 2), "what is there instead");
    let besides = store.get(&Key::new("a/2"), None).await?.entry;
    let revisions = (Some(entry.mod_revision), besides.map(|entry| entry.mod_revision));
    ensure_eq!(revisions.0, revisions.1, "the revision of what was written with it");
    let next = store.commit(Txn::update(KEY, Text::new("newer"), entry.mod_revision)).await?;
    ensure_eq!(next.changes[0].previous(), Some(&entry), "what was there before the next write");
    Ok(())
}

async fn what_cannot_be_read_does_not_hold_up_its_end(place: &Place) -> Outcome {
    let lease = place.store.grant(Duration::from_secs(1000)).await?.id;
    let marked = Marked::begin(place, Some(lease)).await?;
    marked.store.revoke(lease).await?;
    ensure!(marked.is_gone().await?, "the lease is over, and its key is still there");
    let after = place.harness.after_crash(marked.store.clone()).await.unwrap_or(marked.store);
    ensure!(after.get(&Key::new(KEY), None).await?.entry.is_none(), "the key came back");
    let left = after.time_to_live(lease).await;
    ensure!(matches!(left, Err(StoreError::LeaseNotFound(_))), "the lease came back: {left:?}");
    let deleted = after.commit(Txn::new().remove(KEY)).await?;
    ensure_eq!(deleted.changes, [Change::Delete { previous: None, last: None }], "what was left to delete");
    Ok(())
}
