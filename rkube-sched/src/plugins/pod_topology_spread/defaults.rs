//! Which pods belong together where pods do not say: those that the same services and the same controller
//! select.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, StatefulSet},
        core::v1::{Pod, ReplicationController, Service},
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector as ApiSelector,
};
use parking_lot::Mutex;
use rkube_api::{
    client::Cache,
    meta::labels::{LabelSelector, Requirement},
};

use crate::{framework::Handle, snapshot::PodInfo};

/// A pod's selector, and what it follows from: the pod, and the versions of those that select.
#[derive(Debug)]
struct Known {
    pod: Arc<Pod>,
    versions: [u64; 4],
    selector: LabelSelector,
}

/// Those that select pods.
#[derive(Debug)]
pub(super) struct Owners {
    services: Cache<Service>,
    replication_controllers: Cache<ReplicationController>,
    replica_sets: Cache<ReplicaSet>,
    stateful_sets: Cache<StatefulSet>,
    /// The last answer: one decision asks more than once.
    known: Mutex<Option<Known>>,
}

impl Owners {
    pub(super) fn new(handle: &Handle) -> Self {
        let listers = &handle.listers;
        Self {
            services: listers.get(),
            replication_controllers: listers.get(),
            replica_sets: listers.get(),
            stateful_sets: listers.get(),
            known: Mutex::default(),
        }
    }

    fn versions(&self) -> [u64; 4] {
        [
            self.services.version(),
            self.replication_controllers.version(),
            self.replica_sets.version(),
            self.stateful_sets.version(),
        ]
    }

    /// The selector of the pod's kin: everything if nobody selects it.
    pub(super) fn selector(&self, pod: &PodInfo) -> LabelSelector {
        let (mut known, versions) = (self.known.lock(), self.versions());
        if let Some(known) = &*known
            && Arc::ptr_eq(&known.pod, &pod.pod)
            && known.versions == versions
        {
            return known.selector.clone();
        }
        let selector = self.derived(pod);
        *known = Some(Known { pod: pod.pod.clone(), versions, selector: selector.clone() });
        selector
    }

    fn derived(&self, pod: &PodInfo) -> LabelSelector {
        let (namespace, labels) = (pod.key.namespace.as_str(), pod.labels());
        let mut merged = BTreeMap::new();
        for service in self.services.list_in(namespace) {
            let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            if let Some(selector) =
                selector.filter(|selector| LabelSelector::from_map(selector).matches(labels))
            {
                merged.extend(selector.clone());
            }
        }
        let owners = pod.pod.metadata.owner_references.iter().flatten();
        let Some(owner) = owners.into_iter().find(|owner| owner.controller == Some(true)) else {
            return LabelSelector::from_map(&merged);
        };
        let name = owner.name.as_str();
        let own = match (owner.api_version.as_str(), owner.kind.as_str()) {
            ("v1", "ReplicationController") => {
                let found = self.replication_controllers.get(namespace, name);
                let selector = found.and_then(|found| found.spec.as_ref()?.selector.clone());
                merged.extend(selector.into_iter().flatten());
                Vec::new()
            }
            ("apps/v1", "ReplicaSet") => {
                let found = self.replica_sets.get(namespace, name);
                requirements(found.map(|found| found.spec.selector.clone()))
            }
            ("apps/v1", "StatefulSet") => {
                let found = self.stateful_sets.get(namespace, name);
                requirements(found.map(|found| found.spec.selector.clone()))
            }
            _ => Vec::new(),
        };
        let merged = LabelSelector::from_map(&merged);
        LabelSelector::new(merged.requirements().iter().cloned().chain(own))
    }
}

fn requirements(selector: Option<ApiSelector>) -> Vec<Requirement> {
    let selector = LabelSelector::from_api(selector.as_ref());
    selector.map(|selector| selector.requirements().to_vec()).unwrap_or_default()
}
