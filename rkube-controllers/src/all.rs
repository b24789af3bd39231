//! The built-in controllers, one line each.
//!
//! ```
//! let names: Vec<&str> = rkube_controllers::all::all().iter().map(|descriptor| descriptor.name).collect();
//! assert!(names.contains(&"deployment") && names.contains(&"replicaset"));
//! ```

use std::sync::Arc;

use rkube_api::client::{Client, EventRecorder, Informers};

use crate::{runtime::Component, workloads};

/// What the built-in controllers need from whoever runs them.
#[derive(Clone)]
pub struct Deps {
    informers: Informers,
}

impl std::fmt::Debug for Deps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Deps({:?})", self.informers)
    }
}

impl Deps {
    /// Everything goes through the client of these informers.
    pub fn new(informers: Informers) -> Self {
        Self { informers }
    }

    /// The informers that the controllers share.
    pub fn informers(&self) -> &Informers {
        &self.informers
    }

    /// The client.
    pub fn client(&self) -> &Client {
        self.informers.client()
    }

    pub(crate) fn recorder(&self, component: &'static str) -> EventRecorder {
        EventRecorder::new(self.client(), component)
    }
}

/// One built-in controller.
#[derive(Clone, Copy)]
pub struct Descriptor {
    /// Its name, that of its folder.
    pub name: &'static str,
    /// The resources whose changes it acts on.
    pub watches: &'static [&'static str],
    /// Whether it runs unless switched off.
    pub default_on: bool,
    /// Whether of several processes only the leader's may run.
    pub leader_only: bool,
    /// Puts it together; it needs a tokio runtime.
    pub build: fn(&Deps) -> Arc<dyn Component>,
}

impl std::fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Descriptor({}, watches {:?})", self.name, self.watches)
    }
}

const fn on(
    name: &'static str,
    watches: &'static [&'static str],
    build: fn(&Deps) -> Arc<dyn Component>,
) -> Descriptor {
    Descriptor { name, watches, default_on: true, leader_only: true, build }
}

/// Every built-in controller, in the order in which they start.
pub fn all() -> Vec<Descriptor> {
    vec![
        on("deployment", &["deployments", "replicasets", "pods"], |deps| {
            Arc::new(workloads::deployment::controller(deps))
        }),
        on("replicaset", &["replicasets", "pods"], |deps| Arc::new(workloads::replicaset::controller(deps))),
    ]
}
