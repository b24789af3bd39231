//! The cluster of a simulation.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::FixedState;
use k8s_openapi::api::core::v1::{Node, Pod};

use rkube_api::client::Cache;

use super::run::Waiting;
use crate::{
    framework::{Handle, Members},
    queue::Nominator,
    snapshot::{PlacedPod, PodInfo, Snapshot, Uid, node_of},
};

/// Nodes, the pods on them, and the pods that wait.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    pub(super) snapshot: Snapshot,
    pub(super) nominator: Nominator,
    /// The pods that have a node: whole, for the day when they lose it.
    pub(super) placed: HashMap<Uid, Arc<PodInfo>, FixedState>,
    /// All pods as an API server would show them to plugins.
    pub(super) shown: Cache<Pod>,
    /// Those of groups among them.
    pub(super) members: Members,
    /// In the order in which they came.
    pub(super) waiting: Vec<Waiting>,
    /// How many have ever waited.
    pub(super) sequence: u64,
}

impl World {
    /// An empty one, whose pods plugins see by their handle.
    pub(super) fn shown_by(handle: &Handle) -> Self {
        Self { shown: handle.listers.get(), members: handle.members.clone(), ..Self::default() }
    }

    pub(super) fn node(&self, name: &str) -> Option<&Node> {
        self.snapshot.find(name).and_then(|id| self.snapshot.view(id).node())
    }

    /// A pod is on the node that it names.
    pub(super) fn set_pod(&mut self, pod: Pod) {
        let node = node_of(&pod).unwrap_or_default().to_owned();
        let info = Arc::new(PodInfo::new(Arc::new(pod)));
        self.place(&info, &node);
        self.show(&info);
    }

    /// A pod is shown as it is.
    pub(super) fn show(&self, info: &PodInfo) {
        self.shown.insert(info.pod.clone());
        // Whoever waited for it is tried again without being asked for.
        drop(self.members.seen(&info.pod));
    }

    /// A pod that has been placed is bound, as all can see.
    pub(super) fn bind(&mut self, uid: &str) {
        if let Some(info) = self.placed.get(uid) {
            self.show(info);
        }
    }

    /// A pod is on a node. It shows when it is bound.
    pub(super) fn place(&mut self, info: &Arc<PodInfo>, node: &str) {
        self.snapshot.set_pod(PlacedPod::from(&**info), node);
        self.placed.insert(info.uid.clone(), info.clone());
    }

    /// A pod is gone from its node; which it was.
    pub(super) fn remove(&mut self, uid: &str) -> Option<(Arc<PodInfo>, String)> {
        let (_, id) = self.snapshot.pod(uid)?;
        let node = self.snapshot.view(id).name().to_owned();
        let info = self.placed.remove(uid)?;
        self.snapshot.remove_pod(uid);
        self.shown.remove(&info.key);
        self.members.gone(uid);
        Some((info, node))
    }

    /// All pods.
    pub(super) fn pods(&self) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.placed.values().chain(self.waiting.iter().map(|waiting| &waiting.info))
    }

    /// The pods of a node, by name, whether or not the node itself is there.
    pub(super) fn pods_on(&self, node: &str) -> Vec<Arc<PodInfo>> {
        let is_there = |info: &&Arc<PodInfo>| {
            let place = self.snapshot.pod(&info.uid);
            place.is_some_and(|(_, id)| self.snapshot.view(id).name() == node)
        };
        let mut pods: Vec<_> = self.placed.values().filter(is_there).cloned().collect();
        pods.sort_unstable_by(|a, b| a.key.cmp(&b.key).then_with(|| a.uid.cmp(&b.uid)));
        pods
    }

    /// A pod waits from now on.
    pub(super) fn wait(&mut self, waiting: Waiting) {
        let waiting = self.enlist(waiting);
        self.waiting.push(waiting);
    }

    /// Gives a pod its place among those that wait, who came before.
    pub(super) fn enlist(&mut self, mut waiting: Waiting) -> Waiting {
        self.sequence += 1;
        waiting.sequence = self.sequence;
        if let Some(node) = waiting.info.nominated_node() {
            self.nominator.nominate(waiting.info.clone(), node);
        }
        self.show(&waiting.info);
        waiting
    }
}
