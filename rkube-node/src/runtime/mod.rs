//! What runs pods: one trait, shaped after the container runtime interface (CRI), so that a real runtime
//! and the simulated one are driven by the same agent.
//!
//! A runtime knows sandboxes, containers and images; it knows no API server and no restart policy. The
//! agent looks at what it observes, plans, and calls; the runtime tells of later changes through an
//! [`EventSink`]. What a runtime may or may not be able to do is a value, [`Capabilities`], which carries
//! the ability itself: there is no method that answers "not supported".

pub mod sim;
mod state;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, Pod};

pub use state::{ContainerState, Exit, ImageState, Probe, RuntimeContainer, RuntimePod, Sandbox};

/// Why a runtime could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// There is no such sandbox, container or image. Stopping or removing what is gone is no error.
    #[error("{what} {id:?} not found")]
    NotFound {
        /// `sandbox`, `container`, `image`.
        what: &'static str,
        /// Which.
        id: String,
    },
    /// The pod asks for something that cannot be; trying again is of no use until the pod changes.
    #[error("{message}")]
    Invalid {
        /// What is wrong.
        message: String,
    },
    /// The runtime cannot be reached now, or its machine is off.
    #[error("container runtime is down: {message}")]
    Unavailable {
        /// Why.
        message: String,
    },
    /// It has not answered in time; what it does still is not known.
    #[error("rpc error: code = DeadlineExceeded desc = context deadline exceeded")]
    TimedOut,
    /// The operation failed.
    #[error("{message}")]
    Failed {
        /// The runtime's account of it.
        message: String,
    },
}

/// News from a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// Something of this pod (its UID) changed: look again.
    Pod(Arc<str>),
    /// Events may have been lost, or the runtime was restarted: look at everything again.
    Relist,
}

/// Where a runtime tells its news. It returns at once (it puts a key into a queue).
pub type EventSink = Arc<dyn Fn(RuntimeEvent) + Send + Sync>;

/// What a pod's sandbox is made from.
#[derive(Clone, Copy, Debug)]
pub struct SandboxRequest<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The pod's UID.
    pub uid: &'a Arc<str>,
    /// How many sandboxes this pod had before.
    pub attempt: u32,
    /// Its addresses; empty if the runtime assigns them itself, or the pod is on the node's network.
    pub ips: &'a [IpAddr],
}

/// What a container is made from.
#[derive(Clone, Copy, Debug)]
pub struct ContainerRequest<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The pod's UID.
    pub uid: &'a Arc<str>,
    /// The container.
    pub container: &'a Container,
    /// What it is in its pod.
    pub role: Role,
    /// How often it was started before.
    pub attempt: u32,
}

/// What a container is in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always` (KEP-753): the next one waits until it has started.
    Sidecar,
    /// One of `spec.containers`.
    Main,
    /// Added for debugging to a pod that runs; never started again, and the pod's state is not its.
    Ephemeral,
}

/// An image to pull.
#[derive(Clone, Copy, Debug)]
pub struct PullRequest<'a> {
    /// The pod that needs it: its pull secrets, its namespace.
    pub pod: &'a Pod,
    /// The pod's UID; it gets an event when the pull has ended.
    pub uid: &'a Arc<str>,
    /// The image, as the container names it.
    pub image: &'a str,
}

/// Answers probes: a runtime that probes by itself, or an agent's prober.
pub trait Probes: Send + Sync {
    /// The latest result for a running container of a pod. A change of it is told as an event of the pod.
    fn probe(&self, uid: &str, container: &RuntimeContainer) -> Probe;
}

/// What a runtime can do besides running pods. Each ability is there with the means to use it, or absent.
#[derive(Clone, Default)]
pub struct Capabilities {
    /// It gives pods their addresses (a network plugin); else the agent does, from its [`crate::agent::PodAddresses`].
    pub assigns_addresses: bool,
    /// Its calls may take long: the agent writes a pod's status before them, not only after.
    pub slow: bool,
    /// It knows the results of the containers' probes.
    pub probes: Option<Arc<dyn Probes>>,
    /// It keeps what containers wrote.
    pub logs: Option<Arc<dyn Logs>>,
    /// It runs commands in containers.
    pub exec: Option<Arc<dyn Exec>>,
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capabilities")
            .field("assigns_addresses", &self.assigns_addresses)
            .field("slow", &self.slow)
            .field("probes", &self.probes.is_some())
            .field("logs", &self.logs.is_some())
            .field("exec", &self.exec.is_some())
            .finish()
    }
}

/// Reads what a container wrote.
#[async_trait]
pub trait Logs: Send + Sync {
    /// What container `id` of a pod has written so far, oldest first, as bytes.
    async fn read(&self, uid: &str, id: &str) -> Result<Vec<u8>, RuntimeError>;
}

/// What a command left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// Its exit code.
    pub code: i32,
}

/// Runs commands to their end, as exec probes and hooks need it (CRI: ExecSync).
#[async_trait]
pub trait Exec: Send + Sync {
    /// Runs `command` in container `id` of a pod; after `timeout` it is killed, which is an error.
    async fn exec(
        &self,
        uid: &str,
        id: &str,
        command: &[String],
        timeout: Duration,
    ) -> Result<ExecOutput, RuntimeError>;
}

/// What a runtime says of itself.
#[derive(Clone, Debug)]
pub struct RuntimeInfo {
    /// `containerd`, `sim`: the scheme of container ids.
    pub name: Arc<str>,
    /// Its version.
    pub version: Arc<str>,
    /// What it can do.
    pub capabilities: Capabilities,
}

/// Runs the pods of one node.
///
/// The contract:
/// - Pods are known by UID. What runs survives the agent: [`PodRuntime::pods`] lists all of it, exited
///   containers included, until it is removed.
/// - Calls are idempotent: stopping what has stopped and removing what is gone is no error.
/// - [`PodRuntime::pull_image`], [`PodRuntime::start_container`] and [`PodRuntime::stop_container`]
///   *begin*; what becomes of them is observed. Every change that is not the direct effect of a call is
///   told to the sink after it can be observed. Telling too often is allowed.
/// - Exited containers keep their exit until removed. A container's `attempt` is the one it was started with.
/// - Stopping a sandbox ends its containers (137 if they had not ended) and gives its network back.
///
/// `rkube_node::testing` (feature `testing`) has the suite that checks this.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use rkube_api::context::Context;
/// use rkube_node::runtime::{PodRuntime, sim::Sim};
///
/// let sim = Sim::new(&Context::simulated(1), Default::default());
/// let node = sim.node("n1");
/// assert!(node.pods().await.unwrap().is_empty());
/// assert_eq!(&*node.info().name, "sim");
/// # });
/// ```
#[async_trait]
pub trait PodRuntime: Send + Sync + 'static {
    /// Its name, version and capabilities; they do not change.
    fn info(&self) -> RuntimeInfo;

    /// Sets where news goes; a later sink replaces the earlier one.
    fn subscribe(&self, sink: EventSink);

    /// Whether it can run pods now; an error becomes the node's Ready condition.
    async fn health(&self) -> Result<(), RuntimeError>;

    /// Everything that is there, in the order of UIDs.
    async fn pods(&self) -> Result<Vec<RuntimePod>, RuntimeError>;

    /// What is there of one pod.
    async fn pod(&self, uid: &str) -> Result<Option<RuntimePod>, RuntimeError>;

    /// Makes the pod's sandbox and its network; it is ready afterwards.
    async fn run_sandbox(&self, request: SandboxRequest<'_>) -> Result<(), RuntimeError>;

    /// Ends what runs in the pod's sandbox, and its network.
    async fn stop_sandbox(&self, uid: &str) -> Result<(), RuntimeError>;

    /// Removes the pod's sandbox and containers, stopping them first if need be.
    async fn remove_pod(&self, uid: &str) -> Result<(), RuntimeError>;

    /// What it knows of an image, as far as the pod `uid` may use it: pods have their own pulls and secrets.
    async fn image(&self, uid: &str, image: &str) -> Result<ImageState, RuntimeError>;

    /// Begins to pull an image, even if it is there; joins a pull for this pod that is under way.
    async fn pull_image(&self, request: PullRequest<'_>) -> Result<(), RuntimeError>;

    /// Creates a container in the pod's ready sandbox and begins to start it.
    async fn start_container(&self, request: ContainerRequest<'_>) -> Result<(), RuntimeError>;

    /// Asks a container to stop and kills it after `grace`. A second call may shorten the grace.
    async fn stop_container(&self, uid: &str, id: &str, grace: Duration) -> Result<(), RuntimeError>;

    /// Removes an exited container.
    async fn remove_container(&self, uid: &str, id: &str) -> Result<(), RuntimeError>;
}
