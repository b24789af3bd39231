//! What-if questions about one pod in the middle of its cycle: would it fit if these pods were gone?

use super::{Engine, Prepared, memory::Memory};
use crate::{
    framework::{CycleState, Filter, Locality, Status, contained},
    queue::Nominator,
    snapshot::{NodeId, NodeView, Overlay, PlacedPod, PodInfo, Snapshot},
};
use rkube_api::context::Rng;

/// The cluster as a [`PostFilter`](crate::framework::PostFilter) sees it, and the pod that fits nowhere.
///
/// ```
/// use rkube_sched::{engine::WhatIf, framework::{CycleState, Status}, snapshot::NodeId};
///
/// /// Whether the pod would fit on an empty node.
/// fn fits_alone(cluster: &WhatIf<'_>, state: &CycleState, node: NodeId) -> Result<bool, Status> {
///     let mut trial = cluster.trial(state, node);
///     for pod in cluster.snapshot().view(node).pods() {
///         trial.remove(pod)?;
///     }
///     Ok(trial.fits().is_success())
/// }
/// ```
#[derive(Clone, Copy)]
pub struct WhatIf<'a> {
    pub(super) engine: Engine<'a>,
    pub(super) pod: &'a PodInfo,
    pub(super) prepared: &'a Prepared<'a>,
    /// What was found out for pods like this one.
    pub(super) memory: Option<&'a Memory>,
}

impl std::fmt::Debug for WhatIf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WhatIf({})", self.pod.key)
    }
}

impl<'a> WhatIf<'a> {
    /// The cluster.
    pub fn snapshot(&self) -> &'a Snapshot {
        self.engine.snapshot
    }

    /// Room held for other pods.
    pub fn nominator(&self) -> &'a Nominator {
        self.engine.nominator
    }

    /// Breaks ties.
    pub fn rng(&self) -> &'a Rng {
        self.engine.rng
    }

    /// What `ask` answers of a node, or has answered for a pod of equal content and priority, as long as
    /// neither the node, nor its pods, nor the room held there have changed since, nor what the caller counts
    /// by `version`: it must look at nothing else. What it answered is forgotten now and then, and is not kept
    /// where filters look at the whole cluster.
    pub fn remembered<T: Clone + Send + 'static>(
        &self,
        node: NodeId,
        version: u64,
        ask: impl FnOnce() -> T,
    ) -> T {
        match self.memory {
            Some(memory) => memory.recall(&memory.found, &self.engine, self.pod, (node, version), ask),
            None => ask(),
        }
    }

    /// A trial that begins with a node as it is. `state` is the cycle's; the trial changes a copy.
    pub fn trial(&self, state: &CycleState, node: NodeId) -> Trial<'a> {
        Trial {
            what_if: *self,
            node: self.engine.snapshot.view(node),
            overlay: Overlay::default(),
            state: state.clone(),
            object_fits: false,
        }
    }
}

/// One node, with pods taken away and put back in thought.
#[derive(Debug)]
pub struct Trial<'a> {
    what_if: WhatIf<'a>,
    node: NodeView<'a>,
    overlay: Overlay,
    state: CycleState,
    /// Whether the filters have passed that read the node's object only, which no pod can change.
    object_fits: bool,
}

impl Trial<'_> {
    /// Takes a pod of the node away.
    pub fn remove(&mut self, pod: &PlacedPod) -> Result<(), Status> {
        self.overlay.remove(pod);
        self.shift(pod, -1)
    }

    /// Puts back a pod that was taken away.
    pub fn restore(&mut self, pod: &PlacedPod) -> Result<(), Status> {
        self.overlay.restore(pod);
        self.shift(pod, 1)
    }

    fn shift(&mut self, pod: &PlacedPod, by: i64) -> Result<(), Status> {
        let node = self.node.with(&self.overlay);
        let status = self.what_if.prepared.shift(&mut self.state, self.what_if.pod, pod, node, by);
        if status.is_success() { Ok(()) } else { Err(status) }
    }

    /// Whether the pod fits now, beside the pods for which room is held that come first, and without them.
    pub fn fits(&mut self) -> Status {
        let WhatIf { engine, pod, prepared, .. } = self.what_if;
        let node = self.node.with(&self.overlay);
        let beside = engine.filter_beside_nominated(node, pod, prepared, &self.state);
        if !beside.is_success() {
            return beside;
        }
        for filter in &prepared.filters {
            if self.object_fits && reads_objects_only(*filter, pod, engine.snapshot) {
                continue;
            }
            let said = contained(filter.name(), "Filter", || filter.filter(&self.state, pod, node));
            let status = said.unwrap_or_else(|status| status).from_plugin(filter.name());
            if !status.is_success() {
                return status;
            }
        }
        self.object_fits = true;
        Status::success()
    }
}

fn reads_objects_only(filter: &dyn Filter, pod: &PodInfo, snapshot: &Snapshot) -> bool {
    matches!(filter.locality(pod, snapshot), Locality::Node | Locality::Nodes)
}
