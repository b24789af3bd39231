//! Values sealed at rest: no plaintext in any file, keys that rotate, and a key that is lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use rkube_store::backend::durable::{Durable, verify};
use rkube_store::encrypt::{Encryption, EncryptionKey};
use rkube_store::testing::Text;
use rkube_store::testing::disk::Volatile;
use rkube_store::{CommitError, Key, ListOptions, Prefix, Store, StoreError, Transform, TransformError, Txn};

use super::suite::sealed;
use crate::suite::passes;

const SECRET: &str = "the password is swordfish";

fn with_keys(folder: &Prefix, keys: &[&str]) -> Arc<dyn Transform> {
    let key = |id: &&str| EncryptionKey::new(*id, [id.as_bytes()[0]; 32]).unwrap();
    Arc::new(Encryption::new([folder.clone()], keys.iter().map(key)).unwrap())
}

fn open(disk: &Volatile, keys: &[&str]) -> Durable<Text> {
    let builder = Durable::builder_on(Arc::new(disk.clone())).segment_bytes(2000).hot_bytes(0);
    builder.transform(with_keys(&Prefix::new("secrets"), keys)).open().unwrap()
}

async fn write(store: &Durable<Text>, keys: u64) {
    for at in 0..keys {
        let txn = Txn::new().put(format!("secrets/{at}"), Text::new(format!("{SECRET} {at}")));
        store.commit(txn.put(format!("plain/{at}"), Text::new("nothing to hide"))).await.unwrap();
    }
}

/// Which files have this in them, by what their names end with.
fn holding(files: &BTreeMap<String, Vec<u8>>, text: &str) -> Vec<String> {
    let has = |content: &[u8]| content.windows(text.len()).any(|window| window == text.as_bytes());
    let found = files.iter().filter(|(_, content)| has(content));
    let mut endings: Vec<_> =
        found.filter_map(|(name, _)| name.rsplit('.').next()).map(str::to_owned).collect();
    endings.dedup();
    endings
}

async fn is_whole(store: &Durable<Text>, keys: usize) {
    let page = store.list(&Prefix::new("secrets"), ListOptions::default()).await.unwrap();
    assert_eq!(page.entries.len(), keys);
    assert!(page.entries.iter().all(|entry| entry.value.as_str().starts_with(SECRET)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_holds_where_everything_is_sealed() {
    passes(sealed(with_keys(&Prefix::all(), &["k1"]))).await;
}

#[tokio::test]
async fn no_plaintext_is_in_the_log_or_the_snapshot() {
    let disk = Volatile::new();
    let store = open(&disk, &["k1"]);
    write(&store, 20).await;
    store.compact(store.revision().await.unwrap()).await.unwrap();
    store.close().await;
    drop(store);
    let store = open(&disk, &["k1"]);
    write(&store, 30).await;
    let files = disk.contents();
    let mut both = holding(&files, "nothing to hide");
    both.sort();
    both.dedup();
    assert_eq!(both, ["log", "snapshot"], "what is not chosen is found in both kinds of files");
    for part in [SECRET, "swordfish", "password is"] {
        assert_eq!(holding(&files, part), [""; 0], "{part}");
    }
    is_whole(&store, 30).await;
}

#[tokio::test]
async fn keys_rotate_and_the_old_one_can_go() {
    let disk = Volatile::new();
    write(&open(&disk, &["old-key"]), 20).await;
    let both = ["new-key", "old-key"];
    let store = open(&disk, &both);
    is_whole(&store, 20).await;
    // Every value is written again, and history forgotten: nothing that the old key sealed is left.
    write(&store, 20).await;
    store.compact(store.revision().await.unwrap()).await.unwrap();
    store.close().await;
    drop(store);
    let files = disk.contents();
    assert_eq!(holding(&files, "old-key"), [""; 0]);
    assert!(!holding(&files, "new-key").is_empty(), "the name of the key stands in front");
    is_whole(&open(&disk, &["new-key"]), 20).await;
}

#[tokio::test]
async fn a_lost_key_is_named_and_what_it_sealed_can_be_deleted() {
    let disk = Volatile::new();
    write(&open(&disk, &["lost"]), 3).await;
    let key = Key::new("secrets/1");
    let store = open(&disk, &["other"]);
    let error = store.get(&key, None).await.unwrap_err();
    let unknown = matches!(&error, StoreError::Transform { source: TransformError::UnknownKey { id }, .. } if id == "lost");
    assert!(unknown && error.to_string().contains("secrets/1"), "{error}");
    let plain = store.list(&Prefix::new("plain"), ListOptions::default()).await.unwrap();
    assert_eq!(plain.entries.len(), 3, "others can be read");
    let deleted = store.commit(Txn::new().remove(&key)).await;
    assert!(matches!(&deleted, Err(CommitError::Unknown(reason)) if reason.contains("lost")), "{deleted:?}");
    assert!(store.get(&key, None).await.unwrap().entry.is_none());
    drop(store);
    assert_eq!(verify(&disk).unwrap().cut, None, "whoever looks at the files needs no key");
    is_whole(&open(&disk, &["lost"]), 2).await;
}
