//! Servers that listen: clients of one are clients of all.

use std::net::Ipv4Addr;

use futures::future::join_all;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use rkube::{
    config::Listen,
    k8s_openapi::api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::ServiceAccount,
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
