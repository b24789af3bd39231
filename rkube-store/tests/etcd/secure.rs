//! TLS and authentication to etcd.

use std::process::Command;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rkube_store::backend::etcd::{Builder, Etcd, EtcdError};
use rkube_store::testing::Text;
use rkube_store::testing::etcd::Server;
use rkube_store::{Key, Revision, Store, StoreError, Txn};
use tokio::time::Instant;

use crate::place::{builder, connect};

struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate and its key.
    fn issue(&self, common_name: &str) -> (String, String) {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A member that only speaks TLS, with clients that have a certificate of the authority.
fn secure_server(authority: &Authority) -> (Server, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = authority.issue("etcd");
    let mut arguments = vec!["--client-cert-auth".to_owned()];
    for (name, text) in
        [("--cert-file", &certificate), ("--key-file", &key), ("--trusted-ca-file", &authority.certificate)]
    {
        let path = directory.path().join(&name[2..]);
        std::fs::write(&path, text).unwrap();
        arguments.extend([name.to_owned(), path.display().to_string()]);
    }
    (Server::start_with(&arguments).unwrap(), directory)
}

async fn writes_and_reads(builder: Builder<Text>) {
    let store = connect(builder).await;
    let revision = store.commit(Txn::create("a/1", Text::new("one"))).await.unwrap().revision;
    let read = store.get(&Key::new("a/1"), None).await.unwrap();
    assert_eq!(read.entry.unwrap().mod_revision, revision);
}

fn impatient(builder: Builder<Text>) -> Builder<Text> {
    let second = Duration::from_secs(1);
    builder.timeouts(second, second)
}

fn is_unavailable(connected: &Result<Etcd<Text>, EtcdError>) -> bool {
    matches!(connected, Err(EtcdError::Store(StoreError::Unavailable(_))))
}

#[tokio::test]
async fn both_ends_show_certificates() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (server, _certificates) = secure_server(&authority);
    let (certificate, key) = authority.issue("rkube");
    let trusting = || builder([&server]).tls(&*authority.certificate);
    writes_and_reads(trusting().certificate(&*certificate, &*key)).await;

    let without = impatient(trusting()).connect().await;
    assert!(is_unavailable(&without), "a client without a certificate");
    let (foreign, foreign_key) = stranger.issue("rkube");
    let foreign = impatient(trusting().certificate(foreign, foreign_key)).connect().await;
    assert!(is_unavailable(&foreign), "a client with a certificate of somebody else");
    let distrusting = builder([&server]).tls(&*stranger.certificate).certificate(&*certificate, &*key);
    assert!(is_unavailable(&impatient(distrusting).connect().await), "a server that nobody vouches for");
    assert!(is_unavailable(&impatient(builder([&server])).connect().await), "a client that trusts nobody");
}

fn etcdctl(server: &Server, arguments: &[&str]) {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", server.endpoint()]).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whether etcd itself has forgotten a revision.
fn is_compacted(server: &Server, user: &str, revision: Revision) -> bool {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", server.endpoint(), "--user", user]);
    let output = command.args(["get", "/mine/a/1", &format!("--rev={revision}")]).output().unwrap();
    String::from_utf8_lossy(&output.stderr).contains("has been compacted")
}

#[tokio::test]
async fn a_user_with_a_password_does_what_its_roles_allow() {
    // Tokens are forgotten after a second: the store gets new ones as it goes.
    let server = Server::start_with(&["--auth-token-ttl".to_owned(), "1".to_owned()]).unwrap();
    writes_and_reads(builder([&server]).prefix("before/")).await;
    for arguments in [
        &["user", "add", "root:secret"][..],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "rkube"],
        &["role", "grant-permission", "rkube", "read", "", "--prefix"],
        &["role", "grant-permission", "rkube", "readwrite", "/mine/", "--prefix"],
        &["role", "grant-permission", "rkube", "readwrite", "compact_rev_key"],
        &["user", "add", "rkube:password"],
        &["user", "grant-role", "rkube", "rkube"],
        &["auth", "enable"],
    ] {
        etcdctl(&server, arguments);
    }
    let as_rkube = |password: &str| builder([&server]).user("rkube", password);
    let store = connect(as_rkube("password").prefix("/mine/")).await;
    let mut last = Revision::ZERO;
    for at in 0..6 {
        let committed = store.commit(Txn::new().put("a/1", Text::new(format!("{at}")))).await.unwrap();
        let read = store.get(&Key::new("a/1"), None).await.unwrap();
        assert!(committed.revision > last && read.revision >= committed.revision);
        last = committed.revision;
        // Longer than a token lives, in all.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // Compaction and leases, too, and compaction by time, which writes a key that is not below the prefix.
    let lease = store.grant(Duration::from_secs(60)).await.unwrap().id;
    store.commit(Txn::new().put("a/2", Text::new("leased")).lease(lease)).await.unwrap();
    store.revoke(lease).await.unwrap();
    store.compact(last).await.unwrap();
    let by_time = as_rkube("password").prefix("/mine/").compact_after(Duration::from_millis(200));
    let _by_time = connect(by_time).await;
    let limit = Instant::now() + Duration::from_secs(30);
    // The first turn only looks; the second one compacts what was there at the first.
    while !is_compacted(&server, "rkube:password", last) {
        assert!(Instant::now() < limit, "it is never compacted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let elsewhere = connect(as_rkube("password").prefix("/other/")).await;
    let refused = elsewhere.commit(Txn::create("a/1", Text::new("x"))).await;
    assert!(format!("{refused:?}").contains("permission denied"), "{refused:?}");
    assert!(is_unavailable(&impatient(as_rkube("wrong")).connect().await), "a wrong password");
    assert!(is_unavailable(&impatient(builder([&server])).connect().await), "no user");
}
