//! Values sealed before they go to etcd: no plaintext in its answers to others, nor in its files.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rkube_store::encrypt::{Encryption, EncryptionKey};
use rkube_store::testing::Text;
use rkube_store::{CommitError, Key, Prefix, Store, StoreError, Transform, TransformError, Txn};

use crate::place::{builder, connect, server};

fn with_keys(keys: &[&str]) -> Arc<dyn Transform> {
    let key = |id: &&str| EncryptionKey::new(*id, [id.as_bytes()[0]; 32]).unwrap();
    Arc::new(Encryption::new([Prefix::new("/registry/secrets")], keys.iter().map(key)).unwrap())
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// All bytes of all files in a folder.
fn files_of(folder: &Path) -> Vec<u8> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let content =
        entries.map(|path| if path.is_dir() { files_of(&path) } else { std::fs::read(path).unwrap() });
    content.flatten().collect()
}

#[tokio::test]
async fn no_plaintext_reaches_etcd_and_keys_rotate() {
    let server = server();
    let store = connect(builder([&server]).transform(with_keys(&["old"]))).await;
    let key = Key::new("/registry/secrets/default/db");
    store.commit(Txn::create(&key, Text::new("the password is swordfish"))).await.unwrap();
    store.commit(Txn::create("/registry/pods/default/a", Text::new("nothing to hide"))).await.unwrap();
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", server.endpoint()]);
    let answer = command.args(["get", "--prefix", "/registry/"]).output().unwrap().stdout;
    for (place, bytes) in [("answer", answer), ("files", files_of(&server.directory().join("data")))] {
        assert!(holds(&bytes, "nothing to hide") && holds(&bytes, "secrets/default/db"), "{place}");
        assert!(!holds(&bytes, "swordfish") && !holds(&bytes, "password is"), "plaintext in etcd's {place}");
    }

    let both = connect(builder([&server]).transform(with_keys(&["new", "old"]))).await;
    let entry = both.get(&key, None).await.unwrap().entry.unwrap();
    assert_eq!(entry.value.as_str(), "the password is swordfish");
    both.commit(Txn::update(&key, entry.value.clone(), entry.mod_revision)).await.unwrap();
    let new = connect(builder([&server]).transform(with_keys(&["new"]))).await;
    assert_eq!(new.get(&key, None).await.unwrap().entry.unwrap().value.as_str(), entry.value.as_str());

    let error = store.get(&key, None).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Transform { source: TransformError::UnknownKey { id }, .. } if id == "new"),
        "{error}"
    );
    let deleted = store.commit(Txn::new().remove(&key)).await;
    assert!(matches!(&deleted, Err(CommitError::Unknown(reason)) if reason.contains("new")), "{deleted:?}");
    assert!(new.get(&key, None).await.unwrap().entry.is_none());
}
