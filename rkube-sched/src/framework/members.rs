//! The pods of scheduling groups.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use foldhash::fast::FixedState;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use rkube_api::client::ObjectKey;

use crate::snapshot::{Uid, is_terminal, node_of, scheduling_group, uid_of};

/// The living pods of each scheduling group (`spec.schedulingGroup`), and which of them have a node by what the
/// API server says. Kept by the driver, which is told of all pods and keeps little of most, for plugins that
/// look at groups as a whole. Clones share it.
///
/// ```
/// use rkube_sched::{framework::Members, snapshot::scheduling_group};
///
/// let pod = |name: &str, node: Option<&str>| serde_json::from_value(serde_json::json!({
///     "metadata": {"namespace": "default", "name": name, "uid": name},
///     "spec": {"containers": [], "nodeName": node, "schedulingGroup": {"podGroupName": "gang"}},
/// })).unwrap();
/// let members = Members::default();
/// members.seen(&pod("a", None));
/// members.seen(&pod("b", Some("n1")));
/// let group = scheduling_group(&pod("a", None)).unwrap();
/// assert_eq!((members.count(&group), members.placed(&group)), (2, 1));
/// assert!(members.unplaced(&group).contains("a"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Members(Arc<Mutex<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    groups: HashMap<ObjectKey, Group, FixedState>,
    group_of: HashMap<Uid, ObjectKey, FixedState>,
}

#[derive(Clone, Debug, Default)]
struct Group {
    unplaced: BTreeSet<Uid>,
    placed: BTreeSet<Uid>,
    /// How many there must be for those that have come so far.
    awaited: Option<usize>,
}

impl Group {
    fn len(&self) -> usize {
        self.unplaced.len() + self.placed.len()
    }
}

impl State {
    fn remove(&mut self, uid: &str) {
        let Some(key) = self.group_of.remove(uid) else { return };
        let Some(group) = self.groups.get_mut(&key) else { return };
        group.unplaced.remove(uid);
        group.placed.remove(uid);
        if group.unplaced.is_empty() && group.placed.is_empty() {
            self.groups.remove(&key);
        }
    }
}

impl Members {
    /// A pod is there, as it is now. Gives the pods that have waited for as many as there are now (see
    /// [`Members::wait_for`]).
    pub fn seen(&self, pod: &Pod) -> BTreeSet<Uid> {
        let lives = pod.metadata.deletion_timestamp.is_none() && !is_terminal(pod);
        let group = scheduling_group(pod).filter(|_| lives);
        let state = &mut *self.0.lock();
        if group.is_none() && state.group_of.is_empty() {
            return BTreeSet::new();
        }
        let uid = uid_of(pod);
        let Some(key) = group else {
            state.remove(&uid);
            return BTreeSet::new();
        };
        if state.group_of.get(&uid).is_some_and(|before| *before != key) {
            state.remove(&uid);
        }
        let group = state.groups.entry(key.clone()).or_default();
        let (side, other) = match node_of(pod) {
            Some(_) => (&mut group.placed, &mut group.unplaced),
            None => (&mut group.unplaced, &mut group.placed),
        };
        other.remove(&uid);
        side.insert(uid.clone());
        let complete = group.awaited.take_if(|awaited| group.unplaced.len() + group.placed.len() >= *awaited);
        let waited = complete.map(|_| group.unplaced.clone()).unwrap_or_default();
        state.group_of.insert(uid, key);
        waited
    }

    /// Pods of the group wait until so many of it live.
    pub fn wait_for(&self, group: &ObjectKey, count: usize) {
        if let Some(group) = self.0.lock().groups.get_mut(group) {
            group.awaited = Some(count);
        }
    }

    /// A pod is gone.
    pub fn gone(&self, uid: &str) {
        self.0.lock().remove(uid);
    }

    /// Whether a pod lives and belongs to a group.
    pub fn contains(&self, uid: &str) -> bool {
        self.0.lock().group_of.contains_key(uid)
    }

    /// How many pods of a group live.
    pub fn count(&self, group: &ObjectKey) -> usize {
        self.0.lock().groups.get(group).map_or(0, Group::len)
    }

    /// How many of them have a node.
    pub fn placed(&self, group: &ObjectKey) -> usize {
        self.0.lock().groups.get(group).map_or(0, |group| group.placed.len())
    }

    /// Those that have none.
    pub fn unplaced(&self, group: &ObjectKey) -> BTreeSet<Uid> {
        self.0.lock().groups.get(group).map(|group| group.unplaced.clone()).unwrap_or_default()
    }

    /// All of them.
    pub(crate) fn uids(&self) -> Vec<Uid> {
        let state = self.0.lock();
        state.groups.values().flat_map(|group| group.unplaced.iter().chain(&group.placed)).cloned().collect()
    }

    /// The same ones, to go another way.
    pub(crate) fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().clone())))
    }
}
