use std::sync::Arc;

use super::{Broken, Outcome, SHORT, ensure, ensure_eq, within};
use crate::testing::Text;
use crate::{CommitError, Key, ListOptions, Prefix, Store, StoreError, Txn};

/// How much each put has.
const BYTES: usize = 10_000;

/// A case for a store, new and empty, whose quota is between some tens of kilobytes and about a megabyte:
/// what needs room is refused when it is used up and nothing of it is written; all that is there can be
/// read; what takes away is done, and after it and a compaction there is room again, if not at once. (On
/// etcd only after `etcdctl defrag` and `etcdctl alarm disarm`, so this case is not for etcd.)
///
/// # Errors
/// What is not so.
pub async fn quota(store: Arc<dyn Store<Text>>) -> Outcome {
    let put = |at: usize| Txn::new().put(format!("a/{at:04}"), Text::new("x".repeat(BYTES)));
    let (mut there, mut refused) = (0, 0);
    loop {
        match store.commit(put(there)).await {
            Ok(_) => (there, refused) = (there + 1, 0),
            // What only was history may go first.
            Err(CommitError::Store(StoreError::NoSpace)) if refused < 2 => {
                refused += 1;
                tokio::time::sleep(SHORT).await;
            }
            Err(CommitError::Store(StoreError::NoSpace)) => break,
            Err(error) => return Err(Broken::new(format!("no space left, but {error}"))),
        }
        ensure!(there < 10_000, "{there} writes of {BYTES} bytes are no quota");
    }
    ensure!(there > 1, "the quota let {there} writes through");
    let revision = store.revision().await?;
    let refused = [
        Txn::create("b/1", Text::new("small")),
        Txn::new().put("a/0000", Text::new("smaller than it is")),
        Txn::new().remove("a/0000").put("b/1", Text::new("small")),
    ];
    for txn in refused {
        let outcome = store.commit(txn).await;
        let full = matches!(outcome, Err(CommitError::Store(StoreError::NoSpace)));
        ensure!(full, "a write into a full store: {outcome:?}");
    }
    ensure_eq!(store.revision().await?, revision, "the revision after refusals");
    let keys = store.list(&Prefix::new("a"), ListOptions::default()).await?.entries.len();
    ensure_eq!(keys, there, "what can be read");
    ensure!(store.get(&Key::new("b/1"), None).await?.entry.is_none(), "what was refused is there");

    for at in 0..there.div_ceil(2) {
        store.commit(Txn::new().remove(format!("a/{at:04}"))).await?;
    }
    store.compact(store.revision().await?).await?;
    // Space comes back behind the answer.
    let room = async {
        loop {
            match store.commit(put(0)).await {
                Err(CommitError::Store(StoreError::NoSpace)) => tokio::time::sleep(SHORT).await,
                outcome => return outcome,
            }
        }
    };
    within("room for a write", room).await??;
    let keys = store.list(&Prefix::new("a"), ListOptions::default()).await?.entries.len();
    ensure_eq!(keys, there / 2 + 1, "what is there in the end");
    Ok(())
}
