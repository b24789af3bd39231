//! One probe for each seam that depth will need.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use k8s_openapi::api::{
    authorization::v1::SubjectRulesReviewStatus,
    core::v1::{ConfigMap, Event, Pod, Secret},
    events::v1::Event as NewEvent,
};
use rkube_api::{
    admission::{Admission, AdmissionRequest},
    client::{Api, Client, Patch, PatchParams, PostParams},
    error::ApiError,
    object::Object,
    pipeline::{Authorizer, StaticTokens},
    request::{ApiResponse, Body, Credentials, Options, Target, UserInfo, Verb},
};
use rkube_store::{Key, Memory, Transform, TransformError};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    semantics_write::from_json,
    support::{World, config_map, labelled, pod, refused},
};

/// The whole object as a client over a wire sees it.
async fn seen(world: &World, resource: &str, name: &str) -> Value {
    let target = Target {
        version: "v1".into(),
        resource: resource.into(),
        namespace: Some("default".into()),
        name: Some(name.into()),
        ..Target::default()
    };
    let answer = world.send(Verb::Get, target, Options::default(), Body::Empty).await.unwrap();
    let ApiResponse::Object { object, .. } = answer else { panic!("{answer:?}") };
    serde_json::from_slice(&object.encode().unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_resource_is_served_in_two_versions() {
    let world = World::new().await;
    let new = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "example.com/c",
        "reportingInstance": "c-1", "action": "Binding", "reason": "Bound", "type": "Normal", "note": "hello",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
    });
    let made = world.api().create(&PostParams::default(), from_json::<NewEvent>(new)).await.unwrap();
    assert_eq!(made.note.as_deref(), Some("hello"));
    let old = world.api::<Event>().get("e").await.unwrap();
    assert_eq!((old.message.as_deref(), old.involved_object.name.as_deref()), (Some("hello"), Some("p")));
    let mut next = (*old).clone();
    next.message = Some("changed".into());
    world.api().update(&PostParams::default(), next).await.unwrap();
    let new = world.api::<NewEvent>();
    assert_eq!(new.get("e").await.unwrap().note.as_deref(), Some("changed"));
    let listed =
        new.list(&rkube_api::client::ListParams::default().fields("regarding.name=p")).await.unwrap();
    assert_eq!(listed.items[0].note.as_deref(), Some("changed"));
}

/// Changes what it admits, and the first time lets another writer in between.
#[derive(Default)]
struct Slow {
    client: OnceCell<Client>,
    runs: AtomicUsize,
}

#[async_trait]
impl Admission for Slow {
    fn name(&self) -> &'static str {
        "Slow"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if !request.is("", "configmaps") || request.object().is_none() || request.user().name == "other" {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        let run = self.runs.fetch_add(1, Ordering::SeqCst);
        if run == 0 {
            let other = self.client.get().unwrap();
            let api: Api<ConfigMap> = Api::namespaced(other.clone(), "default");
            let patch = Patch::Merge(json!({"data": {"other": "1"}}));
            api.patch(request.name(), &PatchParams::default(), &patch).await?;
        }
        let seen = request.as_kind::<ConfigMap>().and_then(|map| map.data.clone()).unwrap_or_default();
        let seen: Vec<_> = seen.into_keys().collect();
        if let Some(map) = request.as_kind_mut::<ConfigMap>() {
            map.data.get_or_insert_default().insert("seen".into(), seen.join(","));
        }
        request.warn("it took a while");
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn admission_runs_again_after_a_conflict() {
    let slow = Arc::new(Slow::default());
    let world = World::with(|builder| builder.admit(slow.clone())).await;
    let other = world.server.client(UserInfo { name: "other".into(), ..UserInfo::admin("other") }, "other");
    slow.client.set(other.clone()).unwrap();
    let api: Api<ConfigMap> = Api::namespaced(other, "default");
    api.create(&PostParams::default(), config_map("a")).await.unwrap();
    let patch = Patch::Merge(json!({"data": {"mine": "1"}}));
    let patched = world.api::<ConfigMap>().patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(slow.runs.load(Ordering::SeqCst), 2);
    let data = patched.data.clone().unwrap();
    assert_eq!(data["seen"], "mine,other", "the second run saw what the other writer had put there");
}

#[tokio::test(start_paused = true)]
async fn managed_fields_are_kept_on_create_and_update() {
    let world = World::new().await;
    let mut map = config_map("a");
    map.data = Some([("x".to_owned(), "1".to_owned())].into());
    world.api().create(&PostParams::default(), map).await.unwrap();
    let entries = seen(&world, "configmaps", "a").await["metadata"]["managedFields"].clone();
    assert_eq!(entries[0]["manager"], "test");
    assert_eq!(entries[0]["operation"], "Update");
    assert_eq!(entries[0]["fieldsV1"], json!({"f:data": {".": {}, "f:x": {}}}));
    let editor = PatchParams { field_manager: Some("editor".into()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({"data": {"y": "2"}}));
    world.api::<ConfigMap>().patch("a", &editor, &patch).await.unwrap();
    let entries = seen(&world, "configmaps", "a").await["metadata"]["managedFields"].clone();
    let edited = entries.as_array().unwrap().iter().find(|entry| entry["manager"] == "editor").unwrap();
    assert_eq!(edited["fieldsV1"], json!({"f:data": {"f:y": {}}}));
    assert_eq!(entries.as_array().unwrap().len(), 2);
    assert!(
        world.api::<ConfigMap>().get("a").await.unwrap().metadata.managed_fields.is_none(),
        "typed: aside"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pods_book_is_that_of_a_real_cluster() {
    let world = World::new().await;
    world.api().create(&PostParams::default(), pod("a")).await.unwrap();
    let entries = seen(&world, "pods", "a").await["metadata"]["managedFields"].clone();
    assert_eq!(entries.as_array().unwrap().len(), 1);
    let spec = entries[0]["fieldsV1"]["f:spec"].as_object().unwrap();
    let fields: Vec<_> = spec.keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        [
            "f:containers",
            "f:dnsPolicy",
            "f:enableServiceLinks",
            "f:restartPolicy",
            "f:schedulerName",
            "f:securityContext",
            "f:terminationGracePeriodSeconds"
        ],
        "what admission adds is nobody's"
    );
    let container = &spec["f:containers"]["k:{\"name\":\"c\"}"];
    assert!(container.get("f:volumeMounts").is_none(), "{container}");
}

#[tokio::test(start_paused = true)]
async fn the_book_of_many_updates_is_kept_whoever_asks_for_it() {
    let world = World::new().await;
    let api = world.api::<ConfigMap>();
    // Nobody's book is kept of an object that was made with nothing in it.
    api.create(&PostParams::default(), labelled("a", "l", "v")).await.unwrap();
    for at in 0..12 {
        let who = format!("w{}", at % 3);
        let by = PatchParams { field_manager: Some(who), ..PatchParams::default() };
        let patch = Patch::Merge(json!({"data": {format!("k{at}"): "1"}}));
        api.patch("a", &by, &patch).await.unwrap();
    }
    let entries = seen(&world, "configmaps", "a").await["metadata"]["managedFields"].clone();
    let owned: usize = entries
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| entry["fieldsV1"]["f:data"].as_object())
        .map(|data| data.keys().filter(|it| *it != ".").count())
        .sum();
    assert_eq!(owned, 12);
}

/// Not encryption, but nobody reads it either.
struct Mask;

impl Transform for Mask {
    fn seal(&self, _: &Key, plain: Bytes) -> Result<Bytes, TransformError> {
        Ok(plain.iter().map(|byte| byte ^ 0x55).collect())
    }
    fn open(&self, key: &Key, sealed: Bytes) -> Result<Bytes, TransformError> {
        self.seal(key, sealed)
    }
}

#[tokio::test(start_paused = true)]
async fn values_are_transformed_at_the_stores_edge() {
    let store = Memory::<Object>::builder().hot_bytes(1).transform(Arc::new(Mask)).build();
    let world = World::over(store, |builder| builder).await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "labels": {"a": "b"}},
        "data": {"key": "dmFsdWU="},
    });
    let made = world.api().create(&PostParams::default(), from_json::<Secret>(secret)).await.unwrap();
    for name in ["x", "y", "z"] {
        world.map(name).await;
    }
    assert!(world.store.sizes().hot_values <= 1, "the others are bytes, and masked");
    assert_eq!(*world.api::<Secret>().get("s").await.unwrap(), *made);
    let entries = seen(&world, "secrets", "s").await["metadata"]["managedFields"].clone();
    assert_eq!(entries[0]["manager"], "test", "managedFields survive the cold");
    let mut next = (*made).clone();
    next.data.as_mut().unwrap().clear();
    world.api().update(&PostParams::default(), next).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn users_are_known_and_allowed_or_not() {
    let tokens = Arc::new(StaticTokens::default());
    tokens.insert("good", UserInfo { name: "u".into(), ..UserInfo::default() });
    let world = World::with(|builder| builder.authenticator(tokens)).await;
    let by = |credentials| Api::<Pod>::namespaced(world.client.with_credentials(credentials, "x"), "default");
    assert_eq!(refused(by(Credentials::Anonymous).get("x").await).0, 401);
    assert_eq!(refused(by(Credentials::Token("bad".into())).get("x").await).0, 401);
    let (code, text) = refused(by(Credentials::Token("good".into())).get("x").await);
    assert_eq!(
        (code, text.as_str()),
        (
            403,
            "pods \"x\" is forbidden: User \"u\" cannot get resource \"pods\" in API group \"\" in the namespace \
             \"default\""
        )
    );
    let admin =
        Credentials::Certificate { common_name: "a".into(), organizations: vec!["system:masters".into()] };
    assert_eq!(refused(by(admin).get("x").await).0, 404);
}

#[tokio::test(start_paused = true)]
async fn an_authorizer_from_outside_decides() {
    struct OnlyReads;
    #[async_trait]
    impl Authorizer for OnlyReads {
        async fn allows(&self, attributes: &rkube_api::pipeline::Attributes<'_>) -> bool {
            let is_read = match attributes.action {
                rkube_api::pipeline::Action::Resource { verb, .. } => !verb.writes(),
                rkube_api::pipeline::Action::Path(_) => true,
            };
            is_read || attributes.user.name == "admin"
        }

        async fn rules(&self, _: &UserInfo, _: &str) -> SubjectRulesReviewStatus {
            SubjectRulesReviewStatus { incomplete: true, ..SubjectRulesReviewStatus::default() }
        }
    }
    let world = World::with(|builder| builder.authorizer(Arc::new(OnlyReads))).await;
    let other = world.server.client(UserInfo::admin("other"), "x");
    let api: Api<ConfigMap> = Api::namespaced(other, "default");
    assert!(api.get_opt("a").await.unwrap().is_none());
    assert_eq!(refused(api.create(&PostParams::default(), config_map("a")).await).0, 403);
    assert!(world.map("a").await > 0);
}

#[cfg(feature = "crd")]
#[tokio::test(start_paused = true)]
async fn a_kind_is_defined_at_run_time() {
    let world = World::new().await;
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "lamps.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "lamps", "kind": "Lamp"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {
                        "type": "object", "required": ["watts"],
                        "properties": {
                            "watts": {"type": "integer"},
                            "color": {"type": "string", "default": "white"},
                        },
                    },
                    "status": {"type": "object", "properties": {"on": {"type": "boolean"}}},
                }}},
            }, {"name": "v1beta1", "served": true, "storage": false,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    });
    let definition = rkube_api::dynamic::definition(&from_crd(crd)).unwrap();
    world.server.registry().add(definition).unwrap();
    let target = |version: &str, name: Option<&str>, subresource: Option<&str>| Target {
        group: "example.com".into(),
        version: version.into(),
        resource: "lamps".into(),
        namespace: Some("default".into()),
        name: name.map(Into::into),
        subresource: subresource.map(Into::into),
    };
    let send = |verb, target, body: Value, kind: &'static str| {
        let body = Body::Bytes { content_type: kind.into(), bytes: body.to_string().into() };
        let world = &world;
        async move {
            match world.send(verb, target, Options::default(), body).await? {
                ApiResponse::Object { object, .. } => Ok(object.body().to_value().unwrap()),
                other => panic!("{other:?}"),
            }
        }
    };
    const JSON: &str = "application/json";
    let lamp = |spec: Value| json!({"apiVersion": "example.com/v1", "kind": "Lamp", "metadata": {"name": "l"}, "spec": spec});
    let (code, text) =
        refused(send(Verb::Create, target("v1", None, None), lamp(json!({"watts": "many"})), JSON).await);
    assert_eq!(code, 422);
    assert!(text.contains("spec.watts: Invalid value"), "{text}");
    let (_, text) = refused(send(Verb::Create, target("v1", None, None), lamp(json!({})), JSON).await);
    assert!(text.contains("spec.watts: Required value"), "{text}");
    let mut body = lamp(json!({"watts": 5, "unknown": 1}));
    body["status"] = json!({"on": true});
    let made = send(Verb::Create, target("v1", None, None), body, JSON).await.unwrap();
    assert_eq!(made["spec"], json!({"watts": 5, "color": "white"}), "pruned and defaulted");
    assert_eq!(made.get("status"), None);
    assert_eq!(made["metadata"]["generation"], 1);

    let merge = "application/merge-patch+json";
    let on = json!({"status": {"on": true}, "spec": {"watts": 9}});
    let status = target("v1", Some("l"), Some("status"));
    let lit = send(Verb::Patch, status, on, merge).await.unwrap();
    assert_eq!((&lit["status"]["on"], &lit["spec"]["watts"]), (&json!(true), &json!(5)));
    assert_eq!(lit["metadata"]["generation"], 1);
    let more = json!({"spec": {"watts": 9}});
    let bright = send(Verb::Patch, target("v1", Some("l"), None), more, merge).await.unwrap();
    assert_eq!((&bright["metadata"]["generation"], &bright["status"]["on"]), (&json!(2), &json!(true)));
    let strategic = "application/strategic-merge-patch+json";
    let patched = send(Verb::Patch, target("v1", Some("l"), None), json!({}), strategic).await;
    assert_eq!(refused(patched).0, 415, "line 27");
    let unconditional =
        send(Verb::Update, target("v1", Some("l"), None), lamp(json!({"watts": 1})), JSON).await;
    let (code, text) = refused(unconditional);
    assert_eq!(code, 422, "line 20");
    assert!(
        text.contains("metadata.resourceVersion: Invalid value: 0: must be specified for an update"),
        "{text}"
    );

    let older = Options::default();
    let answer = world.send(Verb::Get, target("v1beta1", Some("l"), None), older, Body::Empty).await.unwrap();
    let ApiResponse::Object { object, .. } = answer else { panic!("{answer:?}") };
    assert_eq!((object.api_version(), object.kind()), ("example.com/v1beta1", "Lamp"));
    let by = Options { field_selector: Some("spec.color=white".into()), ..Options::default() };
    let answer = world.send(Verb::List, target("v1", None, None), by, Body::Empty).await.unwrap();
    let ApiResponse::List(list) = answer else { panic!("{answer:?}") };
    assert_eq!((list.items.len(), list.kind.as_str()), (1, "LampList"));
    assert!(world.server.registry().remove("example.com", "lamps"));
    let gone = world.send(Verb::Get, target("v1", Some("l"), None), Options::default(), Body::Empty).await;
    assert_eq!(refused(gone.map(drop)).0, 404);
}

#[cfg(feature = "crd")]
fn from_crd(
    value: Value,
) -> k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition {
    serde_json::from_value(value).unwrap()
}
