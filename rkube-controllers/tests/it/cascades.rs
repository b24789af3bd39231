//! The three ways to delete an owner, and what an owner reference may not do.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
};

use async_trait::async_trait;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        authorization::v1::SubjectRulesReviewStatus,
        core::v1::{ConfigMap, Pod},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use rkube_api::{
    client::{Api, Client, DeleteParams, Patch, PatchParams},
    pipeline::{Action, Attributes, Authorizer, FixedTable},
    request::{UserInfo, Verb},
};
use serde_json::json;

use super::support::{World, deployment, until};

async fn web() -> World {
    let world = World::new().await;
    world.create(deployment("web", 2, "a:1")).await;
    world.rolled_out("web").await;
    world
}

fn map(name: &str, namespace: &str, owners: &[&ConfigMap]) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.into());
    map.metadata.namespace = Some(namespace.into());
    let reference = |owner: &&ConfigMap| OwnerReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: owner.metadata.name.clone().unwrap(),
        uid: owner.metadata.uid.clone().unwrap(),
        block_owner_deletion: Some(true),
        controller: None,
    };
    map.metadata.owner_references = Some(owners.iter().map(reference).collect());
    map
}

#[tokio::test(start_paused = true)]
async fn background() {
    let world = web().await;
    world
        .api::<Deployment>()
        .delete("web", &DeleteParams::default().propagation("Background"))
        .await
        .unwrap();
    assert!(world.get::<Deployment>("web").await.is_none(), "the owner goes at once");
    until("all is gone", async || {
        world.list::<ReplicaSet>().await.is_empty() && world.list::<Pod>().await.is_empty()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn foreground() {
    let world = web().await;
    // Something that keeps one pod.
    let pod = world.list::<Pod>().await[0].metadata.name.clone().unwrap();
    world.patch::<Pod>(&pod, json!({"metadata": {"finalizers": ["example.com/keep"]}})).await;
    world
        .api::<Deployment>()
        .delete("web", &DeleteParams::default().propagation("Foreground"))
        .await
        .unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(world.list::<Pod>().await.len(), 1);
    assert_eq!(world.list::<ReplicaSet>().await.len(), 1, "the set waits for the pod");
    let owner = world.get::<Deployment>("web").await.unwrap();
    assert_eq!(owner.metadata.finalizers.as_deref(), Some(&["foregroundDeletion".to_owned()][..]));
    world
        .patch::<Pod>(
            &pod,
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/keep"]}}),
        )
        .await;
    until("all is gone", async || world.get::<Deployment>("web").await.is_none()).await;
    assert!(world.list::<ReplicaSet>().await.is_empty() && world.list::<Pod>().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn orphan() {
    let world = web().await;
    world.api::<Deployment>().delete("web", &DeleteParams::default().propagation("Orphan")).await.unwrap();
    until("the owner is gone", async || world.get::<Deployment>("web").await.is_none()).await;
    let [set] = &world.list::<ReplicaSet>().await[..] else { panic!() };
    assert_eq!(set.metadata.owner_references, None);
    assert_eq!(world.list::<Pod>().await.len(), 2);
    // A deployment of the same selector takes it over.
    let uid = set.metadata.uid.clone();
    world.create(deployment("web", 2, "a:1")).await;
    world.rolled_out("web").await;
    let [set] = &world.list::<ReplicaSet>().await[..] else { panic!() };
    assert_eq!(set.metadata.uid, uid);
    assert!(set.metadata.owner_references.is_some());
}

#[tokio::test(start_paused = true)]
async fn one_live_owner_is_enough_and_a_cycle_goes() {
    let world = World::new().await;
    let (a, b) = (world.create(map("a", "default", &[])).await, world.create(map("b", "default", &[])).await);
    world.create(map("shared", "default", &[&a, &b])).await;
    world.api::<ConfigMap>().delete("a", &DeleteParams::default()).await.unwrap();
    until("the gone owner is taken out", async || {
        let shared = world.get::<ConfigMap>("shared").await.unwrap();
        shared.metadata.owner_references.as_ref().is_some_and(|owners| owners.len() == 1)
    })
    .await;

    let second = world.create(map("second", "default", &[&b])).await;
    let owners = json!({"metadata": {"ownerReferences": map("", "", &[&second]).metadata.owner_references}});
    world.patch::<ConfigMap>("b", owners).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(world.get::<ConfigMap>("b").await.is_some(), "an untouched cycle stays");
    world.api::<ConfigMap>().delete("b", &DeleteParams::default().propagation("Foreground")).await.unwrap();
    until("the cycle and what hangs on it are gone", async || world.list::<ConfigMap>().await.is_empty())
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_in_another_namespace_never_holds() {
    let world = World::new().await;
    world.namespace("other").await;
    let owner = world.create(map("owner", "other", &[])).await;
    world.create(map("stray", "default", &[&owner])).await;
    until("it is gone", async || world.get::<ConfigMap>("stray").await.is_none()).await;
    until("it is told", async || !world.events("OwnerRefInvalidNamespace").await.is_empty()).await;
    let owners: Api<ConfigMap> = Api::namespaced(world.client.clone(), "other");
    assert!(owners.get_opt("owner").await.unwrap().is_some());
}

/// Takes the owners out of the object `child` when somebody is about to delete it.
#[derive(Default)]
struct Rescuer {
    client: OnceLock<Client>,
    came: AtomicBool,
}

#[async_trait]
impl Authorizer for Rescuer {
    async fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if let (Action::Resource { verb: Verb::Delete, target }, Some(client)) =
            (attributes.action, self.client.get())
            && target.name.as_deref() == Some("child")
            && !self.came.swap(true, SeqCst)
        {
            let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
            let free = Patch::Merge(json!({"metadata": {"ownerReferences": null}}));
            maps.patch("child", &PatchParams::default(), &free).await.unwrap();
        }
        FixedTable.allows(attributes).await
    }

    async fn rules(&self, user: &UserInfo, namespace: &str) -> SubjectRulesReviewStatus {
        FixedTable.rules(user, namespace).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_set_free_at_the_last_moment_stays() {
    let rescuer = Arc::new(Rescuer::default());
    let world = World::interrupted_by(rescuer.clone()).await;
    rescuer.client.set(world.client.clone()).unwrap();
    let owner = world.create(map("owner", "default", &[])).await;
    world.create(map("child", "default", &[&owner])).await;
    world.api::<ConfigMap>().delete("owner", &DeleteParams::default()).await.unwrap();
    until("the collector has come for it", async || rescuer.came.load(SeqCst)).await;
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    assert!(world.get::<ConfigMap>("child").await.is_some());
}

/// Changes the object `child` each time somebody is about to delete it, so often.
#[derive(Default)]
struct Restless {
    client: OnceLock<Client>,
    changes: AtomicU32,
}

#[async_trait]
impl Authorizer for Restless {
    async fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if let (Action::Resource { verb: Verb::Delete, target }, Some(client)) =
            (attributes.action, self.client.get())
            && target.name.as_deref() == Some("child")
            && let change @ 0..14 = self.changes.fetch_add(1, SeqCst)
        {
            let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
            let news = Patch::Merge(json!({"data": {"change": change.to_string()}}));
            maps.patch("child", &PatchParams::default(), &news).await.unwrap();
        }
        FixedTable.allows(attributes).await
    }

    async fn rules(&self, user: &UserInfo, namespace: &str) -> SubjectRulesReviewStatus {
        FixedTable.rules(user, namespace).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_changes_all_the_time_goes_soon_all_the_same() {
    let restless = Arc::new(Restless::default());
    let world = World::interrupted_by(restless.clone()).await;
    restless.client.set(world.client.clone()).unwrap();
    let owner = world.create(map("owner", "default", &[])).await;
    world.create(map("child", "default", &[&owner])).await;
    world.api::<ConfigMap>().delete("owner", &DeleteParams::default()).await.unwrap();
    until("the collector has come for it", async || restless.changes.load(SeqCst) > 0).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(world.get::<ConfigMap>("child").await.is_none());
    assert_eq!(restless.changes.load(SeqCst), 15);
}
