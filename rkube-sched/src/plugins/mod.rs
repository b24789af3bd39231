//! The built-in plugins, one a file: arguments, points, requeue hints, tests.
//!
//! Names, arguments, reasons, weights and scores are those of kube-scheduler.
//!
//! ```
//! let names: Vec<_> = rkube_sched::plugins::all().names().collect();
//! assert!(names.contains(&"NodeResourcesFit"));
//! ```

pub mod default_binder;
pub mod default_preemption;
#[cfg(feature = "dra")]
pub mod dynamic_resources;
pub mod gang_scheduling;
pub mod image_locality;
pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_declared_features;
pub mod node_name;
pub mod node_ports;
pub mod node_resources_balanced_allocation;
pub mod node_resources_fit;
pub mod node_unschedulable;
pub mod node_volume_limits;
pub mod pod_topology_spread;
pub mod priority_sort;
pub mod scheduling_gates;
pub mod taint_toleration;
pub mod volume_binding;
pub mod volume_restrictions;
pub mod volume_zone;

use std::any::Any;

use crate::{
    engine::Candidates,
    framework::{Args, ConfigError, CycleState, Handle, PluginRegistry, PointSet, Status},
    snapshot::{NodeId, NodeView},
};

/// What PreFilter keeps, and what it has against each node.
trait Refuses: Any + Clone {
    /// Why the pod may not go there; `None`: it may.
    fn refusal(&self, node: NodeId) -> Option<Status>;
}

/// A Filter that reads what its PreFilter has kept; `alone` makes that where none has run.
fn filter_by<T: Refuses>(
    state: &CycleState,
    node: NodeView<'_>,
    alone: impl FnOnce() -> Option<T>,
) -> Status {
    state.read_or(alone).and_then(|kept| kept.refusal(node.id())).unwrap_or_default()
}

/// As [`filter_by`], for all nodes that are still in question.
fn filter_all_by<T: Refuses>(
    state: &CycleState,
    nodes: &mut Candidates<'_>,
    alone: impl FnOnce() -> Option<T>,
) {
    if let Some(kept) = state.read_or(alone) {
        nodes.retain_where(
            |id| kept.refusal(id).is_none(),
            |node| kept.refusal(node.id()).unwrap_or_default(),
        );
    }
}

type Make = fn(&Args, &Handle) -> Result<PointSet, ConfigError>;

/// Every built-in plugin: its name, how it is made, and the weight of its score in the default profile.
const ALL: &[(&str, Make, i64)] = &[
    (scheduling_gates::NAME, scheduling_gates::make, 1),
    (priority_sort::NAME, priority_sort::make, 1),
    (node_unschedulable::NAME, node_unschedulable::make, 1),
    (node_name::NAME, node_name::make, 1),
    (taint_toleration::NAME, taint_toleration::make, 3),
    (node_affinity::NAME, node_affinity::make, 2),
    (node_ports::NAME, node_ports::make, 1),
    (node_resources_fit::NAME, node_resources_fit::make, 1),
    (volume_restrictions::NAME, volume_restrictions::make, 1),
    (node_volume_limits::NAME, node_volume_limits::make, 1),
    (volume_binding::NAME, volume_binding::make, 1),
    (volume_zone::NAME, volume_zone::make, 1),
    (pod_topology_spread::NAME, pod_topology_spread::make, 2),
    (inter_pod_affinity::NAME, inter_pod_affinity::make, 2),
    // An idle claim is given back before a pod has to go.
    #[cfg(feature = "dra")]
    (dynamic_resources::NAME, dynamic_resources::make, 1),
    (default_preemption::NAME, default_preemption::make, 1),
    (node_resources_balanced_allocation::NAME, node_resources_balanced_allocation::make, 1),
    (image_locality::NAME, image_locality::make, 1),
    (node_declared_features::NAME, node_declared_features::make, 1),
    (gang_scheduling::NAME, gang_scheduling::make, 1),
    (default_binder::NAME, default_binder::make, 1),
];

/// The plugins of the default profile with their weights, in the order in which they run.
pub(crate) fn default_weights() -> impl Iterator<Item = (&'static str, i64)> {
    ALL.iter().map(|&(name, _, weight)| (name, weight))
}

/// A registry with every built-in plugin; a host adds its own.
pub fn all() -> PluginRegistry {
    let mut registry = PluginRegistry::empty();
    for &(name, make, _) in ALL {
        // No two of them share a name: a test sees to it.
        let _ = registry.add(name, make);
    }
    registry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::{Point, Profiles};

    #[test]
    fn names_are_unique_and_the_default_profile_runs_all_of_them() {
        assert_eq!(all().names().count(), ALL.len());
        let profiles = Profiles::standard();
        let profile = profiles.iter().next().unwrap();
        assert_eq!(profile.plugin_names().count(), ALL.len());
        for (name, make, _) in ALL {
            let set = make(&Args::default(), &Handle::default()).unwrap();
            assert_eq!(set.plugin.name(), *name);
            assert!(!set.points().is_empty());
            let points: Vec<Point> = set.points();
            assert!(points.is_sorted());
        }
    }
}
