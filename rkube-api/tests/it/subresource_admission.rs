//! What admission is told of subresources that make something, and of dry runs.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{Binding, ConfigMap, Namespace, ObjectReference, Pod, ServiceAccount},
    policy::v1::Eviction,
};
use parking_lot::Mutex;
use rkube_api::{
    admission::{Admission, AdmissionRequest},
    client::{Api, DeleteParams, ListParams, PostParams},
    error::ApiError,
    object::Kind,
};
use rkube_store::Store;

use crate::support::{World, config_map, pod, refused};

/// Writes down what it sees, in the words of a test, and says something to the user.
#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Recorder {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

#[async_trait]
impl Admission for Recorder {
    fn name(&self) -> &'static str {
        "Recorder"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if let Some(labels) = request.object_mut().map(|object| &mut object.meta_mut().labels) {
            labels.get_or_insert_default().insert("seen".into(), "yes".into());
        }
        Ok(())
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        let target = request.target();
        let what = match &target.subresource {
            Some(subresource) => format!("{}/{subresource}", target.resource),
            None => target.resource.clone(),
        };
        let kind = request.object().or(request.old()).map(|object| object.kind().to_owned());
        let dry = if request.dry_run() { " dry" } else { "" };
        let (operation, name) = (request.operation(), request.name());
        self.0.lock().push(format!("{operation:?} {what} {name} {}{dry}", kind.unwrap_or_default()));
        Ok(())
    }
}

async fn recorded() -> (World, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let plugin = recorder.clone();
    let world = World::with(|builder| builder.admit(plugin)).await;
    world.api().create(&PostParams::default(), pod("a")).await.unwrap();
    recorder.take();
    (world, recorder)
}

fn binding() -> Binding {
    let target = ObjectReference { name: Some("n1".into()), ..ObjectReference::default() };
    Binding { target, ..Binding::default() }
}

fn token() -> TokenRequest {
    TokenRequest { spec: Some(TokenRequestSpec::default()), ..TokenRequest::default() }
}

fn dry() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

async fn revision(world: &World) -> u64 {
    world.store.revision().await.unwrap().0
}

async fn post<K: Kind, B: Kind>(
    world: &World,
    name: &str,
    subresource: &str,
    params: &PostParams,
    body: B,
) -> Result<(), ApiError> {
    world.api::<K>().create_subresource(name, subresource, params, body).await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn a_binding_is_admitted_as_something_made() {
    let (world, recorder) = recorded().await;
    let before = revision(&world).await;
    post::<Pod, _>(&world, "a", "binding", &dry(), binding()).await.unwrap();
    assert_eq!(recorder.take(), ["Create pods/binding a Binding dry"]);
    assert_eq!(revision(&world).await, before, "a dry run keeps nothing");

    post::<Pod, _>(&world, "a", "binding", &PostParams::default(), binding()).await.unwrap();
    assert_eq!(recorder.take(), ["Create pods/binding a Binding"]);
    let bound = world.api::<Pod>().get("a").await.unwrap();
    assert_eq!(bound.spec.as_ref().unwrap().node_name.as_deref(), Some("n1"));
    let labels = bound.metadata.labels.clone().unwrap();
    assert_eq!(labels["seen"], "yes", "what a plugin makes of the binding counts");
}

#[tokio::test(start_paused = true)]
async fn an_eviction_is_admitted_as_an_eviction_alone() {
    let (world, recorder) = recorded().await;
    let before = revision(&world).await;
    post::<Pod, _>(&world, "a", "eviction", &dry(), Eviction::default()).await.unwrap();
    let mut asks = Eviction::default();
    asks.delete_options.get_or_insert_default().dry_run = Some(vec!["All".into()]);
    post::<Pod, _>(&world, "a", "eviction", &PostParams::default(), asks).await.unwrap();
    assert_eq!(recorder.take(), ["Create pods/eviction a Eviction dry"; 2]);
    assert_eq!(revision(&world).await, before, "a dry run keeps nothing");

    post::<Pod, _>(&world, "a", "eviction", &PostParams::default(), Eviction::default()).await.unwrap();
    assert_eq!(recorder.take(), ["Create pods/eviction a Eviction"]);
    assert_eq!(refused(world.api::<Pod>().get("a").await).0, 404);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_admitted_as_something_made() {
    let (world, recorder) = recorded().await;
    // The first one has the cluster make the key of all.
    post::<ServiceAccount, _>(&world, "default", "token", &PostParams::default(), token()).await.unwrap();
    recorder.take();
    let before = revision(&world).await;
    post::<ServiceAccount, _>(&world, "default", "token", &dry(), token()).await.unwrap();
    post::<ServiceAccount, _>(&world, "default", "token", &PostParams::default(), token()).await.unwrap();
    assert_eq!(
        recorder.take(),
        [
            "Create serviceaccounts/token default TokenRequest dry",
            "Create serviceaccounts/token default TokenRequest"
        ]
    );
    assert_eq!(revision(&world).await, before);
}

#[tokio::test(start_paused = true)]
async fn plugins_are_told_of_a_dry_run_that_the_body_asks_for() {
    let (world, recorder) = recorded().await;
    let maps = world.api::<ConfigMap>();
    maps.create(&PostParams::default(), config_map("m")).await.unwrap();
    recorder.take();
    let before = revision(&world).await;
    let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
    maps.delete("m", &dry).await.unwrap();
    maps.delete_collection(&dry, &ListParams::default()).await.unwrap();
    assert_eq!(recorder.take(), ["Delete configmaps m ConfigMap dry"; 2]);
    assert_eq!(revision(&world).await, before, "a dry run keeps nothing");
    maps.delete("m", &DeleteParams::default()).await.unwrap();
    assert_eq!(recorder.take(), ["Delete configmaps m ConfigMap"]);
}

#[tokio::test(start_paused = true)]
async fn subresources_make_nothing_in_a_namespace_that_goes() {
    let world = World::new().await;
    world.namespace("going").await;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), "going");
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), "going");
    let post = PostParams::default();
    pods.create(&post, pod("a")).await.unwrap();
    world.all::<Namespace>().delete("going", &DeleteParams::default()).await.unwrap();
    let why = "is forbidden: unable to create new content in namespace going because it is being terminated";
    let pod = (403, format!("pods \"a\" {why}"));
    assert_eq!(refused(pods.create_subresource("a", "binding", &post, binding()).await), pod);
    assert_eq!(refused(pods.create_subresource("a", "eviction", &post, Eviction::default()).await), pod);
    let account = (403, format!("serviceaccounts \"default\" {why}"));
    assert_eq!(refused(accounts.create_subresource("default", "token", &post, token()).await), account);
}
