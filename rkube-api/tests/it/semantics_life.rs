//! Lines 34 to 45: the life of an object.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Binding, ConfigMap, Namespace, ObjectReference, Pod, Secret, Service, ServiceAccount},
        policy::v1::Eviction,
        scheduling::v1::PriorityClass,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use rkube_api::{
    admission::{Admission, AdmissionRequest, Operation},
    client::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams},
    error::ApiError,
    request::{ApiResponse, Body, Options, Target, Verb},
};
use serde_json::json;

use super::{
    semantics_write::{deployment, from_json},
    support::{World, config_map, labelled, pod, refused, token_target, version},
};

fn post() -> PostParams {
    PostParams::default()
}

fn finalizers(object: &ConfigMap) -> Vec<&str> {
    object.metadata.finalizers.iter().flatten().map(String::as_str).collect()
}

/// Gives a pod to a node.
async fn bind(world: &World, name: &str, node: &str) -> Result<(), ApiError> {
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(name.into()),
            annotations: Some([("bound".to_owned(), "yes".to_owned())].into()),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            kind: Some("Node".into()),
            name: Some(node.into()),
            ..ObjectReference::default()
        },
    };
    world.api::<Pod>().create_subresource(name, "binding", &post(), binding).await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn line_34_a_finalizer_holds_a_deleted_object() {
    let world = World::new().await;
    let api = world.api::<ConfigMap>();
    let mut map = config_map("a");
    map.metadata.finalizers = Some(vec!["example.com/one".into(), "example.com/two".into()]);
    api.create(&post(), map).await.unwrap();
    let held = api.delete("a", &DeleteParams::default()).await.unwrap().unwrap();
    assert!(held.metadata.deletion_timestamp.is_some());
    assert_eq!(held.metadata.deletion_grace_period_seconds, Some(0));
    let again = api.delete("a", &DeleteParams::default()).await.unwrap().unwrap();
    assert_eq!(version(&*again), version(&*held), "a second delete changes nothing");

    let mut next = (*held).clone();
    next.data = Some([("k".into(), "v".into())].into());
    next.metadata.deletion_timestamp = None;
    next.metadata.finalizers = Some(vec!["example.com/two".into()]);
    let changed = api.update(&post(), next.clone()).await.unwrap();
    assert_eq!(changed.metadata.deletion_timestamp, held.metadata.deletion_timestamp, "it stays deleted");
    next.metadata.resource_version = None;
    next.metadata.finalizers = Some(vec!["example.com/two".into(), "example.com/new".into()]);
    let (code, text) = refused(api.update(&post(), next.clone()).await);
    assert_eq!(code, 422);
    assert!(text.contains("no new finalizers can be added if the object is being deleted"), "{text}");
    next.metadata.finalizers = None;
    api.update(&post(), next).await.unwrap();
    assert_eq!(refused(api.get("a").await).0, 404);
}

#[tokio::test(start_paused = true)]
async fn line_35_and_36_propagation_is_kept_in_finalizers() {
    let world = World::new().await;
    let api = world.api::<ConfigMap>();
    for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        world.map("a").await;
        let params = DeleteParams::default().propagation(policy);
        let pending = api.delete("a", &params).await.unwrap().unwrap();
        assert_eq!(finalizers(&pending), [finalizer]);
        let released = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        api.patch("a", &PatchParams::default(), &released).await.unwrap();
        assert_eq!(refused(api.get("a").await).0, 404);
    }
    world.map("a").await;
    let background = DeleteParams::default().propagation("Background");
    assert!(api.delete("a", &background).await.unwrap().is_none());
    world.map("a").await;
    let (code, text) = refused(api.delete("a", &DeleteParams::default().propagation("Sideways")).await);
    assert_eq!(code, 422);
    assert!(text.contains("propagationPolicy: Unsupported value: \"Sideways\""), "{text}");
}

#[tokio::test(start_paused = true)]
async fn line_37_pods_are_deleted_with_grace_where_somebody_runs_them() {
    let world = World::new().await;
    let api = world.api::<Pod>();
    api.create(&post(), pod("free")).await.unwrap();
    // As in Kubernetes, the delete of a pod answers with the pod, also when it is done.
    let gone = api.delete("free", &DeleteParams::default()).await.unwrap().unwrap();
    assert_eq!(gone.metadata.name.as_deref(), Some("free"));
    assert_eq!(refused(api.get("free").await).0, 404, "not scheduled: at once");

    api.create(&post(), pod("bound")).await.unwrap();
    bind(&world, "bound", "n1").await.unwrap();
    let pending = api.delete("bound", &DeleteParams::default()).await.unwrap().unwrap();
    assert_eq!(pending.metadata.deletion_grace_period_seconds, Some(30));
    assert!(pending.metadata.deletion_timestamp.is_some());
    api.delete("bound", &DeleteParams::now()).await.unwrap();
    assert_eq!(refused(api.get("bound").await).0, 404);

    api.create(&post(), pod("done")).await.unwrap();
    bind(&world, "done", "n1").await.unwrap();
    let status = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
    api.patch_status("done", &PatchParams::default(), &status).await.unwrap();
    api.delete("done", &DeleteParams::default()).await.unwrap();
    assert_eq!(refused(api.get("done").await).0, 404, "it runs no more");
}

#[tokio::test(start_paused = true)]
async fn line_37_deletecollection_honours_selectors_and_dry_run() {
    let world = World::new().await;
    let api = world.api::<ConfigMap>();
    for (name, value) in [("a", "1"), ("b", "1"), ("c", "2")] {
        api.create(&post(), labelled(name, "group", value)).await.unwrap();
    }
    let which = ListParams::default().labels("group=1");
    let left = || async { api.list(&ListParams::default()).await.unwrap().items.len() };
    let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
    api.delete_collection(&dry, &which).await.unwrap();
    assert_eq!(left().await, 3);
    api.delete_collection(&DeleteParams::default(), &which).await.unwrap();
    assert_eq!(left().await, 1);
    api.create(&post(), config_map("d")).await.unwrap();
    let named = ListParams::default().fields("metadata.name=d");
    api.delete_collection(&DeleteParams::default(), &named).await.unwrap();
    assert_eq!((left().await, refused(api.get("d").await).0), (1, 404));
    api.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    assert_eq!(left().await, 0);
}

#[tokio::test(start_paused = true)]
async fn line_38_grace_gets_shorter_but_never_longer() {
    let world = World::new().await;
    let api = world.api::<Pod>();
    api.create(&post(), pod("a")).await.unwrap();
    bind(&world, "a", "n1").await.unwrap();
    let grace = |seconds| DeleteParams { grace_period: Some(seconds), ..DeleteParams::default() };
    let seconds = |pod: &Pod| pod.metadata.deletion_grace_period_seconds.unwrap();
    let first = api.delete("a", &grace(20)).await.unwrap().unwrap();
    assert_eq!(seconds(&first), 20);
    let longer = api.delete("a", &grace(60)).await.unwrap().unwrap();
    assert_eq!((seconds(&longer), version(&*longer)), (20, version(&*first)));
    let shorter = api.delete("a", &grace(5)).await.unwrap().unwrap();
    assert_eq!(seconds(&shorter), 5);
    let ends = |pod: &Pod| pod.metadata.deletion_timestamp.as_ref().unwrap().0.as_second();
    assert_eq!(ends(&first) - ends(&shorter), 15, "it counts from the first delete");
}

#[tokio::test(start_paused = true)]
async fn line_39_nothing_is_made_in_a_namespace_that_goes() {
    let world = World::new().await;
    world.namespace("going").await;
    let namespaces = world.all::<Namespace>();
    let api: Api<ConfigMap> = Api::namespaced(world.client.clone(), "going");
    let pending = namespaces.delete("going", &DeleteParams::default()).await.unwrap().unwrap();
    assert_eq!(pending.status.as_ref().unwrap().phase.as_deref(), Some("Terminating"));
    let error = api.create(&post(), config_map("a")).await.unwrap_err();
    assert_eq!(error.code(), 403);
    assert_eq!(
        error.to_string(),
        "configmaps \"a\" is forbidden: unable to create new content in namespace going because it is being \
         terminated"
    );
    let cause = error.to_status().details.unwrap().causes.unwrap().remove(0);
    assert_eq!(cause.reason.as_deref(), Some("NamespaceTerminating"));
    assert_eq!(cause.field.as_deref(), Some("metadata.namespace"));

    let mut empty = (*namespaces.get("going").await.unwrap()).clone();
    empty.spec.as_mut().unwrap().finalizers = None;
    let kept = namespaces.update(&post(), empty.clone()).await.unwrap();
    assert!(kept.spec.as_ref().unwrap().finalizers.is_some(), "only finalize changes them");
    let target = Target {
        version: "v1".into(),
        resource: "namespaces".into(),
        name: Some("going".into()),
        subresource: Some("finalize".into()),
        ..Target::default()
    };
    let body = Body::Object(rkube_api::object::Object::new(empty));
    world.send(Verb::Update, target, Options::default(), body).await.unwrap();
    assert_eq!(refused(namespaces.get("going").await).0, 404);
    let (code, text) = refused(api.create(&post(), config_map("a")).await);
    assert_eq!((code, text.as_str()), (404, "namespaces \"going\" not found"));
    let (code, text) = refused(namespaces.delete("default", &DeleteParams::default()).await);
    assert_eq!(
        (code, text.as_str()),
        (403, "namespaces \"default\" is forbidden: this namespace may not be deleted")
    );
}

#[tokio::test(start_paused = true)]
async fn line_43_what_may_never_change() {
    let world = World::new().await;
    let api = world.api::<Deployment>();
    api.create(&post(), deployment("web")).await.unwrap();
    let labels = json!({"app": "other"});
    let patch = Patch::Merge(json!({"spec": {
        "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}},
    }}));
    let (code, text) = refused(api.patch("web", &PatchParams::default(), &patch).await);
    assert_eq!(code, 422);
    assert!(text.contains("spec.selector") && text.contains("field is immutable"), "{text}");

    let secrets = world.api::<Secret>();
    let mut secret = Secret::default();
    secret.metadata.name = Some("s".into());
    secret.immutable = Some(true);
    secret.data = Some([("key".into(), k8s_openapi::ByteString(b"old".to_vec()))].into());
    let made = secrets.create(&post(), secret).await.unwrap();
    let mut changed = (*made).clone();
    changed.data = None;
    let (code, text) = refused(secrets.update(&post(), changed).await);
    let immutable = "field is immutable when `immutable` is set";
    assert_eq!((code, text), (422, format!("Secret \"s\" is invalid: data: Forbidden: {immutable}")));
    let freed = Patch::Merge(json!({"immutable": false}));
    let (code, text) = refused(secrets.patch("s", &PatchParams::default(), &freed).await);
    assert_eq!((code, text), (422, format!("Secret \"s\" is invalid: immutable: Forbidden: {immutable}")));
    let labelled = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    secrets.patch("s", &PatchParams::default(), &labelled).await.unwrap();

    let services = world.api::<Service>();
    services.create(&post(), service("s", json!({"ports": [{"port": 80}]}))).await.unwrap();
    let moved = Patch::Merge(json!({"spec": {"clusterIP": "10.96.7.7", "clusterIPs": ["10.96.7.7"]}}));
    let (code, text) = refused(services.patch("s", &PatchParams::default(), &moved).await);
    assert_eq!(code, 422);
    assert!(text.contains("spec.clusterIPs[0]") && text.contains("may not change once set"), "{text}");
}

fn service(name: &str, spec: serde_json::Value) -> Service {
    from_json(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}))
}

#[tokio::test(start_paused = true)]
async fn line_44_addresses_and_ports_are_taken_once_and_given_back() {
    let world = World::new().await;
    let api = world.api::<Service>();
    let chosen = json!({
        "type": "NodePort", "clusterIP": "10.96.0.10", "ports": [{"port": 80, "nodePort": 30080}],
    });
    let first = api.create(&post(), service("a", chosen.clone())).await.unwrap();
    assert_eq!(first.spec.as_ref().unwrap().cluster_ips, Some(vec!["10.96.0.10".to_owned()]));
    let (code, text) = refused(api.create(&post(), service("b", chosen.clone())).await);
    assert_eq!(code, 422);
    assert_eq!(
        text,
        "Service \"b\" is invalid: [spec.clusterIPs: Invalid value: [\"10.96.0.10\"]: failed to allocate IP \
         10.96.0.10: provided IP is already allocated, spec.ports[0].nodePort: Invalid value: 30080: provided port \
         is already allocated]"
    );
    let outside = json!({"clusterIP": "192.168.0.1", "ports": [{"port": 80}]});
    let (_, text) = refused(api.create(&post(), service("b", outside)).await);
    assert!(text.contains("The range of valid IPs is 10.96.0.0/16"), "{text}");

    let free = api.create(&post(), service("free", json!({"ports": [{"port": 80}]}))).await.unwrap();
    let address = free.spec.as_ref().unwrap().cluster_ip.clone().unwrap();
    assert!(address.starts_with("10.96."), "{address}");
    let moved = Patch::Merge(
        json!({"spec": {"type": "ExternalName", "externalName": "example.com", "clusterIP": null, "clusterIPs": null, "ports": null}}),
    );
    let moved = api.patch("a", &PatchParams::default(), &moved).await.unwrap();
    assert_eq!(moved.spec.as_ref().unwrap().cluster_ip, None);
    api.create(&post(), service("b", chosen.clone())).await.unwrap();
    api.delete("b", &DeleteParams::default()).await.unwrap();
    api.create(&post(), service("c", chosen)).await.unwrap();
    let spec = json!({"clusterIP": "None", "selector": {"a": "b"}, "ports": [{"port": 1}]});
    let headless = api.create(&post(), service("h", spec)).await.unwrap();
    assert_eq!(headless.spec.as_ref().unwrap().cluster_ips, Some(vec!["None".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn line_44_racing_services_never_share() {
    let world = World::new().await;
    let spec = json!({"type": "NodePort", "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81, "nodePort": 31000}]});
    let all = (0..6).map(|at| {
        let (api, spec) = (world.api::<Service>(), spec.clone());
        async move { api.create(&post(), service(&format!("s{at}"), spec)).await }
    });
    let results = futures::future::join_all(all).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "one gets the port they all name");
}

#[tokio::test(start_paused = true)]
async fn line_45_admission_comes_before_validation() {
    let world = World::new().await;
    let mut wrong = pod("Wrong");
    wrong.spec.as_mut().unwrap().service_account_name = Some("nobody".into());
    let (code, text) = refused(world.api::<Pod>().create(&post(), wrong).await);
    assert_eq!(
        (code, text.as_str()),
        (
            403,
            "pods \"Wrong\" is forbidden: error looking up service account default/nobody: serviceaccount \
             \"nobody\" not found"
        )
    );
}

/// Notes in which order it is asked, and what it sees.
#[derive(Default)]
struct Recorder {
    seen: Mutex<Vec<String>>,
}

#[async_trait]
impl Admission for Recorder {
    fn name(&self) -> &'static str {
        "Recorder"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.operation() == Operation::Create && request.is("", "pods")
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        self.seen.lock().unwrap().push(format!("admit {}", request.name()));
        if let Some(object) = request.object_mut() {
            object.meta_mut().labels.get_or_insert_default().insert("by".into(), "recorder".into());
        }
        Ok(())
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        let meta = request.object().unwrap().meta();
        let (labels, stamped) = (meta.labels.clone().unwrap(), meta.uid.is_some());
        self.seen.lock().unwrap().push(format!("validate {} {labels:?} {stamped}", request.name()));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn line_45_validation_comes_before_the_validating_plugins_which_see_what_is_stored() {
    let recorder = Arc::new(Recorder::default());
    let world = World::with(|builder| builder.admit(recorder.clone())).await;
    let mut wrong = pod("wrong");
    wrong.spec.as_mut().unwrap().containers.clear();
    assert_eq!(refused(world.api().create(&post(), wrong).await).0, 422);
    assert_eq!(*recorder.seen.lock().unwrap(), ["admit wrong"]);
    recorder.seen.lock().unwrap().clear();
    world.api().create(&post(), pod("right")).await.unwrap();
    let seen = recorder.seen.lock().unwrap().clone();
    assert_eq!(seen, ["admit right", "validate right {\"by\": \"recorder\"} true"]);
}

#[tokio::test(start_paused = true)]
async fn pods_get_what_admission_gives() {
    let world = World::new().await;
    let api = world.api::<Pod>();
    let made = api.create(&post(), pod("a")).await.unwrap();
    let spec = made.spec.as_ref().unwrap();
    assert_eq!(spec.service_account_name.as_deref(), Some("default"));
    assert_eq!((spec.priority, spec.preemption_policy.as_deref()), (Some(0), Some("PreemptLowerPriority")));
    assert_eq!(spec.tolerations.as_ref().unwrap().len(), 2);
    let volume = &spec.volumes.as_ref().unwrap()[0];
    assert!(volume.name.starts_with("kube-api-access-"));
    let mount = &spec.containers[0].volume_mounts.as_ref().unwrap()[0];
    assert_eq!((mount.name.as_str(), mount.read_only), (volume.name.as_str(), Some(true)));
    assert_eq!(mount.mount_path, "/var/run/secrets/kubernetes.io/serviceaccount");

    let mut account = ServiceAccount::default();
    account.metadata.name = Some("quiet".into());
    account.automount_service_account_token = Some(false);
    world.api().create(&post(), account).await.unwrap();
    let class = |name: &str, value: i32, default: bool| PriorityClass {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        value: Some(value),
        global_default: Some(default),
        ..PriorityClass::default()
    };
    let classes = world.all::<PriorityClass>();
    classes.create(&post(), class("usual", 7, true)).await.unwrap();
    let (code, text) = refused(classes.create(&post(), class("other", 8, true)).await);
    assert_eq!(code, 403);
    assert!(text.ends_with("PriorityClass usual is already marked as default. Only one default can exist"));
    let mut quiet = pod("b");
    quiet.spec.as_mut().unwrap().service_account_name = Some("quiet".into());
    let made = api.create(&post(), quiet).await.unwrap();
    let spec = made.spec.as_ref().unwrap();
    assert_eq!((spec.volumes.as_ref(), spec.priority), (None, Some(7)));
    assert_eq!(spec.priority_class_name.as_deref(), Some("usual"));
    let mut system = pod("c");
    system.spec.as_mut().unwrap().priority_class_name = Some("system-node-critical".into());
    let made = api.create(&post(), system.clone()).await.unwrap();
    assert_eq!(made.spec.as_ref().unwrap().priority, Some(2_000_001_000));
    system.spec.as_mut().unwrap().priority_class_name = Some("none".into());
    let (code, text) = refused(api.create(&post(), system).await);
    assert_eq!(
        (code, text.as_str()),
        (403, "pods \"c\" is forbidden: no PriorityClass with name none was found")
    );

    // What the default is follows each change of it.
    classes.delete("usual", &DeleteParams::default()).await.unwrap();
    let made = api.create(&post(), pod("d")).await.unwrap();
    assert_eq!(made.spec.as_ref().unwrap().priority, Some(0));
    classes.create(&post(), class("other", 8, true)).await.unwrap();
    let made = api.create(&post(), pod("e")).await.unwrap();
    assert_eq!(made.spec.as_ref().unwrap().priority, Some(8));
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_bound_once() {
    let world = World::new().await;
    let api = world.api::<Pod>();
    let before = api.create(&post(), pod("a")).await.unwrap();
    bind(&world, "a", "n1").await.unwrap();
    let bound = api.get("a").await.unwrap();
    assert_eq!(bound.spec.as_ref().unwrap().node_name.as_deref(), Some("n1"));
    assert_eq!(bound.metadata.annotations.as_ref().unwrap()["bound"], "yes");
    let conditions = bound.status.as_ref().unwrap().conditions.as_ref().unwrap();
    assert!(conditions.iter().any(|it| it.type_ == "PodScheduled" && it.status == "True"));
    assert_eq!(bound.metadata.generation, before.metadata.generation);
    let (code, text) = refused(bind(&world, "a", "n2").await);
    assert_eq!(
        (code, text.as_str()),
        (
            409,
            "Operation cannot be fulfilled on pods/binding \"a\": pod a is already assigned to node \"n1\""
        )
    );
    assert_eq!(refused(bind(&world, "nobody", "n2").await).0, 404);
    assert_eq!(refused(bind(&world, "a", "").await).0, 422);
}

#[tokio::test(start_paused = true)]
async fn an_eviction_deletes() {
    let world = World::new().await;
    let api = world.api::<Pod>();
    api.create(&post(), pod("a")).await.unwrap();
    let eviction = |name: &str| Eviction {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        delete_options: None,
    };
    let wrong = api.create_subresource("a", "eviction", &post(), eviction("b")).await;
    assert_eq!(refused(wrong), (400, "name in URL does not match name in Eviction object".to_owned()));
    let dry = PostParams { dry_run: true, ..post() };
    api.create_subresource("a", "eviction", &dry, eviction("a")).await.unwrap();
    let status = api.create_subresource("a", "eviction", &post(), eviction("a")).await.unwrap().unwrap();
    assert_eq!((status.code, status.status.as_deref()), (Some(201), Some("Success")));
    assert_eq!(refused(api.get("a").await).0, 404);
}

#[tokio::test(start_paused = true)]
async fn events_go_away_by_themselves() {
    let world = World::new().await;
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "a", "namespace": "default"},
        "reason": "Seen", "type": "Normal", "message": "m",
    });
    let api = world.api::<k8s_openapi::api::core::v1::Event>();
    api.create(&post(), from_json(event)).await.unwrap();
    tokio::time::advance(std::time::Duration::from_secs(3500)).await;
    api.get("e").await.unwrap();
    tokio::time::advance(std::time::Duration::from_secs(200)).await;
    assert_eq!(refused(api.get("e").await).0, 404);
}

#[tokio::test(start_paused = true)]
async fn a_delete_answers_with_a_status() {
    let world = World::new().await;
    world.map("a").await;
    let target = Target {
        version: "v1".into(),
        resource: "configmaps".into(),
        namespace: Some("default".into()),
        name: Some("a".into()),
        ..Target::default()
    };
    let answer = world.send(Verb::Delete, target, Options::default(), Body::Empty).await.unwrap();
    let ApiResponse::Status { status, .. } = answer else { panic!("{answer:?}") };
    let details = status.details.unwrap();
    assert_eq!((details.name.as_deref(), details.kind.as_deref()), (Some("a"), Some("configmaps")));
}

#[tokio::test(start_paused = true)]
async fn a_service_account_gets_tokens_that_expire() {
    use k8s_openapi::api::authentication::v1::TokenRequest;
    let world = World::new().await;
    let target = token_target();
    let ask = |seconds: i64| {
        let request = json!({"spec": {"audiences": [], "expirationSeconds": seconds}});
        let bytes = request.to_string().into();
        let body = Body::Bytes { content_type: "application/json".into(), bytes };
        world.send(Verb::Create, target.clone(), Options::default(), body)
    };
    let (code, text) = refused(ask(60).await);
    assert_eq!(code, 422);
    assert!(text.contains("may not specify a duration less than 10 minutes"), "{text}");
    let ApiResponse::Object { object, code: 201, .. } = ask(900).await.unwrap() else { panic!() };
    let token = object.as_kind::<TokenRequest>().unwrap().status.as_ref().unwrap().token.clone().unwrap();
    let token = rkube_api::request::Credentials::Token(token);
    let user = world.server.authenticate(&token).await.unwrap();
    assert_eq!(user.name, "system:serviceaccount:default:default");
    assert!(user.in_group("system:serviceaccounts:default"));
    tokio::time::advance(std::time::Duration::from_secs(900 + 61)).await;
    assert_eq!(refused(world.server.authenticate(&token).await).0, 401);
    let ApiResponse::Object { object, .. } = ask(900).await.unwrap() else { panic!() };
    let token = object.as_kind::<TokenRequest>().unwrap().status.as_ref().unwrap().token.clone().unwrap();
    let token = rkube_api::request::Credentials::Token(token);
    world.server.authenticate(&token).await.unwrap();
    world.api::<ServiceAccount>().delete("default", &DeleteParams::default()).await.unwrap();
    assert_eq!(refused(world.server.authenticate(&token).await).0, 401, "gone with its account");
}
