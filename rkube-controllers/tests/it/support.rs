//! A server, the built-in controllers, and node agents that only pretend.

use std::{collections::BTreeMap, marker::PhantomData, sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, ReplicaSet},
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{
            Binding, Container, ContainerPort, Event, Namespace, Node, NodeCondition, NodeStatus,
            ObjectReference, Pod, PodCondition, PodIP, PodSpec, PodStatus, PodTemplateSpec,
        },
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use rkube_api::{
    client::{
        Api, Cache, Client, DeleteParams, Informers, ListParams, ObjectKey, Patch, PatchParams, PostParams,
    },
    context::Context,
    error::ApiError,
    kinds,
    object::{Kind, Object},
    pipeline::{Authorizer, FixedTable, Server},
    registry::Registry,
    request::UserInfo,
};
use rkube_controllers::{
    all::{Deps, manager},
    resources::{RegistryResources, ResourceLister},
    runtime::{Component as _, Controller, Outcome, Reconcile, ReconcileError},
};
use rkube_store::Memory;
use tokio_util::sync::CancellationToken;

/// How controllers and tests reach the server: the same tests run over each way.
pub(crate) trait Way: Sized + 'static {
    fn client(server: &Arc<Server>, user: UserInfo, agent: &'static str) -> Client;
    fn resources(server: &Arc<Server>) -> Arc<dyn ResourceLister>;
}

/// In process.
pub(crate) struct InProcess;

impl Way for InProcess {
    fn client(server: &Arc<Server>, user: UserInfo, agent: &'static str) -> Client {
        server.client(user, agent)
    }

    fn resources(server: &Arc<Server>) -> Arc<dyn ResourceLister> {
        Arc::new(RegistryResources::new(server.registry().clone()))
    }
}

/// A running control plane, in process.
pub(crate) type World = Base<InProcess>;

/// A running control plane.
pub(crate) struct Base<W> {
    pub(crate) server: Arc<Server>,
    pub(crate) client: Client,
    pub(crate) stop: CancellationToken,
    pub(crate) silent: CancellationToken,
    way: PhantomData<W>,
}

impl<W: Way> Base<W> {
    /// With every controller, the namespace `default`, and one node whose agent answers.
    pub(crate) async fn new() -> Self {
        let world = Self::without_agents().await;
        world.node("n1").await;
        world.agent("n1");
        world
    }

    /// With every controller and the namespace `default`, but no node.
    pub(crate) async fn without_agents() -> Self {
        Self::server_only().with_controllers(|deps| deps).await
    }

    /// As [`Self::without_agents`], with these certificates to publish.
    pub(crate) async fn publishing(root_ca: &str) -> Self {
        Self::server_only().with_controllers(|deps| deps.with_root_ca(root_ca)).await
    }

    async fn with_controllers(self, tune: impl FnOnce(Deps) -> Deps) -> Self {
        let world = self;
        let user = UserInfo::component("system:kube-controller-manager");
        let informers = Informers::new(W::client(&world.server, user, "kube-controller-manager"));
        let resources = W::resources(&world.server);
        let manager = manager(&tune(Deps::new(informers, resources)), |_| true);
        let stop = world.stop.clone();
        world.server.context().spawner.spawn("manager", async move { manager.run(stop).await.unwrap() });
        for name in ["default", "kube-node-lease", "kube-system"] {
            world.namespace(name).await;
        }
        world
    }

    /// As [`Self::without_agents`], with somebody who comes in between requests and their execution.
    pub(crate) async fn interrupted_by(by: Arc<dyn Authorizer>) -> Self {
        Self::guarded(by).with_controllers(|deps| deps).await
    }

    /// With nothing but the server.
    pub(crate) fn server_only() -> Self {
        Self::guarded(Arc::new(FixedTable))
    }

    fn guarded(authorizer: Arc<dyn Authorizer>) -> Self {
        let registry = Arc::new(Registry::new(kinds::all()).unwrap());
        let store = Arc::new(Memory::<Object>::builder().build());
        let server =
            Server::builder(store, registry, Context::simulated(1)).authorizer(authorizer).build().unwrap();
        let client = W::client(&server, UserInfo::admin("admin"), "test/1.0");
        let (stop, silent) = (CancellationToken::new(), CancellationToken::new());
        Self { server, client, stop, silent, way: PhantomData }
    }

    pub(crate) fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) fn all<K: Kind>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    pub(crate) async fn create<K: Kind>(&self, object: K) -> Arc<K> {
        let api: Api<K> = match &object.metadata().namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        api.create(&PostParams::default(), object).await.unwrap()
    }

    pub(crate) async fn list<K: Kind>(&self) -> Vec<Arc<K>> {
        self.all().list(&ListParams::default()).await.unwrap().items
    }

    pub(crate) async fn get<K: Kind>(&self, name: &str) -> Option<Arc<K>> {
        self.api().get_opt(name).await.unwrap()
    }

    /// A strategic merge patch.
    pub(crate) async fn patch<K: Kind>(&self, name: &str, patch: serde_json::Value) -> Arc<K> {
        self.api().patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap()
    }

    /// The messages of events with a reason, in the order in which they came.
    pub(crate) async fn events(&self, reason: &str) -> Vec<String> {
        let mut events = self.list::<Event>().await;
        events.sort_by_key(|event| {
            event.metadata.resource_version.as_ref().and_then(|it| it.parse::<u64>().ok())
        });
        let events = events.iter().filter(|event| event.reason.as_deref() == Some(reason));
        events.map(|event| event.message.clone().unwrap_or_default()).collect()
    }

    /// A namespace for which no controller cares.
    pub(crate) async fn namespace_only(&self, name: &str) {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.into());
        self.create(namespace).await;
    }

    pub(crate) async fn namespace(&self, name: &str) {
        self.namespace_only(name).await;
        let account = async || {
            let api: Api<k8s_openapi::api::core::v1::ServiceAccount> =
                Api::namespaced(self.client.clone(), name);
            api.get_opt("default").await.unwrap().is_some()
        };
        until("the service account is there", account).await;
    }

    /// A node that says it is ready.
    pub(crate) async fn node(&self, name: &str) {
        let mut node = Node::default();
        node.metadata.name = Some(name.into());
        let node = self.create(node).await;
        let mut node = (*node).clone();
        node.status =
            Some(NodeStatus { conditions: Some(vec![ready_node(&self.client)]), ..Default::default() });
        self.all::<Node>().update_status(&PostParams::default(), node).await.unwrap();
    }

    /// Renews the node's lease and runs all pods there, until `silent`.
    pub(crate) fn agent(&self, node: &'static str) {
        let spawner = &self.client.context().spawner;
        let (client, silent) = (self.client.clone(), self.silent.clone());
        spawner.spawn("lease", async move {
            let _ = silent.run_until_cancelled(renew(client, node)).await;
        });
        let informers = Informers::new(self.client.clone());
        let pods = informers.get::<Pod>().cache().clone();
        let agent = Controller::builder("agent").for_kind::<Pod>().build(Agent {
            client: self.client.clone(),
            node,
            pods,
        });
        agent.prepare(&informers);
        let (stop, silent) = (self.stop.clone(), self.silent.clone());
        spawner.spawn("agent", async move {
            let _ = silent.run_until_cancelled(agent.run(stop)).await;
        });
    }
}

fn ready_node(client: &Client) -> NodeCondition {
    NodeCondition {
        type_: "Ready".into(),
        status: "True".into(),
        last_heartbeat_time: Some(client.context().clock.now()),
        last_transition_time: Some(client.context().clock.now()),
        ..Default::default()
    }
}

async fn renew(client: Client, node: &str) {
    let api: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    loop {
        let renew_time = Some(client.context().clock.now_micro());
        let spec = LeaseSpec { holder_identity: Some(node.into()), renew_time, ..Default::default() };
        let mut lease = api.get_opt(node).await.unwrap().map_or_else(
            || Lease { metadata: ObjectMeta { name: Some(node.into()), ..Default::default() }, spec: None },
            |lease| (*lease).clone(),
        );
        lease.spec = Some(spec);
        if lease.metadata.resource_version.is_some() {
            api.update(&PostParams::default(), lease).await.unwrap();
        } else {
            api.create(&PostParams::default(), lease).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

/// Binds pods, says that they run, and lets them go. Images named `bad` never get ready.
struct Agent {
    client: Client,
    node: &'static str,
    pods: Cache<Pod>,
}

#[async_trait]
impl Reconcile for Agent {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let Some(pod) = self.pods.get_key(key) else { return Ok(Outcome::Done) };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &*key.namespace);
        let bound = pod.spec.as_ref().unwrap().node_name.as_deref().unwrap_or_default();
        let result = if bound.is_empty() {
            let target = ObjectReference {
                kind: Some("Node".into()),
                name: Some(self.node.into()),
                ..Default::default()
            };
            let metadata = ObjectMeta {
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                ..Default::default()
            };
            let binding = Binding { metadata, target };
            api.create_subresource(&key.name, "binding", &PostParams::default(), binding).await.map(drop)
        } else if bound != self.node {
            Ok(())
        } else if pod.metadata.deletion_timestamp.is_some() {
            api.delete(&key.name, &DeleteParams::now()).await.map(drop)
        } else if pod.status.as_ref().is_none_or(|status| status.pod_ips.is_none()) {
            let running = self.running(&pod);
            api.update_status(&PostParams::default(), running).await.map(drop)
        } else {
            Ok(())
        };
        match result {
            Ok(()) | Err(ApiError::NotFound { .. }) => Ok(Outcome::Done),
            Err(error) => Err(error.into()),
        }
    }
}

impl Agent {
    fn running(&self, pod: &Pod) -> Pod {
        let mut pod = pod.clone();
        let bad = pod.spec.as_ref().unwrap().containers[0].image.as_deref().unwrap().contains("bad");
        let address =
            format!("10.0.{}.{}", self.client.context().rng.below(250), self.client.context().rng.below(250));
        pod.status = Some(PodStatus {
            phase: Some("Running".into()),
            pod_ip: Some(address.clone()),
            pod_ips: Some(vec![PodIP { ip: address }]),
            conditions: Some(vec![PodCondition {
                type_: "Ready".into(),
                status: if bad { "False" } else { "True" }.into(),
                last_transition_time: Some(self.client.context().clock.now()),
                ..Default::default()
            }]),
            ..pod.status.unwrap_or_default()
        });
        pod
    }
}

/// Waits, on paused time, until something holds.
pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..6000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("ten minutes passed, and not: {what}");
}

pub(crate) fn labels(app: &str) -> BTreeMap<String, String> {
    [("app".to_owned(), app.to_owned())].into()
}

pub(crate) fn template(app: &str, image: &str) -> PodTemplateSpec {
    let port = ContainerPort { name: Some("web".into()), container_port: 8080, ..Default::default() };
    let container = Container {
        name: "c".into(),
        image: Some(image.into()),
        ports: Some(vec![port]),
        ..Default::default()
    };
    PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels(app)), ..Default::default() }),
        spec: Some(PodSpec { containers: vec![container], ..Default::default() }),
    }
}

pub(crate) fn deployment(name: &str, replicas: i32, image: &str) -> Deployment {
    Deployment {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some("default".into()),
            ..Default::default()
        },
        spec: DeploymentSpec {
            replicas: Some(replicas),
            selector: LabelSelector { match_labels: Some(labels(name)), match_expressions: None },
            template: template(name, image),
            ..Default::default()
        },
        status: None,
    }
}

impl<W: Way> Base<W> {
    /// Waits until all of the deployment's pods are of its template and available.
    pub(crate) async fn rolled_out(&self, name: &str) -> Arc<Deployment> {
        let done = async || {
            let deployment = self.get::<Deployment>(name).await.unwrap();
            let Some(status) = &deployment.status else { return false };
            let wanted = deployment.spec.replicas.filter(|wanted| *wanted > 0);
            status.observed_generation == deployment.metadata.generation
                && status.updated_replicas == wanted
                && status.replicas == wanted
                && status.available_replicas == wanted
        };
        until("the deployment is rolled out", done).await;
        self.get(name).await.unwrap()
    }

    /// The sizes of replica sets, by the image of their template.
    pub(crate) async fn sizes(&self) -> BTreeMap<String, i32> {
        let sets = self.list::<ReplicaSet>().await;
        let image = |set: &ReplicaSet| {
            let spec = set.spec.template.as_ref().unwrap().spec.as_ref().unwrap();
            spec.containers[0].image.clone().unwrap()
        };
        sets.iter().map(|set| (image(set), set.spec.replicas.unwrap_or(1))).collect()
    }

    pub(crate) async fn set_image(&self, name: &str, image: &str) {
        let container = serde_json::json!([{"name": "c", "image": image}]);
        let patch = serde_json::json!({"spec": {"template": {"spec": {"containers": container}}}});
        self.patch::<Deployment>(name, patch).await;
    }
}

/// The status and reason of a deployment's condition.
pub(crate) fn condition(deployment: &Deployment, kind: &str) -> (String, String) {
    let list = deployment.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let found = list.iter().find(|condition| condition.type_.as_deref() == Some(kind)).unwrap();
    (found.status.clone().unwrap(), found.reason.clone().unwrap())
}
