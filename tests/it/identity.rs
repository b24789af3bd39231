//! A cluster's authority and the key of its tokens outlive its servers: what was good before still is.

use std::{net::Ipv4Addr, path::Path, sync::Arc};

use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use rkube::{
    Cluster,
    api::{error::ApiError, object::Object, pipeline::Kept},
    config::Listen,
    k8s_openapi::api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::{ConfigMap, Namespace, ServiceAccount},
    },
    store::{
        ListOptions, Memory, Prefix, Store,
        testing::faults::{Fault, Faulty},
    },
};

fn listening() -> rkube::Builder {
    let any_port = Listen::on((Ipv4Addr::LOCALHOST, 0));
    Cluster::builder().without_scheduler().retain_controllers(|_| false).listen(any_port)
}

/// A client with this kubeconfig, as an old one of the cluster: only the port is what it is now.
async fn client(kubeconfig: &str, token: Option<String>, cluster: &Cluster) -> kube::Client {
    let mut config = Kubeconfig::from_yaml(kubeconfig).unwrap();
    for named in &mut config.clusters {
        named.cluster.as_mut().unwrap().server = Some(format!("https://{}", cluster.address().unwrap()));
    }
    if let Some(token) = token {
        let auth = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
        config.auth_infos[0].auth_info = Some(auth);
    }
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    kube::Client::try_from(config).unwrap()
}

/// A token of the namespace's service account.
async fn token(cluster: &Cluster) -> String {
    let accounts: kube::Api<ServiceAccount> = kube::Api::namespaced(cluster.kube_client(), "default");
    let spec = TokenRequestSpec { audiences: Some(Vec::new()), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let made = accounts.create_token_request("default", &Default::default(), &request).await.unwrap();
    made.status.unwrap().token.unwrap()
}

/// Whether a kubeconfig of an administrator and a token of an account are good at this cluster.
async fn accepts(cluster: &Cluster, kubeconfig: &str, token: &str) {
    let admin: kube::Api<Namespace> = kube::Api::all(client(kubeconfig, None, cluster).await);
    admin.list(&Default::default()).await.unwrap();
    // An account may do nothing there, but is known; a stranger would be answered with 401.
    let account = client(kubeconfig, Some(token.to_owned()), cluster).await;
    let maps: kube::Api<ConfigMap> = kube::Api::namespaced(account, "kube-system");
    match maps.list(&Default::default()).await {
        Err(kube::Error::Api(status)) => {
            assert_eq!(status.code, 403);
            assert!(status.message.contains("system:serviceaccount:default:default"), "{}", status.message);
        }
        other => panic!("{other:?}"),
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_good_before_a_restart_is_good_after_it() {
    let place = folder();
    let start = |path: &Path| listening().data_dir(path).start();
    let cluster = start(place.path()).await.unwrap();
    let (kubeconfig, token) = (cluster.kubeconfig().unwrap().to_owned(), token(&cluster).await);
    accepts(&cluster, &kubeconfig, &token).await;
    cluster.stop().await;
    let cluster = start(place.path()).await.unwrap();
    accepts(&cluster, &kubeconfig, &token).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_cluster_knows_its_clients() {
    let cluster = listening().start().await.unwrap();
    let (kubeconfig, token) = (cluster.kubeconfig().unwrap().to_owned(), token(&cluster).await);
    let fork = cluster.fork().await.unwrap().listen(Listen::on((Ipv4Addr::LOCALHOST, 0))).start().await;
    let (place, fork) = (folder(), fork.unwrap());
    accepts(&fork, &kubeconfig, &token).await;
    cluster.save(place.path().join("saved")).await.unwrap();
    let restored = listening().restore(place.path().join("saved")).start().await.unwrap();
    accepts(&restored, &kubeconfig, &token).await;
    futures::future::join_all([cluster, fork, restored].map(Cluster::stop)).await;
}

#[tokio::test]
async fn a_cluster_without_a_socket_makes_no_authority() {
    let store = Memory::<Object>::builder().build();
    let cluster = Cluster::builder().store(Arc::new(store.clone())).start().await.unwrap();
    assert_eq!(store.list(&Prefix::private(), ListOptions::default()).await.unwrap().entries, []);
    cluster.stop().await;
}

#[tokio::test]
async fn what_was_kept_without_an_answer_holds() {
    let (store, make) = (Memory::<Object>::builder().build(), |n: u8| move || Ok::<_, ApiError>(n));
    let faulty = Arc::new(Faulty::new(Arc::new(store)));
    let kept = Kept::new(faulty.clone());
    faulty.plan([Fault::LoseRequest]);
    let unknown = kept.get_or_make("n", make(1)).await;
    assert!(matches!(unknown, Err(ApiError::Timeout { .. })), "{unknown:?}");
    faulty.plan([Fault::Refuse]);
    let refused = kept.get_or_make("n", make(2)).await;
    assert!(matches!(refused, Err(ApiError::Unavailable { .. })), "{refused:?}");
    faulty.plan([Fault::LoseAnswer]);
    assert_eq!(kept.get_or_make("n", make(3)).await.unwrap(), 3);
    // It is read even if it cannot be written again.
    faulty.plan([Fault::Refuse]);
    assert_eq!(kept.get_or_make("n", make(4)).await.unwrap(), 3);
}
