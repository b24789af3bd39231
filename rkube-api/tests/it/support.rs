//! A server in memory and the small things that every test needs.

use std::{collections::BTreeMap, marker::PhantomData, sync::Arc};

use k8s_openapi::api::core::v1::{ConfigMap, Container, Namespace, Pod, PodSpec, ServiceAccount};
use rkube_api::{
    client::{Api, Client, PostParams},
    context::Context,
    error::ApiError,
    kinds,
    object::{Kind, Object},
    pipeline::Server,
    registry::Registry,
    request::{ApiResponse, Options, Target, UserInfo, Verb, WatchEvent, WatchStream},
};
use rkube_store::Memory;

/// How the client of a [`Base`] reaches its server: the same tests run over each way.
pub(crate) trait Way {
    fn client(server: &Arc<Server>) -> Client;
}

/// In process.
pub(crate) struct InProcess;

impl Way for InProcess {
    fn client(server: &Arc<Server>) -> Client {
        server.client(UserInfo::admin("admin"), "test/1.0")
    }
}

/// A server with every built-in kind, on an empty store, and a client in process.
pub(crate) type World = Base<InProcess>;

/// A server with every built-in kind, on an empty store.
pub(crate) struct Base<W> {
    pub(crate) server: Arc<Server>,
    pub(crate) store: Memory<Object>,
    pub(crate) client: Client,
    way: PhantomData<W>,
}

impl<W: Way> Base<W> {
    /// With the namespace `default` and its service account.
    pub(crate) async fn new() -> Self {
        Self::with(|builder| builder).await
    }

    pub(crate) async fn with(
        change: impl FnOnce(rkube_api::pipeline::Builder) -> rkube_api::pipeline::Builder,
    ) -> Self {
        Self::over(Memory::<Object>::builder().build(), change).await
    }

    pub(crate) async fn over(
        store: Memory<Object>,
        change: impl FnOnce(rkube_api::pipeline::Builder) -> rkube_api::pipeline::Builder,
    ) -> Self {
        let registry = Arc::new(Registry::new(kinds::all()).unwrap());
        let builder = Server::builder(Arc::new(store.clone()), registry, Context::simulated(1));
        let server = change(builder).build().unwrap();
        let client = W::client(&server);
        let world = Self { server, store, client, way: PhantomData };
        world.namespace("default").await;
        world
    }

    pub(crate) fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) fn all<K: Kind>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    /// Makes a namespace and its service account.
    pub(crate) async fn namespace(&self, name: &str) {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.into());
        self.all().create(&PostParams::default(), namespace).await.unwrap();
        let mut account = ServiceAccount::default();
        account.metadata.name = Some("default".into());
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), name);
        api.create(&PostParams::default(), account).await.unwrap();
    }

    /// Sends any request.
    pub(crate) async fn send(
        &self,
        verb: Verb,
        target: Target,
        options: Options,
        body: rkube_api::request::Body,
    ) -> Result<ApiResponse, ApiError> {
        self.client.request(verb, target, options, body).await
    }

    /// A list with raw options.
    pub(crate) async fn list(&self, options: Options) -> Result<rkube_api::request::List, ApiError> {
        match self.send(Verb::List, config_maps(), options, rkube_api::request::Body::Empty).await? {
            ApiResponse::List(list) => Ok(list),
            other => panic!("{other:?}"),
        }
    }

    /// A watch with raw options.
    pub(crate) async fn watch(&self, options: Options) -> Result<WatchStream, ApiError> {
        match self.send(Verb::Watch, config_maps(), options, rkube_api::request::Body::Empty).await? {
            ApiResponse::Watch(stream) => Ok(stream),
            other => panic!("{other:?}"),
        }
    }

    /// Makes a config map and gives its version.
    pub(crate) async fn map(&self, name: &str) -> u64 {
        version(&*self.api().create(&PostParams::default(), config_map(name)).await.unwrap())
    }
}

/// All config maps of `default`.
pub(crate) fn config_maps() -> Target {
    Target {
        version: "v1".into(),
        resource: "configmaps".into(),
        namespace: Some("default".into()),
        ..Target::default()
    }
}

/// Where the service account `default` asks for tokens.
pub(crate) fn token_target() -> Target {
    Target {
        version: "v1".into(),
        resource: "serviceaccounts".into(),
        namespace: Some("default".into()),
        name: Some("default".into()),
        subresource: Some("token".into()),
        ..Target::default()
    }
}

pub(crate) fn config_map(name: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.into());
    map
}

pub(crate) fn labelled(name: &str, key: &str, value: &str) -> ConfigMap {
    let mut map = config_map(name);
    map.metadata.labels = Some(BTreeMap::from([(key.to_owned(), value.to_owned())]));
    map
}

pub(crate) fn pod(name: &str) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = Some(name.into());
    let container = Container { name: "c".into(), image: Some("nginx".into()), ..Container::default() };
    pod.spec = Some(PodSpec { containers: vec![container], ..PodSpec::default() });
    pod
}

/// The version of an object.
pub(crate) fn version(object: &impl Kind) -> u64 {
    object.metadata().resource_version.as_deref().unwrap().parse().unwrap()
}

/// An event in short: its type and the object's name, or the version of a bookmark.
pub(crate) fn short(event: &WatchEvent) -> String {
    match event {
        WatchEvent::Added(object) => format!("ADDED {}", object.name()),
        WatchEvent::Modified(object) => format!("MODIFIED {}", object.name()),
        WatchEvent::Deleted(object) => format!("DELETED {}", object.name()),
        WatchEvent::Bookmark { initial_events_end, .. } => format!("BOOKMARK {initial_events_end}"),
        WatchEvent::Error(error) => format!("ERROR {} {}", error.code(), error.reason()),
    }
}

/// The code and the text of a refusal.
pub(crate) fn refused<T>(result: Result<T, ApiError>) -> (u16, String) {
    match result {
        Ok(_) => panic!("it was not refused"),
        Err(error) => (error.code(), error.to_string()),
    }
}
