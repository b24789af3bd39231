//! What a runtime observes: plain values.

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;

/// What there is of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimePod {
    /// The pod's UID.
    pub uid: Arc<str>,
    /// The pod's namespace.
    pub namespace: Arc<str>,
    /// The pod's name.
    pub name: Arc<str>,
    /// Its newest sandbox.
    pub sandbox: Option<Sandbox>,
    /// Its containers, in the order in which they were created.
    pub containers: Vec<RuntimeContainer>,
}

impl RuntimePod {
    /// The newest container of a name.
    pub fn latest(&self, name: &str) -> Option<&RuntimeContainer> {
        self.containers.iter().filter(|container| &*container.name == name).max_by_key(|one| one.attempt)
    }

    /// Whether the sandbox is ready.
    pub fn ready(&self) -> bool {
        self.sandbox.as_ref().is_some_and(|sandbox| sandbox.ready)
    }
}

/// What the containers of a pod share: network, lifetime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The runtime's name for it.
    pub id: String,
    /// How many the pod had before.
    pub attempt: u32,
    /// Whether containers can run in it.
    pub ready: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its addresses; empty on the node's network.
    pub ips: Vec<IpAddr>,
}

/// One container, running or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeContainer {
    /// The runtime's name for it.
    pub id: String,
    /// Its name in the pod.
    pub name: Arc<str>,
    /// How often a container of this name was started before.
    pub attempt: u32,
    /// The image that was asked for.
    pub image: Arc<str>,
    /// What that image is: a digest.
    pub image_id: Arc<str>,
    /// What it does.
    pub state: ContainerState,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// It is being started.
    Created,
    /// It runs.
    Running {
        /// Since then.
        since: Timestamp,
    },
    /// It has ended.
    Exited(Exit),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// When it had started; absent if it never ran.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Its exit code; 128 and the signal's number if a signal ended it.
    pub code: i32,
    /// The runtime's word for it, `OOMKilled`; else `Completed` or `Error` by the code.
    pub reason: Option<Arc<str>>,
    /// What it said last.
    pub message: Option<Arc<str>>,
}

impl Exit {
    /// Whether it ended well.
    pub fn success(&self) -> bool {
        self.code == 0
    }

    /// `reason` of the terminated state.
    pub fn reason(&self) -> &str {
        match &self.reason {
            Some(reason) => reason,
            None if self.success() => "Completed",
            None => "Error",
        }
    }
}

/// What a runtime knows of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ImageState {
    /// Nothing.
    #[default]
    Absent,
    /// It is being pulled.
    Pulling,
    /// It is there.
    Present {
        /// Its digest.
        id: Arc<str>,
        /// When it was last pulled.
        at: Timestamp,
    },
    /// The last pull failed.
    Failed {
        /// Why.
        error: Arc<str>,
        /// When.
        at: Timestamp,
    },
}

/// The results of a container's probes. A probe that the container does not have counts as passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Startup.
    pub started: bool,
    /// Readiness.
    pub ready: bool,
    /// Liveness.
    pub alive: bool,
}

impl Probe {
    /// All passed.
    pub const PASSED: Self = Self { started: true, ready: true, alive: true };
}
