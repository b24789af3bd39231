//! Kinds that nobody knew at compile time.

use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use rkube_api::{
    client::DeleteParams,
    dynamic,
    error::ApiError,
    object::Object,
    request::{ApiResponse, Body, Options, Target, Verb},
};
use serde_json::{Value, json};

use crate::support::{World, until};

impl World {
    /// Serves lamps.
    fn lamps(&self) {
        let crd = serde_json::from_value(json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "lamps.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"plural": "lamps", "kind": "Lamp"},
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                        "spec": {"type": "object", "properties": {"on": {"type": "boolean"}}},
                    }}},
                }],
            },
        }));
        self.server.registry().add(dynamic::definition(&crd.unwrap()).unwrap()).unwrap();
    }

    async fn lamp(&self, verb: Verb, namespace: &str, name: &str, body: Body) -> Result<Object, ApiError> {
        let target = Target {
            group: "example.com".into(),
            version: "v1".into(),
            resource: "lamps".into(),
            namespace: Some(namespace.into()),
            name: (verb != Verb::Create).then(|| name.into()),
            subresource: None,
        };
        match self.client.request(verb, target, Options::default(), body).await? {
            ApiResponse::Object { object, .. } => Ok(object),
            other => Err(ApiError::internal(format!("{other:?}"))),
        }
    }

    async fn new_lamp(&self, namespace: &str, name: &str, owners: Value) -> Object {
        let lamp = json!({
            "apiVersion": "example.com/v1", "kind": "Lamp",
            "metadata": {"name": name, "ownerReferences": owners}, "spec": {"on": true},
        });
        let body = Body::Object(Object::dynamic_from_value(lamp).unwrap());
        self.lamp(Verb::Create, namespace, name, body).await.unwrap()
    }

    async fn has_lamp(&self, namespace: &str, name: &str) -> bool {
        self.lamp(Verb::Get, namespace, name, Body::Empty).await.is_ok()
    }
}

#[tokio::test(start_paused = true)]
async fn custom_objects_own_and_are_owned() {
    let world = World::new().await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    world.lamps();
    let lamp = world.new_lamp("default", "first", json!([])).await;
    let mut map = ConfigMap::default();
    map.metadata.name = Some("settings".into());
    map.metadata.namespace = Some("default".into());
    map.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "example.com/v1".into(),
        kind: "Lamp".into(),
        name: "first".into(),
        uid: lamp.uid().into(),
        ..Default::default()
    }]);
    let map = world.create(map).await;
    let owner =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "settings", "uid": map.metadata.uid}]);
    world.new_lamp("default", "second", owner).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(world.get::<ConfigMap>("settings").await.is_some() && world.has_lamp("default", "second").await);
    let _ = world.lamp(Verb::Delete, "default", "first", Body::Empty).await;
    until("the whole chain is gone", async || {
        world.get::<ConfigMap>("settings").await.is_none() && !world.has_lamp("default", "second").await
    })
    .await;
}

/// Whoever takes a definition away takes its objects out of the collector's sight; it goes on with the rest.
#[tokio::test(start_paused = true)]
async fn a_definition_that_goes_leaves_nothing_behind() {
    let world = World::new().await;
    world.lamps();
    let lamp = world.new_lamp("default", "first", json!([])).await;
    let mut map = ConfigMap::default();
    map.metadata.name = Some("owner".into());
    map.metadata.namespace = Some("default".into());
    let map = world.create(map).await;
    let owner = json!([
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": map.metadata.uid,
         "blockOwnerDeletion": true},
        {"apiVersion": "example.com/v1", "kind": "Lamp", "name": "first", "uid": lamp.uid()},
    ]);
    world.new_lamp("default", "second", owner).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(world.server.registry().remove("example.com", "lamps"));
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    // It would wait for ever for a lamp that nobody can see or delete.
    let params = DeleteParams::default().propagation("Foreground");
    world.api::<ConfigMap>().delete("owner", &params).await.unwrap();
    until("the owner is gone", async || world.get::<ConfigMap>("owner").await.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_takes_custom_objects_along() {
    let world = World::new().await;
    world.lamps();
    world.namespace("shop").await;
    world.new_lamp("shop", "a", json!([])).await;
    world.new_lamp("default", "a", json!([])).await;
    world.all::<Namespace>().delete("shop", &DeleteParams::default()).await.unwrap();
    until("it is gone", async || world.all::<Namespace>().get_opt("shop").await.unwrap().is_none()).await;
    assert!(!world.has_lamp("shop", "a").await && world.has_lamp("default", "a").await);
}
