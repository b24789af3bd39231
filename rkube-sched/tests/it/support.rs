//! A server in memory, a scheduler on it, and the small things that every test needs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use rkube_api::{
    client::{Api, Client, DeleteParams, Informers, ListParams, Patch, PatchParams, PostParams},
    context::Context,
    error::ApiError,
    k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod, PodCondition, ServiceAccount},
    kinds,
    object::{Kind, Object},
    pipeline::Server,
    registry::{Definition, Registry},
    request::{ApiRequest, ApiResponse, Credentials, Transport, UserInfo},
};
use rkube_sched::{
    Config, Scheduler,
    driver::{Inspector, Stats},
    framework::{PluginRegistry, ProfileConfig, WaitingPods},
};
use rkube_store::Memory;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub(crate) struct World {
    server: Arc<Server>,
    pub(crate) client: Client,
}

/// A scheduler under way.
pub(crate) struct Running {
    pub(crate) token: CancellationToken,
    pub(crate) stats: Arc<Stats>,
    pub(crate) waiting: WaitingPods,
    pub(crate) inspector: Inspector,
}

impl World {
    pub(crate) async fn new(seed: u64) -> Self {
        Self::of_kinds(seed, kinds::all()).await
    }

    /// With a server that serves these kinds only.
    pub(crate) async fn of_kinds(seed: u64, kinds: Vec<Definition>) -> Self {
        let store = Memory::<Object>::builder().build();
        let registry = Arc::new(Registry::new(kinds).unwrap());
        let server = Server::builder(Arc::new(store), registry, Context::simulated(seed)).build().unwrap();
        let client = server.client(UserInfo::admin("admin"), "test/1.0");
        let world = Self { server, client };
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("default".into());
        world.api().create(&PostParams::default(), namespace).await.unwrap();
        let mut account = ServiceAccount::default();
        account.metadata.name = Some("default".into());
        account.metadata.namespace = Some("default".into());
        world.api().create(&PostParams::default(), account).await.unwrap();
        world
    }

    /// Objects of all namespaces, or of none.
    pub(crate) fn api<K: Kind>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) fn scheduler(&self, config: Config) -> Running {
        let client = self.server.client(UserInfo::component("system:kube-scheduler"), "kube-scheduler/v1.37");
        Self::run(client, config)
    }

    /// A scheduler some of whose requests fail: `fault` says which, and how.
    pub(crate) fn scheduler_with_faults(&self, config: Config, fault: impl Fault) -> Running {
        self.scheduler_over(config, |server| Faulty { server, fault })
    }

    /// A scheduler whose requests go another way to the server.
    pub(crate) fn scheduler_over<T: Transport>(
        &self,
        config: Config,
        transport: impl FnOnce(Arc<Server>) -> T,
    ) -> Running {
        let transport = Arc::new(transport(self.server.clone()));
        let user = Credentials::InProcess(Arc::new(UserInfo::component("system:kube-scheduler")));
        let client = Client::new(transport, user, "kube-scheduler/v1.37", self.client.context().clone());
        Self::run(client, config)
    }

    fn run(client: Client, config: Config) -> Running {
        let scheduler = Scheduler::new(client.clone(), Informers::new(client.clone()), config).unwrap();
        let (token, stats, waiting) = (CancellationToken::new(), scheduler.stats(), scheduler.waiting());
        let inspector = scheduler.inspector();
        client.context().spawner.spawn("test-scheduler", scheduler.run(token.clone()));
        Running { token, stats, waiting, inspector }
    }

    /// A ready node.
    pub(crate) async fn node(&self, name: &str, cpu: &str) {
        self.node_with(name, cpu, json!({}), json!({})).await;
    }

    pub(crate) async fn node_with(&self, name: &str, cpu: &str, labels: Value, spec: Value) {
        let resources = json!({"cpu": cpu, "memory": "16Gi", "pods": "110"});
        let node = from(json!({
            "metadata": {"name": name, "labels": labels}, "spec": spec,
            "status": {
                "capacity": resources, "allocatable": resources,
                "conditions": [{"type": "Ready", "status": "True"}]
            }
        }));
        let made = self.api::<Node>().create(&PostParams::default(), node).await.unwrap();
        // A new node may come with the taint that its lifecycle controller takes away.
        if made
            .spec
            .as_ref()
            .and_then(|spec| spec.taints.as_ref())
            .is_some_and(|taints| taints.iter().any(|taint| taint.key == "node.kubernetes.io/not-ready"))
        {
            let rest = Patch::Merge(json!({"spec": {"taints": null}}));
            self.api::<Node>().patch(name, &PatchParams::default(), &rest).await.unwrap();
        }
    }

    /// A pod that asks for CPU.
    pub(crate) async fn pod(&self, name: &str, cpu: &str) -> Arc<Pod> {
        self.pod_with(name, cpu, json!({})).await
    }

    pub(crate) async fn pod_with(&self, name: &str, cpu: &str, mut spec: Value) -> Arc<Pod> {
        spec["containers"] = json!([{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]);
        let pod = from(json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}));
        self.pods().create(&PostParams::default(), pod).await.unwrap()
    }

    pub(crate) async fn delete_pod(&self, name: &str) {
        self.pods().delete(name, &DeleteParams::now()).await.unwrap();
    }

    /// The node of each pod that has one.
    pub(crate) async fn placed(&self) -> BTreeMap<String, String> {
        let pods = self.pods().list(&ListParams::default()).await.unwrap().items;
        let node = |pod: &Pod| pod.spec.as_ref()?.node_name.clone();
        let placed = pods.iter().filter_map(|pod| Some((pod.metadata.name.clone()?, node(pod)?)));
        placed.collect()
    }

    pub(crate) async fn node_of(&self, pod: &str) -> Option<String> {
        self.placed().await.remove(pod)
    }

    /// The condition `PodScheduled`.
    pub(crate) async fn condition(&self, pod: &str) -> PodCondition {
        let pod = self.pods().get(pod).await.unwrap();
        let conditions = pod.status.clone().unwrap_or_default().conditions.unwrap_or_default();
        conditions.into_iter().find(|condition| condition.type_ == "PodScheduled").unwrap_or_default()
    }

    /// Reason and message of each event about a pod, in the order of their making.
    pub(crate) async fn events(&self, pod: &str) -> Vec<(String, String)> {
        let events = self.api::<Event>().list(&ListParams::default()).await.unwrap().items;
        let of_pod = events.iter().filter(|event| event.involved_object.name.as_deref() == Some(pod));
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        of_pod.map(|event| (text(&event.reason), text(&event.message))).collect()
    }
}

/// Says what becomes of a request instead of an answer.
pub(crate) trait Fault: Fn(&ApiRequest) -> Option<ApiError> + Send + Sync + 'static {}

impl<F: Fn(&ApiRequest) -> Option<ApiError> + Send + Sync + 'static> Fault for F {}

struct Faulty<F> {
    server: Arc<Server>,
    fault: F,
}

#[async_trait]
impl<F: Fault> Transport for Faulty<F> {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        match (self.fault)(&request) {
            Some(error) => Err(error),
            None => self.server.send(request).await,
        }
    }
}

/// Lets everything settle, and `seconds` pass.
pub(crate) async fn after(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
}

pub(crate) fn from<K: Kind>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// The standard profile with further plugins.
pub(crate) fn with_plugins(names: &[&str], add: impl FnOnce(&mut PluginRegistry)) -> Config {
    let mut plugins = rkube_sched::plugins::all();
    add(&mut plugins);
    let profile = names.iter().fold(ProfileConfig::standard(), |profile, name| profile.with(*name, 1));
    Config { profiles: vec![profile], plugins, ..Config::default() }
}
