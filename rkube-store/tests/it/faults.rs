//! Clients behind faults: what is unknown is never reported as failed, and the checker judges it so.

use std::sync::Arc;

use futures::StreamExt;
use rkube_store::testing::Text;
use rkube_store::testing::faults::{Fault, Faulty};
use rkube_store::testing::history::{Recorder, check};
use rkube_store::{
    CommitError, Key, ListOptions, Memory, Prefix, Revision, Store, StoreError, Txn, WatchError, WatchOptions,
};

#[tokio::test]
async fn a_history_with_unknown_outcomes_keeps_the_promises() {
    let faulty = Arc::new(Faulty::new(Arc::new(Memory::<Text>::builder().build())));
    let store = Recorder::new(faulty.clone());
    let mut watch = store.watch(&Prefix::all(), WatchOptions::after(Revision(1))).await.unwrap();
    let kinds = [Fault::Pass, Fault::LoseAnswer, Fault::LoseRequest, Fault::Refuse];
    faulty.plan((0..200).map(|at| kinds[at * 7 % 4]));
    let mut unknown = 0;
    for at in 0..200 {
        let key = format!("a/{}", at % 3);
        let txn = match at % 3 {
            0 => Txn::new().remove(key.as_str()),
            _ => Txn::new().put(key.as_str(), Text::new(format!("{at}"))),
        };
        match store.commit(txn).await {
            Err(CommitError::Unknown(_)) => unknown += 1,
            Err(CommitError::Store(StoreError::Unavailable(_))) | Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
        store.get(&Key::new(key), None).await.unwrap();
    }
    let last = store.revision().await.unwrap();
    while watch.next().await.unwrap().unwrap().revision() < last {}
    store.list(&Prefix::all(), ListOptions::default()).await.unwrap();
    assert_eq!(unknown, 100);
    assert_eq!(check(&store.history()), []);
}

#[tokio::test]
async fn a_cut_watch_ends_with_an_error() {
    let faulty = Faulty::new(Arc::new(Memory::<Text>::builder().build()));
    let mut watch = faulty.watch(&Prefix::all(), WatchOptions::default()).await.unwrap();
    faulty.commit(Txn::create("a/1", Text::new("1"))).await.unwrap();
    watch.next().await.unwrap().unwrap();
    faulty.cut_watches();
    assert!(matches!(watch.next().await, Some(Err(WatchError::Store(StoreError::Unavailable(_))))));
    assert!(watch.next().await.is_none());
    let mut next = faulty.watch(&Prefix::all(), WatchOptions::default()).await.unwrap();
    assert!(next.next().await.unwrap().is_ok(), "later watches are not cut");
}
