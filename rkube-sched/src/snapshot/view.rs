//! One node, as plugins see it, and what-if changes laid over it.

use k8s_openapi::api::core::v1::{Node, Taint};

use super::{Column, LabelId, NodeId, PlacedPod, Requests, Snapshot, Uid};

/// Pods added to and taken from one node in thought.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    added: Vec<PlacedPod>,
    removed: Vec<Uid>,
    delta: Vec<(Box<str>, i64)>,
    sums: Requests,
    pods: i64,
}

impl Overlay {
    /// Adds a pod.
    pub fn add(&mut self, pod: PlacedPod) {
        self.apply(&pod.requests, 1);
        self.added.push(pod);
    }

    /// Takes a pod away: one of the node's own or one added before.
    pub fn remove(&mut self, pod: &PlacedPod) {
        self.apply(&pod.requests, -1);
        match self.added.iter().position(|added| added.uid == pod.uid) {
            Some(index) => {
                self.added.remove(index);
            }
            None => self.removed.push(pod.uid.clone()),
        }
    }

    /// Puts back a pod that was taken away.
    pub fn restore(&mut self, pod: &PlacedPod) {
        match self.removed.iter().position(|removed| *removed == pod.uid) {
            Some(index) => {
                self.apply(&pod.requests, 1);
                self.removed.swap_remove(index);
            }
            None => self.add(pod.clone()),
        }
    }

    fn apply(&mut self, requests: &Requests, sign: i64) {
        let add = |sum: &mut i64, amount: i64| *sum = sum.wrapping_add(sign.wrapping_mul(amount));
        add(&mut self.sums.cpu_milli, requests.cpu_milli);
        add(&mut self.sums.memory, requests.memory);
        add(&mut self.sums.ephemeral, requests.ephemeral);
        add(&mut self.sums.nonzero_cpu, requests.nonzero_cpu);
        add(&mut self.sums.nonzero_memory, requests.nonzero_memory);
        self.pods += sign;
        for (name, value) in &requests.scalars {
            match self.delta.iter_mut().find(|(mine, _)| mine == name) {
                Some((_, sum)) => add(sum, *value),
                None => self.delta.push((name.clone(), sign.wrapping_mul(*value))),
            }
        }
    }

    fn of(&self, snapshot: &Snapshot, column: Column) -> i64 {
        match column {
            Column::CPU => self.sums.cpu_milli,
            Column::MEMORY => self.sums.memory,
            Column::EPHEMERAL => self.sums.ephemeral,
            Column::PODS => self.pods,
            other => {
                let name = snapshot.columns().name(other);
                self.delta.iter().find(|(mine, _)| **mine == *name).map_or(0, |(_, value)| *value)
            }
        }
    }
}

/// A node in a snapshot. Cheap to copy; all reads are array reads.
#[derive(Clone, Copy)]
pub struct NodeView<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) id: NodeId,
    pub(super) overlay: Option<&'a Overlay>,
}

impl std::fmt::Debug for NodeView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeView({})", self.name())
    }
}

impl<'a> NodeView<'a> {
    /// Its number in the snapshot.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The snapshot it belongs to.
    pub fn snapshot(&self) -> &'a Snapshot {
        self.snapshot
    }

    /// The same node with pods added or taken away in thought.
    pub fn with(self, overlay: &'a Overlay) -> Self {
        Self { overlay: Some(overlay), ..self }
    }

    pub(crate) fn overlay(&self) -> Option<&'a Overlay> {
        self.overlay
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.snapshot.row(self.id).name
    }

    /// The whole object; `None` while pods of a node are known but not the node.
    pub fn node(&self) -> Option<&'a Node> {
        self.snapshot.row(self.id).node.as_deref()
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&'a str> {
        self.node()?.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Its labels as numbers, sorted by key.
    pub fn label_ids(&self) -> &'a [LabelId] {
        &self.snapshot.row(self.id).labels
    }

    /// The number that nodes with equal taints share.
    pub fn taint_set(&self) -> u32 {
        self.snapshot.row(self.id).taints
    }

    /// Its taints.
    pub fn taints(&self) -> &'a [Taint] {
        self.snapshot.taints(self.taint_set())
    }

    /// Whether it takes no new pods.
    pub fn unschedulable(&self) -> bool {
        self.snapshot.row(self.id).unschedulable
    }

    /// Whether it has an image, by the image's number.
    pub fn has_image(&self, number: u32) -> bool {
        self.snapshot.row(self.id).images.binary_search(&number).is_ok()
    }

    /// What it has of a resource.
    pub fn allocatable(&self, column: Column) -> i64 {
        self.snapshot.columns().allocatable(column)[self.id.row()]
    }

    /// What its pods ask for of a resource.
    pub fn requested(&self, column: Column) -> i64 {
        let base = self.snapshot.columns().requested(column)[self.id.row()];
        base.wrapping_add(self.overlay.map_or(0, |overlay| overlay.of(self.snapshot, column)))
    }

    /// What its pods ask for of CPU, with defaults.
    pub fn nonzero_cpu(&self) -> i64 {
        let base = self.snapshot.columns().nonzero_cpu()[self.id.row()];
        base.wrapping_add(self.overlay.map_or(0, |overlay| overlay.sums.nonzero_cpu))
    }

    /// What its pods ask for of memory, with defaults.
    pub fn nonzero_memory(&self) -> i64 {
        let base = self.snapshot.columns().nonzero_memory()[self.id.row()];
        base.wrapping_add(self.overlay.map_or(0, |overlay| overlay.sums.nonzero_memory))
    }

    /// Its pods, in no particular but a repeatable order.
    pub fn pods(&self) -> impl Iterator<Item = &'a PlacedPod> + use<'a> {
        let overlay = self.overlay;
        let own = self
            .snapshot
            .pods_of(self.id)
            .filter(move |pod| overlay.is_none_or(|overlay| !overlay.removed.contains(&pod.uid)));
        own.chain(overlay.into_iter().flat_map(|overlay| &overlay.added))
    }
}

/// Some nodes of a snapshot, in order. Each may stand for others that are like it.
#[derive(Clone, Copy)]
pub struct NodeSet<'a> {
    snapshot: &'a Snapshot,
    ids: &'a [NodeId],
    counts: Option<&'a [usize]>,
}

impl<'a> NodeSet<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, ids: &'a [NodeId]) -> Self {
        Self { snapshot, ids, counts: None }
    }

    /// Nodes that each stand for so many.
    pub(crate) fn standing(snapshot: &'a Snapshot, ids: &'a [NodeId], counts: &'a [usize]) -> Self {
        Self { snapshot, ids, counts: Some(counts) }
    }

    /// Their numbers, and how many nodes each stands for.
    pub(crate) fn counted(&self) -> impl Iterator<Item = (NodeId, usize)> + use<'a> {
        let counts = self.counts;
        let count = move |place: usize| counts.map_or(1, |counts| counts[place]);
        self.ids.iter().enumerate().map(move |(place, id)| (*id, count(place)))
    }

    /// The snapshot they belong to.
    pub fn snapshot(&self) -> &'a Snapshot {
        self.snapshot
    }

    /// Their numbers.
    pub fn ids(&self) -> &'a [NodeId] {
        self.ids
    }

    /// The nodes.
    pub fn iter(&self) -> impl Iterator<Item = NodeView<'a>> + use<'a> {
        let snapshot = self.snapshot;
        self.ids.iter().map(move |&id| snapshot.view(id))
    }
}
