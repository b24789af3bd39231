//! The built-in controllers, one line each.
//!
//! ```
//! let names: Vec<&str> = rkube_controllers::all::all().iter().map(|descriptor| descriptor.name).collect();
//! assert!(names.contains(&"deployment") && names.contains(&"replicaset"));
//! ```

use std::sync::Arc;

use rkube_api::client::{Client, EventRecorder, Informers};

use crate::{
    devices, identity, lifecycle, network, nodes,
    resources::ResourceLister,
    runtime::{Component, Manager},
    storage, workloads,
};

/// What the built-in controllers need from whoever runs them.
#[derive(Clone)]
pub struct Deps {
    informers: Informers,
    resources: Arc<dyn ResourceLister>,
    root_ca: Option<Arc<str>>,
}

impl std::fmt::Debug for Deps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Deps({:?})", self.informers)
    }
}

impl Deps {
    /// Everything goes through the client of these informers; `resources` tells what the server serves.
    pub fn new(informers: Informers, resources: Arc<dyn ResourceLister>) -> Self {
        Self { informers, resources, root_ca: None }
    }

    /// Publishes these certificates, as PEM, as those that the API server's is to be checked against.
    pub fn with_root_ca(mut self, certificates: impl Into<Arc<str>>) -> Self {
        self.root_ca = Some(certificates.into());
        self
    }

    /// What the API server's certificate is to be checked against, if there is anything to publish.
    pub fn root_ca(&self) -> Option<Arc<str>> {
        self.root_ca.clone()
    }

    /// The informers that the controllers share.
    pub fn informers(&self) -> &Informers {
        &self.informers
    }

    /// The client.
    pub fn client(&self) -> &Client {
        self.informers.client()
    }

    /// What the server serves.
    pub fn resources(&self) -> Arc<dyn ResourceLister> {
        self.resources.clone()
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
        on("serviceaccount", &["namespaces", "serviceaccounts"], |deps| {
            Arc::new(identity::serviceaccount::controller(deps))
        }),
        on("rootcacertpublisher", &["namespaces", "configmaps"], |deps| {
            Arc::new(identity::rootcacertpublisher::controller(deps))
        }),
        on("namespace", &["namespaces", "pods"], |deps| Arc::new(lifecycle::namespace::controller(deps))),
        on("garbagecollector", &["*"], |deps| Arc::new(lifecycle::garbagecollector::controller(deps))),
        on("deployment", &["deployments", "replicasets", "pods"], |deps| {
            Arc::new(workloads::deployment::controller(deps))
        }),
        on("replicaset", &["replicasets", "pods"], |deps| Arc::new(workloads::replicaset::controller(deps))),
        on("disruption", &["poddisruptionbudgets", "pods", "replicasets", "deployments"], |deps| {
            Arc::new(workloads::disruption::controller(deps))
        }),
        on("stalepoddisruption", &["pods"], |deps| Arc::new(workloads::stalepoddisruption::controller(deps))),
        on("resourceclaim", &["pods", "resourceclaims", "resourceclaimtemplates"], |deps| {
            Arc::new(devices::resourceclaim::controller(deps))
        }),
        on("endpointslice", &["services", "pods", "endpointslices"], |deps| {
            Arc::new(network::endpointslice::controller(deps))
        }),
        on("nodelifecycle", &["nodes", "leases", "pods"], |deps| {
            Arc::new(nodes::nodelifecycle::controller(deps))
        }),
        on("tainteviction", &["nodes", "pods"], |deps| Arc::new(nodes::tainteviction::controller(deps))),
        on("podgc", &["nodes", "pods"], |deps| Arc::new(lifecycle::podgc::controller(deps))),
        on(
            "persistentvolumebinder",
            &["persistentvolumes", "persistentvolumeclaims", "storageclasses", "pods"],
            |deps| Arc::new(storage::persistentvolumebinder::controller(deps)),
        ),
        on("ephemeralvolume", &["pods", "persistentvolumeclaims"], |deps| {
            Arc::new(storage::ephemeralvolume::controller(deps))
        }),
        on("pvcprotection", &["persistentvolumeclaims", "pods"], |deps| {
            Arc::new(storage::pvcprotection::controller(deps))
        }),
        on("pvprotection", &["persistentvolumes"], |deps| Arc::new(storage::pvprotection::controller(deps))),
    ]
}

/// A manager with those of the built-in controllers that `wanted` picks.
///
/// ```no_run
/// # use rkube_controllers::all::{Deps, manager};
/// # async fn example(deps: Deps, stop: tokio_util::sync::CancellationToken) {
/// let result = manager(&deps, |descriptor| descriptor.default_on).run(stop).await;
/// # }
/// ```
pub fn manager(deps: &Deps, wanted: impl Fn(&Descriptor) -> bool) -> Manager {
    let picked = all().into_iter().filter(|descriptor| wanted(descriptor));
    picked.fold(Manager::with_informers(deps.informers().clone()), |manager, descriptor| {
        let component = (descriptor.build)(deps);
        if descriptor.leader_only { manager.shared(component) } else { manager.always_shared(component) }
    })
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        path::{Path, PathBuf},
    };

    use super::*;

    fn folders(path: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).collect()
    }

    #[test]
    fn every_folder_of_an_area_is_listed() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let found: BTreeSet<String> = folders(&source)
            .iter()
            .filter(|area| !area.ends_with("runtime"))
            .flat_map(|area| folders(area))
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        let listed: BTreeSet<String> = all().iter().map(|descriptor| descriptor.name.to_owned()).collect();
        assert_eq!(found, listed);
        assert_eq!(listed.len(), all().len(), "a name is listed twice");
    }
}
