//! Pods for which room is held on a node.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use foldhash::fast::FixedState;

use crate::snapshot::{Lineage, PodInfo, Uid};

/// Which pod is nominated to which node.
#[derive(Clone, Debug, Default)]
pub struct Nominator {
    by_node: HashMap<Arc<str>, Held, FixedState>,
    by_pod: HashMap<Uid, Arc<str>, FixedState>,
    changes: u64,
    lineage: Lineage,
}

/// The room held on one node.
#[derive(Clone, Debug, Default)]
struct Held {
    pods: BTreeMap<Uid, Arc<PodInfo>>,
    /// The number of the last change.
    changed: u64,
}

impl Nominator {
    /// Holds room for a pod, and gives up what was held for it before.
    pub fn nominate(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.clear(&pod.uid);
        let node: Arc<str> = node.into();
        self.by_pod.insert(pod.uid.clone(), node.clone());
        self.changes += 1;
        let held = self.by_node.entry(node).or_default();
        held.changed = self.changes;
        held.pods.insert(pod.uid.clone(), pod);
    }

    /// Holds no room for a pod any more. False: none was held.
    pub fn clear(&mut self, uid: &str) -> bool {
        let Some(node) = self.by_pod.remove(uid) else { return false };
        if let Some(held) = self.by_node.get_mut(&node) {
            self.changes += 1;
            held.changed = self.changes;
            held.pods.remove(uid);
            if held.pods.is_empty() {
                self.by_node.remove(&node);
            }
        }
        true
    }

    /// The node where room is held for a pod.
    pub fn node_of(&self, uid: &str) -> Option<&str> {
        self.by_pod.get(uid).map(|node| &**node)
    }

    /// The pods for which room is held on a node, by UID.
    pub fn on(&self, node: &str) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.by_node.get(node).into_iter().flat_map(|held| held.pods.values())
    }

    /// The nodes where room is held, in no particular order.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.by_node.keys().map(|node| &**node)
    }

    /// A number that is another one after each change of the room held on a node; `None` while none is.
    pub(crate) fn changed(&self, node: &str) -> Option<u64> {
        self.by_node.get(node).map(|held| held.changed)
    }

    pub(crate) fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// On how many nodes room is held.
    pub(crate) fn len(&self) -> usize {
        self.by_node.len()
    }

    /// Whether no room is held anywhere.
    pub fn is_empty(&self) -> bool {
        self.by_node.is_empty()
    }
}
