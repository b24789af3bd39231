//! One pod's life on a node: [`plan`], a pure function of what the API says, what the runtime observes
//! and what time it is, gives what is to be done and what the status is.
//!
//! Semantics: the pod lifecycle page of Kubernetes' documentation; KEP-753 (sidecars), KEP-3329 (final
//! phase of a deleted pod), KEP-5307 (restart rules of a container).

mod admit;
mod conditions;
mod containers;
mod events;
mod image;
mod life;
mod memory;
mod plan;
mod status;
mod stop;

use std::{net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};

pub use admit::{Rejection, Used, admit};
pub(crate) use containers::{find as container_of, images};
pub use events::{Note, notes};
pub(crate) use events::{about, of_action as notes_of_action};
pub(crate) use memory::later;
pub use memory::{Backoff, BackoffPolicy, ContainerMemory, Eviction, Memory, Pull, StopRequest};
pub use plan::plan;
pub(crate) use status::time as seconds;

use crate::runtime::{ImageState, Probe, Role, RuntimePod};

/// What the runtime says, as far as one pod is concerned.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Its sandbox and containers.
    pub pod: Option<RuntimePod>,
    /// The images of its containers. Those of containers that run need not be here.
    pub images: Vec<(String, ImageState)>,
    /// The probes of running containers, by the name of the container; absent: passed.
    pub probes: Vec<(Arc<str>, Probe)>,
}

impl Observed {
    pub(crate) fn image(&self, image: &str) -> ImageState {
        let found = self.images.iter().find(|(name, _)| name == image);
        found.map(|(_, state)| state.clone()).unwrap_or_default()
    }

    pub(crate) fn probe(&self, container: &str) -> Probe {
        self.probes.iter().find(|(name, _)| &**name == container).map_or(Probe::PASSED, |(_, probe)| *probe)
    }
}

/// What a plan needs to know of the node.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// The node's addresses.
    pub ips: Vec<IpAddr>,
    /// The runtime's name, the scheme of container ids.
    pub runtime: Arc<str>,
    /// Waits between tries.
    pub backoff: BackoffPolicy,
}

/// Everything that a plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The pod as the API last showed it.
    pub pod: &'a Pod,
    /// The object is gone from the API: only the runtime is left to be cleaned.
    pub gone: bool,
    /// What the runtime says.
    pub observed: &'a Observed,
    /// What is remembered.
    pub memory: &'a Memory,
    /// Where it runs.
    pub node: &'a NodeFacts,
    /// When.
    pub now: Timestamp,
}

/// One thing to do. Names are those of containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the sandbox.
    RunSandbox {
        /// How many there were.
        attempt: u32,
    },
    /// Pull a container's image.
    Pull {
        /// Whose.
        container: String,
        /// For which start.
        attempt: u32,
        /// The image.
        image: String,
        /// The last try has failed.
        failed: bool,
    },
    /// Create and start a container.
    Start {
        /// Which.
        container: String,
        /// What it is.
        role: Role,
        /// How often it was started before.
        attempt: u32,
        /// Its image.
        image: String,
        /// A restart: when it had ended.
        restart_after: Option<Timestamp>,
    },
    /// Stop a container.
    Stop {
        /// Which.
        container: String,
        /// The runtime's id.
        id: String,
        /// Which start of it.
        attempt: u32,
        /// How long it gets.
        grace: Duration,
        /// It is to start again afterwards, whatever its policy says.
        restart: bool,
        /// Why, for people.
        reason: String,
    },
    /// Remove an exited container that nothing looks at any more.
    RemoveContainer {
        /// The runtime's id.
        id: String,
    },
    /// End the sandbox and give the addresses back.
    StopSandbox,
    /// Remove what is left in the runtime.
    RemovePod,
    /// Delete the object, which only waited for this. The status is to be written before.
    DeleteObject,
}

/// What is to be done for a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In order. None: nothing to do until something changes, or until `wake`.
    pub actions: Vec<Action>,
    /// The status to report; equal to the pod's own if there is no news. Meaningless once the pod is gone.
    pub status: PodStatus,
    /// When to look again even if nothing changes.
    pub wake: Option<Timestamp>,
    /// Nothing of the pod is left, neither in the API nor in the runtime.
    pub finished: bool,
}
