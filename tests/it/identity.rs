//! A cluster's authority and the key of its tokens outlive its servers: what was good before still is.

use std::{net::Ipv4Addr, path::Path, sync::Arc};

use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use rkube::{
    Cluster, Error,
    api::{client::Api, error::ApiError, object::Object, pipeline::Kept},
    config::Listen,
    k8s_openapi::api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::{ConfigMap, Namespace, Node, ServiceAccount},
    },
    net::ipam::{Cidr, ClusterRange, RangeConfig},
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
    let kept = store.list(&Prefix::private(), ListOptions::default()).await.unwrap().entries;
    let names: Vec<_> = kept.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(names, ["/private/service-network"]);
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

#[tokio::test(start_paused = true)]
async fn a_cluster_keeps_the_networks_that_it_was_made_with() {
    let store = Memory::<Object>::builder().build();
    let on = |store: &Memory<Object>| {
        let builder = Cluster::builder().simulated(1).store(Arc::new(store.clone()));
        builder.without_scheduler().retain_controllers(|_| false)
    };
    let of = |text: &str, node_prefix: u8| {
        let ranges = vec![ClusterRange { cidr: text.parse().unwrap(), node_prefix }];
        RangeConfig { ranges, excluded: Vec::new() }
    };
    let first = on(&store).pod_network(of("10.8.0.0/16", 26)).start().await.unwrap();
    first.stop().await;
    // It is told what differs; the same, or nothing, is right.
    let refused = on(&store).pod_network(of("10.9.0.0/16", 26)).start().await.unwrap_err();
    assert!(matches!(refused, Error::OtherPodNetwork { .. }), "{refused}");
    assert!(["10.8.0.0/16", "10.9.0.0/16"].iter().all(|it| refused.to_string().contains(it)), "{refused}");
    on(&store).pod_network(of("10.8.0.0/16", 26)).start().await.unwrap().stop().await;
    let cluster = on(&store).nodes(1).start().await.unwrap();
    let nodes: Api<Node> = Api::all(cluster.client());
    let has_range = |node: Option<&Node>| node.is_some_and(|it| it.spec.as_ref().unwrap().pod_cidr.is_some());
    let node = cluster.wait_for(&nodes, "node-1", has_range).await.unwrap();
    let range: Cidr = node.spec.as_ref().unwrap().pod_cidr.as_deref().unwrap().parse().unwrap();
    assert!(range.overlaps(&"10.8.0.0/16".parse().unwrap()), "{range}");
    cluster.stop().await;
    let refused = on(&store).nodes(1025).start().await.unwrap_err();
    assert!(matches!(refused, Error::NoRoom { room: 1024, nodes: 1025, .. }), "{refused}");

    let kept = Kept::new(Arc::new(store.clone()));
    let other = serde_json::json!({"addresses": "10.7.0.0/16", "firstNodePort": 1, "lastNodePort": 2});
    kept.put("service-network", &other).await.unwrap();
    let refused = on(&store).start().await.unwrap_err();
    assert!(matches!(refused, Error::OtherServiceNetwork { .. }), "{refused}");
    assert!(refused.to_string().contains("10.7.0.0/16 and node ports 1-2"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_of_one_process_grows_with_its_nodes() {
    let cluster = Cluster::builder().simulated(1).nodes(1).start().await.unwrap();
    let larger = cluster.fork().await.unwrap().nodes(300).without_scheduler().retain_controllers(|_| false);
    let larger = larger.start().await.unwrap();
    let nodes: Api<Node> = Api::all(larger.client());
    let has_range = |node: Option<&Node>| node.is_some_and(|it| it.spec.as_ref().unwrap().pod_cidr.is_some());
    for at in 1..=300 {
        larger.wait_for(&nodes, &format!("node-{at}"), has_range).await.unwrap();
    }
    futures::future::join_all([cluster, larger].map(Cluster::stop)).await;
}
