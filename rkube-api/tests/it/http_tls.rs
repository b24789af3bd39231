//! Certificates and sockets: the whole way from a kubeconfig to the server, and its end in order.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Config,
    api::{ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig as KubeKubeconfig},
};
use rkube_api::{
    client,
    context::Context,
    http::{Authority, Bounds, HttpServer, Kubeconfig},
    remote::Remote,
    request::Credentials,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use crate::{
    http_support::{MAPS, Wire},
    support::config_map,
};

struct Cluster {
    authority: Authority,
    address: std::net::SocketAddr,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
}

impl Cluster {
    #[expect(clippy::disallowed_methods, reason = "a test waits for the server's own end")]
    async fn new(wire: &Wire, tls: bool) -> Self {
        let context = Context::system(1);
        let authority = Authority::new(&context.clock).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bounds = Bounds { drain: Duration::from_millis(500), ..Bounds::default() };
        let mut server = HttpServer::new(wire.service.clone(), context.spawner.child()).bounds(bounds);
        if tls {
            server = server.tls(authority.server_config(&authority.server(&[]).unwrap()).unwrap());
        }
        let stop = CancellationToken::new();
        let ended = tokio::spawn({
            let stop = stop.clone();
            async move { server.serve(listener, stop).await }
        });
        Self { authority, address, stop, ended }
    }

    fn kubeconfig(&self, user: &str, groups: &[&str]) -> Kubeconfig {
        Kubeconfig {
            cluster: "rkube".into(),
            user: user.into(),
            server: format!("https://{}", self.address),
            authority: self.authority.certificate().into(),
            identity: self.authority.client(user, groups).unwrap(),
        }
    }

    async fn client(&self, user: &str, groups: &[&str]) -> Client {
        client_of(&self.kubeconfig(user, groups)).await
    }
}

async fn client_of(kubeconfig: &Kubeconfig) -> Client {
    let parsed = KubeKubeconfig::from_yaml(&kubeconfig.to_yaml()).unwrap();
    let config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> u16 {
    match result.unwrap_err() {
        kube::Error::Api(status) => status.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_certificate_is_who_asks() {
    let wire = Wire::new().await;
    let cluster = Cluster::new(&wire, true).await;
    let admin: Api<ConfigMap> =
        Api::namespaced(cluster.client("admin", &["system:masters"]).await, "default");
    admin.create(&PostParams::default(), &config_map("a")).await.unwrap();
    assert_eq!(admin.list(&ListParams::default()).await.unwrap().items.len(), 1);

    let jane: Api<ConfigMap> = Api::namespaced(cluster.client("jane", &["dev"]).await, "default");
    assert_eq!(code(jane.get("a").await), 403);

    // Of another authority's certificates nobody is somebody here.
    let other = Authority::new(&Context::system(1).clock).unwrap();
    let mut forged = cluster.kubeconfig("admin", &["system:masters"]);
    forged.identity = other.client("admin", &["system:masters"]).unwrap();
    let forged: Api<ConfigMap> = Api::namespaced(client_of(&forged).await, "default");
    assert_eq!(code(forged.get("a").await), 401);
    // And nobody is taken for the server who is not.
    let mut elsewhere = cluster.kubeconfig("admin", &["system:masters"]);
    elsewhere.authority = other.certificate().into();
    let elsewhere: Api<ConfigMap> = Api::namespaced(client_of(&elsewhere).await, "default");
    assert!(elsewhere.get("a").await.is_err());
}

#[tokio::test]
async fn a_remote_client_works_over_tls() {
    let wire = Wire::new().await;
    let cluster = Cluster::new(&wire, true).await;
    let remote = Remote::new(cluster.client("admin", &["system:masters"]).await);
    let client = client::Client::new(Arc::new(remote), Credentials::Anonymous, "remote", Context::system(1));
    let maps: client::Api<ConfigMap> = client::Api::namespaced(client, "default");
    let made = maps.create(&client::PostParams::default(), config_map("a")).await.unwrap();
    assert_eq!(maps.get("a").await.unwrap(), made);
    let mut watch = maps.watch(&client::WatchParams::default()).await.unwrap();
    use futures::StreamExt;
    assert!(matches!(watch.next().await, Some(Ok(client::KindWatchEvent::Added(_)))));
    // The server ends, and so does the watch; the next request says that nobody is there.
    cluster.stop.cancel();
    assert!(watch.next().await.is_none());
    cluster.ended.await.unwrap();
    assert_eq!(maps.get("a").await.unwrap_err().code(), 503);
}

#[tokio::test]
async fn the_server_ends_in_order_though_a_client_hangs_on() {
    let wire = Wire::new().await;
    let cluster = Cluster::new(&wire, false).await;
    let mut idle = TcpStream::connect(cluster.address).await.unwrap();
    let mut busy = TcpStream::connect(cluster.address).await.unwrap();
    let request = format!("GET {MAPS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer admin\r\n\r\n");
    busy.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 15];
    busy.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    // Half a request, which never ends.
    idle.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n").await.unwrap();
    cluster.stop.cancel();
    cluster.ended.await.unwrap();
    assert!(TcpStream::connect(cluster.address).await.is_err());
    let mut rest = Vec::new();
    busy.read_to_end(&mut rest).await.unwrap();
}
