//! Keys whose values come from the pod's own labels: a new pod's selectors get them written out
//! (KEP-3633 for affinity, KEP-3243 for spread).

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Affinity, Pod, PodAffinityTerm},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
};

use crate::kinds::shared::{items, items_mut};

type Labels = BTreeMap<String, String>;

/// Writes the keys' values into the selectors beside them.
pub(super) fn write_out(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    let nothing = Labels::new();
    let labels = pod.metadata.labels.as_ref().unwrap_or(&nothing);
    if let Some(affinity) = &mut spec.affinity {
        terms(affinity).for_each(|term| {
            if let Some(selector) = &mut term.label_selector {
                require(selector, items(&term.match_label_keys), "In", labels);
                require(selector, items(&term.mismatch_label_keys), "NotIn", labels);
            }
        });
    }
    for constraint in items_mut(&mut spec.topology_spread_constraints) {
        if let Some(selector) = &mut constraint.label_selector {
            require(selector, items(&constraint.match_label_keys), "In", labels);
        }
    }
}

fn terms(affinity: &mut Affinity) -> impl Iterator<Item = &mut PodAffinityTerm> {
    let to = affinity.pod_affinity.as_mut().map(|affinity| {
        (
            &mut affinity.required_during_scheduling_ignored_during_execution,
            &mut affinity.preferred_during_scheduling_ignored_during_execution,
        )
    });
    let from = affinity.pod_anti_affinity.as_mut().map(|affinity| {
        (
            &mut affinity.required_during_scheduling_ignored_during_execution,
            &mut affinity.preferred_during_scheduling_ignored_during_execution,
        )
    });
    to.into_iter().chain(from).flat_map(|(required, preferred)| {
        let preferred = items_mut(preferred).iter_mut().map(|weighted| &mut weighted.pod_affinity_term);
        items_mut(required).iter_mut().chain(preferred)
    })
}

fn require(selector: &mut LabelSelector, keys: &[String], operator: &str, labels: &Labels) {
    for key in keys {
        if let Some(value) = labels.get(key) {
            selector.match_expressions.get_or_insert_default().push(LabelSelectorRequirement {
                key: key.clone(),
                operator: operator.into(),
                values: Some(vec![value.clone()]),
            });
        }
    }
}
