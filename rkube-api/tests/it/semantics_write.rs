//! Lines 19 to 33: writing.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use k8s_openapi::api::{
    apps::v1::Deployment,
    authorization::v1::SubjectRulesReviewStatus,
    autoscaling::v1::Scale,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Pod, Service},
};
use rkube_api::{
    admission::{Admission, AdmissionRequest, Operation},
    alloc::{AddressRange, Services},
    client::{Api, Client, DeleteParams, ListParams, Patch, PatchParams, PostParams, Precondition},
    error::ApiError,
    object::{Kind, Object},
    pipeline::{Action, Attributes, Authorizer},
    request::{ApiResponse, Body, FieldValidation, Options, Target, UserInfo, Verb},
};
use serde_json::{Value, json};

use super::{
    semantics_limits::stored,
    support::{World, config_map, config_maps, pod, refused, version},
};

fn named(target: Target, name: &str) -> Target {
    Target { name: Some(name.into()), ..target }
}

/// A typed object from JSON.
pub(crate) fn from_json<K: Kind>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

pub(crate) fn deployment(name: &str) -> Deployment {
    from_json(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "nginx"}]},
            },
        },
    }))
}

async fn make<K: Kind>(world: &World, object: K) -> Arc<K> {
    world.api().create(&PostParams::default(), object).await.unwrap()
}

/// Sends bytes as a body.
async fn bytes(
    world: &World,
    verb: Verb,
    target: Target,
    options: Options,
    content_type: &str,
    body: &str,
) -> Result<(Object, u16, Vec<String>), ApiError> {
    let body =
        Body::Bytes { content_type: content_type.into(), bytes: Bytes::copy_from_slice(body.as_bytes()) };
    match world.send(verb, target, options, body).await? {
        ApiResponse::Object { object, code, warnings } => Ok((object, code, warnings)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn line_19_a_stale_version_is_a_conflict_and_none_is_unconditional() {
    let world = World::new().await;
    let api = world.api::<ConfigMap>();
    let first = make(&world, config_map("a")).await;
    let mut next = (*first).clone();
    next.data = Some([("k".into(), "1".into())].into());
    api.update(&PostParams::default(), next.clone()).await.unwrap();
    next.data = Some([("k".into(), "2".into())].into());
    let (code, text) = refused(api.update(&PostParams::default(), next.clone()).await);
    assert_eq!(code, 409);
    assert_eq!(
        text,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your \
         changes to the latest version and try again"
    );
    next.metadata.resource_version = None;
    let last = api.update(&PostParams::default(), next).await.unwrap();
    assert_eq!(last.data.as_ref().unwrap()["k"], "2");
    let (code, text) = refused(api.update(&PostParams::default(), config_map("b")).await);
    assert_eq!((code, text.as_str()), (404, "configmaps \"b\" not found"));
}

#[tokio::test(start_paused = true)]
async fn line_19_a_lease_is_never_replaced_without_a_version() {
    let world = World::new().await;
    let mut lease = Lease::default();
    lease.metadata.name = Some("a".into());
    let made = make(&world, lease.clone()).await;
    let (code, text) = refused(world.api().update(&PostParams::default(), lease).await);
    assert_eq!(code, 422);
    assert!(
        text.ends_with("metadata.resourceVersion: Invalid value: 0: must be specified for an update"),
        "{text}"
    );
    world.api().update(&PostParams::default(), (*made).clone()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn line_4_versions_are_decimal_and_grow_with_every_write() {
    let world = World::new().await;
    let mut last = 0;
    for name in ["a", "b", "c"] {
        let made = make(&world, config_map(name)).await;
        let text = made.metadata.resource_version.clone().unwrap();
        let number: u64 = text.parse().unwrap();
        assert_eq!(text, number.to_string(), "without sign, zeros or blanks");
        assert!(number > last, "{number} comes after {last}");
        last = number;
    }
    let list = world.api::<ConfigMap>().list(&ListParams::default()).await.unwrap();
    assert!(list.resource_version.parse::<u64>().unwrap() >= last);
}

#[tokio::test(start_paused = true)]
async fn line_19_of_racing_updates_one_wins() {
    let world = World::new().await;
    let first = make(&world, config_map("a")).await;
    let writes = (0..8).map(|writer: u32| {
        let (api, mut next) = (world.api::<ConfigMap>(), (*first).clone());
        next.data = Some([("by".into(), writer.to_string())].into());
        async move { api.update(&PostParams::default(), next).await }
    });
    let results = futures::future::join_all(writes).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.iter().filter_map(|result| result.as_ref().err()).all(|error| error.code() == 409));
}

#[tokio::test(start_paused = true)]
async fn line_21_what_changes_nothing_writes_nothing() {
    let world = World::new().await;
    let api = world.api::<ConfigMap>();
    let first = make(&world, config_map("a")).await;
    let stream = world
        .watch(Options {
            resource_version: first.metadata.resource_version.clone(),
            timeout: Some(std::time::Duration::from_secs(1)),
            ..Options::default()
        })
        .await
        .unwrap();
    let same = api.update(&PostParams::default(), (*first).clone()).await.unwrap();
    assert_eq!(version(&*same), version(&*first));
    let patch = Patch::Merge(json!({"metadata": {"labels": {"absent": null}}}));
    let same = api.patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(version(&*same), version(&*first));
    let manager = PatchParams { field_manager: Some("me".into()), ..PatchParams::default() };
    let config = Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "1"}}));
    let applied = api.patch("a", &manager, &config).await.unwrap();
    assert!(version(&*applied) > version(&*first));
    let again = api.patch("a", &manager, &config).await.unwrap();
    assert_eq!(version(&*again), version(&*applied));
    assert_eq!(stream.collect::<Vec<_>>().await.len(), 1, "one event for the one change");
}

#[tokio::test(start_paused = true)]
async fn line_22_preconditions_of_a_delete() {
    let world = World::new().await;
    let api = world.api::<ConfigMap>();
    let map = make(&world, config_map("a")).await;
    let wrong = DeleteParams::default().uid("other");
    let (code, text) = refused(api.delete("a", &wrong).await);
    assert_eq!(code, 409);
    let uid = map.metadata.uid.clone().unwrap();
    assert_eq!(
        text,
        format!(
            "Operation cannot be fulfilled on configmaps \"a\": Precondition failed: UID in precondition: other, \
             UID in object meta: {uid}"
        )
    );
    let stale = DeleteParams {
        precondition: Precondition { resource_version: Some("1".into()), uid: None },
        ..DeleteParams::default()
    };
    assert_eq!(refused(api.delete("a", &stale).await).0, 409);
    assert!(api.delete("a", &DeleteParams::default().uid(uid)).await.unwrap().is_none());
}

/// Takes so many names that the server would generate next, as its twin of the same seed and history does.
async fn take_next_names(world: &World, twin: &World, count: usize) -> String {
    let mut map = ConfigMap::default();
    for number in 0..count {
        make(twin, config_map(&format!("other-{number}"))).await;
    }
    let mut last = String::new();
    for _ in 0..count {
        map.metadata.generate_name = Some("a-".into());
        last = make(twin, map.clone()).await.metadata.name.clone().unwrap();
        make(world, config_map(&last)).await;
    }
    last
}

#[tokio::test(start_paused = true)]
async fn line_23_names_are_generated_until_one_is_free() {
    let world = World::new().await;
    let mut map = ConfigMap::default();
    map.metadata.generate_name = Some("a-".into());
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let made = make(&world, map.clone()).await;
        assert!(names.insert(made.metadata.name.clone().unwrap()));
    }
    let (world, twin) = (World::new().await, World::new().await);
    take_next_names(&world, &twin, 3).await;
    let fourth = make(&twin, map.clone()).await;
    assert_eq!(make(&world, map.clone()).await.metadata.name, fourth.metadata.name, "three were not free");
    map.metadata.name = Some("given".into());
    assert_eq!(make(&world, map).await.metadata.name.as_deref(), Some("given"), "a name wins");
    let (code, text) = refused(world.api().create(&PostParams::default(), config_map("given")).await);
    assert_eq!((code, text.as_str()), (409, "configmaps \"given\" already exists"));
}

#[tokio::test(start_paused = true)]
async fn line_23_eight_names_that_are_taken_are_enough() {
    let (world, twin) = (World::new().await, World::new().await);
    let mut map = ConfigMap::default();
    map.metadata.generate_name = Some("a-".into());
    let last = take_next_names(&world, &twin, 8).await;
    let (code, text) = refused(world.api().create(&PostParams::default(), map).await);
    assert_eq!((code, text), (409, format!("configmaps {last:?} already exists")));
}

#[tokio::test(start_paused = true)]
async fn line_24_the_main_resource_and_the_status_keep_apart() {
    let world = World::new().await;
    let api = world.api::<Deployment>();
    let first = make(&world, deployment("web")).await;
    assert_eq!(first.metadata.generation, Some(1));
    let mut next = (*first).clone();
    next.status.get_or_insert_default().replicas = Some(7);
    next.spec.replicas = Some(3);
    let second = api.update(&PostParams::default(), next.clone()).await.unwrap();
    assert_eq!(second.status.as_ref().and_then(|status| status.replicas), None);
    assert_eq!(second.spec.replicas, Some(3));
    let mut next = (*second).clone();
    next.status.get_or_insert_default().replicas = Some(7);
    next.spec.replicas = Some(9);
    let third = api.update_status(&PostParams::default(), next).await.unwrap();
    assert_eq!(third.status.as_ref().and_then(|status| status.replicas), Some(7));
    assert_eq!(third.spec.replicas, Some(3));
    assert_eq!(third.metadata.generation, Some(2));
    let mut next = (*third).clone();
    next.metadata.labels = Some([("more".into(), "yes".into())].into());
    next.status.get_or_insert_default().replicas = Some(8);
    let fourth = api.update_status(&PostParams::default(), next).await.unwrap();
    assert_eq!(fourth.status.as_ref().and_then(|status| status.replicas), Some(8));
    assert_eq!(fourth.metadata.labels, third.metadata.labels, "metadata are not its business");
    let made = make(&world, pod("a")).await;
    let mut next = (*made).clone();
    next.metadata.labels = Some([("more".into(), "yes".into())].into());
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "1"}]);
    next.metadata.owner_references = serde_json::from_value(owner).unwrap();
    next.status.get_or_insert_default().message = Some("new".into());
    let next = world.api::<Pod>().update_status(&PostParams::default(), next).await.unwrap();
    assert_eq!(next.status.as_ref().unwrap().message.as_deref(), Some("new"));
    assert_eq!(next.metadata.owner_references, None, "nor are these a pod's, as in Kubernetes");
}

#[tokio::test(start_paused = true)]
async fn line_25_generation_moves_with_the_spec() {
    let world = World::new().await;
    let api = world.api::<Deployment>();
    make(&world, deployment("web")).await;
    let patch = |value: Value| {
        let api = api.clone();
        async move {
            api.patch("web", &PatchParams::default(), &Patch::Merge(value)).await.unwrap().metadata.generation
        }
    };
    assert_eq!(patch(json!({"metadata": {"labels": {"a": "1"}}})).await, Some(1));
    assert_eq!(patch(json!({"spec": {"replicas": 2}})).await, Some(2));
    assert_eq!(patch(json!({"metadata": {"annotations": {"a": "1"}}})).await, Some(3), "a deployment's do");
    patch(json!({"metadata": {"finalizers": ["example.com/held"]}})).await;
    let pending = api.delete("web", &DeleteParams::default()).await.unwrap().unwrap();
    assert_eq!(pending.metadata.generation, Some(4));
    let again = api.delete("web", &DeleteParams::default()).await.unwrap().unwrap();
    assert_eq!(again.metadata.generation, Some(4));
}

#[tokio::test(start_paused = true)]
async fn line_26_json_patch_and_its_bounds() {
    let world = World::new().await;
    let api = world.api::<ConfigMap>();
    make(&world, config_map("a")).await;
    let send = |patch: Value| {
        let api = api.clone();
        async move { api.patch("a", &PatchParams::default(), &Patch::Json(patch)).await }
    };
    let made = send(json!([{"op": "add", "path": "/data", "value": {"k": "v"}}])).await.unwrap();
    assert_eq!(made.data.as_ref().unwrap()["k"], "v");
    let error = send(json!([{"op": "test", "path": "/data/k", "value": "w"}])).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (422, "Invalid"));
    let many: Vec<Value> =
        (0..10_001).map(|_| json!({"op": "test", "path": "/data/k", "value": "v"})).collect();
    assert_eq!(refused(send(Value::Array(many)).await).0, 413);
    let long = format!("{{\"data\":{{\"k\":\"{}\"}}}}", "x".repeat(3 << 20));
    let merge = "application/merge-patch+json";
    let target = named(config_maps(), "a");
    let sent = bytes(&world, Verb::Patch, target.clone(), Options::default(), merge, &long).await;
    assert_eq!(refused(sent.map(drop)).0, 413);
    let sent = bytes(&world, Verb::Patch, target, Options::default(), "text/plain", "{}").await;
    assert_eq!(refused(sent.map(drop)).0, 415);
}

#[tokio::test(start_paused = true)]
async fn line_27_strategic_merge_knows_keys() {
    let world = World::new().await;
    let api = world.api::<Deployment>();
    make(&world, deployment("web")).await;
    let container = json!([{"name": "side", "image": "busybox"}]);
    let patch = json!({"spec": {"template": {"spec": {"containers": container}}}});
    let both = api.patch("web", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
    let names: Vec<_> = both.spec.template.spec.as_ref().unwrap().containers.iter().collect();
    assert_eq!(names.iter().map(|container| container.name.as_str()).collect::<Vec<_>>(), ["side", "c"]);
    let wrong = Patch::Strategic(json!({"$patch": "nothing"}));
    assert_eq!(refused(api.patch("web", &PatchParams::default(), &wrong).await).0, 400);
}

#[tokio::test(start_paused = true)]
async fn line_28_to_30_apply() {
    let world = World::new().await;
    let api = world.api::<ConfigMap>();
    let config = |data: Value| Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data}));
    let by = |manager: &str, force| PatchParams {
        field_manager: (!manager.is_empty()).then(|| manager.into()),
        force,
        ..PatchParams::default()
    };
    let (code, text) = refused(api.patch("a", &by("", false), &config(json!({}))).await);
    assert_eq!(
        (code, text.as_str()),
        (
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
        )
    );
    api.patch("a", &by("one", false), &config(json!({"x": "1", "y": "1"}))).await.unwrap();
    let error = api.patch("a", &by("two", false), &config(json!({"x": "2"}))).await.unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"one\": .data.x");
    let causes = error.to_status().details.unwrap().causes.unwrap();
    assert_eq!(causes[0].reason.as_deref(), Some("FieldManagerConflict"));
    assert_eq!(error.code(), 409);
    api.patch("a", &by("two", true), &config(json!({"x": "2", "y": "1"}))).await.unwrap();
    let left = api.patch("a", &by("one", false), &config(json!({}))).await.unwrap();
    let data = left.data.clone().unwrap();
    assert_eq!((data["x"].as_str(), data["y"].as_str()), ("2", "1"), "the other still wants them");
    let gone = api.patch("a", &by("two", false), &config(json!({"x": "2"}))).await.unwrap();
    assert_eq!(gone.data.as_ref().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn line_31_a_dry_run_keeps_nothing() {
    let world = World::new().await;
    let before = rkube_store::Store::revision(&world.store).await.unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let pods = world.api::<Pod>();
    let made = pods.create(&dry, pod("a")).await.unwrap();
    assert_eq!(made.spec.as_ref().unwrap().restart_policy.as_deref(), Some("Always"), "defaults");
    assert!(made.spec.as_ref().unwrap().service_account_name.is_some(), "admission");
    assert_eq!(refused(pods.create(&dry, Pod { spec: None, ..pod("b") }).await).0, 422, "validation");
    let service: Service = from_json(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"type": "NodePort", "ports": [{"port": 80}]},
    }));
    let service = world.api().create(&dry, service).await.unwrap();
    assert!(service.spec.as_ref().unwrap().cluster_ip.is_some());
    assert_eq!(rkube_store::Store::revision(&world.store).await.unwrap(), before);

    let map = make(&world, config_map("m")).await;
    let api = world.api::<ConfigMap>();
    let mut next = (*map).clone();
    next.data = Some([("k".into(), "v".into())].into());
    assert!(api.update(&dry, next).await.unwrap().data.is_some());
    let dry_delete = DeleteParams { dry_run: true, ..DeleteParams::default() };
    assert!(api.delete("m", &dry_delete).await.unwrap().is_none());
    assert_eq!(*api.get("m").await.unwrap(), *map);
    let (code, _) = refused(api.create(&dry, config_map("m")).await);
    assert_eq!(code, 409);
}

#[tokio::test(start_paused = true)]
async fn line_32_unknown_and_duplicate_fields() {
    let world = World::new().await;
    let wanted = |field_validation| Options { field_validation, ..Options::default() };
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"NAME"},"dataa":{},"data":{"k":"1"},"data":{"k":"2"}}"#;
    let create = |name: &str, validation| {
        let (world, body) = (&world, body.replace("NAME", name));
        async move {
            bytes(world, Verb::Create, config_maps(), wanted(validation), "application/json", &body).await
        }
    };
    let (_, _, warnings) = create("a", FieldValidation::Ignore).await.unwrap();
    assert!(warnings.is_empty());
    let (object, code, warnings) = create("b", FieldValidation::Warn).await.unwrap();
    assert_eq!(code, 201);
    assert_eq!(warnings, ["duplicate field \"data\"", "unknown field \"dataa\""]);
    assert_eq!(object.as_kind::<ConfigMap>().unwrap().data.as_ref().unwrap()["k"], "2", "the last one wins");
    let (code, text) = refused(create("c", FieldValidation::Strict).await.map(drop));
    assert_eq!(code, 400);
    assert!(
        text.ends_with("strict decoding error: duplicate field \"data\", unknown field \"dataa\""),
        "{text}"
    );

    let target = named(config_maps(), "a");
    let patch = |kind: &'static str, body: &'static str| {
        let (world, target) = (&world, target.clone());
        let options = Options { field_manager: Some("me".into()), ..wanted(FieldValidation::Strict) };
        async move { bytes(world, Verb::Patch, target, options, kind, body).await.map(drop) }
    };
    assert_eq!(refused(patch("application/merge-patch+json", r#"{"dataa":{}}"#).await).0, 422);
    assert_eq!(refused(patch("application/strategic-merge-patch+json", r#"{"dataa":{}}"#).await).0, 422);
    let add = r#"[{"op":"add","path":"/dataa","value":1}]"#;
    assert_eq!(refused(patch("application/json-patch+json", add).await).0, 422);
    let apply = "apiVersion: v1\nkind: ConfigMap\ndataa: {}\n";
    assert_eq!(refused(patch("application/apply-patch+yaml", apply).await).0, 400);
}

#[tokio::test(start_paused = true)]
async fn line_33_errors_are_statuses_with_details() {
    let world = World::new().await;
    let error = world.api::<Pod>().get("nope").await.unwrap_err();
    let status = error.to_status();
    let details = status.details.unwrap();
    assert_eq!((status.code, status.reason.as_deref()), (Some(404), Some("NotFound")));
    assert_eq!((details.name.as_deref(), details.kind.as_deref()), (Some("nope"), Some("pods")));
    let status = world.api::<Deployment>().get("nope").await.unwrap_err().to_status();
    assert_eq!(status.message.as_deref(), Some("deployments.apps \"nope\" not found"));
    let details = status.details.unwrap();
    assert_eq!((details.group.as_deref(), details.kind.as_deref()), (Some("apps"), Some("deployments")));
    make(&world, deployment("web")).await;
    let again = world.api().create(&PostParams::default(), deployment("web")).await;
    let status = again.unwrap_err().to_status();
    assert_eq!((status.code, status.reason.as_deref()), (Some(409), Some("AlreadyExists")));
    assert_eq!(status.details.unwrap().group.as_deref(), Some("apps"));
    let mut wrong = pod("Wrong");
    wrong.spec.as_mut().unwrap().containers.clear();
    let error = world.api::<Pod>().create(&PostParams::default(), wrong).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (422, "Invalid"));
    let causes = error.to_status().details.unwrap().causes.unwrap();
    let fields: Vec<_> = causes.iter().map(|cause| cause.field.as_deref().unwrap()).collect();
    assert!(fields.contains(&"metadata.name") && fields.contains(&"spec.containers"), "{fields:?}");
}

#[tokio::test(start_paused = true)]
async fn bodies_must_be_of_the_kind_and_about_the_object_in_the_url() {
    let world = World::new().await;
    let options = Options::default;
    let post = |body: &'static str| {
        let world = &world;
        async move {
            let sent = bytes(world, Verb::Create, config_maps(), options(), "application/json", body).await;
            refused(sent.map(drop))
        }
    };
    let (code, text) = post(r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"}}"#).await;
    assert_eq!(code, 400);
    assert!(text.starts_with("Service in version \"v1\" cannot be handled as a ConfigMap"), "{text}");
    let (code, text) = post(r#"{"apiVersion":"v2","kind":"ConfigMap","metadata":{"name":"a"}}"#).await;
    assert_eq!(
        (code, text.as_str()),
        (400, "the API version in the data (v2) does not match the expected API version (v1)")
    );
    let (code, text) = post(r#"{"metadata":{"name":"a","namespace":"other"}}"#).await;
    assert_eq!(
        (code, text.as_str()),
        (400, "the namespace of the provided object does not match the namespace sent on the request")
    );
    for (body, wanted) in
        [("", 400), ("[]", 400), ("{", 400), ("3", 400), ("null", 400), ("{\"data\":3}", 400)]
    {
        assert_eq!(post(body).await.0, wanted, "{body}");
    }
    world.map("a").await;
    let put = bytes(
        &world,
        Verb::Update,
        named(config_maps(), "a"),
        options(),
        "application/yaml",
        "metadata: {name: b}",
    );
    let (code, text) = refused(put.await.map(drop));
    assert_eq!(
        (code, text.as_str()),
        (400, "the name of the object (b) does not match the name on the URL (a)")
    );
    for name in ["../x", "a/b", "..", "", "a%2fb"] {
        let (code, _) = refused(world.api::<ConfigMap>().get(name).await);
        assert_eq!(code, 404, "{name}");
    }
    let api: Api<k8s_openapi::api::core::v1::Node> = Api::namespaced(world.client.clone(), "default");
    assert_eq!(refused(api.get("n").await).0, 404, "cluster-scoped, through a namespace");
}

#[tokio::test(start_paused = true)]
async fn scale_reads_and_writes_replicas() {
    let world = World::new().await;
    let api = world.api::<Deployment>();
    make(&world, deployment("web")).await;
    let scale: Scale = api.get_subresource("web", "scale").await.unwrap();
    assert_eq!(scale.spec.as_ref().unwrap().replicas, Some(1));
    assert_eq!(scale.status.as_ref().unwrap().selector.as_deref(), Some("app=web"));
    let mut more = scale.clone();
    more.spec.as_mut().unwrap().replicas = Some(4);
    let scaled: Scale = api.update_subresource("web", "scale", &PostParams::default(), &more).await.unwrap();
    assert_eq!(scaled.spec.as_ref().unwrap().replicas, Some(4));
    assert_eq!(api.get("web").await.unwrap().spec.replicas, Some(4));
    let stale = api.update_subresource("web", "scale", &PostParams::default(), &more).await;
    assert_eq!(refused(stale).0, 409);
    more.metadata.resource_version = None;
    more.spec.as_mut().unwrap().replicas = Some(-1);
    let (code, text) = refused(api.update_subresource("web", "scale", &PostParams::default(), &more).await);
    assert_eq!(code, 422);
    assert!(text.contains("spec.replicas: Invalid value: -1"), "{text}");
    let target = Target {
        group: "apps".into(),
        version: "v1".into(),
        resource: "deployments".into(),
        namespace: Some("default".into()),
        name: Some("web".into()),
        subresource: Some("scale".into()),
    };
    let merge = "application/merge-patch+json";
    let (object, ..) =
        bytes(&world, Verb::Patch, target, Options::default(), merge, r#"{"spec":{"replicas":6}}"#)
            .await
            .unwrap();
    assert_eq!(object.as_kind::<Scale>().unwrap().spec.as_ref().unwrap().replicas, Some(6));
}

#[tokio::test(start_paused = true)]
async fn a_scale_that_is_applied_is_owned_through_its_subresource() {
    let world = World::new().await;
    let api = world.api::<Deployment>();
    make(&world, deployment("web")).await;
    let target = Target {
        group: "apps".into(),
        version: "v1".into(),
        resource: "deployments".into(),
        namespace: Some("default".into()),
        name: Some("web".into()),
        subresource: Some("scale".into()),
    };
    let apply = |manager: &'static str, force: bool, body: &'static str| {
        let manager = (!manager.is_empty()).then(|| manager.to_owned());
        let options = Options { field_manager: manager, force, ..Options::default() };
        bytes(&world, Verb::Patch, target.clone(), options, "application/apply-patch+yaml", body)
    };
    let three = "{apiVersion: autoscaling/v1, kind: Scale, spec: {replicas: 3}}";
    let (code, text) = refused(apply("", false, three).await.map(drop));
    assert!(code == 422 && text.contains("fieldManager: Required value"), "{code} {text}");
    let wrong = "{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 3}}";
    assert_eq!(refused(apply("me", false, wrong).await.map(drop)).0, 400);
    let negative = "{apiVersion: autoscaling/v1, kind: Scale, spec: {replicas: -3}}";
    assert_eq!(refused(apply("me", true, negative).await.map(drop)).0, 422);
    let stale =
        "{apiVersion: autoscaling/v1, kind: Scale, metadata: {resourceVersion: '1'}, spec: {replicas: 3}}";
    assert_eq!(refused(apply("me", true, stale).await.map(drop)).0, 409);

    let (code, text) = refused(apply("me", false, three).await.map(drop));
    assert!(code == 409 && text.ends_with("conflict with \"test\" using apps/v1: .spec.replicas"), "{text}");
    let (object, code, _) = apply("me", true, three).await.unwrap();
    assert_eq!((object.as_kind::<Scale>().unwrap().spec.as_ref().unwrap().replicas, code), (Some(3), 200));
    let scaled = api.get("web").await.unwrap();
    assert_eq!(scaled.spec.replicas, Some(3));
    let entries = stored(&world, "deployments", "web").await.value.managed_fields().to_vec();
    let mine = entries.iter().find(|entry| entry.manager.as_deref() == Some("me")).unwrap();
    assert_eq!((mine.operation.as_deref(), mine.subresource.as_deref()), (Some("Apply"), Some("scale")));
    assert_eq!(mine.api_version.as_deref(), Some("apps/v1"));
    assert_eq!(mine.fields_v1.as_ref().unwrap().0, json!({"f:spec": {"f:replicas": {}}}));

    let five = "{apiVersion: autoscaling/v1, kind: Scale, spec: {replicas: 5}}";
    let (code, text) = refused(apply("other", false, five).await.map(drop));
    assert!(code == 409 && text.contains("\"me\" with subresource \"scale\""), "{code} {text}");
    apply("other", true, five).await.unwrap();
    assert_eq!(api.get("web").await.unwrap().spec.replicas, Some(5));
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_for_the_store_is_refused() {
    let world = World::new().await;
    let mut large = pod("a");
    large.spec.as_mut().unwrap().containers[0].command = Some(vec!["x".repeat(2 << 20)]);
    large.spec.as_mut().unwrap().containers[0].image = Some("i".into());
    let body = serde_json::to_string(&large).unwrap();
    let target = Target { resource: "pods".into(), ..config_maps() };
    let sent = bytes(&world, Verb::Create, target, Options::default(), "application/json", &body).await;
    assert_eq!(refused(sent.map(drop)).0, 413);
    let mut map = config_map("m");
    map.data = Some([("k".to_owned(), "x".repeat(2 << 20))].into());
    let (code, _) = refused(world.api().create(&PostParams::default(), map).await);
    assert!(code == 413 || code == 422, "{code}");
}

#[tokio::test(start_paused = true)]
async fn finalizers_without_a_domain_are_refused() {
    let world = World::new().await;
    let wrong = "metadata.finalizers[1]: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified";
    let finalizers = Some(vec!["example.com/held".to_owned(), "x".to_owned()]);
    let mut map = config_map("a");
    map.metadata.finalizers = finalizers.clone();
    let (code, message) = refused(world.api().create(&PostParams::default(), map).await);
    assert_eq!((code, message), (422, format!("ConfigMap \"a\" is invalid: {wrong}")));
    let mut map = (*make(&world, config_map("a")).await).clone();
    map.metadata.finalizers = finalizers;
    let (code, message) = refused(world.api().update(&PostParams::default(), map).await);
    assert_eq!((code, message), (422, format!("ConfigMap \"a\" is invalid: {wrong}")));
}

#[tokio::test(start_paused = true)]
async fn what_takes_more_than_a_transaction_holds_is_too_large() {
    // Ports so far apart that each is in a record of its own.
    let addresses = AddressRange::parse("10.96.0.0/16").unwrap();
    let wide = Arc::new(Services::new(addresses, 1..=u16::MAX));
    let world = World::with(|builder| builder.reservations(vec![wide])).await;
    let port = |port: i32| json!({"name": format!("p{port}"), "port": port, "nodePort": port * 500});
    let ports: Vec<Value> = (1..=130).map(port).collect();
    let service = service("s", json!({"type": "NodePort", "ports": ports}));
    let (code, message) = refused(world.api().create(&PostParams::default(), service).await);
    assert_eq!(code, 413, "{message}");
    assert!(message.starts_with("Request entity too large: a transaction of "), "{message}");
}

#[tokio::test(start_paused = true)]
async fn the_name_of_a_field_manager_is_checked_in_every_write() {
    let world = World::new().await;
    let map = make(&world, config_map("a")).await;
    let by = |manager: &str| PostParams { field_manager: Some(manager.into()), ..PostParams::default() };
    let long = by(&"x".repeat(129));
    let wrong = |kind| {
        format!("{kind}.meta.k8s.io \"\" is invalid: fieldManager: Too long: may not be more than 128 bytes")
    };
    assert_eq!(refused(world.api().create(&long, config_map("b")).await), (422, wrong("CreateOptions")));
    assert_eq!(refused(world.api().update(&long, (*map).clone()).await), (422, wrong("UpdateOptions")));
    let (code, message) = refused(world.api().create(&by("a\tb"), config_map("b")).await);
    assert_eq!(code, 422);
    assert!(message.ends_with("invalid character U+0009 (at position 1)"), "{message}");
    world.api().create(&by(&"x".repeat(128)), config_map("b")).await.unwrap();
}

/// Makes an object itself, once, while another create of it is under way.
#[derive(Default)]
struct Faster {
    client: Mutex<Option<Client>>,
}

#[async_trait]
impl Admission for Faster {
    fn name(&self) -> &'static str {
        "Faster"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.operation() == Operation::Create && request.is("", "services")
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        let client = self.client.lock().unwrap().take();
        if let Some(client) = client {
            let api: Api<Service> = Api::namespaced(client, "default");
            api.create(&PostParams::default(), service(request.name(), json!({"ports": [{"port": 80}]})))
                .await?;
        }
        Ok(())
    }
}

fn service(name: &str, spec: Value) -> Service {
    from_json(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}))
}

#[tokio::test(start_paused = true)]
async fn a_put_whose_create_comes_second_is_an_update() {
    let faster = Arc::new(Faster::default());
    let world = World::with(|builder| builder.admit(faster.clone())).await;
    *faster.client.lock().unwrap() = Some(world.client.clone());
    let mine = service("s", json!({"ports": [{"port": 81}]}));
    let put = world.api().update(&PostParams::default(), mine).await.unwrap();
    assert_eq!(put.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].port, 81);
    assert!(faster.client.lock().unwrap().is_none(), "there was another create");
}

/// Lets nobody create what has these names.
struct NoneNew;

#[async_trait]
impl Authorizer for NoneNew {
    async fn allows(&self, attributes: &Attributes<'_>) -> bool {
        let Action::Resource { verb: Verb::Create, target } = attributes.action else { return true };
        !["services", "configmaps"].contains(&&*target.resource)
    }

    async fn rules(&self, _: &UserInfo, _: &str) -> SubjectRulesReviewStatus {
        SubjectRulesReviewStatus { incomplete: true, ..SubjectRulesReviewStatus::default() }
    }
}

#[tokio::test(start_paused = true)]
async fn a_create_by_put_or_apply_takes_the_right_to_create() {
    let world = World::with(|builder| builder.authorizer(Arc::new(NoneNew))).await;
    let mine = service("s", json!({"ports": [{"port": 80}]}));
    let (code, message) = refused(world.api().update(&PostParams::default(), mine).await);
    assert_eq!(code, 403);
    assert!(message.contains("cannot create resource \"services\""), "{message}");
    let manager = PatchParams { field_manager: Some("me".into()), ..PatchParams::default() };
    let map = Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}));
    let (code, message) = refused(world.api::<ConfigMap>().patch("a", &manager, &map).await);
    assert_eq!(code, 403);
    assert!(message.contains("cannot create resource \"configmaps\""), "{message}");
    assert_eq!(refused(world.api::<ConfigMap>().get("a").await).0, 404);
    assert_eq!(refused(world.api::<Service>().get("s").await).0, 404);
}
