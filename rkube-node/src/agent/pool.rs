//! The pool and the handles to its nodes.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use foldhash::fast::FixedState;
use futures::future::join_all;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, Pod},
};
use parking_lot::{Mutex, RwLock};
use rkube_api::{
    client::{Api, Backoff, Change, Client, EventRecorder, Informer, Informers, Scope, WorkQueue},
    context::{Context, Task},
    object::Kind,
    request::{Credentials, UserInfo},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{NodeTemplate, PodAddresses, Pressure, pods::Pods};
use crate::{
    pod::{BackoffPolicy, Eviction, NodeFacts, Used},
    runtime::{PodRuntime, RuntimeEvent, RuntimeInfo},
    timers::Timers,
};

/// As whom the nodes of a pool act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// Each as `system:node:<name>`; the API server must be in this process, or vouch for it otherwise.
    #[default]
    PerNode,
    /// As the client is: one agent with its own certificate against a remote server.
    Client,
}

/// Which objects a pool watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Watched {
    /// All pods and nodes: right for many nodes.
    #[default]
    All,
    /// Those of one node only: right for one agent against a remote server.
    Node(String),
}

/// How a pool works. The times are the kubelet's.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// As whom.
    pub identity: Identity,
    /// Watching what.
    pub watched: Watched,
    /// How long a lease holds; it is renewed each quarter of this, and the node is checked as often.
    pub lease: Duration,
    /// How often a node's status is reported though nothing has changed.
    pub status: Duration,
    /// Waits between starts of failing containers.
    pub backoff: BackoffPolicy,
    /// How long a runtime's answer is waited for, in the work on a pod; then the work is tried again later.
    pub runtime_timeout: Duration,
    /// How many pods are worked on at once, besides those that wait for their runtimes.
    pub workers: usize,
    /// How long work under way may take to end when the pool is stopped.
    pub drain: Duration,
    /// Whether pods' events (Pulled, Started, BackOff, ...) are recorded.
    pub events: bool,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            identity: Identity::PerNode,
            watched: Watched::All,
            lease: Duration::from_secs(40),
            status: Duration::from_secs(300),
            backoff: BackoffPolicy::default(),
            runtime_timeout: Duration::from_secs(120),
            workers: 8,
            drain: Duration::from_secs(5),
            events: true,
        }
    }
}

/// One node to serve.
#[derive(Clone)]
pub struct NodeConfig {
    /// Its name.
    pub name: String,
    /// What it is like.
    pub template: Arc<NodeTemplate>,
    /// Its own addresses.
    pub ips: Vec<IpAddr>,
    /// What runs its pods.
    pub runtime: Arc<dyn PodRuntime>,
}

impl std::fmt::Debug for NodeConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeConfig({}, {:?})", self.name, self.ips)
    }
}

/// A node in a pool.
pub(super) struct Member {
    pub(super) name: Arc<str>,
    pub(super) template: Arc<NodeTemplate>,
    pub(super) runtime: Arc<dyn PodRuntime>,
    pub(super) info: RuntimeInfo,
    pub(super) facts: NodeFacts,
    user: Arc<UserInfo>,
    pub(super) state: Mutex<MemberState>,
}

#[derive(Default)]
pub(super) struct MemberState {
    pub(super) running: bool,
    /// Counts starts and stops, so that timers from before one do nothing.
    pub(super) epoch: u32,
    /// What runs has been listed since the start.
    pub(super) recovered: bool,
    /// The UID of its Node object.
    pub(super) registered: Option<String>,
    /// As the server last gave it.
    pub(super) lease: Option<Arc<Lease>>,
    pub(super) reported: Option<Instant>,
    /// When the next regular check is due.
    pub(super) next_check: Option<Instant>,
    /// A check is under way.
    pub(super) checking: bool,
    /// The runtime's health as last reported.
    pub(super) healthy: bool,
    /// The status has news.
    pub(super) dirty: bool,
    pub(super) pressure: Pressure,
    /// UIDs of its pods.
    pub(super) pods: BTreeSet<Arc<str>>,
    /// What those that it has taken use; absent: to be summed up anew.
    pub(super) used: Option<Used>,
}

/// A timer of a node: when it was due, whose, and of which epoch.
pub(super) struct Tick {
    pub(super) at: Instant,
    pub(super) member: Arc<Member>,
    pub(super) epoch: u32,
}

pub(super) struct Pool {
    pub(super) client: Client,
    pub(super) context: Context,
    pub(super) config: PoolConfig,
    pub(super) addresses: Arc<dyn PodAddresses>,
    pub(super) recorder: Option<EventRecorder>,
    pub(super) members: RwLock<HashMap<Arc<str>, Arc<Member>, FixedState>>,
    pub(super) pods: Pods,
    pub(super) queue: WorkQueue<Arc<str>>,
    /// Nothing is begun any more.
    pub(super) stopping: CancellationToken,
    workers: Mutex<Vec<Task>>,
    pub(super) ticks: Arc<Timers<Tick>>,
    pub(super) pod_informer: Informer<Pod>,
    pub(super) node_informer: Informer<Node>,
    agent: Arc<str>,
}

/// Serves nodes. Clones share the pool; it works until its context's spawner is stopped, or
/// [`NodePool::stop`].
///
/// ```no_run
/// # use std::sync::Arc;
/// # use rkube_api::client::Informers;
/// # use rkube_node::{agent::{NodePool, PodAddresses, PoolConfig, SimNodes}, runtime::sim::{Profiles, Sim}};
/// # async fn example(informers: Informers, addresses: Arc<dyn PodAddresses>) {
/// let pool = NodePool::new(&informers, addresses, PoolConfig::default());
/// let sim = Sim::new(informers.client().context(), Profiles::default());
/// let nodes = SimNodes { count: 1000, ..SimNodes::default() }.add_to(&pool, &sim);
/// nodes[0].power_off();
/// # }
/// ```
#[derive(Clone)]
pub struct NodePool(Arc<Pool>);

impl std::fmt::Debug for NodePool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodePool({} nodes, {} pods)", self.0.members.read().len(), self.0.pods.len())
    }
}

impl Member {
    pub(super) fn running(&self) -> bool {
        self.state.lock().running
    }
}

impl Pool {
    /// The client of a node.
    pub(super) fn client_of(&self, member: &Member) -> Client {
        match self.config.identity {
            Identity::Client => self.client.clone(),
            Identity::PerNode => {
                self.client.with_credentials(Credentials::InProcess(member.user.clone()), self.agent.clone())
            }
        }
    }

    pub(super) fn api<K: Kind>(&self, member: &Member) -> Api<K> {
        Api::all(self.client_of(member))
    }

    pub(super) fn member(&self, name: &str) -> Option<Arc<Member>> {
        self.members.read().get(name).cloned()
    }

    /// Has a node checked now, besides its regular times.
    pub(super) fn check_now(&self, member: &Arc<Member>) {
        let epoch = member.state.lock().epoch;
        self.ticks.add(Instant::now(), Tick { at: Instant::now(), member: member.clone(), epoch });
    }

    fn on_node(&self, change: &Change<Node>) {
        let node = change.object();
        let Some(member) = node.metadata.name.as_deref().and_then(|name| self.member(name)) else { return };
        let mut state = member.state.lock();
        match change {
            Change::Deleted(old) if state.registered.is_some() && state.registered == old.metadata.uid => {
                state.registered = None;
                state.lease = None;
                let running = state.running;
                drop(state);
                if running {
                    self.check_now(&member);
                }
            }
            Change::Deleted(_) => {}
            Change::Added(_) | Change::Updated { .. } => {
                // Someone else says the node's state is not known: the next check sets it right.
                let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
                if conditions.clone().any(|condition| condition.status == "Unknown") {
                    state.dirty = true;
                }
            }
        }
    }

    fn on_runtime(&self, member: &Arc<Member>, event: RuntimeEvent) {
        if !member.running() {
            return;
        }
        match event {
            RuntimeEvent::Pod(uid) => self.queue.add(uid),
            RuntimeEvent::Relist => {
                member.state.lock().recovered = false;
                self.check_now(member);
            }
        }
    }

    fn start(self: &Arc<Self>, member: &Arc<Member>) {
        let pods: Vec<Arc<str>> = {
            let mut state = member.state.lock();
            if state.running {
                return;
            }
            state.running = true;
            state.epoch += 1;
            state.recovered = false;
            state.reported = None;
            state.next_check = None;
            state.dirty = true;
            state.pods.iter().cloned().collect()
        };
        let (pool, weak) = (Arc::downgrade(self), Arc::downgrade(member));
        member.runtime.subscribe(Arc::new(move |event| {
            if let (Some(pool), Some(member)) = (Weak::upgrade(&pool), Weak::upgrade(&weak)) {
                pool.on_runtime(&member, event);
            }
        }));
        self.check_now(member);
        pods.into_iter().for_each(|uid| self.queue.add(uid));
    }

    fn stop(&self, member: &Arc<Member>) {
        let mut state = member.state.lock();
        state.running = false;
        state.epoch += 1;
    }
}

impl NodePool {
    /// A pool without nodes. `informers` are shared with other components of the same user; what is
    /// written is written as [`PoolConfig::identity`] says. Needs a tokio runtime.
    pub fn new(informers: &Informers, addresses: Arc<dyn PodAddresses>, config: PoolConfig) -> Self {
        let client = informers.client().clone();
        let context = client.context().child("nodes");
        let (pods, nodes) = match &config.watched {
            Watched::All => (Scope::default(), Scope::default()),
            Watched::Node(name) => (
                Scope { fields: format!("spec.nodeName={name}"), ..Scope::default() },
                Scope { fields: format!("metadata.name={name}"), ..Scope::default() },
            ),
        };
        let pool = Arc::new(Pool {
            recorder: config.events.then(|| EventRecorder::new(&client, "kubelet")),
            client,
            context,
            config,
            addresses,
            members: RwLock::default(),
            pods: Pods::default(),
            stopping: CancellationToken::new(),
            workers: Mutex::default(),
            queue: WorkQueue::new(Backoff { base: Duration::from_millis(500), max: Duration::from_secs(60) }),
            ticks: Timers::new(),
            pod_informer: informers.get_scoped(pods),
            node_informer: informers.get_scoped(nodes),
            agent: "kubelet".into(),
        });
        let weak = Arc::downgrade(&pool);
        pool.pod_informer.on_change(move |change| {
            if let Some(pool) = weak.upgrade() {
                pool.on_pod(change);
            }
        });
        let weak = Arc::downgrade(&pool);
        pool.node_informer.on_change(move |change| {
            if let Some(pool) = weak.upgrade() {
                pool.on_node(change);
            }
        });
        let spawner = &pool.context.spawner;
        let workers =
            (0..pool.config.workers.max(1)).map(|_| spawner.spawn("node-pods", pool.clone().work()));
        *pool.workers.lock() = workers.collect();
        spawner.spawn("node-heartbeats", pool.clone().beat());
        Self(pool)
    }

    /// Adds nodes and starts them. Nodes of names that are there already are left alone; their handles
    /// are to the old ones.
    pub fn add(&self, nodes: impl IntoIterator<Item = NodeConfig>) -> Vec<NodeHandle> {
        let mut handles = Vec::new();
        for config in nodes {
            let info = config.runtime.info();
            let name: Arc<str> = config.name.as_str().into();
            let member = Arc::new(Member {
                template: config.template,
                facts: NodeFacts {
                    ips: config.ips,
                    runtime: info.name.clone(),
                    backoff: self.0.config.backoff,
                },
                user: Arc::new(UserInfo::node(&name)),
                name: name.clone(),
                runtime: config.runtime,
                info,
                state: Mutex::default(),
            });
            let member = self.0.members.write().entry(name).or_insert(member).clone();
            handles.push(NodeHandle { pool: self.0.clone(), member });
        }
        // Pods that were bound to them before they were here.
        for pod in self.0.pod_informer.cache().list() {
            self.0.on_pod(&Change::Added(pod));
        }
        handles.iter().for_each(NodeHandle::start);
        handles
    }

    /// The node of a name.
    pub fn get(&self, name: &str) -> Option<NodeHandle> {
        let member = self.0.member(name)?;
        Some(NodeHandle { pool: self.0.clone(), member })
    }

    /// How many pods the pool knows on its nodes.
    pub fn pods(&self) -> usize {
        self.0.pods.len()
    }

    /// Ends the pool's tasks. What a runtime was asked for is waited for, as long as [`PoolConfig::drain`]
    /// says; else nodes and pods stay as they are, in the API and in their runtimes.
    pub async fn stop(&self) {
        self.0.stopping.cancel();
        let workers = std::mem::take(&mut *self.0.workers.lock());
        let ended = join_all(workers.into_iter().map(Task::join));
        if tokio::time::timeout(self.0.config.drain, ended).await.is_err() {
            tracing::warn!("the work on some pods did not end in time");
        }
        self.0.queue.shut_down();
        self.0.context.spawner.stop().await;
    }
}

/// A node of a pool. Dropping the handle does nothing to the node.
#[derive(Clone)]
pub struct NodeHandle {
    pool: Arc<Pool>,
    member: Arc<Member>,
}

impl std::fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeHandle({})", self.member.name)
    }
}

impl NodeHandle {
    /// The node's name.
    pub fn name(&self) -> &str {
        &self.member.name
    }

    /// What runs its pods.
    pub fn runtime(&self) -> &Arc<dyn PodRuntime> {
        &self.member.runtime
    }

    /// Whether the agent works for it.
    pub fn is_running(&self) -> bool {
        self.member.running()
    }

    /// Starts the agent of this node: it registers, lists what runs, and goes on from there.
    pub fn start(&self) {
        self.pool.start(&self.member);
    }

    /// Stops the agent of this node as if it had crashed: no lease, no status, no work on pods. What runs
    /// goes on running.
    pub fn stop(&self) {
        self.pool.stop(&self.member);
    }

    /// Says what the node is short of; it is reported at once.
    pub fn set_pressure(&self, pressure: Pressure) {
        {
            let mut state = self.member.state.lock();
            if state.pressure == pressure {
                return;
            }
            state.pressure = pressure;
            state.dirty = true;
        }
        self.pool.check_now(&self.member);
    }

    /// Evicts a pod of this node by its UID: it is stopped and fails with this reason. `false`: there is
    /// no such pod here.
    pub fn evict(&self, uid: &str, eviction: Eviction) -> bool {
        let Some(uid) = self.member.state.lock().pods.get(uid).cloned() else { return false };
        self.pool.pods.evict(&uid, eviction);
        self.pool.queue.add(uid);
        true
    }
}
