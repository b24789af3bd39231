//! Namespaces go with all that is in them.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use rkube_api::{
    client::{Api, DeleteParams, Patch, PatchParams, PostParams},
    error::ApiError,
};
use serde_json::json;

use super::support::{World, deployment, until};

#[tokio::test(start_paused = true)]
async fn every_namespace_tells_whom_to_trust() {
    let world = World::publishing("pem").await;
    world.namespace("shop").await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "shop");
    let right = async || {
        let map = maps.get_opt("kube-root-ca.crt").await.unwrap();
        map.is_some_and(|map| map.data.as_ref().is_some_and(|data| data["ca.crt"] == "pem"))
    };
    until("it is published", right).await;
    maps.delete("kube-root-ca.crt", &DeleteParams::default()).await.unwrap();
    until("it is published again", right).await;
    let edit = Patch::Merge(json!({"data": {"ca.crt": "forged"}, "metadata": {"labels": {"a": "b"}}}));
    maps.patch("kube-root-ca.crt", &PatchParams::default(), &edit).await.unwrap();
    until("it is set right", right).await;
    let labels = maps.get("kube-root-ca.crt").await.unwrap().metadata.labels.clone();
    assert_eq!(labels.unwrap()["a"], "b", "what is somebody else's stays");
    world.all::<Namespace>().delete("shop", &DeleteParams::default()).await.unwrap();
    until("it goes with the namespace", async || {
        world.all::<Namespace>().get_opt("shop").await.unwrap().is_none()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn contents_go_first_and_conditions_tell_what_remains() {
    let world = World::new().await;
    world.namespace("shop").await;
    let mut web = deployment("web", 2, "a:1");
    web.metadata.namespace = Some("shop".into());
    world.create(web).await;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), "shop");
    until("pods run", async || world.list::<Pod>().await.len() == 2).await;
    let held = world.list::<Pod>().await[0].metadata.name.clone().unwrap();
    let finalizers = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/keep"]}}));
    pods.patch(&held, &PatchParams::default(), &finalizers).await.unwrap();

    world.all::<Namespace>().delete("shop", &DeleteParams::default()).await.unwrap();
    let told = async || {
        let shop = world.all::<Namespace>().get("shop").await.unwrap();
        let list = shop.status.clone().unwrap_or_default().conditions.unwrap_or_default();
        let find = |kind: &str| list.iter().find(|it| it.type_ == kind).and_then(|it| it.message.clone());
        find("NamespaceFinalizersRemaining").as_deref()
            == Some(
                "Some content in the namespace has finalizers remaining: example.com/keep in 1 resource instances",
            )
            && find("NamespaceContentRemaining").as_deref()
                == Some("Some resources are remaining: pods. has 1 resource instances")
    };
    until("the conditions tell", told).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), "shop");
    assert!(accounts.get_opt("default").await.unwrap().is_some(), "the rest waits for the pods");
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "shop");
    let mut late = ConfigMap::default();
    late.metadata.name = Some("late".into());
    let error = maps.create(&PostParams::default(), late).await.unwrap_err();
    assert!(
        matches!(&error, ApiError::Forbidden { causes, .. } if causes[0].reason == "NamespaceTerminating")
    );

    pods.patch(&held, &PatchParams::default(), &Patch::Merge(json!({"metadata": {"finalizers": null}})))
        .await
        .unwrap();
    until("the namespace is gone", async || {
        world.all::<Namespace>().get_opt("shop").await.unwrap().is_none()
    })
    .await;
    assert!(world.list::<Pod>().await.is_empty());
    let accounts = world.list::<ServiceAccount>().await;
    assert!(accounts.iter().all(|account| account.metadata.namespace.as_deref() != Some("shop")));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_service_account_comes_back() {
    let world = World::new().await;
    world.api::<ServiceAccount>().delete("default", &DeleteParams::default()).await.unwrap();
    until("it is back", async || world.get::<ServiceAccount>("default").await.is_some()).await;
}
