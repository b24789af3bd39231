//! Servers that listen: clients of one are clients of all.

use std::net::{Ipv4Addr, SocketAddr};

use futures::future::join_all;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use rkube::{
    config::Listen,
    k8s_openapi::api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::ServiceAccount,
        discovery::v1::EndpointSlice,
    },
    prelude::*,
    store::{backend::etcd::Etcd, testing::etcd::Server},
};

/// A server that only serves.
fn serving(etcd: &Server) -> rkube::Builder {
    let builder = Cluster::builder().etcd(Etcd::builder([etcd.endpoint()]));
    builder.without_scheduler().retain_controllers(|_| false)
}

/// A client that knows one server and asks another one.
async fn client(of: &Cluster, token: Option<&str>, asks: &Cluster) -> kube::Client {
    let mut config = Kubeconfig::from_yaml(of.kubeconfig().unwrap()).unwrap();
    config.clusters[0].cluster.as_mut().unwrap().server =
        Some(format!("https://{}", asks.address().unwrap()));
    if let Some(token) = token {
        let auth = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
        config.auth_infos[0].auth_info = Some(auth);
    }
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    kube::Client::try_from(config).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_one_server_are_known_to_all() {
    let etcd = Server::start().unwrap();
    // At once: one of them makes the authority, the other one takes it.
    let servers =
        join_all([(); 2].map(|()| serving(&etcd).listen(Listen::on((Ipv4Addr::LOCALHOST, 0))).start()));
    let servers: Vec<_> = servers.await.into_iter().map(Result::unwrap).collect();
    for (of, asks) in [(0, 1), (1, 0)].map(|(of, asks)| (&servers[of], &servers[asks])) {
        let admin = client(of, None, asks).await;
        let accounts: kube::Api<ServiceAccount> = kube::Api::namespaced(admin, "default");
        let spec = TokenRequestSpec { audiences: Some(Vec::new()), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let made = accounts.create_token_request("default", &Default::default(), &request).await.unwrap();
        let token = made.status.unwrap().token.unwrap();
        // An account may not list them; one that is not known would be answered with 401.
        let account = client(asks, Some(&token), of).await;
        let refused = kube::Api::<ConfigMap>::all(account).list(&Default::default()).await;
        assert!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 403), "{refused:?}");
    }
    join_all(servers.into_iter().map(Cluster::stop)).await;
}

/// Where the service `kubernetes` leads to: a line a slice.
async fn leads_to(cluster: &Cluster) -> Vec<String> {
    let slices: Api<EndpointSlice> = Api::namespaced(cluster.client(), "default");
    let slices = slices.list(&ListParams::default()).await.unwrap().items;
    let slices = slices.iter().map(|slice| {
        let addresses = slice.endpoints.iter().flatten().flat_map(|it| it.addresses.clone());
        let port = slice.ports.as_ref().unwrap()[0].port.unwrap();
        format!("{port} {}", addresses.collect::<Vec<_>>().join(" "))
    });
    slices.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_leads_to_every_server_until_it_stops() {
    let etcd = Server::start().unwrap();
    let start = async |address: SocketAddr, advertised: u8| {
        let listen = Listen::on(address).advertise(Ipv4Addr::new(192, 0, 2, advertised));
        serving(&etcd).listen(listen).start().await.unwrap()
    };
    let one = start((Ipv4Addr::LOCALHOST, 0).into(), 1).await;
    let port = one.address().unwrap().port();
    assert_eq!(leads_to(&one).await, [format!("{port} 192.0.2.1")]);
    // The same port of another address of this machine.
    let two = start((Ipv4Addr::new(127, 0, 0, 2), port).into(), 2).await;
    for server in [&one, &two] {
        assert_eq!(leads_to(server).await, [format!("{port} 192.0.2.1 192.0.2.2")]);
    }
    let services: Api<Service> = Api::namespaced(two.client(), "default");
    let before = services.get("kubernetes").await.unwrap();
    one.stop().await;
    assert_eq!(leads_to(&two).await, [format!("{port} 192.0.2.2")]);
    assert_eq!(services.get("kubernetes").await.unwrap(), before, "its port is that of the other one, too");
    two.stop().await;
}
