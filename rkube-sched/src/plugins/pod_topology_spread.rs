//! Spreads pods over zones, nodes or whatever else a node label names.
//!
//! Semantics: <https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/>, with
//! `minDomains` (KEP-3022), node inclusion policies (KEP-3094), `matchLabelKeys` (KEP-3243) and the
//! cluster's default constraints.

mod constraint;
mod defaults;
mod filter;
mod score;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, TopologySpreadConstraint};
use rkube_api::meta::{
    names,
    validation::{ErrorList, FieldError, FieldPath},
};
use serde::Deserialize;

use self::{constraint::Constraint, defaults::Owners};
use crate::{
    framework::{
        Actions, Args, ClusterEvent, ConfigError, CycleState, Handle, Hint, Interest, Locality, Plugin,
        PointSet, Points, Resource, Subject,
    },
    snapshot::{Facet, PlacedPod, PodInfo, Snapshot},
};

/// The plugin's name.
pub const NAME: &str = "PodTopologySpread";

const REFUSED: &str = "node(s) didn't match pod topology spread constraints";
const NO_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
const HARD: &str = "DoNotSchedule";
const SOFT: &str = "ScheduleAnyway";

/// Where the constraints come from of pods that have none of their own.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum Defaulting {
    /// From Kubernetes: gently over nodes (skew 3) and zones (skew 5).
    #[default]
    System,
    /// From `defaultConstraints`.
    List,
}

/// The plugin's arguments, as in `KubeSchedulerConfiguration`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodTopologySpreadArgs {
    /// Constraints of pods that have none, and that a service or a controller selects; which pods count is
    /// deduced from those.
    #[serde(default)]
    pub default_constraints: Vec<TopologySpreadConstraint>,
    /// Whether those count.
    #[serde(default)]
    pub defaulting_type: Defaulting,
}

impl PodTopologySpreadArgs {
    fn validate(&self) -> Result<(), ErrorList> {
        let mut errors = ErrorList::default();
        if self.defaulting_type == Defaulting::System && !self.default_constraints.is_empty() {
            let path = FieldPath::new("defaultingType");
            errors.push(FieldError::invalid(&path, "System", "when .defaultConstraints are not empty"));
        }
        let path = FieldPath::new("defaultConstraints");
        let mut seen = BTreeSet::new();
        for (index, constraint) in self.default_constraints.iter().enumerate() {
            let path = path.index(index);
            if constraint.max_skew <= 0 {
                let path = path.child("maxSkew");
                errors.push(FieldError::invalid(&path, constraint.max_skew, "not in valid range (0, inf)"));
            }
            let (key, path_of_key) = (&constraint.topology_key, path.child("topologyKey"));
            if key.is_empty() {
                errors.push(FieldError::required(&path_of_key, "can not be empty"));
            } else {
                errors.push_messages(&path_of_key, key, names::qualified_name(key));
            }
            let (action, path_of_action) = (&constraint.when_unsatisfiable, path.child("whenUnsatisfiable"));
            if action.is_empty() {
                errors.push(FieldError::required(&path_of_action, "can not be empty"));
            } else if ![HARD, SOFT].contains(&action.as_str()) {
                errors.push(FieldError::not_supported(&path_of_action, action, &[HARD, SOFT]));
            }
            if constraint.label_selector.is_some() {
                let text = "constraint must not define a selector, as they deduced for each pod";
                errors.push(FieldError::forbidden(&path.child("labelSelector"), text));
            }
            if !seen.insert((key, action)) {
                errors.push(FieldError::duplicate(&path, format!("{{{key}, {action}}}")));
            }
        }
        errors.into_result()
    }
}

/// Filters and scores by how evenly pods are spread. See the module's documentation.
#[derive(Debug)]
pub struct PodTopologySpread {
    /// Of pods without constraints of their own.
    defaults: Vec<TopologySpreadConstraint>,
    /// Whether the defaults are Kubernetes' own: then nodes without a zone are scored too.
    system_defaults: bool,
    owners: Owners,
}

/// Makes the plugin from [`PodTopologySpreadArgs`].
pub fn make(args: &Args, handle: &Handle) -> Result<PointSet, ConfigError> {
    let args: PodTopologySpreadArgs = args.read(NAME)?;
    let plugin = PodTopologySpread::new(args, handle)?;
    Ok(Points::of(plugin).pre_filter().filter().pre_score().score().done())
}

fn system_defaults() -> Vec<TopologySpreadConstraint> {
    let one = |key: &str, max_skew: i32| TopologySpreadConstraint {
        max_skew,
        topology_key: key.to_owned(),
        when_unsatisfiable: SOFT.to_owned(),
        ..TopologySpreadConstraint::default()
    };
    vec![one(HOSTNAME, 3), one(ZONE, 5)]
}

fn own(pod: &PodInfo) -> &[TopologySpreadConstraint] {
    pod.spec().and_then(|spec| spec.topology_spread_constraints.as_deref()).unwrap_or_default()
}

impl PodTopologySpread {
    /// The plugin.
    pub fn new(args: PodTopologySpreadArgs, handle: &Handle) -> Result<Self, ConfigError> {
        args.validate().map_err(|errors| ConfigError::arguments(NAME, errors.to_string()))?;
        let system_defaults_apply = args.defaulting_type == Defaulting::System;
        Ok(Self {
            defaults: if system_defaults_apply { system_defaults() } else { args.default_constraints },
            system_defaults: system_defaults_apply,
            owners: Owners::new(handle),
        })
    }

    /// The constraints of one sort that hold for a pod: its own, or else the cluster's.
    fn constraints(&self, pod: &PodInfo, action: &str) -> Vec<Constraint> {
        let of = |constraints: &[TopologySpreadConstraint]| -> Vec<Constraint> {
            let wanted = constraints.iter().filter(|constraint| constraint.when_unsatisfiable == action);
            wanted.map(|constraint| Constraint::new(constraint, pod)).collect()
        };
        if !own(pod).is_empty() {
            return of(own(pod));
        }
        let mut defaults = of(&self.defaults);
        if defaults.is_empty() {
            return defaults;
        }
        let selector = self.owners.selector(pod);
        if selector.is_everything() {
            return Vec::new();
        }
        defaults.iter_mut().for_each(|constraint| constraint.selector = selector.clone());
        defaults
    }

    /// The waiting pod is another one now, by its tolerations or its labels.
    fn hint_of_itself(&self, waiting: &PodInfo, old: &PodInfo, new: &PodInfo) -> Hint {
        if new.uid != waiting.uid {
            return Hint::Skip;
        }
        let constraints = self.constraints(waiting, HARD);
        let tolerates_more = old.tolerations() != new.tolerations()
            && constraints.iter().any(|constraint| constraint.honor_taints);
        (tolerates_more || counts_otherwise(&constraints, old.labels(), new.labels())).into()
    }

    fn hint_of_pod(&self, waiting: &PodInfo, old: Option<&PlacedPod>, new: Option<&PlacedPod>) -> Hint {
        if !old.into_iter().chain(new).all(|pod| *pod.namespace == *waiting.key.namespace) {
            return Hint::Skip;
        }
        let constraints = self.constraints(waiting, HARD);
        match (old, new) {
            (Some(old), Some(new)) => counts_otherwise(&constraints, &old.labels, &new.labels).into(),
            (Some(pod), None) | (None, Some(pod)) => {
                constraints.iter().any(|constraint| constraint.selector.matches(&pod.labels)).into()
            }
            (None, None) => Hint::Queue,
        }
    }

    fn hint_of_node(&self, pod: &PodInfo, old: Option<&Node>, new: Option<&Node>) -> Hint {
        let constraints = self.constraints(pod, HARD);
        let value = |node: &Node, key: &str| node.metadata.labels.as_ref()?.get(key).cloned();
        let has_all =
            |node: &Node| constraints.iter().all(|constraint| value(node, &constraint.key).is_some());
        let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
        match (old, new) {
            (Some(old), Some(new)) => {
                let moved = || {
                    constraints
                        .iter()
                        .any(|constraint| value(old, &constraint.key) != value(new, &constraint.key))
                };
                let changed = has_all(new) && (moved() || taints(old) != taints(new));
                (has_all(old) != has_all(new) || changed).into()
            }
            (Some(node), None) | (None, Some(node)) => has_all(node).into(),
            (None, None) => Hint::Queue,
        }
    }
}

/// Whether some constraint counts the pods with these labels, but not those with the others.
fn counts_otherwise(
    constraints: &[Constraint],
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> bool {
    constraints.iter().any(|it| it.selector.matches(before) != it.selector.matches(after))
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> Vec<Interest> {
        let of_pods = Actions::ADD | Actions::DELETE | Actions::UPDATE_POD_LABEL;
        let of_nodes =
            Actions::ADD | Actions::DELETE | Actions::UPDATE_NODE_LABEL | Actions::UPDATE_NODE_TAINT;
        vec![
            Interest::new(Resource::Pod, of_pods | Actions::UPDATE_POD_TOLERATION),
            Interest::new(Resource::Node, of_nodes),
        ]
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> Hint {
        match &event.subject {
            Subject::Waiting { old, new } => self.hint_of_itself(pod, old, new),
            Subject::Pod { old, new } => self.hint_of_pod(pod, old.as_deref(), new.as_deref()),
            Subject::Node { old, new } => self.hint_of_node(pod, old.as_deref(), new.as_deref()),
            _ => Hint::Queue,
        }
    }

    /// A pod that nothing is to spread can go anywhere.
    fn locality(&self, pod: &PodInfo, _: &Snapshot) -> Locality {
        let unconstrained =
            own(pod).is_empty() && (self.defaults.is_empty() || self.owners.selector(pod).is_everything());
        if unconstrained { Locality::Node } else { Locality::Cluster }
    }

    /// Nodes of one domain are alike.
    fn facets(&self, state: &mut CycleState, pod: &PodInfo, snapshot: &Snapshot) -> Option<Vec<Facet>> {
        let mut facets = self.soft_facets(state, pod, snapshot)?;
        facets.extend(filter::facets(state));
        Some(facets)
    }
}

#[cfg(test)]
mod tests;
