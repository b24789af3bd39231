//! Clusters whose secrets are sealed at rest.

use std::{path::Path, sync::Arc};

use rkube::{
    Error,
    prelude::*,
    store::{
        Prefix, Transform,
        encrypt::{Encryption, EncryptionKey},
    },
};

const PLAIN: &[u8] = b"correct horse battery staple";
const FOLDER: &str = "/registry/secrets";

/// Keys by the first letter of their names.
fn encryption(names: &[&str]) -> Arc<dyn Transform> {
    let keys = names.iter().map(|name| EncryptionKey::new(*name, [name.as_bytes()[0]; 32]).unwrap());
    Arc::new(Encryption::new([Prefix::new(FOLDER)], keys).unwrap())
}

async fn open(folder: &Path, names: &[&str]) -> Result<Cluster, Error> {
    Cluster::builder().data_dir_with(folder, |store| store.transform(encryption(names))).start().await
}

fn secrets(cluster: &Cluster) -> Api<Secret> {
    Api::namespaced(cluster.client(), "default")
}

fn secret() -> Secret {
    let mut secret = Secret::default();
    secret.metadata.name = Some("s".into());
    secret.data = Some([("key".into(), rkube::k8s_openapi::ByteString(PLAIN.to_vec()))].into());
    secret
}

/// Whether some bytes are in a file, or in any file of a folder.
fn is_in(path: &Path, bytes: &[u8]) -> bool {
    if path.is_dir() {
        return std::fs::read_dir(path).unwrap().any(|entry| is_in(&entry.unwrap().path(), bytes));
    }
    std::fs::read(path).unwrap().windows(bytes.len()).any(|window| window == bytes)
}

/// As it is, or as JSON has it.
fn shows(path: &Path) -> bool {
    let encoded = serde_json::to_string(&rkube::k8s_openapi::ByteString(PLAIN.to_vec())).unwrap();
    is_in(path, PLAIN) || is_in(path, encoded.trim_matches('"').as_bytes()) || is_in(path, b"PRIVATE KEY")
}

#[tokio::test]
async fn no_file_has_a_secret_in_plain_text_and_keys_rotate() {
    let home = tempfile::tempdir().unwrap();
    let (folder, saved) = (home.path().join("data"), home.path().join("saved"));
    let cluster = open(&folder, &["old"]).await.unwrap();
    secrets(&cluster).create(&PostParams::default(), secret()).await.unwrap();
    cluster.save(&saved).await.unwrap();
    cluster.stop().await;
    assert!(
        is_in(&folder, b"kube-system") && is_in(&saved, b"kube-system"),
        "what is not chosen is readable"
    );
    assert!(!shows(&folder) && !shows(&saved));

    let refused = open(&folder, &["other"]).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("old"), "it names the key that is missing: {refused}");

    let cluster = open(&folder, &["new", "old"]).await.unwrap();
    assert!(cluster.reseal([Prefix::new(FOLDER)]).await.unwrap() > 1, "and the cluster's own keys");
    cluster.stop().await;
    let cluster = open(&folder, &["new"]).await.unwrap();
    assert_eq!(secrets(&cluster).get("s").await.unwrap().data, secret().data);
    cluster.stop().await;
    assert!(!shows(&folder));

    let restored = Cluster::builder().restore_with(&saved, |store| store.transform(encryption(&["old"])));
    let restored = restored.start().await.unwrap();
    assert_eq!(secrets(&restored).get("s").await.unwrap().data, secret().data);
    restored.stop().await;
    let blind = Cluster::builder().restore(&saved).start().await;
    assert!(blind.is_err(), "without a key it says so");
}

/// As a check of the check: without encryption all of it is found.
#[tokio::test]
async fn without_encryption_the_same_search_finds_the_secret() {
    let home = tempfile::tempdir().unwrap();
    let cluster = Cluster::builder().data_dir(home.path().join("data")).start().await.unwrap();
    secrets(&cluster).create(&PostParams::default(), secret()).await.unwrap();
    cluster.save(home.path().join("saved")).await.unwrap();
    cluster.stop().await;
    assert!(shows(&home.path().join("data")) && shows(&home.path().join("saved")));
}
