//! The cluster as the scheduler sees it: columns over nodes, and the pods on them.
//!
//! The driver keeps one snapshot and changes it as events arrive and as it assumes its own decisions;
//! the engine reads it. Every change is one node's, costs what that node's change costs, and is noted in
//! a bounded log ([`DirtyLog`]), from which anything computed over all nodes can be kept up to date.
//!
//! ```
//! use std::sync::Arc;
//! use rkube_sched::snapshot::{Column, Snapshot};
//!
//! let node = serde_json::from_value(serde_json::json!({
//!     "metadata": {"name": "n1"}, "status": {"allocatable": {"cpu": "4", "pods": "110"}}
//! })).unwrap();
//! let mut snapshot = Snapshot::default();
//! let id = snapshot.set_node(Arc::new(node));
//! assert_eq!(snapshot.view(id).allocatable(Column::CPU), 4000);
//! ```

mod columns;
mod content;
mod facet;
mod images;
mod interner;
mod log;
mod pod;
mod requests;
mod tally;
mod topology;
mod view;
mod volumes;

use std::{
    collections::{BTreeMap, HashMap},
    hash::{Hash, Hasher},
    sync::Arc,
};

use foldhash::fast::FixedState;
use k8s_openapi::api::core::v1::{Node, Taint};
use rkube_api::{client::ObjectKey, meta::Quantity};

use self::tally::Tallies;

pub use columns::{Column, Columns};
pub(crate) use content::images;
pub use facet::Facet;
pub(crate) use facet::{Marks, Origin};
pub use images::{Image, Images};
pub use interner::Interner;
pub use log::{Dirty, DirtyLog};
pub(crate) use pod::uid_of;
pub use pod::{PlacedPod, PodInfo, Uid, nominated_node, scheduling_group};
pub use requests::{DEFAULT_CPU_MILLI, DEFAULT_MEMORY, MOST, Requests, is_extended, is_scalar};
pub use rkube_api::helpers::pod::{is_terminal, node_name as node_of};
pub(crate) use tally::{Count, Sums};
pub(crate) use topology::EACH_NODE;
pub use topology::Topology;
pub use view::{NodeSet, NodeView, Overlay};
pub use volumes::{Disk, PodClaim, PodVolumes};

/// A node's number in a snapshot: its row in every column. A removed node's number goes to a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    pub(crate) fn row(self) -> usize {
        self.0 as usize
    }
}

/// A label as numbers of the snapshot's interners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelId {
    /// The key's number.
    pub key: u32,
    /// The value's number.
    pub value: u32,
}

/// A taint list with equality over what scheduling looks at: when a taint was added does not count.
#[derive(Debug, Clone, Default)]
struct TaintList(Vec<Taint>);

fn taint_key(taint: &Taint) -> (&str, Option<&str>, &str) {
    (&taint.key, taint.value.as_deref(), &taint.effect)
}

impl PartialEq for TaintList {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().map(taint_key).eq(other.0.iter().map(taint_key))
    }
}

impl Eq for TaintList {}

impl Hash for TaintList {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for taint in &self.0 {
            taint_key(taint).hash(state);
        }
    }
}

impl From<&TaintList> for Arc<TaintList> {
    fn from(list: &TaintList) -> Self {
        Arc::new(list.clone())
    }
}

/// What a node is, beside its columns.
#[derive(Clone, Debug)]
struct Row {
    name: Arc<str>,
    node: Option<Arc<Node>>,
    labels: Vec<LabelId>,
    taints: u32,
    unschedulable: bool,
    images: Box<[u32]>,
    pods: Vec<u32>,
    /// The number of the last change of the node or a pod on it.
    changed: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    pod: Arc<PlacedPod>,
    node: NodeId,
    /// Its place in the row's list.
    index: usize,
    assumed: bool,
    /// Whether the scheduler is sending it away, which the pod itself may not show yet.
    doomed: bool,
    /// Whether the pod itself shows it.
    preempted: bool,
}

impl Entry {
    /// Makes the pod say whether it is sent away. It is shared with events under way only, so it is hardly ever
    /// copied for that.
    fn mark(&mut self) {
        let preempted = self.doomed || self.preempted;
        if self.pod.preempted != preempted {
            Arc::make_mut(&mut self.pod).preempted = preempted;
        }
    }
}

/// The cluster's nodes and the pods that have one.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    by_name: HashMap<Arc<str>, NodeId, FixedState>,
    rows: Vec<Row>,
    free_rows: Vec<NodeId>,
    /// The nodes that are really there, in the order of their numbers.
    nodes: Vec<NodeId>,
    /// How many of them take no new pods.
    unschedulable: usize,
    columns: Columns,
    keys: Interner<str>,
    values: Interner<str>,
    taints: Interner<TaintList>,
    images: Images,
    pods: HashMap<Uid, u32, FixedState>,
    /// How many pods of a node have terms of pod affinity, where there are any.
    with_terms: BTreeMap<NodeId, u32>,
    /// How many pods of a node keep others away, where there are any.
    with_anti_affinity: BTreeMap<NodeId, u32>,
    /// How many pods name a claim, of those that any does.
    claims: HashMap<ObjectKey, u32, FixedState>,
    /// How many pods there are of each priority.
    priorities: BTreeMap<i32, usize>,
    entries: Vec<Option<Entry>>,
    free_entries: Vec<u32>,
    log: DirtyLog,
    /// How often a node or a pod has changed, in whatever way.
    changes: u64,
    lineage: Lineage,
    tallies: Tallies,
}

/// Tells a snapshot from its clones, whose logs go on differently.
#[derive(Debug, Default)]
pub(crate) struct Lineage(Arc<()>);

impl Clone for Lineage {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Lineage {
    /// A mark to know the snapshot by.
    pub(crate) fn mark(&self) -> Arc<()> {
        self.0.clone()
    }

    /// Whether the mark is this snapshot's.
    pub(crate) fn is(&self, mark: &Arc<()>) -> bool {
        Arc::ptr_eq(&self.0, mark)
    }
}

impl Snapshot {
    /// Numbers of nodes are below this.
    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// The nodes that are there, in a repeatable order.
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// A node by its name, if it is there.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.by_name.get(name).copied().filter(|id| self.row(*id).node.is_some())
    }

    /// The nodes with pods that have terms of pod affinity.
    pub fn nodes_with_terms(&self) -> impl Iterator<Item = NodeView<'_>> {
        self.there(&self.with_terms)
    }

    /// The nodes with pods that keep others away (required anti-affinity).
    pub fn nodes_with_anti_affinity(&self) -> impl Iterator<Item = NodeView<'_>> {
        self.there(&self.with_anti_affinity)
    }

    fn there<'a>(&'a self, counts: &'a BTreeMap<NodeId, u32>) -> impl Iterator<Item = NodeView<'a>> {
        counts.keys().filter(|id| self.row(**id).node.is_some()).map(|&id| self.view(id))
    }

    /// One node.
    pub fn view(&self, id: NodeId) -> NodeView<'_> {
        NodeView { snapshot: self, id, overlay: None }
    }

    /// A number that is another one after each change of the node, or of a pod that it has, had or gets.
    pub(crate) fn changed(&self, id: NodeId) -> u64 {
        self.row(id).changed
    }

    fn note_change(&mut self, id: NodeId) {
        self.changes += 1;
        self.rows[id.row()].changed = self.changes;
    }

    /// Something has changed of a node that others look at.
    fn soil(&mut self, id: NodeId, dirty: Dirty) {
        self.note_change(id);
        self.log.push(id, dirty);
    }

    /// How many nodes take no new pods.
    pub fn unschedulable_nodes(&self) -> usize {
        self.unschedulable
    }

    /// The columns.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The label keys in use.
    pub fn label_keys(&self) -> &Interner<str> {
        &self.keys
    }

    /// The label values in use.
    pub fn label_values(&self) -> &Interner<str> {
        &self.values
    }

    /// The taints that nodes of one taint set share.
    pub fn taints(&self, set: u32) -> &[Taint] {
        self.taints.get(set).map_or(&[], |list| &list.0)
    }

    /// Taint sets have numbers below this.
    pub fn taint_sets(&self) -> usize {
        self.taints.bound()
    }

    /// The images that nodes have.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// Which nodes changed since when.
    pub fn log(&self) -> &DirtyLog {
        &self.log
    }

    /// How many pods have a node, assumed ones included.
    pub fn pod_count(&self) -> usize {
        self.pods.len()
    }

    /// The lowest priority of any pod that has a node.
    pub fn lowest_priority(&self) -> Option<i32> {
        self.priorities.keys().next().copied()
    }

    /// A pod that has a node.
    pub fn pod(&self, uid: &str) -> Option<(&Arc<PlacedPod>, NodeId)> {
        let entry = self.entry(uid)?;
        Some((&entry.pod, entry.node))
    }

    /// Every pod that has a node, with the node's name, in no particular order.
    pub fn pods(&self) -> impl Iterator<Item = (&PlacedPod, &str)> {
        self.entries.iter().flatten().map(|entry| (&*entry.pod, &*self.row(entry.node).name))
    }

    /// Whether a pod's node is only assumed so far.
    pub fn is_assumed(&self, uid: &str) -> bool {
        self.entry(uid).is_some_and(|entry| entry.assumed)
    }

    fn entry(&self, uid: &str) -> Option<&Entry> {
        self.entries[*self.pods.get(uid)? as usize].as_ref()
    }

    fn row(&self, id: NodeId) -> &Row {
        &self.rows[id.row()]
    }

    fn pods_of(&self, id: NodeId) -> impl Iterator<Item = &PlacedPod> {
        let slots = self.row(id).pods.iter();
        slots.filter_map(|slot| self.entries[*slot as usize].as_ref()).map(|entry| &*entry.pod)
    }

    fn row_of(&mut self, name: &str) -> NodeId {
        if let Some(&id) = self.by_name.get(name) {
            return id;
        }
        let name: Arc<str> = name.into();
        let taints = self.taints.acquire(&TaintList::default());
        let row = Row {
            name: name.clone(),
            node: None,
            labels: Vec::new(),
            taints,
            unschedulable: false,
            images: Box::default(),
            pods: Vec::new(),
            changed: 0,
        };
        let id = match self.free_rows.pop() {
            Some(id) => {
                self.rows[id.row()] = row;
                id
            }
            None => {
                self.rows.push(row);
                self.columns.add_row();
                NodeId((self.rows.len() - 1) as u32)
            }
        };
        self.by_name.insert(name, id);
        id
    }

    /// A node is new or has changed.
    pub fn set_node(&mut self, node: Arc<Node>) -> NodeId {
        let id = self.row_of(node.metadata.name.as_deref().unwrap_or_default());
        let mut labels: Vec<LabelId> = (node.metadata.labels.iter().flatten())
            .map(|(key, value)| LabelId { key: self.keys.acquire(key), value: self.values.acquire(value) })
            .collect();
        labels.sort_unstable();
        let spec = node.spec.as_ref();
        let taints = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
        let taints = self.taints.acquire(&TaintList(taints));
        let unschedulable = spec.and_then(|spec| spec.unschedulable).unwrap_or_default();
        self.columns.clear_allocatable(id);
        let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        for (name, quantity) in allocatable.into_iter().flatten() {
            let quantity = Quantity::try_from(quantity).unwrap_or_default();
            let value = if name == "cpu" { quantity.milli_value() } else { quantity.value() };
            self.columns.set_allocatable(id, name, requests::bounded(value));
        }
        let row = &mut self.rows[id.row()];
        // Given back first: an image that no other node has takes its size from this one anew.
        self.images.release(&row.images);
        row.images = self.images.acquire(&node);
        let before = (std::mem::replace(&mut row.labels, labels), std::mem::replace(&mut row.taints, taints));
        self.unschedulable += usize::from(unschedulable);
        self.unschedulable -= usize::from(std::mem::replace(&mut row.unschedulable, unschedulable));
        if row.node.replace(node).is_none()
            && let Err(place) = self.nodes.binary_search(&id)
        {
            self.nodes.insert(place, id);
        }
        self.release(before.0, before.1);
        self.soil(id, Dirty::Node);
        id
    }

    fn release(&mut self, labels: Vec<LabelId>, taints: u32) {
        for label in labels {
            self.keys.release(label.key);
            self.values.release(label.value);
        }
        self.taints.release(taints);
    }

    /// A node is gone. Its pods stay until they are gone too.
    pub fn remove_node(&mut self, name: &str) -> Option<NodeId> {
        let id = self.find(name)?;
        self.columns.clear_allocatable(id);
        let empty = self.taints.acquire(&TaintList::default());
        let row = &mut self.rows[id.row()];
        row.node = None;
        self.images.release(&std::mem::take(&mut row.images));
        self.unschedulable -= usize::from(std::mem::take(&mut row.unschedulable));
        let before = (std::mem::take(&mut row.labels), std::mem::replace(&mut row.taints, empty));
        self.release(before.0, before.1);
        if let Ok(place) = self.nodes.binary_search(&id) {
            self.nodes.remove(place);
        }
        self.soil(id, Dirty::Node);
        self.drop_row_if_unused(id);
        Some(id)
    }

    fn drop_row_if_unused(&mut self, id: NodeId) {
        let row = &mut self.rows[id.row()];
        if row.node.is_none() && row.pods.is_empty() {
            self.by_name.remove(&row.name);
            let taints = row.taints;
            self.taints.release(taints);
            self.free_rows.push(id);
        }
    }

    /// A pod is on a node: seen there, or moved, or changed. It takes the place of what was known or
    /// assumed of it.
    pub fn set_pod(&mut self, pod: impl Into<Arc<PlacedPod>>, node: &str) {
        self.set_shared(pod.into(), node);
    }

    fn set_shared(&mut self, pod: Arc<PlacedPod>, node: &str) {
        // Most updates of a bound pod are news of its status, which changes nothing here.
        if let Some(&slot) = self.pods.get(&pod.uid)
            && let Some(entry) = self.entries[slot as usize].as_mut()
            && *self.rows[entry.node.row()].name == *node
            && entry.pod.requests == pod.requests
            && entry.pod.terms == pod.terms
            && entry.pod.priority == pod.priority
        {
            // Whom others count by: a pod that is on its way out spreads nobody.
            let recounted = entry.pod.labels != pod.labels || entry.pod.terminating != pod.terminating;
            let node = entry.node;
            entry.assumed = false;
            entry.preempted = pod.preempted;
            entry.pod = pod;
            entry.mark();
            self.note_change(node);
            if recounted {
                self.log.push(node, Dirty::Load);
            }
            return;
        }
        let uid = pod.uid.clone();
        let doomed = self.entry(&uid).is_some_and(|entry| entry.doomed);
        self.remove_pod(&uid);
        self.place(pod, node, false);
        if doomed {
            self.doom(&uid, true);
        }
    }

    /// A pod is taken to be on a node, until it is seen there ([`Snapshot::set_pod`]) or the binding
    /// fails ([`Snapshot::forget`]).
    pub fn assume(&mut self, pod: impl Into<Arc<PlacedPod>>, node: &str) {
        let pod = pod.into();
        self.remove_pod(&pod.uid);
        self.place(pod, node, true);
    }

    /// The binding failed: takes an assumed pod away, and gives it. A pod that was seen on its node stays.
    pub fn forget(&mut self, uid: &str) -> Option<Arc<PlacedPod>> {
        if self.is_assumed(uid) { self.remove_pod(uid) } else { None }
    }

    /// The scheduler sends a pod away to make room, or after all does not: it counts as
    /// [preempted](PlacedPod::preempted) before the pod itself says so.
    pub fn doom(&mut self, uid: &str, doomed: bool) {
        if let Some(&slot) = self.pods.get(uid)
            && let Some(entry) = self.entries[slot as usize].as_mut()
        {
            entry.doomed = doomed;
            entry.mark();
        }
    }

    fn place(&mut self, pod: Arc<PlacedPod>, node: &str, assumed: bool) {
        let id = self.row_of(node);
        self.columns.apply(id, &pod.requests, 1);
        self.count_terms(id, &pod, 1);
        self.count_claims(&pod, 1);
        *self.priorities.entry(pod.priority).or_default() += 1;
        let pods = &mut self.rows[id.row()].pods;
        let (uid, preempted) = (pod.uid.clone(), pod.preempted);
        let entry = Some(Entry { pod, node: id, index: pods.len(), assumed, doomed: false, preempted });
        let slot = match self.free_entries.pop() {
            Some(slot) => {
                self.entries[slot as usize] = entry;
                slot
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        pods.push(slot);
        self.pods.insert(uid, slot);
        self.soil(id, Dirty::Load);
    }

    fn count_terms(&mut self, node: NodeId, pod: &PlacedPod, sign: i32) {
        let Some(terms) = &pod.terms else { return };
        let add = |counts: &mut BTreeMap<NodeId, u32>| {
            let count = counts.entry(node).or_default();
            *count = count.saturating_add_signed(sign);
            if *count == 0 {
                counts.remove(&node);
            }
        };
        add(&mut self.with_terms);
        if !terms.required_anti_affinity.is_empty() {
            add(&mut self.with_anti_affinity);
        }
    }

    fn count_claims(&mut self, pod: &PlacedPod, sign: i32) {
        let Some(volumes) = &pod.volumes else { return };
        for claim in volumes.shared_claims() {
            let key = ObjectKey::new(&*pod.namespace, claim);
            let count = self.claims.entry(key.clone()).or_default();
            *count = count.saturating_add_signed(sign);
            if *count == 0 {
                self.claims.remove(&key);
            }
        }
    }

    /// Whether a pod that has a node names the claim.
    pub fn is_claim_used(&self, claim: &ObjectKey) -> bool {
        self.claims.contains_key(claim)
    }

    /// A pod is gone, or has ended. Gives it as it was last, if it was there.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PlacedPod>> {
        let slot = self.pods.remove(uid)?;
        let entry = self.entries[slot as usize].take()?;
        self.free_entries.push(slot);
        self.columns.apply(entry.node, &entry.pod.requests, -1);
        self.count_terms(entry.node, &entry.pod, -1);
        self.count_claims(&entry.pod, -1);
        if let Some(count) = self.priorities.get_mut(&entry.pod.priority) {
            *count -= 1;
            if *count == 0 {
                self.priorities.remove(&entry.pod.priority);
            }
        }
        let pods = &mut self.rows[entry.node.row()].pods;
        pods.swap_remove(entry.index);
        if let Some(moved) = pods.get(entry.index)
            && let Some(moved) = self.entries[*moved as usize].as_mut()
        {
            moved.index = entry.index;
        }
        self.soil(entry.node, Dirty::Load);
        self.drop_row_if_unused(entry.node);
        Some(entry.pod)
    }
}

#[cfg(test)]
mod tests;
