//! A cluster in this process: its builder and its handle.

#[cfg(feature = "durable")]
use std::path::{Path, PathBuf};
use std::{net::SocketAddr, sync::Arc};

use rkube_api::{
    admission::Admission,
    alloc::Services,
    client::{Api, Client},
    context::{Clock, Context, Spawner},
    http::{self, ApiService},
    kinds,
    object::{Kind, Object},
    pipeline::{Authenticator, Kept, Server},
    registry::{Definition, Registry},
    request::UserInfo,
};
use rkube_controllers::{
    all::{Deps, Descriptor},
    runtime::Component,
};
use rkube_net::ipam::RangeConfig;
use rkube_sched::Config as SchedulerConfig;
#[cfg(feature = "etcd")]
use rkube_store::backend::etcd;
#[cfg(feature = "durable")]
use rkube_store::backend::{durable, memory};
use rkube_store::{Revision, Store, Transform};

use crate::{
    Error,
    components::{self, Nodes, Settings},
    config::{Election, Listen, NodeGroup, Waits},
    defaults,
    endpoints::Endpoints,
    identity,
    listen::Listener,
    readiness,
    shutdown::{self, Part},
    state::{self, Close, Opened, Sharing, State},
    wait,
};

/// Puts a cluster together. What is not said has a default that works: a store in memory, the built-in
/// kinds, the scheduler with its default profile, every built-in controller, no nodes, no socket.
///
/// ```
/// use rkube::prelude::*;
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let cluster = Cluster::builder().seed(7).nodes(2).start().await?;
/// let nodes: Api<Node> = Api::all(cluster.client());
/// cluster.wait_for(&nodes, "node-1", |node| node.is_some()).await?;
/// cluster.stop().await;
/// # Ok::<(), rkube::Error>(())
/// # }).unwrap();
/// ```
#[must_use]
pub struct Builder {
    seed: Option<u64>,
    simulated: bool,
    /// The clock of the cluster that this one is a fork of.
    clock: Option<Clock>,
    state: State,
    definitions: Vec<Definition>,
    admission: Vec<Arc<dyn Admission>>,
    authenticators: Vec<Arc<dyn Authenticator>>,
    settings: Settings,
    listen: Option<Listen>,
    waits: Waits,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Builder(seed {:?}, {:?}, listen {:?})", self.seed, self.settings.nodes, self.listen)
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            seed: None,
            simulated: false,
            clock: None,
            state: State::Anew,
            definitions: kinds::all(),
            admission: rkube_api::admission::all(),
            authenticators: Vec::new(),
            settings: Settings::default(),
            listen: None,
            waits: Waits::default(),
        }
    }
}

impl Builder {
    /// Randomness, UIDs and generated names follow from this, and from the revision of a store that was used
    /// before: what it holds already is not made again. A seed of the system's unless said otherwise.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Wall time begins at 2026-01-01 (or when the youngest object was made of a store that was used before)
    /// and follows `tokio::time`, so that under a current-thread runtime with paused time the same seed gives the same run.
    pub fn simulated(mut self, seed: u64) -> Self {
        self.simulated = true;
        self.seed(seed)
    }

    /// Keeps the cluster's state in this store instead of a new one in memory.
    pub fn store(mut self, store: Arc<dyn Store<Object>>) -> Self {
        self.state = State::Given(store);
        self
    }

    /// Begins with the state that [`Cluster::save`] wrote to a file, in memory. It goes on from there: no
    /// revision, UID or address is given again. Of the methods that say where the state is, the last one counts:
    /// a folder begins with a file by [`Builder::restore_into`]. Feature `durable`, on by default.
    #[cfg(feature = "durable")]
    pub fn restore(self, path: impl Into<PathBuf>) -> Self {
        self.restore_with(path, |store| store)
    }

    /// As [`Builder::restore`], into a store in memory with other options: what opens sealed values, say.
    #[cfg(feature = "durable")]
    pub fn restore_with(
        mut self,
        path: impl Into<PathBuf>,
        change: impl FnOnce(memory::Builder<Object>) -> memory::Builder<Object>,
    ) -> Self {
        self.state = State::saved(path.into(), change);
        self
    }

    /// Keeps the cluster's state in this folder, which is made if it is not there: a cluster that is started
    /// on it again goes on where the last one ended, however that ended. Feature `durable`, on by default.
    ///
    /// ```
    /// use rkube::prelude::*;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let folder = std::env::temp_dir().join(format!("rkube-data-{}", std::process::id()));
    /// let cluster = Cluster::builder().data_dir(&folder).start().await?;
    /// let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "default");
    /// let mut map = ConfigMap::default();
    /// map.metadata.name = Some("kept".into());
    /// maps.create(&PostParams::default(), map).await?;
    /// cluster.stop().await;
    ///
    /// let cluster = Cluster::builder().data_dir(&folder).start().await?;
    /// let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "default");
    /// maps.get("kept").await?;
    /// # cluster.stop().await;
    /// # let _ = std::fs::remove_dir_all(folder);
    /// # Ok::<(), rkube::Error>(())
    /// # }).unwrap();
    /// ```
    #[cfg(feature = "durable")]
    pub fn data_dir(self, path: impl Into<PathBuf>) -> Self {
        self.data_dir_with(path, |store| store)
    }

    /// As [`Builder::data_dir`], with other options of the store: a quota, how much is kept as objects, or what
    /// seals values at rest.
    ///
    /// ```
    /// use rkube::prelude::*;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let folder = std::env::temp_dir().join(format!("rkube-bounds-{}", std::process::id()));
    /// let builder = Cluster::builder().data_dir_with(&folder, |store| store.quota_bytes(8 << 30));
    /// let cluster = builder.start().await?;
    /// # cluster.stop().await;
    /// # let _ = std::fs::remove_dir_all(folder);
    /// # Ok::<(), rkube::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// With the feature `encrypt` of this crate, chosen kinds are sealed, and always the cluster's own keys:
    ///
    /// ```
    /// # #[cfg(feature = "encrypt")] {
    /// use std::sync::Arc;
    /// use rkube::{Cluster, store::{Prefix, encrypt::{Encryption, EncryptionKey}}};
    /// # let (folder, secret) = (std::env::temp_dir().join("rkube-sealed"), [7; 32]);
    /// let keys = [EncryptionKey::new("2026-11", secret)?];
    /// let encryption = Arc::new(Encryption::new([Prefix::new("/registry/secrets")], keys)?);
    /// let builder = Cluster::builder().data_dir_with(&folder, |store| store.transform(encryption));
    /// # let _ = builder;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "durable")]
    pub fn data_dir_with(
        mut self,
        path: impl Into<PathBuf>,
        change: impl FnOnce(durable::Builder<Object>) -> durable::Builder<Object>,
    ) -> Self {
        self.state = State::folder(path.into(), None, change);
        self
    }

    /// Begins with the state that [`Cluster::save`] wrote to a file, as [`Builder::restore`] does, and keeps it in
    /// this folder from then on. There must be no store in the folder yet; to go on later, start on it by
    /// [`Builder::data_dir`]. Feature `durable`, on by default.
    #[cfg(feature = "durable")]
    pub fn restore_into(self, saved: impl Into<PathBuf>, folder: impl Into<PathBuf>) -> Self {
        self.restore_into_with(saved, folder, |store| store)
    }

    /// As [`Builder::restore_into`], with other options of the store: what opens sealed values, say.
    #[cfg(feature = "durable")]
    pub fn restore_into_with(
        mut self,
        saved: impl Into<PathBuf>,
        folder: impl Into<PathBuf>,
        change: impl FnOnce(durable::Builder<Object>) -> durable::Builder<Object>,
    ) -> Self {
        self.state = State::folder(folder.into(), Some(saved.into()), change);
        self
    }

    /// Keeps the cluster's state in etcd. Several processes can serve one cluster so; each of them takes part
    /// in an election (see [`Builder::elect`]), under a name of its own unless one is given.
    ///
    /// ```no_run
    /// # async fn start() -> Result<(), rkube::Error> {
    /// use rkube::prelude::*;
    /// use rkube::store::backend::etcd::Etcd;
    /// let cluster = Cluster::builder().etcd(Etcd::builder(["http://127.0.0.1:2379"])).start().await?;
    /// # cluster.stop().await;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "etcd")]
    pub fn etcd(mut self, store: etcd::Builder<Object>) -> Self {
        self.state = State::Etcd(Box::new(store));
        self
    }

    /// Runs the scheduler, the controllers and what gives nodes their ranges only while this process leads:
    /// for several processes with one store. Give the first a [`Builder::pod_network`] with room for the nodes of
    /// all, and each a seed of its own.
    pub fn elect(mut self, election: Election) -> Self {
        self.settings.election = Some(election);
        self
    }

    /// Serves a further kind.
    pub fn definition(mut self, definition: Definition) -> Self {
        self.definitions.push(definition);
        self
    }

    /// Adds an admission plugin behind the built-in ones.
    pub fn admission(mut self, plugin: Arc<dyn Admission>) -> Self {
        self.admission.push(plugin);
        self
    }

    /// Adds what knows the users of bearer tokens.
    pub fn authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.authenticators.push(authenticator);
        self
    }

    /// Adds so many simulated nodes of the default size, `node-1`, `node-2`, ...
    pub fn nodes(self, count: u32) -> Self {
        self.node_group(NodeGroup::new("node", count))
    }

    /// Adds simulated nodes of a size and behaviour of their own.
    pub fn node_group(mut self, group: NodeGroup) -> Self {
        self.settings.nodes.push(group);
        self
    }

    /// The scheduler's profiles and plugins.
    pub fn scheduler(mut self, config: SchedulerConfig) -> Self {
        self.settings.scheduler = Some(config);
        self
    }

    /// Runs without a scheduler; another one may serve the cluster from outside.
    pub fn without_scheduler(mut self) -> Self {
        self.settings.scheduler = None;
        self
    }

    /// Adds a controller of the host's to the built-in ones; it shares their client and informers. It is
    /// built each time this process comes to lead, where there is an election.
    pub fn component(mut self, build: impl Fn(&Deps) -> Arc<dyn Component> + Send + Sync + 'static) -> Self {
        self.settings.components.push(Box::new(build));
        self
    }

    /// Runs only those controllers for which this holds.
    pub fn retain_controllers(mut self, keep: impl Fn(&Descriptor) -> bool) -> Self {
        self.settings.controllers.retain(|descriptor| keep(descriptor));
        self
    }

    /// The ranges that nodes get, of which pods get addresses: those that the cluster was made with. Unless
    /// said otherwise it is made with enough for the nodes, and goes on with what it has.
    pub fn pod_network(mut self, config: RangeConfig) -> Self {
        self.settings.pod_network = Some(config);
        self
    }

    /// Serves HTTPS. Without this there is no socket at all.
    pub fn listen(mut self, listen: Listen) -> Self {
        self.listen = Some(listen);
        self
    }

    /// How long the handle waits.
    pub fn waits(mut self, waits: Waits) -> Self {
        self.waits = waits;
        self
    }

    /// What all servers of a cluster must have in common is what it was made with.
    async fn agree(&mut self, kept: &Kept, sharing: Sharing) -> Result<(), Error> {
        identity::check_services(kept, &Services::default()).await?;
        let nodes = self.settings.nodes.iter().map(|group| group.nodes.count).sum();
        let chosen = self.settings.pod_network.take();
        let is_sole = sharing == Sharing::Sole;
        self.settings.pod_network = identity::pod_network(kept, chosen, nodes, is_sole).await?;
        Ok(())
    }

    /// Starts the cluster on the current tokio runtime. It serves requests when this returns; nodes
    /// register and controllers start meanwhile.
    ///
    /// # Errors
    /// When two definitions are for one resource, the address cannot be listened on, or the cluster was made
    /// with other networks.
    pub async fn start(mut self) -> Result<Cluster, Error> {
        let seed = match self.seed {
            Some(seed) => seed,
            None => getrandom::u64().map_err(Error::Seed)?,
        };
        let Opened { store, driver, close, sharing, transform } =
            std::mem::take(&mut self.state).open().await?;
        let at = store.revision().await?;
        let clock = self.clock(&*store, at).await?;
        let context = Context { clock, rng: state::rng(seed, at), spawner: Spawner::new() };
        // If anything below fails, what was started by then ends.
        let guard = context.spawner.token().clone().drop_guard();
        if let Some(driver) = driver {
            context.spawner.spawn("store", driver);
        }
        let is_shared = sharing == Sharing::Shared;
        if is_shared && self.settings.election.is_none() {
            let name = getrandom::u64().map_err(Error::Seed)?;
            self.settings.election = Some(Election::new(format!("rkube-{name:016x}")));
        }
        let kept = Kept::new(store.clone());
        self.agree(&kept, sharing).await?;
        let registry = Arc::new(Registry::new(std::mem::take(&mut self.definitions))?);
        let server = Server::builder(store.clone(), registry.clone(), context.child("apiserver"))
            .admission(std::mem::take(&mut self.admission));
        let server =
            self.authenticators.drain(..).fold(server, |server, next| server.authenticator(next)).build()?;
        let service = ApiService::builder(server.clone(), registry, context.child("http"))
            .access(server.clone())
            .storage(server.clone())
            .build();
        // One server of several may publish the authority of another.
        let is_needed = is_shared || self.listen.is_some();
        let authority = identity::authority(&kept, is_needed, &context.clock).await?;
        let listener = match (&self.listen, &authority) {
            (Some(listen), Some(authority)) => Some(Listener::bind(listen, authority).await?),
            _ => None,
        };
        let system = server.client(UserInfo::admin("system:apiserver"), "rkube-apiserver");
        let mut endpoints = match listener.as_ref().map(Listener::advertised) {
            Some(address) => Some(Endpoints::new(&kept, address, sharing == Sharing::Sole).await?),
            None => None,
        };
        defaults::ensure(&system, endpoints.as_mut()).await?;

        let address = listener.as_ref().map(Listener::address);
        let kubeconfig = listener.as_ref().map(|listener| listener.kubeconfig().to_owned());
        self.settings.root_ca = authority.map(|authority| authority.certificate().to_owned());
        let mut parts = vec![readiness::watch(store.clone(), service.health(), &context)];
        parts.extend(listener.map(|listener| listener.start(&context, service.clone())));
        // Stopped before the listener: nobody is led to one that is closed.
        parts.push(defaults::keep(&system, endpoints, &context));
        let client = server.client(UserInfo::admin("system:admin"), "rkube");
        let nodes = components::start(self.settings, &server, &context, &mut parts)?;
        guard.disarm();
        let waits = self.waits;
        Ok(Cluster {
            server,
            service,
            store,
            close,
            transform,
            context,
            client,
            nodes,
            parts,
            address,
            kubeconfig,
            waits,
        })
    }

    async fn clock(&mut self, store: &dyn Store<Object>, at: Revision) -> Result<Clock, Error> {
        Ok(match self.clock.take() {
            Some(clock) => clock,
            None if !self.simulated => Clock::system(),
            // What there is must not have been made in the future.
            None if at > Revision(1) => Clock::simulated_after(state::youngest(store).await?),
            None => Clock::simulated(),
        })
    }
}

/// A running cluster. [`Cluster::stop`] ends it in order; dropping it ends its tasks at once.
pub struct Cluster {
    server: Arc<Server>,
    service: ApiService,
    store: Arc<dyn Store<Object>>,
    close: Option<Close>,
    transform: Option<Arc<dyn Transform>>,
    context: Context,
    client: Client,
    nodes: Nodes,
    parts: Vec<Part>,
    address: Option<SocketAddr>,
    kubeconfig: Option<String>,
    waits: Waits,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cluster(listening {:?}, {:?})", self.address, self.parts)
    }
}

impl Cluster {
    /// Begins a cluster.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Begins another cluster with this one's present state, for what may be tried: what happens in one does
    /// not happen in the other. Objects are shared, not copied, where the store keeps them as such.
    ///
    /// The builder is that of a new cluster but for the state, which is in memory, and the clock, which is
    /// this one's. The authority and the key of tokens are part of the state, so whoever is known here is
    /// known there. What was said of this cluster must be said again: further definitions, controllers and
    /// nodes, whose agents take over the pods that are bound to them.
    ///
    /// ```
    /// use rkube::prelude::*;
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let cluster = Cluster::builder().seed(7).start().await?;
    /// let what_if = cluster.fork().await?.seed(8).start().await?;
    /// let namespaces: Api<Namespace> = Api::all(what_if.client());
    /// namespaces.delete("kube-node-lease", &DeleteParams::default()).await?;
    /// let real: Api<Namespace> = Api::all(cluster.client());
    /// assert!(real.get("kube-node-lease").await?.metadata.deletion_timestamp.is_none());
    /// # Ok::<(), rkube::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// When the store's state cannot be read.
    pub async fn fork(&self) -> Result<Builder, Error> {
        let state = State::Memory(self.store.fork().await?, self.transform.clone());
        Ok(Builder { state, clock: Some(self.context.clock.clone()), ..Builder::default() })
    }

    /// Writes the cluster's present state to a file, which is there whole or not at all, in the place of an
    /// older one; the cluster runs on. [`Builder::restore`] begins another one with it. Values are sealed in it
    /// as in the cluster's store. Where nothing seals them there, or the cluster was given a store that is open
    /// already ([`Builder::store`]), the file has all objects as they are, so Secrets in plain text, and the
    /// cluster's private keys. Feature `durable`, on by default.
    ///
    /// ```
    /// use rkube::prelude::*;
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let path = std::env::temp_dir().join(format!("rkube-cluster-{}", std::process::id()));
    /// let cluster = Cluster::builder().start().await?;
    /// cluster.save(&path).await?;
    /// let again = Cluster::builder().restore(&path).start().await?;
    /// # let _ = std::fs::remove_file(path);
    /// # Ok::<(), rkube::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// When the state cannot be read or the file not be written.
    #[cfg(feature = "durable")]
    pub async fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        state::save(&*self.store, path.as_ref(), self.transform.clone()).await
    }

    /// A client with an administrator's rights: in process, nothing is encoded.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A client that acts as another user.
    pub fn client_as(&self, user: UserInfo, user_agent: &str) -> Client {
        self.server.client(user, user_agent)
    }

    /// A real `kube::Client` with an administrator's rights, without a socket: kube-rs' `Api`, `watcher`,
    /// `reflector` and `Controller` work on it unchanged.
    pub fn kube_client(&self) -> kube::Client {
        self.kube_client_as(UserInfo::admin("system:admin"))
    }

    /// A `kube::Client` that acts as another user.
    pub fn kube_client_as(&self, user: UserInfo) -> kube::Client {
        http::kube_client(&self.service, user)
    }

    /// The API server: definitions can be added while it runs.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// The API over HTTP, without a wire: a `tower::Service` to mount elsewhere.
    pub fn service(&self) -> &ApiService {
        &self.service
    }

    /// The simulated nodes, to stop, start and add.
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// Time, randomness and tasks of this cluster.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Where HTTPS is served, if it is.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// An administrator's kubeconfig, if HTTPS is served. It holds a private key.
    pub fn kubeconfig(&self) -> Option<&str> {
        self.kubeconfig.as_deref()
    }

    /// Waits until an object is as wanted, and gives it.
    ///
    /// # Errors
    /// [`Error::NotInTime`] when the bound of [`Waits`] has passed.
    pub async fn wait_for<K: Kind>(
        &self,
        api: &Api<K>,
        name: &str,
        wanted: impl Fn(Option<&K>) -> bool,
    ) -> Result<Arc<K>, Error> {
        let found = wait::until(api, name, |now| now.is_some() && wanted(now), self.waits.condition).await?;
        found.ok_or_else(|| {
            Error::Api(rkube_api::error::ApiError::not_found(K::GROUP, K::URL_PATH_SEGMENT, name))
        })
    }

    /// Waits until an object is gone.
    ///
    /// # Errors
    /// [`Error::NotInTime`] when the bound of [`Waits`] has passed.
    pub async fn wait_gone<K: Kind>(&self, api: &Api<K>, name: &str) -> Result<(), Error> {
        wait::until(api, name, |now| now.is_none(), self.waits.condition).await.map(|_| ())
    }

    /// Writes every value in these folders of the store again, so that what seals values does so with its
    /// present key: the last step but one of a rotation. See [`rkube_store::encrypt::reseal`]. Feature `encrypt`.
    ///
    /// # Errors
    /// What the store said; what was written by then stays.
    #[cfg(feature = "encrypt")]
    pub async fn reseal(
        &self,
        folders: impl IntoIterator<Item = rkube_store::Prefix> + Send,
    ) -> Result<u64, Error> {
        Ok(rkube_store::encrypt::reseal(&*self.store, folders).await.map_err(Box::new)?)
    }

    /// Stops everything in order: nodes, controllers, scheduler, then the listener, whose clients see
    /// their watches end; each part has the bound of [`Waits`] to finish what it has begun. A store on disk
    /// is closed then, whoever still has a client.
    pub async fn stop(mut self) {
        let parts = std::mem::take(&mut self.parts);
        shutdown::stop(parts, self.waits.drain).await;
        self.service.stop();
        self.context.spawner.stop().await;
        if let Some(close) = self.close.take() {
            close().await;
        }
    }
}

impl Drop for Cluster {
    /// Ends all tasks, without the order of [`Cluster::stop`].
    fn drop(&mut self) {
        self.context.spawner.token().cancel();
    }
}
