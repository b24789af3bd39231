//! One store on one member.

use std::process::Command;

use futures::StreamExt;
use rkube_store::testing::Text;
use rkube_store::testing::etcd::Server;
use rkube_store::{
    CommitError, Key, ListOptions, Prefix, Revision, Store, StoreError, Txn, WatchItem, WatchOptions,
};

use crate::place::{builder, connect, server};

#[tokio::test]
async fn what_is_committed_is_read_listed_and_watched() {
    let server = server();
    let store = connect(builder([&server])).await;
    let start = store.revision().await.unwrap();
    let mut watch = store.watch(&Prefix::new("/registry/pods"), WatchOptions::after(start)).await.unwrap();
    let key = Key::new("/registry/pods/default/web");
    let committed = store.commit(Txn::create(&key, Text::new("one"))).await.unwrap();
    assert_eq!(committed.revision, start.next());

    let entry = store.get(&key, None).await.unwrap().entry.unwrap();
    assert_eq!(Some(&entry), committed.changes[0].entry());
    let page = store.list(&Prefix::new("/registry/pods"), ListOptions::default()).await.unwrap();
    assert_eq!(page.entries, [entry]);
    let Some(Ok(WatchItem::Events(batch))) = watch.next().await else { panic!("an event") };
    assert_eq!(batch.events[0].change, committed.changes[0]);

    let refused = store.commit(Txn::create(&key, Text::new("two"))).await;
    let Err(CommitError::Conflict(conflict)) = refused else { panic!("{refused:?}") };
    assert_eq!(conflict.current.as_ref(), committed.changes[0].entry());
}

/// Keys and values lie in etcd as Kubernetes' own lie there.
#[tokio::test]
async fn etcds_own_client_sees_the_keys_and_values() {
    let server = server();
    let store = connect(builder([&server])).await;
    let keys = ["/registry/deployments/default/web", "/registry/nodes/n1"];
    for key in keys {
        store.commit(Txn::create(key, Text::new(format!("value of {key}")))).await.unwrap();
    }
    let output = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", server.endpoint(), "get", "--prefix", "/registry/"])
        .output()
        .unwrap();
    let expected: String = keys.iter().map(|key| format!("{key}\nvalue of {key}\n")).collect();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[tokio::test]
async fn stores_under_prefixes_do_not_see_each_other() {
    let server = server();
    let one = connect(builder([&server]).prefix("/one")).await;
    let two = connect(builder([&server]).prefix("/two")).await;
    one.commit(Txn::create("/a/1", Text::new("of one"))).await.unwrap();
    let last = two.commit(Txn::create("/a/1", Text::new("of two"))).await.unwrap().revision;
    let page = one.list(&Prefix::all(), ListOptions::default()).await.unwrap();
    let texts: Vec<_> = page.entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect();
    assert_eq!((texts, page.revision), (vec![("/a/1", "of one")], last));
}

/// A server that starts late serves the history that etcd has, and etcd's state before.
#[tokio::test]
async fn a_late_store_has_the_history_of_etcd() {
    let server = server();
    let early = connect(builder([&server])).await;
    for at in 0..20 {
        early.commit(Txn::new().put(format!("a/{}", at % 3), Text::new(format!("{at}")))).await.unwrap();
    }
    early.compact(Revision(10)).await.unwrap();
    for history in [5, 1000] {
        let late = connect(builder([&server]).history(history)).await;
        let of = |store: &rkube_store::backend::etcd::Etcd<Text>, at: u64| {
            let store = store.clone();
            async move {
                let page = store.list(&Prefix::new("a"), ListOptions::default().at(Revision(at))).await;
                page.map(|page| page.entries)
            }
        };
        for at in 10..=21 {
            assert_eq!(of(&late, at).await.unwrap(), of(&early, at).await.unwrap(), "at {at}");
        }
        let compacted = of(&late, 9).await;
        assert!(matches!(compacted, Err(StoreError::Compacted { .. })), "{compacted:?}");
        let begins = Revision(21_u64.saturating_sub(history).max(10));
        let mut watch = late.watch(&Prefix::new("a"), WatchOptions::after(begins)).await.unwrap();
        for at in begins.0 + 1..=21 {
            assert_eq!(watch.next().await.unwrap().unwrap().revision(), Revision(at));
        }
        let before = late.watch(&Prefix::new("a"), WatchOptions::after(begins.previous())).await;
        assert!(matches!(before, Err(StoreError::Compacted { .. })), "{before:?}");
    }
}

/// Without its driver the cache stands still, and reads are etcd's.
#[tokio::test]
async fn reads_are_right_although_nothing_drives_the_cache() {
    let server = server();
    let store = builder([&server]).connect().await.unwrap();
    let committed = store.commit(Txn::create("a/1", Text::new("one"))).await.unwrap();
    let read = store.get(&Key::new("a/1"), None).await.unwrap();
    assert_eq!((read.entry.as_ref(), read.revision), (committed.changes[0].entry(), committed.revision));
    store.commit(Txn::create("a/2", Text::new("two"))).await.unwrap();
    let page = store.list(&Prefix::new("a"), ListOptions::page(1)).await.unwrap();
    assert_eq!((page.entries.len(), page.more, page.remaining), (1, true, 1));
}

/// A process that ends before it listens is no server; where it was for its port, others were tried.
#[test]
fn a_port_that_is_taken_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", taken.local_addr().unwrap());
    let refused = Server::start_with(&["--listen-client-urls".to_owned(), url]).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse, "{refused}");
    let refused = Server::start_with(&["--no-such-flag".to_owned()]).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::Other, "{refused}");
}
