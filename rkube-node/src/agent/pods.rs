//! What the pool knows of each pod on its nodes: a few words a pod.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::FixedState;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use rkube_api::{client::Change, helpers::pod as podutil};

use super::{
    admission::taken,
    pool::{Member, Pool},
};
use crate::{
    pod::{Eviction, Memory, Used},
    runtime::RuntimePod,
};

pub(super) struct Entry {
    pub(super) member: Arc<Member>,
    /// The newest version seen, shared with the informer's cache.
    pub(super) pod: Arc<Pod>,
    /// It is no longer in the API.
    pub(super) gone: bool,
    /// Absent as long as there is nothing to remember.
    memory: Option<Box<Memory>>,
    /// The node has taken it.
    admitted: bool,
}

impl Entry {
    /// Whether it takes up room on its node.
    fn counts(&self) -> bool {
        !self.gone && !podutil::is_terminal(&self.pod) && taken(self.admitted, &self.pod)
    }
}

/// Pods by UID.
#[derive(Default)]
pub(super) struct Pods(Mutex<HashMap<Arc<str>, Entry, FixedState>>);

/// What a change means for a worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The pod is new here.
    New,
    /// It has changed. Whether what it takes up has, too.
    Changed { room: bool },
    /// It is known in this version, or a later one.
    Known,
}

/// Versions are decimal numbers that may be compared (KEP-5504).
fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

impl Pods {
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Takes in a version of a pod.
    pub(super) fn put(&self, uid: &Arc<str>, member: &Arc<Member>, pod: &Arc<Pod>, gone: bool) -> News {
        let mut all = self.0.lock();
        let Some(entry) = all.get_mut(uid) else {
            let entry =
                Entry { member: member.clone(), pod: pod.clone(), gone, memory: None, admitted: false };
            all.insert(uid.clone(), entry);
            return News::New;
        };
        let newer = version(pod) > version(&entry.pod);
        if !newer && (!gone || entry.gone) {
            return News::Known;
        }
        let before = (entry.counts(), entry.pod.metadata.generation);
        entry.gone |= gone;
        if newer {
            entry.pod = pod.clone();
        }
        News::Changed { room: before != (entry.counts(), entry.pod.metadata.generation) }
    }

    /// The pod as it is now: its member, its newest version, whether it is gone.
    pub(super) fn look(&self, uid: &str) -> Option<(Arc<Member>, Arc<Pod>, bool)> {
        self.0.lock().get(uid).map(|entry| (entry.member.clone(), entry.pod.clone(), entry.gone))
    }

    /// Whether its node has taken the pod.
    pub(super) fn taken(&self, uid: &str) -> bool {
        self.0.lock().get(uid).is_some_and(|entry| taken(entry.admitted, &entry.pod))
    }

    /// Notes that its node takes it.
    pub(super) fn take(&self, uid: &str) {
        if let Some(entry) = self.0.lock().get_mut(uid) {
            entry.admitted = true;
        }
    }

    /// What those of these pods that were taken use.
    pub(super) fn used<'a>(&self, uids: impl Iterator<Item = &'a Arc<str>>) -> Used {
        let all = self.0.lock();
        let mut used = Used::default();
        uids.filter_map(|uid| all.get(uid))
            .filter(|entry| entry.counts())
            .for_each(|entry| used.add(&entry.pod));
        used
    }

    pub(super) fn mark_gone(&self, uid: &str) {
        if let Some(entry) = self.0.lock().get_mut(uid) {
            entry.gone = true;
        }
    }

    pub(super) fn memory(&self, uid: &str) -> Memory {
        let all = self.0.lock();
        all.get(uid).and_then(|entry| entry.memory.as_deref().cloned()).unwrap_or_default()
    }

    /// Puts back what a worker remembers; an eviction that came meanwhile stays.
    pub(super) fn remember(&self, uid: &str, mut memory: Memory) {
        if let Some(entry) = self.0.lock().get_mut(uid) {
            if let Some(eviction) = entry.memory.take().and_then(|old| old.eviction) {
                memory.eviction.get_or_insert(eviction);
            }
            entry.memory = (memory != Memory::default()).then(|| Box::new(memory));
        }
    }

    pub(super) fn evict(&self, uid: &str, eviction: Eviction) {
        if let Some(entry) = self.0.lock().get_mut(uid) {
            entry.memory.get_or_insert_default().eviction.get_or_insert(eviction);
        }
    }

    pub(super) fn remove(&self, uid: &str) -> Option<Arc<Member>> {
        self.0.lock().remove(uid).map(|entry| entry.member)
    }

    fn known(&self, uid: &str) -> Option<Arc<str>> {
        self.0.lock().get_key_value(uid).map(|(uid, _)| uid.clone())
    }
}

impl Pool {
    /// A pod has changed in the API.
    pub(super) fn on_pod(&self, change: &Change<Pod>) {
        let pod = change.object();
        let Some(uid) = pod.metadata.uid.as_deref() else { return };
        let gone = matches!(change, Change::Deleted(_));
        let known = self.pods.known(uid);
        if gone && known.is_none() {
            return;
        }
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let Some(member) = node.and_then(|node| self.member(node)) else { return };
        let uid = known.unwrap_or_else(|| uid.into());
        let news = self.pods.put(&uid, &member, pod, gone);
        let running = {
            let mut state = member.state.lock();
            if news == News::New {
                state.pods.insert(uid.clone());
            }
            let of_before = news == News::New && taken(false, pod);
            if of_before || matches!(news, News::Changed { room: true }) {
                state.used = None;
            }
            state.running
        };
        if running && news != News::Known {
            self.queue.add(uid);
        }
    }

    /// A pod that the runtime has: known, or left over from a pod that the API no longer has.
    pub(super) fn on_found(&self, member: &Arc<Member>, found: &RuntimePod) {
        let ips = found.sandbox.as_ref().filter(|sandbox| sandbox.ready).map(|sandbox| &sandbox.ips);
        if let Some(ips) = ips
            && !ips.is_empty()
            && !member.info.capabilities.assigns_addresses
        {
            self.addresses.reserve(&member.name, &found.uid, ips);
        }
        if self.pods.known(&found.uid).is_none() {
            // What it was is not known any more; that it is to end is.
            let mut pod = Pod::default();
            pod.metadata.uid = Some(found.uid.to_string());
            pod.metadata.namespace = Some(found.namespace.to_string());
            pod.metadata.name = Some(found.name.to_string());
            pod.spec = Some(orphan_spec(found));
            self.pods.put(&found.uid, member, &Arc::new(pod), true);
            member.state.lock().pods.insert(found.uid.clone());
        }
        self.queue.add(found.uid.clone());
    }
}

/// Enough of a spec for the plan to stop the containers that are there.
fn orphan_spec(found: &RuntimePod) -> k8s_openapi::api::core::v1::PodSpec {
    let mut names: Vec<&str> = found.containers.iter().map(|container| &*container.name).collect();
    names.sort_unstable();
    names.dedup();
    k8s_openapi::api::core::v1::PodSpec {
        containers: names
            .into_iter()
            .map(|name| k8s_openapi::api::core::v1::Container {
                name: name.to_owned(),
                ..k8s_openapi::api::core::v1::Container::default()
            })
            .collect(),
        ..k8s_openapi::api::core::v1::PodSpec::default()
    }
}
