//! The same controllers on a cluster elsewhere, over HTTPS.

use std::{net::Ipv4Addr, sync::Arc};

use rkube::{
    api::{client::Informers, context::Context, remote::Remote, request::Credentials},
    controllers::{
        all::{Deps, manager},
        resources::DiscoveryResources,
        runtime::{Controller, Outcome, ReconcileError, reconcile_fn},
    },
    prelude::*,
};
use tokio_util::sync::CancellationToken;

use crate::workloads::ready;

/// A cluster of which only the server, the scheduler and the nodes run here.
async fn cluster() -> Cluster {
    let listen = Listen::on((Ipv4Addr::LOCALHOST, 0));
    Cluster::builder().nodes(2).retain_controllers(|_| false).listen(listen).start().await.unwrap()
}

/// A cluster's kubeconfig, as any program has it.
async fn remote(kubeconfig: &str) -> Remote {
    let config = kube::config::Kubeconfig::from_yaml(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
    Remote::new(kube::Client::try_from(config).unwrap())
}

/// Keeps a ConfigMap `note` in each namespace that is labelled so.
async fn note(client: Client, key: ObjectKey) -> Result<Outcome, ReconcileError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let maps: Api<ConfigMap> = Api::namespaced(client, &*key.name);
    let Some(namespace) = namespaces.get_opt(&key.name).await? else { return Ok(Outcome::Done) };
    let is_wanted = namespace.metadata.labels.iter().flatten().any(|(key, _)| key == "noted");
    if is_wanted && namespace.metadata.deletion_timestamp.is_none() && maps.get_opt("note").await?.is_none() {
        let mut map = ConfigMap::default();
        map.metadata.name = Some("note".into());
        maps.create(&PostParams::default(), map).await?;
    }
    Ok(Outcome::Done)
}

#[tokio::test]
async fn all_controllers_and_an_own_one_run_on_a_cluster_elsewhere() {
    let cluster = cluster().await;
    let remote = remote(cluster.kubeconfig().unwrap()).await;
    let context = Context::system(1);
    let resources = Arc::new(DiscoveryResources::new(remote.clone()));
    let client = Client::new(Arc::new(remote), Credentials::Anonymous, "elsewhere", context.clone());
    let own = client.clone();
    let own = Controller::builder("notes")
        .for_kind::<Namespace>()
        .build(reconcile_fn(move |key| note(own.clone(), key)));
    let deps = Deps::new(Informers::new(client.clone()), resources);
    let manager = manager(&deps, |descriptor| descriptor.default_on).controller(own);
    let stop = CancellationToken::new();
    let token = stop.clone();
    let running = context.spawner.spawn("manager", async move { manager.run(token).await.unwrap() });

    // What is looked at here is the cluster itself, not what the remote client sees.
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    let mut shop = Namespace::default();
    shop.metadata.name = Some("shop".into());
    shop.metadata.labels = Some([("noted".to_owned(), String::new())].into());
    namespaces.create(&PostParams::default(), shop).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "shop");
    cluster.wait_for(&maps, "note", |map| map.is_some()).await.unwrap();

    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
        Api::namespaced(cluster.client(), "default");
    cluster.wait_for(&accounts, "default", |account| account.is_some()).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(cluster.client(), "default");
    deployments.create(&PostParams::default(), rkube::deployment("web", "nginx", 3)).await.unwrap();
    cluster.wait_for(&deployments, "web", ready(3)).await.unwrap();
    let foreground = DeleteParams::default().propagation("Foreground");
    deployments.delete("web", &foreground).await.unwrap();
    cluster.wait_gone(&deployments, "web").await.unwrap();
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "default");
    assert!(pods.list(&ListParams::default()).await.unwrap().items.is_empty());

    namespaces.delete("shop", &DeleteParams::default()).await.unwrap();
    cluster.wait_gone(&namespaces, "shop").await.unwrap();
    assert!(maps.get_opt("note").await.unwrap().is_none());
    stop.cancel();
    running.join().await;
    cluster.stop().await;
}
