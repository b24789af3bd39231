//! What goes wrong around etcd, and what the store makes of it.

use std::process::Command;
use std::time::Duration;

use futures::StreamExt;
use rkube_store::testing::Text;
use rkube_store::testing::etcd::{Server, Signal};
use rkube_store::{
    CommitError, Key, Prefix, Revision, Store, StoreError, Txn, Watch, WatchError, WatchItem, WatchOptions,
};
use tokio::time::Instant;

use crate::place::{builder, connect, server};

async fn put(store: &impl Store<Text>, key: &str, text: &str) -> Revision {
    store.commit(Txn::new().put(key, Text::new(text))).await.unwrap().revision
}

/// Writes until it is acknowledged: what is on its way when a member dies has no answer.
async fn put_at_last(store: &impl Store<Text>, key: &str, text: &str) -> Revision {
    loop {
        match store.commit(Txn::new().put(key, Text::new(text))).await {
            Ok(committed) => return committed.revision,
            Err(CommitError::Unknown(_) | CommitError::Store(StoreError::Unavailable(_))) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

async fn next(watch: &mut Watch<Text>) -> Result<WatchItem<Text>, WatchError> {
    tokio::time::timeout(Duration::from_secs(30), watch.next()).await.unwrap().unwrap()
}

fn etcdctl(server: &Server, arguments: &[&str]) {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", server.endpoint()]).args(arguments);
    assert!(command.output().unwrap().status.success(), "{arguments:?}");
}

#[tokio::test]
async fn a_watch_goes_on_over_a_restart_of_etcd() {
    let mut server = server();
    let store = connect(builder([&server])).await;
    let start = store.revision().await.unwrap();
    let mut watch = store.watch(&Prefix::new("a"), WatchOptions::after(start)).await.unwrap();
    let mut reached = start;
    for round in 0..4 {
        let written = put_at_last(&store, "a/1", &format!("{round}")).await;
        // Writes without an answer may have been done, too.
        while reached < written {
            let next = next(&mut watch).await.unwrap().revision();
            assert!(next > reached);
            reached = next;
        }
        assert_eq!(reached, written);
        server.signal(Signal::Kill).unwrap();
        server.restart().unwrap();
    }
}

/// What is written and compacted while nobody can follow is no gap: the watch ends, and says so.
#[tokio::test]
async fn a_watch_ends_when_what_comes_next_is_compacted() {
    let server = server();
    let store = builder([&server]).connect().await.unwrap();
    let other = connect(builder([&server])).await;
    let start = store.revision().await.unwrap();
    let mut watch = store.watch(&Prefix::new("a"), WatchOptions::after(start)).await.unwrap();
    put(&other, "a/1", "missed").await;
    let last = put(&other, "a/1", "last").await;
    other.compact(last).await.unwrap();
    // Only now it begins to follow.
    crate::place::drive(store.run());
    let ended = next(&mut watch).await;
    assert!(matches!(ended, Err(WatchError::Store(StoreError::Unavailable(_)))), "{ended:?}");
    // It was told where it cannot go on, and can go on from what is there.
    let again = loop {
        match store.watch(&Prefix::new("a"), WatchOptions::after(start)).await {
            Err(error) => break error,
            Ok(_) => tokio::task::yield_now().await,
        }
    };
    assert!(matches!(again, StoreError::Compacted { compacted, .. } if compacted == last), "{again}");
    let mut again = store.watch(&Prefix::new("a"), WatchOptions::after(last)).await.unwrap();
    let written = put(&store, "a/2", "new").await;
    assert_eq!(next(&mut again).await.unwrap().revision(), written);
}

/// A value that cannot be read ends those watches that it belongs to, and no others.
#[tokio::test]
async fn a_value_that_is_none_is_an_error_where_it_lies() {
    let server = server();
    let store = connect(builder([&server])).await;
    let start = store.revision().await.unwrap();
    let options = WatchOptions::after(start);
    let mut of_a = store.watch(&Prefix::new("a"), options).await.unwrap();
    let mut of_b = store.watch(&Prefix::new("b"), options).await.unwrap();
    let before = put(&store, "a/1", "good").await;
    assert_eq!(next(&mut of_a).await.unwrap().revision(), before);
    let bytes = std::os::unix::ffi::OsStrExt::from_bytes;
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", server.endpoint(), "put", "a/2"]);
    let bad: &std::ffi::OsStr = bytes(b"\xff\xfe");
    assert!(command.arg(bad).output().unwrap().status.success());
    let other = put(&store, "b/1", "fine").await;
    let ended = next(&mut of_a).await;
    assert!(matches!(&ended, Err(WatchError::Store(StoreError::Codec { key, .. })) if key.as_str() == "a/2"));
    assert_eq!(next(&mut of_b).await.unwrap().revision(), other);
    let read = store.get(&Key::new("a/2"), None).await;
    assert!(matches!(read, Err(StoreError::Codec { .. })), "{read:?}");
    // It can be got rid of, although nobody can say what it was.
    let removed = store.commit(Txn::new().remove("a/2")).await;
    assert!(matches!(removed, Err(CommitError::Unknown(_))), "{removed:?}");
    assert!(store.get(&Key::new("a/2"), None).await.unwrap().entry.is_none());
}

/// Two servers compact in turns, and only what is older than the interval goes.
#[tokio::test]
async fn history_goes_after_its_time_and_servers_agree_who_does_it() {
    const TURNS: u64 = 12;
    let server = server();
    let interval = Duration::from_millis(200);
    let began = Instant::now();
    let one = connect(builder([&server]).compact_after(interval)).await;
    let two = connect(builder([&server]).compact_after(interval)).await;
    let old = put(&one, "a/1", "old").await;
    let new = put(&two, "a/1", "new").await;
    // Each turn is one write of the key that counts them; nothing else is written.
    let turns = loop {
        let turns = one.revision().await.unwrap().0 - new.0;
        if turns >= TURNS {
            break turns;
        }
        tokio::time::sleep(interval / 10).await;
    };
    // A server takes a turn only if nobody took one for an interval, however late it looks. If each took
    // its own, there would be two an interval.
    let most = began.elapsed().as_millis() / interval.as_millis() + 1;
    assert!(u128::from(turns) <= most, "{turns} turns where {most} are due");
    let late = connect(builder([&server]).without_compaction()).await;
    let gone = late.get(&Key::new("a/1"), Some(old)).await;
    assert!(matches!(gone, Err(StoreError::Compacted { .. })), "{gone:?}");
    let entry = late.get(&Key::new("a/1"), None).await.unwrap().entry.unwrap();
    assert_eq!((entry.mod_revision, entry.value.as_str()), (new, "new"));
}

/// What the cache keeps ages by itself; etcd still has it.
#[tokio::test]
async fn the_caches_history_goes_after_its_time_although_nothing_is_written() {
    let server = server();
    let age = Duration::from_millis(500);
    let store = connect(builder([&server]).without_compaction().default_history_age(age)).await;
    let old = put(&store, "a/1", "old").await;
    let new = put(&store, "a/1", "new").await;
    let limit = Instant::now() + Duration::from_secs(30);
    while store.stats().compacted < new {
        assert!(Instant::now() < limit, "{:?}", store.stats());
        tokio::time::sleep(age / 10).await;
    }
    let refused = store.watch(&Prefix::all(), WatchOptions::after(old)).await;
    assert!(matches!(refused, Err(StoreError::Compacted { .. })));
    let entry = store.get(&Key::new("a/1"), Some(old)).await.unwrap().entry.unwrap();
    assert_eq!(entry.value.as_str(), "old");
}

#[tokio::test]
async fn a_store_finds_the_member_that_answers() {
    let mut members = Server::cluster(3).unwrap();
    let timeouts = (Duration::from_secs(1), Duration::from_secs(20));
    let store = connect(builder(&members).timeouts(timeouts.0, timeouts.1)).await;
    let start = store.revision().await.unwrap();
    let mut watch = store.watch(&Prefix::all(), WatchOptions::after(start)).await.unwrap();
    let mut reached = start;
    for (at, member) in members.iter_mut().enumerate() {
        member.signal(Signal::Kill).unwrap();
        // Reads are answered by those that are left, and so are writes, sooner or later.
        let read = store.get(&Key::new("a/1"), None).await.unwrap();
        assert!(read.revision >= reached);
        let written = put_at_last(&store, &format!("a/{at}"), "x").await;
        while reached < written {
            reached = next(&mut watch).await.unwrap().revision();
        }
        member.restart().unwrap();
    }
}

/// Without most members nothing is acknowledged, and nothing is called done or failed that may be either.
#[tokio::test]
async fn without_a_majority_writes_are_unknown_or_unavailable() {
    let mut members = Server::cluster(3).unwrap();
    let timeouts = (Duration::from_millis(500), Duration::from_secs(2));
    // The members may take longer to find each other.
    put(&connect(builder(&members)).await, "a/1", "before").await;
    let store = connect(builder(&members).timeouts(timeouts.0, timeouts.1)).await;
    members[1].signal(Signal::Kill).unwrap();
    members[2].signal(Signal::Kill).unwrap();
    let mut sure = 0;
    for at in 0..3 {
        match store.commit(Txn::new().put("a/1", Text::new(format!("{at}")))).await {
            Err(CommitError::Unknown(_)) => {}
            Err(CommitError::Store(StoreError::Unavailable(_))) => sure += 1,
            other => panic!("{other:?}"),
        }
    }
    let read = store.get(&Key::new("a/1"), None).await;
    assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
    members[1].restart().unwrap();
    let after = loop {
        if let Ok(read) = store.get(&Key::new("a/1"), None).await {
            break read.entry.unwrap();
        }
    };
    assert!(after.version <= 4 - sure, "{sure} were surely not done, but the version is {}", after.version);
}

#[tokio::test]
async fn an_etcd_that_lost_its_data_is_followed_anew() {
    let mut server = server();
    let store = connect(builder([&server])).await;
    for at in 0..10 {
        put(&store, "a/1", &format!("{at}")).await;
    }
    let last = store.revision().await.unwrap();
    let mut watch = store.watch(&Prefix::new("a"), WatchOptions::after(last)).await.unwrap();
    server.signal(Signal::Kill).unwrap();
    std::fs::remove_dir_all(server.directory().join("data")).unwrap();
    server.restart().unwrap();
    let told = loop {
        match store.revision().await {
            Err(error) if error.to_string().contains("replaced") => break error,
            Err(_) => {}
            Ok(revision) => panic!("{revision}"),
        }
    };
    assert!(matches!(told, StoreError::Unavailable(_)));
    assert!(next(&mut watch).await.is_err(), "its watches end");
    let read = store.get(&Key::new("a/1"), None).await.unwrap();
    assert!(read.entry.is_none() && read.revision < last, "{read:?}");
    // Those who also saw the old one end do not end the new one.
    let at = loop {
        if let Ok(revision) = store.revision().await {
            break revision;
        }
    };
    let mut watch = store.watch(&Prefix::new("a"), WatchOptions::after(at)).await.unwrap();
    for round in 0..3 {
        let written = put(&store, "a/1", &format!("a new life {round}")).await;
        assert_eq!(next(&mut watch).await.unwrap().revision(), written);
    }
}

/// Where etcd is full, writes are refused and deletions are not; what may have been done is not called failed.
#[tokio::test]
async fn a_full_etcd_takes_deletions_only() {
    let server = Server::start_with(&["--quota-backend-bytes".to_owned(), "16000000".to_owned()]).unwrap();
    let store = connect(builder([&server])).await;
    let large = "x".repeat(1_000_000);
    let mut done = Vec::new();
    let refused = loop {
        let key = format!("a/{}", done.len());
        match store.commit(Txn::create(key.as_str(), Text::new(large.as_str()))).await {
            Ok(_) => done.push(key),
            Err(error) => break (key, error),
        }
        assert!(done.len() < 100, "it is never full");
    };
    let is_there = store.get(&Key::new(refused.0.as_str()), None).await.unwrap().entry.is_some();
    match refused.1 {
        CommitError::Unknown(_) => {}
        CommitError::Store(StoreError::NoSpace) => assert!(!is_there, "refused, but done"),
        other => panic!("{other:?}"),
    }
    let again = store.commit(Txn::create("b/1", Text::new("small"))).await;
    assert!(matches!(again, Err(CommitError::Store(StoreError::NoSpace))), "{again:?}");
    let granted = store.grant(Duration::from_secs(60)).await;
    assert!(matches!(granted, Err(StoreError::NoSpace)), "{granted:?}");
    // All of them: the write that found no space may be there, too, and takes as much as each of these.
    for key in &done {
        store.commit(Txn::new().remove(key.as_str())).await.unwrap();
        assert!(store.get(&Key::new(key.as_str()), None).await.unwrap().entry.is_none());
    }
    store.compact(store.revision().await.unwrap()).await.unwrap();
    // etcd compacts behind the answer, and only what is compacted can be given back.
    let mut tries = 0;
    loop {
        etcdctl(&server, &["defrag"]);
        etcdctl(&server, &["alarm", "disarm"]);
        match store.commit(Txn::new().put("b/1", Text::new("small"))).await {
            Ok(_) => return,
            Err(error) => assert!(tries < 100, "it stays full: {error}"),
        }
        tries += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
