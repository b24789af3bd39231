//! A server in memory, a pool of simulated nodes, and what tests ask of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::api::{
    authorization::v1::SubjectRulesReviewStatus,
    coordination::v1::Lease,
    core::v1::{ContainerStatus, Namespace, Node, Pod, ServiceAccount},
};
use parking_lot::Mutex;
use rkube_api::{
    client::{Api, Client, DeleteParams, Informers, PostParams},
    context::Context,
    kinds,
    object::{Kind, Object},
    pipeline::{Action, Attributes, Authorizer, FixedTable, Server},
    registry::Registry,
    request::UserInfo,
};
use rkube_node::{
    agent::{AddressError, NodePool, PodAddresses, PoolConfig, SimHandle, SimNodes},
    runtime::sim::{Profiles, Sim},
};
use rkube_store::Memory;
use serde_json::{Value, json};

/// Addresses of one range for all nodes; remembers who has which.
#[derive(Default)]
pub(crate) struct Addresses(Mutex<BTreeMap<String, IpAddr>>, Mutex<u32>);

impl Addresses {
    pub(crate) fn held(&self) -> usize {
        self.0.lock().len()
    }
}

impl PodAddresses for Addresses {
    fn allocate(&self, _: &str, uid: &str) -> Result<Vec<IpAddr>, AddressError> {
        let new = || {
            let mut last = self.1.lock();
            *last += 1;
            IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0af4_0000 + *last))
        };
        Ok(vec![*self.0.lock().entry(uid.to_owned()).or_insert_with(new)])
    }

    fn reserve(&self, _: &str, uid: &str, ips: &[IpAddr]) {
        self.0.lock().insert(uid.to_owned(), ips[0]);
    }

    fn release(&self, _: &str, uid: &str) {
        self.0.lock().remove(uid);
    }
}

/// Who wrote what, as authorization saw it.
#[derive(Default)]
pub(crate) struct Writers(Mutex<BTreeMap<String, BTreeSet<String>>>);

impl Writers {
    /// The users who did this, `update pods/status`.
    pub(crate) fn seen(&self, what: &str) -> BTreeSet<String> {
        self.0.lock().get(what).cloned().unwrap_or_default()
    }
}

#[async_trait]
impl Authorizer for Writers {
    async fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if let Action::Resource { verb, target } = attributes.action {
            let sub = target.subresource.iter().map(|sub| format!("/{sub}")).collect::<String>();
            let what = format!("{verb} {}{sub}", target.resource);
            self.0.lock().entry(what).or_default().insert(attributes.user.name.clone());
        }
        FixedTable.allows(attributes).await
    }

    async fn rules(&self, user: &UserInfo, namespace: &str) -> SubjectRulesReviewStatus {
        FixedTable.rules(user, namespace).await
    }
}

pub(crate) struct World {
    pub(crate) writers: Arc<Writers>,
    pub(crate) server: Arc<Server>,
    pub(crate) client: Client,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) pool: NodePool,
    pub(crate) sim: Sim,
    pub(crate) nodes: Vec<SimHandle>,
}

/// How long a test waits for something, of the clock that it runs on.
const PATIENCE: Duration = Duration::from_secs(3600);

impl World {
    /// `nodes` nodes, all registered and ready.
    pub(crate) async fn new(nodes: u32) -> Self {
        Self::with(nodes, PoolConfig::default(), Profiles::default()).await
    }

    pub(crate) async fn with(count: u32, config: PoolConfig, profiles: Profiles) -> Self {
        let store = Memory::<Object>::builder().build();
        let registry = Arc::new(Registry::new(kinds::all()).unwrap());
        let writers = Arc::new(Writers::default());
        let server = Server::builder(Arc::new(store), registry, Context::simulated(1))
            .authorizer(writers.clone())
            .build()
            .unwrap();
        let client = server.client(UserInfo::admin("admin"), "test");
        for name in ["default", "kube-node-lease"] {
            let mut namespace = Namespace::default();
            namespace.metadata.name = Some(name.into());
            Api::all(client.clone()).create(&PostParams::default(), namespace).await.unwrap();
        }
        let mut account = ServiceAccount::default();
        account.metadata.name = Some("default".into());
        Api::namespaced(client.clone(), "default").create(&PostParams::default(), account).await.unwrap();
        let addresses = Arc::new(Addresses::default());
        let informers = Informers::new(server.client(UserInfo::node("pool"), "kubelet"));
        let pool = NodePool::new(&informers, addresses.clone(), config);
        let sim = Sim::new(client.context(), profiles);
        let nodes = SimNodes { count, ..SimNodes::default() }.add_to(&pool, &sim);
        let world = Self { writers, server, client, addresses, pool, sim, nodes };
        for number in 0..count {
            world
                .until(&format!("node {number} ready"), async || world.ready(&format!("node-{number}")).await)
                .await;
        }
        world
    }

    /// Waits until something holds.
    pub(crate) async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let start = tokio::time::Instant::now();
        while !holds().await {
            assert!(start.elapsed() < PATIENCE, "never: {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) fn all<K: Kind>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) async fn ready(&self, node: &str) -> bool {
        let node = self.all::<Node>().get_opt(node).await.unwrap();
        let status = node.and_then(|node| node.status.clone()).unwrap_or_default();
        status.conditions.iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True")
    }

    pub(crate) async fn lease(&self, node: &str) -> Option<Arc<Lease>> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), "kube-node-lease");
        leases.get_opt(node).await.unwrap()
    }

    /// Makes a pod that is bound to a node; `more` goes into its spec, `profile` into its annotations.
    pub(crate) async fn pod(&self, name: &str, node: &str, profile: &str, more: Value) -> Arc<Pod> {
        let mut spec = json!({"nodeName": node, "containers": [{"name": "c", "image": "nginx:1.27"}]});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let pod = serde_json::from_value(json!({
            "metadata": {"name": name, "annotations": {"sim.rkube.dev/profile": profile}},
            "spec": spec,
        }));
        self.pods().create(&PostParams::default(), pod.unwrap()).await.unwrap()
    }

    pub(crate) async fn get(&self, name: &str) -> Option<Arc<Pod>> {
        self.pods().get_opt(name).await.unwrap()
    }

    pub(crate) async fn phase(&self, name: &str) -> String {
        let pod = self.get(name).await;
        pod.and_then(|pod| pod.status.as_ref()?.phase.clone()).unwrap_or_else(|| "Gone".into())
    }

    /// The container `c` of a pod.
    pub(crate) async fn container(&self, name: &str) -> ContainerStatus {
        let pod = self.get(name).await.unwrap();
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        statuses.and_then(|all| all.first()).cloned().unwrap_or_default()
    }

    pub(crate) async fn waiting(&self, name: &str) -> String {
        let state = self.container(name).await.state.unwrap_or_default();
        state.waiting.and_then(|waiting| waiting.reason).unwrap_or_default()
    }

    pub(crate) async fn until_phase(&self, name: &str, phase: &str) {
        self.until(&format!("{name} {phase}"), async || self.phase(name).await == phase).await;
    }

    pub(crate) async fn delete(&self, name: &str, params: &DeleteParams) {
        self.pods().delete(name, params).await.unwrap();
    }
}

/// `True` or `False`, or nothing.
pub(crate) fn condition(pod: &Pod, kind: &str) -> String {
    let all = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    all.into_iter().find(|one| one.type_ == kind).map(|one| one.status.clone()).unwrap_or_default()
}
