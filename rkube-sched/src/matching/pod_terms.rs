//! Terms of pod affinity and anti-affinity, compiled once a pod.
//!
//! Semantics: <https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/>, namespace
//! selectors (KEP-2249), match label keys (KEP-3633).

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Namespace, Pod, PodAffinityTerm, WeightedPodAffinityTerm},
    apimachinery::pkg::apis::meta::v1::{LabelSelector as ApiSelector, LabelSelectorRequirement},
};
use rkube_api::{client::Cache, meta::labels::LabelSelector};

use crate::snapshot::PlacedPod;

type Labels = std::collections::BTreeMap<String, String>;

/// A label selector with the values of `keys` written out, as the API server does for new pods
/// (KEP-3243, KEP-3633): each must be (`In`) or must not be (`NotIn`) what the pod itself has. Keys that
/// the selector names already are left alone: the server has been there.
pub fn with_match_keys(
    selector: Option<&ApiSelector>,
    keys: &[String],
    operator: &str,
    labels: &Labels,
) -> Option<ApiSelector> {
    let mut selector = selector?.clone();
    for key in keys {
        let expressions = selector.match_expressions.get_or_insert_default();
        let written =
            expressions.iter().any(|expression| expression.key == *key && expression.operator == operator);
        if let Some(value) = labels.get(key).filter(|_| !written) {
            expressions.push(LabelSelectorRequirement {
                key: key.clone(),
                operator: operator.to_owned(),
                values: Some(vec![value.clone()]),
            });
        }
    }
    Some(selector)
}

/// One term: which pods it means, and within what part of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodTerm {
    selector: LabelSelector,
    namespaces: BTreeSet<Box<str>>,
    namespace_selector: LabelSelector,
    topology_key: Arc<str>,
}

impl PodTerm {
    /// Compiles a term of a pod. What cannot be read matches no pod.
    pub fn new(term: &PodAffinityTerm, pod: &Pod) -> Self {
        let nothing = Labels::new();
        let labels = pod.metadata.labels.as_ref().unwrap_or(&nothing);
        let keys = |keys: &Option<Vec<String>>| keys.clone().unwrap_or_default();
        let selector =
            with_match_keys(term.label_selector.as_ref(), &keys(&term.match_label_keys), "In", labels);
        let selector = with_match_keys(selector.as_ref(), &keys(&term.mismatch_label_keys), "NotIn", labels);
        let read = |selector: Option<&ApiSelector>| {
            LabelSelector::from_api(selector).unwrap_or_else(|_| LabelSelector::nothing())
        };
        let mut namespaces: BTreeSet<Box<str>> =
            term.namespaces.iter().flatten().map(|name| name.as_str().into()).collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(pod.metadata.namespace.as_deref().unwrap_or_default().into());
        }
        Self {
            selector: read(selector.as_ref()),
            namespaces,
            namespace_selector: read(term.namespace_selector.as_ref()),
            topology_key: term.topology_key.as_str().into(),
        }
    }

    /// The label of nodes that says which belong together.
    pub fn topology_key(&self) -> &str {
        &self.topology_key
    }

    /// The term with its namespace selector turned into names: those that there are now.
    #[must_use]
    pub fn resolved(&self, namespaces: &Cache<Namespace>) -> Self {
        let mut term = self.clone();
        if term.namespace_selector.is_nothing() || term.namespace_selector.is_everything() {
            return term;
        }
        let matching = namespaces.list();
        let matching = matching
            .iter()
            .filter(|namespace| term.namespace_selector.matches_opt(namespace.metadata.labels.as_ref()))
            .filter_map(|namespace| namespace.metadata.name.as_deref());
        term.namespaces.extend(matching.map(Into::into));
        term.namespace_selector = LabelSelector::nothing();
        term
    }

    /// Whether a pod is meant; `namespace_labels` are those of the pod's namespace.
    pub fn matches(&self, namespace: &str, labels: &Labels, namespace_labels: Option<&Labels>) -> bool {
        (self.namespaces.contains(namespace) || self.namespace_selector.matches_opt(namespace_labels))
            && self.selector.matches(labels)
    }

    /// Whether a pod is meant, for a term that is [resolved](Self::resolved).
    pub fn means(&self, pod: &PlacedPod) -> bool {
        self.matches(&pod.namespace, &pod.labels, None)
    }
}

/// The terms of a pod.
///
/// ```
/// use rkube_sched::matching::PodTerms;
///
/// let pod = serde_json::from_value(serde_json::json!({
///     "metadata": {"namespace": "shop", "labels": {"app": "web"}},
///     "spec": {"containers": [], "affinity": {"podAntiAffinity": {
///         "requiredDuringSchedulingIgnoredDuringExecution": [{
///             "topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}
///         }]
///     }}}
/// })).unwrap();
/// let terms = PodTerms::of(&pod).unwrap();
/// let labels = [("app".to_owned(), "web".to_owned())].into();
/// assert!(terms.required_anti_affinity[0].matches("shop", &labels, None));
/// assert!(!terms.required_anti_affinity[0].matches("other", &labels, None));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodTerms {
    /// It must run beside pods that match all of these.
    pub required_affinity: Vec<PodTerm>,
    /// It must not run beside a pod that matches any of these.
    pub required_anti_affinity: Vec<PodTerm>,
    /// It would rather run beside such pods, by so much.
    pub preferred_affinity: Vec<(PodTerm, i64)>,
    /// It would rather not run beside such pods, by so much.
    pub preferred_anti_affinity: Vec<(PodTerm, i64)>,
}

impl PodTerms {
    /// The terms of a pod, if it has any.
    pub fn of(pod: &Pod) -> Option<Self> {
        let affinity = pod.spec.as_ref()?.affinity.as_ref()?;
        let (to, from) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
        let required = |terms: Option<&Vec<PodAffinityTerm>>| -> Vec<PodTerm> {
            terms.into_iter().flatten().map(|term| PodTerm::new(term, pod)).collect()
        };
        let preferred = |terms: Option<&Vec<WeightedPodAffinityTerm>>| -> Vec<(PodTerm, i64)> {
            let weighted = terms.into_iter().flatten();
            weighted.map(|term| (PodTerm::new(&term.pod_affinity_term, pod), term.weight.into())).collect()
        };
        let terms = Self {
            required_affinity: required(
                to.and_then(|to| to.required_during_scheduling_ignored_during_execution.as_ref()),
            ),
            required_anti_affinity: required(
                from.and_then(|from| from.required_during_scheduling_ignored_during_execution.as_ref()),
            ),
            preferred_affinity: preferred(
                to.and_then(|to| to.preferred_during_scheduling_ignored_during_execution.as_ref()),
            ),
            preferred_anti_affinity: preferred(
                from.and_then(|from| from.preferred_during_scheduling_ignored_during_execution.as_ref()),
            ),
        };
        (terms != Self::default()).then_some(terms)
    }
}
