//! kube-rs, unmodified, on a client without a socket; and our own client through it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    runtime::{Controller, controller::Action, reflector, watcher},
};
use rkube_api::{
    client,
    context::Context,
    http::kube_client,
    object::Object,
    remote::Remote,
    request::{ApiResponse, Credentials, Options, Target, Transport, UserInfo, Verb},
};
use serde_json::json;

use crate::{
    http_support::Wire,
    support::{config_map, pod},
};

fn maps(wire: &Wire) -> Api<ConfigMap> {
    Api::namespaced(kube_client(&wire.service, UserInfo::admin("kube")), "default")
}

#[tokio::test(start_paused = true)]
async fn kube_rs_reads_and_writes() {
    let wire = Wire::new().await;
    let maps = maps(&wire);
    let made = maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    assert_eq!(maps.get("a").await.unwrap(), made);
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 1);
    assert!(maps.get_opt("b").await.unwrap().is_none());
    let patch = Patch::Merge(json!({"data": {"k": "v"}}));
    let patched = maps.patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(patched.data.unwrap()["k"], "v");
    match maps.create(&PostParams::default(), &config_map("a")).await.unwrap_err() {
        kube::Error::Api(status) => assert_eq!((status.code, status.reason.as_str()), (409, "AlreadyExists")),
        other => panic!("{other}"),
    }
    assert!(maps.get_metadata("a").await.unwrap().metadata.uid.is_some());
    assert_eq!(maps.list_metadata(&ListParams::default()).await.unwrap().items.len(), 1);
    assert!(maps.delete("a", &DeleteParams::default()).await.unwrap().is_right());

    let watch =
        maps.watch(&WatchParams::default().timeout(1), &made.resource_version().unwrap()).await.unwrap();
    let events: Vec<WatchEvent<ConfigMap>> = watch.try_collect().await.unwrap();
    assert!(matches!(events.as_slice(), [WatchEvent::Modified(_), WatchEvent::Deleted(_)]), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn kube_rs_reflects() {
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let wire = Wire::new().await;
        let maps = maps(&wire);
        maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
        let (reader, writer) = reflector::store();
        let mut events = reflector::reflector(writer, watcher(maps.clone(), config)).boxed();
        while !matches!(events.try_next().await.unwrap(), Some(watcher::Event::InitDone)) {}
        assert_eq!(reader.len(), 1);
        maps.create(&PostParams::default(), &config_map("b")).await.unwrap();
        events.try_next().await.unwrap();
        assert_eq!(reader.len(), 2);
        maps.delete("a", &DeleteParams::default()).await.unwrap();
        events.try_next().await.unwrap();
        assert_eq!(reader.state()[0].name_any(), "b");
    }
}

#[tokio::test(start_paused = true)]
async fn kube_rs_controls() {
    #[derive(Debug, thiserror::Error)]
    #[error(transparent)]
    struct Failed(#[from] kube::Error);
    let wire = Wire::new().await;
    let maps = maps(&wire);
    maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    let reconcile = |map: Arc<ConfigMap>, maps: Arc<Api<ConfigMap>>| async move {
        let patch = json!({"metadata": {"labels": {"seen": "yes"}}});
        maps.patch(&map.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok::<_, Failed>(Action::await_change())
    };
    let controller = Controller::new(maps.clone(), watcher::Config::default()).run(
        reconcile,
        |_, _, _| Action::requeue(Duration::from_secs(1)),
        Arc::new(maps.clone()),
    );
    let mut reconciled = Box::pin(controller);
    for name in ["b", "c"] {
        maps.create(&PostParams::default(), &config_map(name)).await.unwrap();
    }
    let selected = ListParams::default().labels("seen=yes");
    while maps.list(&selected).await.unwrap().items.len() < 3 {
        reconciled.next().await.unwrap().unwrap();
    }
}

/// Our own client, through HTTP.
fn remote(wire: &Wire) -> client::Client {
    let kube = kube_client(&wire.service, UserInfo::admin("remote"));
    client::Client::new(
        Arc::new(Remote::new(kube)),
        Credentials::Anonymous,
        "remote/1.0",
        Context::simulated(3),
    )
}

#[tokio::test(start_paused = true)]
async fn the_client_sees_the_same_from_afar_as_in_process() {
    let wire = Wire::new().await;
    let near: client::Api<ConfigMap> = wire.world.api();
    let far: client::Api<ConfigMap> = client::Api::namespaced(remote(&wire), "default");
    let made = far.create(&client::PostParams::default(), config_map("a")).await.unwrap();
    assert_eq!(near.get("a").await.unwrap().metadata.uid, made.metadata.uid);
    let (one, other) = (near.get("missing").await.unwrap_err(), far.get("missing").await.unwrap_err());
    assert_eq!(one, other);
    let (one, other) = (
        near.create(&client::PostParams::default(), config_map("a")).await.unwrap_err(),
        far.create(&client::PostParams::default(), config_map("a")).await.unwrap_err(),
    );
    assert_eq!(one, other);
    let bad = || config_map("Not A Name");
    assert_eq!(
        near.create(&client::PostParams::default(), bad()).await.unwrap_err(),
        far.create(&client::PostParams::default(), bad()).await.unwrap_err()
    );
    let (one, other) = (
        near.list(&client::ListParams::default()).await.unwrap(),
        far.list(&client::ListParams::default()).await.unwrap(),
    );
    assert_eq!(one.resource_version, other.resource_version);
    assert_eq!(one.items.len(), other.items.len());

    let mut map = (*far.get("a").await.unwrap()).clone();
    map.data = Some(BTreeMap::from([("k".into(), "v".into())]));
    far.update(&client::PostParams::default(), map.clone()).await.unwrap();
    assert_eq!(far.update(&client::PostParams::default(), map).await.unwrap_err().code(), 409);
    assert_eq!(far.delete("a", &client::DeleteParams::default()).await.unwrap(), None);

    let mut watch = far
        .watch(&client::WatchParams::after(made.metadata.resource_version.clone().unwrap()))
        .await
        .unwrap();
    assert!(matches!(watch.next().await, Some(Ok(client::KindWatchEvent::Modified(_)))));
    assert!(matches!(watch.next().await, Some(Ok(client::KindWatchEvent::Deleted(_)))));
}

#[tokio::test(start_paused = true)]
async fn a_remote_answer_has_the_type_of_its_kind() {
    let wire = Wire::new().await;
    let near: client::Api<Pod> = wire.world.api();
    near.create(&client::PostParams::default(), pod("p")).await.unwrap();
    let target = Target {
        version: "v1".into(),
        resource: "pods".into(),
        namespace: Some("default".into()),
        ..Target::default()
    };
    let kube = kube_client(&wire.service, UserInfo::admin("remote"));
    let request = rkube_api::request::ApiRequest {
        credentials: Credentials::Anonymous,
        verb: Verb::List,
        target,
        options: Options::default(),
        body: rkube_api::request::Body::Empty,
        user_agent: "remote".into(),
    };
    let ApiResponse::List(list) = Remote::new(kube).send(request).await.unwrap() else { panic!("no list") };
    assert!(list.items.iter().all(|item: &Object| item.as_kind::<Pod>().is_some()));
}
