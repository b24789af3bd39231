//! kube-rs, unmodified, on a cluster without a socket.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, ResourceExt,
    api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{
        controller::{Action, Controller},
        reflector, watcher,
    },
};
use rkube::{
    Cluster,
    k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret},
};

async fn mirror(map: Arc<ConfigMap>, client: Arc<kube::Client>) -> Result<Action, kube::Error> {
    let secrets: Api<Secret> = Api::namespaced((*client).clone(), "default");
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(map.name_any()),
            owner_references: map.metadata.uid.as_ref().map(|uid| {
                vec![rkube::k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
                    api_version: "v1".into(),
                    kind: "ConfigMap".into(),
                    name: map.name_any(),
                    uid: uid.clone(),
                    controller: Some(true),
                    ..Default::default()
                }]
            }),
            ..ObjectMeta::default()
        },
        string_data: map.data.clone(),
        ..Secret::default()
    };
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let patch = serde_json::json!({"stringData": map.data});
            secrets.patch(&map.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        Err(error) => return Err(error),
    }
    Ok(Action::await_change())
}

#[tokio::test]
async fn a_controller_of_kube_rs_runs_unchanged() {
    let cluster = Cluster::builder().start().await.unwrap();
    let client = cluster.kube_client();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    let controller = Controller::new(maps.clone(), watcher::Config::default().labels("mirror=yes"))
        .owns(secrets.clone(), watcher::Config::default())
        .run(mirror, |_, _, _| Action::requeue(Duration::from_secs(1)), Arc::new(client.clone()))
        .for_each(|_| std::future::ready(()));
    let running = cluster.context().spawner.spawn("kube-rs", controller);

    let mut map = ConfigMap { data: Some([("a".into(), "1".into())].into()), ..ConfigMap::default() };
    map.metadata.name = Some("m".into());
    map.metadata.labels = Some([("mirror".into(), "yes".into())].into());
    maps.create(&PostParams::default(), &map).await.unwrap();
    let says = |text: &'static str| {
        move |secret: Option<&Secret>| {
            secret.and_then(|secret| secret.data.as_ref()).is_some_and(|data| data["a"].0 == text.as_bytes())
        }
    };
    let wait = |text| kube::runtime::wait::await_condition(secrets.clone(), "m", says(text));
    wait("1").await.unwrap();
    let patch = serde_json::json!({"data": {"a": "2"}});
    maps.patch("m", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    wait("2").await.unwrap();
    // What is deleted comes back: the controller watches what it owns.
    secrets.delete("m", &Default::default()).await.unwrap();
    wait("2").await.unwrap();
    running.abort();
    cluster.stop().await;
}

#[tokio::test]
async fn a_reflector_follows_and_an_error_is_a_status() {
    let cluster = Cluster::builder().nodes(1).start().await.unwrap();
    let pods: Api<Pod> = Api::namespaced(cluster.kube_client(), "default");
    let (reader, writer) = reflector::store();
    let stream = watcher(pods.clone(), watcher::Config::default().streaming_lists());
    let mut changes = std::pin::pin!(reflector(writer, stream));
    pods.create(&PostParams::default(), &rkube::pod("web", "nginx")).await.unwrap();
    // The reader shows what it was told at first only when all of that has come.
    while changes.try_next().await.unwrap().is_some() {
        if reader.state().iter().any(|pod| rkube::is_ready(pod)) {
            break;
        }
    }
    assert_eq!(reader.state().len(), 1);
    let Err(kube::Error::Api(status)) = pods.get("nope").await else { panic!("there is no such pod") };
    assert_eq!((status.code, status.reason.as_str()), (404, "NotFound"));
    assert_eq!(pods.list(&ListParams::default().fields("metadata.name=web")).await.unwrap().items.len(), 1);
    cluster.stop().await;
}
