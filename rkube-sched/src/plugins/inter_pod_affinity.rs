//! Pods beside pods, and pods apart: what a pod demands and prefers of the pods there, and what they do of
//! it.
//!
//! Semantics: <https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#inter-pod-affinity-and-anti-affinity>,
//! namespace selectors (KEP-2249), match label keys (KEP-3633).

mod counts;
mod filter;
mod score;

use k8s_openapi::api::core::v1::{Namespace, Node};
use rkube_api::{
    client::Cache,
    meta::validation::{FieldError, FieldPath},
};
use serde::Deserialize;

use crate::{
    framework::{
        Actions, Args, ClusterEvent, ConfigError, CycleState, Handle, Hint, Interest, Locality, Plugin,
        PointSet, Points, Resource, Subject, is_own_update,
    },
    matching::{PodTerm, PodTerms},
    snapshot::{Facet, PlacedPod, PodInfo, Snapshot},
};

/// The plugin's name.
pub const NAME: &str = "InterPodAffinity";

const REFUSED_BY_AFFINITY: &str = "node(s) didn't match pod affinity rules";
const REFUSED_BY_ANTI_AFFINITY: &str = "node(s) didn't match pod anti-affinity rules";
const REFUSED_BY_OTHERS: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

/// The plugin's arguments, as in `KubeSchedulerConfiguration`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct InterPodAffinityArgs {
    /// How much it counts for a node that a pod there demands the company of the pod to place: 0 to 100,
    /// by default 1.
    pub hard_pod_affinity_weight: i64,
    /// Whether preferences of pods there count only for pods that have preferences of their own.
    pub ignore_preferred_terms_of_existing_pods: bool,
}

impl Default for InterPodAffinityArgs {
    fn default() -> Self {
        Self { hard_pod_affinity_weight: 1, ignore_preferred_terms_of_existing_pods: false }
    }
}

/// Filters and scores by pods that are there. See the module's documentation.
#[derive(Debug)]
pub struct InterPodAffinity {
    args: InterPodAffinityArgs,
    namespaces: Cache<Namespace>,
}

/// Makes the plugin from [`InterPodAffinityArgs`].
pub fn make(args: &Args, handle: &Handle) -> Result<PointSet, ConfigError> {
    let plugin = InterPodAffinity::new(args.read(NAME)?, handle)?;
    Ok(Points::of(plugin).pre_filter().filter().pre_score().score().done())
}

impl InterPodAffinity {
    /// The plugin.
    pub fn new(args: InterPodAffinityArgs, handle: &Handle) -> Result<Self, ConfigError> {
        let weight = args.hard_pod_affinity_weight;
        if !(0..=100).contains(&weight) {
            let path = FieldPath::new("hardPodAffinityWeight");
            let error = FieldError::invalid(&path, weight, "not in valid range [0, 100]");
            return Err(ConfigError::arguments(NAME, error.to_string()));
        }
        Ok(Self { args, namespaces: handle.listers.get() })
    }

    fn resolved(&self, terms: &[PodTerm]) -> Vec<PodTerm> {
        terms.iter().map(|term| term.resolved(&self.namespaces)).collect()
    }

    fn hint_of_pod(&self, waiting: &PodInfo, old: Option<&PlacedPod>, new: Option<&PlacedPod>) -> Hint {
        let terms = waiting.terms.clone().unwrap_or_default();
        let affinity = self.resolved(&terms.required_affinity);
        let anti_affinity = self.resolved(&terms.required_anti_affinity);
        let all = |pod: Option<&PlacedPod>| {
            pod.is_some_and(|pod| !affinity.is_empty() && affinity.iter().all(|term| term.means(pod)))
        };
        let any =
            |pod: Option<&PlacedPod>| pod.is_some_and(|pod| anti_affinity.iter().any(|term| term.means(pod)));
        let welcome = all(new) && !all(old);
        let out_of_the_way = any(old) && !any(new);
        // A pod that kept this one away is gone.
        let keeps_away = |pod: Option<&PlacedPod>| {
            let labels = self.namespaces.get("", &waiting.key.namespace);
            let labels = labels.as_ref().and_then(|namespace| namespace.metadata.labels.as_ref());
            pod.and_then(|pod| pod.terms.as_ref()).is_some_and(|terms| {
                let mut terms = terms.required_anti_affinity.iter();
                terms.any(|term| term.matches(&waiting.key.namespace, waiting.labels(), labels))
            })
        };
        (welcome || out_of_the_way || (keeps_away(old) && !keeps_away(new))).into()
    }

    /// Only a node with a label that some term names can make a difference; without terms of its own the
    /// pod is kept away by others, and any node may be free of them.
    fn hint_of_node(pod: &PodInfo, new: &Node) -> Hint {
        let terms = pod.terms.as_deref();
        let required = |terms: &PodTerms| {
            let all = terms.required_affinity.iter().chain(&terms.required_anti_affinity);
            all.map(|term| term.topology_key().to_owned()).collect::<Vec<_>>()
        };
        let keys = terms.map(required).unwrap_or_default();
        let labels = new.metadata.labels.as_ref();
        let has = |key: &String| labels.is_some_and(|labels| labels.contains_key(key));
        let demands = terms.is_some_and(|terms| !terms.required_affinity.is_empty());
        (!demands || keys.iter().any(has)).into()
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> Vec<Interest> {
        let of_pods = Actions::ADD | Actions::DELETE | Actions::UPDATE_POD_LABEL;
        let of_nodes = Actions::ADD | Actions::UPDATE_NODE_LABEL;
        vec![
            Interest::new(Resource::Pod, of_pods),
            Interest::new(Resource::Node, of_nodes),
            Interest::new(Resource::Other("namespaces"), Actions::ADD | Actions::UPDATE_OTHER),
        ]
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> Hint {
        match &event.subject {
            Subject::Waiting { .. } => is_own_update(pod, event).into(),
            Subject::Pod { old, new } => self.hint_of_pod(pod, old.as_deref(), new.as_deref()),
            Subject::Node { new: Some(new), .. } => Self::hint_of_node(pod, new),
            _ => Hint::Queue,
        }
    }

    /// Where nobody has terms, there is nothing to ask.
    fn locality(&self, pod: &PodInfo, snapshot: &Snapshot) -> Locality {
        let nobody = pod.terms.is_none() && snapshot.nodes_with_terms().next().is_none();
        if nobody { Locality::Node } else { Locality::Cluster }
    }

    /// Nodes of one part, by all labels that terms name, are alike.
    fn facets(&self, state: &mut CycleState, pod: &PodInfo, snapshot: &Snapshot) -> Option<Vec<Facet>> {
        let mut facets = self.liked_facets(state, pod, snapshot);
        facets.extend(filter::facets(state));
        Some(facets)
    }
}

#[cfg(test)]
mod tests;
