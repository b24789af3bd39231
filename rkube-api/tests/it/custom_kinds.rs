//! Kinds that are defined at run time, in several versions.

use rkube_api::{
    dynamic,
    object::Object,
    request::{ApiResponse, Body, FieldValidation, Options, Target, Verb},
};
use serde_json::{Value, json};

use crate::support::{World, refused};

fn target(version: &str, name: Option<&str>) -> Target {
    Target {
        group: "example.com".into(),
        version: version.into(),
        resource: "lamps".into(),
        namespace: Some("default".into()),
        name: name.map(Into::into),
        subresource: None,
    }
}

fn version(name: &str, served: bool, storage: bool, spec: Value) -> Value {
    json!({
        "name": name, "served": served, "storage": storage,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "properties": spec},
        }}},
    })
}

/// Lamps, stored as v2 whether it is served or not.
async fn world(hub_is_served: bool) -> World {
    let world = World::new().await;
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "lamps.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "lamps", "kind": "Lamp"},
            "versions": [
                version("v1", true, false, json!({
                    "watts": {"type": "integer"},
                    "old": {"type": "string"},
                    "shade": {"type": "string", "default": "none"},
                })),
                version("v2", hub_is_served, true, json!({
                    "watts": {"type": "integer"},
                    "shade": {"type": "string"},
                    "color": {"type": "string", "default": "white"},
                })),
                version("v1alpha1", false, false, json!({})),
            ],
        },
    });
    let definition = dynamic::definition(&serde_json::from_value(crd).unwrap()).unwrap();
    world.server.registry().add(definition).unwrap();
    world
}

fn lamp(version: &str, spec: Value) -> Value {
    json!({
        "apiVersion": format!("example.com/{version}"), "kind": "Lamp", "metadata": {"name": "l"}, "spec": spec,
    })
}

async fn seen(world: &World, version: &str) -> Value {
    let target = target(version, Some("l"));
    let answer = world.send(Verb::Get, target, Options::default(), Body::Empty).await.unwrap();
    let ApiResponse::Object { object, .. } = answer else { panic!("{answer:?}") };
    object.body().to_value().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_object_of_another_version_is_stored_as_the_hub() {
    let world = world(true).await;
    let body = lamp("v1", json!({"watts": 5, "old": "x", "unknown": 1}));
    let body = Body::Bytes { content_type: "application/json".into(), bytes: body.to_string().into() };
    let answer = world.send(Verb::Create, target("v1", None), Options::default(), body).await.unwrap();
    let ApiResponse::Object { object, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(object.api_version(), "example.com/v1");
    assert_eq!(object.body().to_value().unwrap()["spec"], json!({"watts": 5, "shade": "none"}));
    let hub = seen(&world, "v2").await;
    assert_eq!(hub["apiVersion"], "example.com/v2", "nothing is renamed on the way out of the store");
    assert_eq!(hub["spec"], json!({"watts": 5, "shade": "none", "color": "white"}));
    let older = seen(&world, "v1").await;
    assert_eq!(older["apiVersion"], "example.com/v1");
    assert_eq!(older["spec"], json!({"watts": 5, "shade": "none"}), "of the version's own fields alone");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_not_served_leads_nowhere() {
    let world = world(false).await;
    for version in ["v2", "v1alpha1"] {
        let get = world.send(Verb::Get, target(version, Some("l")), Options::default(), Body::Empty).await;
        assert_eq!(refused(get), (404, "the server could not find the requested resource".into()));
    }
    let snapshot = world.server.registry().snapshot();
    assert_eq!(snapshot.groups()["example.com"].keys().collect::<Vec<_>>(), ["v1"]);
    assert!(snapshot.resolve_kind("example.com", "v2", "Lamp").is_none());
    let definition = snapshot.definition("example.com", "lamps").unwrap();
    assert_eq!((&*definition.hub().name, &*definition.preferred().unwrap().name), ("v2", "v1"));
    let body = Body::Object(Object::dynamic_from_value(lamp("v1", json!({"watts": 1}))).unwrap());
    world.send(Verb::Create, target("v1", None), Options::default(), body).await.unwrap();
    assert_eq!(seen(&world, "v1").await["spec"]["watts"], 1);
}

#[tokio::test(start_paused = true)]
async fn an_object_passed_by_value_is_pruned_and_defaulted_too() {
    let world = world(true).await;
    let value = lamp("v2", json!({"watts": 5, "unknown": 1}));
    let body = || Body::Object(Object::dynamic_from_value(value.clone()).unwrap());
    let strict = Options { field_validation: FieldValidation::Strict, ..Options::default() };
    let (code, text) = refused(world.send(Verb::Create, target("v2", None), strict, body()).await);
    let wanted = "Lamp in version \"v2\" cannot be handled as a Lamp: strict decoding error: unknown field \"spec.unknown\"";
    assert_eq!((code, text.as_str()), (400, wanted));
    world.send(Verb::Create, target("v2", None), Options::default(), body()).await.unwrap();
    let mut made = seen(&world, "v2").await;
    assert_eq!(made["spec"], json!({"watts": 5, "color": "white"}));
    made["spec"] = json!({"watts": 6, "unknown": 2});
    let body = Body::Object(Object::dynamic_from_value(made).unwrap());
    world.send(Verb::Update, target("v2", Some("l")), Options::default(), body).await.unwrap();
    assert_eq!(seen(&world, "v2").await["spec"], json!({"watts": 6, "color": "white"}));
}

#[tokio::test(start_paused = true)]
async fn a_custom_resource_may_have_finalizers_without_a_domain() {
    let world = world(true).await;
    let body = |finalizer: &str| {
        let mut value = lamp("v2", json!({"watts": 5}));
        value["metadata"]["finalizers"] = json!([finalizer]);
        Body::Object(Object::dynamic_from_value(value).unwrap())
    };
    let create = |body| world.send(Verb::Create, target("v2", None), Options::default(), body);
    assert_eq!(refused(create(body("no/t/valid")).await).0, 422);
    create(body("mine")).await.unwrap();
    let made = seen(&world, "v2").await;
    let body = Body::Object(Object::dynamic_from_value(made).unwrap());
    world.send(Verb::Update, target("v2", Some("l")), Options::default(), body).await.unwrap();
}

/// Lamps whose versions differ in their columns and in whether the status has its own way in.
async fn lamps_of_two_faces() -> World {
    let world = World::new().await;
    let version = |name: &str, storage: bool, column: &str, subresources: Value| {
        json!({
            "name": name, "served": true, "storage": storage, "subresources": subresources,
            "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }},
            "additionalPrinterColumns": [{"name": column, "type": "string", "jsonPath": ".spec.color"}],
            "selectableFields": [{"jsonPath": format!(".spec.{}", column.to_lowercase())}],
        })
    };
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "lamps.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "lamps", "kind": "Lamp"},
            "versions": [
                version("v1", false, "Hue", json!({})),
                version("v2", true, "Color", json!({"status": {}})),
            ],
        },
    });
    let definition = dynamic::definition(&serde_json::from_value(crd).unwrap()).unwrap();
    world.server.registry().add(definition).unwrap();
    world
}

#[tokio::test(start_paused = true)]
async fn each_version_has_its_own_columns_and_its_own_status() {
    let world = lamps_of_two_faces().await;
    let snapshot = world.server.registry().snapshot();
    for (version, columns, selectable) in
        [("v1", ["Name", "Hue"], "spec.hue"), ("v2", ["Name", "Color"], "spec.color")]
    {
        let definition = snapshot.resolve("example.com", version, "lamps").unwrap().definition;
        let names: Vec<_> = definition.columns.iter().map(|column| &*column.name).collect();
        assert_eq!((&*names, &*definition.selectable[0].path), (&columns[..], selectable), "{version}");
        assert_eq!(definition.subresource("status").is_some(), version == "v2", "{version}");
    }
    let with_status = |version: &str, status: Value| {
        let mut lamp = lamp(version, json!({"color": "red"}));
        lamp["status"] = status;
        lamp
    };
    let body = |value: Value| Body::Object(Object::dynamic_from_value(value).unwrap());
    let status = |version: &str| Target { subresource: Some("status".into()), ..target(version, Some("l")) };
    // Where the status has its own way in, a create drops it; where it has not, it is a field like others.
    let dropped = body(with_status("v2", json!({"lit": true})));
    world.send(Verb::Create, target("v2", None), Options::default(), dropped).await.unwrap();
    assert_eq!(seen(&world, "v2").await.get("status"), None);
    let mut next = seen(&world, "v1").await;
    next["status"] = json!({"lit": true});
    world.send(Verb::Update, target("v1", Some("l")), Options::default(), body(next.clone())).await.unwrap();
    assert_eq!(seen(&world, "v2").await["status"], json!({"lit": true}));
    assert_eq!(refused(world.send(Verb::Get, status("v1"), Options::default(), Body::Empty).await).0, 404);
    let mut next = seen(&world, "v2").await;
    next["status"] = json!({"lit": false});
    world.send(Verb::Update, target("v2", Some("l")), Options::default(), body(next.clone())).await.unwrap();
    assert_eq!(seen(&world, "v2").await["status"], json!({"lit": true}), "not by the main way");
    let next = body(Value::Object({
        let mut lamp = seen(&world, "v2").await.as_object().unwrap().clone();
        lamp.insert("status".into(), json!({"lit": false}));
        lamp
    }));
    world.send(Verb::Update, status("v2"), Options::default(), next).await.unwrap();
    assert_eq!(seen(&world, "v1").await["status"], json!({"lit": false}));
}
