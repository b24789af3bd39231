//! Rules of affinity.

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm,
    WeightedPodAffinityTerm,
};

use super::scheduling::{label_keys, not_selected_twice};
use crate::{
    kinds::shared::{checks, items, seen::Seen},
    meta::{ErrorList, FieldError, FieldPath, names, object_meta::validate_label_selector},
};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Checks affinity to nodes and to pods.
pub(super) fn validate(affinity: &Affinity, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if let Some(nodes) = &affinity.node_affinity {
        to_nodes(nodes, &path.child("nodeAffinity"), errors);
    }
    if let Some(pods) = &affinity.pod_affinity {
        to_pods(
            items(&pods.required_during_scheduling_ignored_during_execution),
            items(&pods.preferred_during_scheduling_ignored_during_execution),
            &path.child("podAffinity"),
            errors,
        );
    }
    if let Some(pods) = &affinity.pod_anti_affinity {
        to_pods(
            items(&pods.required_during_scheduling_ignored_during_execution),
            items(&pods.preferred_during_scheduling_ignored_during_execution),
            &path.child("podAntiAffinity"),
            errors,
        );
    }
}

fn weight(weight: i32, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(&path.child("weight"), weight, "must be in the range 1-100"));
    }
}

fn to_nodes(affinity: &NodeAffinity, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if let Some(selector) = &affinity.required_during_scheduling_ignored_during_execution {
        node_selector(selector, &path.child(REQUIRED), errors);
    }
    let preferred = path.child(PREFERRED);
    let terms = items(&affinity.preferred_during_scheduling_ignored_during_execution);
    for (at, term) in terms.iter().enumerate() {
        let path = preferred.index(at);
        weight(term.weight, &path, errors);
        node_term(&term.preference, false, &path.child("preference"), errors);
    }
}

/// Checks which nodes are selected, by a pod or by a volume.
pub(crate) fn node_selector(selector: &NodeSelector, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let terms = path.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        errors.push(FieldError::required(&terms, "must have at least one node selector term"));
    }
    for (at, term) in selector.node_selector_terms.iter().enumerate() {
        node_term(term, true, &terms.index(at), errors);
    }
}

fn node_term(term: &NodeSelectorTerm, check_values: bool, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let expressions = path.child("matchExpressions");
    for (at, requirement) in items(&term.match_expressions).iter().enumerate() {
        node_requirement(requirement, check_values, &expressions.index(at), errors);
    }
    let fields = path.child("matchFields");
    for (at, requirement) in items(&term.match_fields).iter().enumerate() {
        node_field(requirement, &fields.index(at), errors);
    }
}

fn node_requirement(
    requirement: &NodeSelectorRequirement,
    check_values: bool,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let values = items(&requirement.values);
    let list = path.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errors.push(FieldError::required(&list, "must be specified when `operator` is 'In' or 'NotIn'"))
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
            &list,
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        )),
        "Gt" | "Lt" if values.len() != 1 => errors.push(FieldError::required(
            &list,
            "must be specified single value when `operator` is 'Lt' or 'Gt'",
        )),
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => not_an_operator(other, path, errors),
    }
    checks::qualified(&requirement.key, &path.child("key"), errors);
    if check_values {
        for (at, value) in values.iter().enumerate() {
            errors.push_messages(&list.index(at), value, names::label_value(value));
        }
    }
}

fn not_an_operator(operator: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    errors.push(FieldError::invalid(&path.child("operator"), operator, "not a valid selector operator"));
}

fn node_field(requirement: &NodeSelectorRequirement, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let values = items(&requirement.values);
    let list = path.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.len() == 1 => {}
        "In" | "NotIn" => errors.push(FieldError::required(
            &list,
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        )),
        other => not_an_operator(other, path, errors),
    }
    if requirement.key == "metadata.name" {
        for (at, value) in values.iter().enumerate() {
            checks::subdomain(value, &list.index(at), errors);
        }
    } else {
        let detail = "not a valid field selector key";
        errors.push(FieldError::invalid(&path.child("key"), &requirement.key, detail));
    }
}

fn to_pods(
    required: &[PodAffinityTerm],
    preferred: &[WeightedPodAffinityTerm],
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let field = path.child(REQUIRED);
    for (at, term) in required.iter().enumerate() {
        pod_term(term, &field.index(at), errors);
    }
    let field = path.child(PREFERRED);
    for (at, term) in preferred.iter().enumerate() {
        let path = field.index(at);
        weight(term.weight, &path, errors);
        pod_term(&term.pod_affinity_term, &path.child("podAffinityTerm"), errors);
    }
}

fn pod_term(term: &PodAffinityTerm, path: &FieldPath<'_>, errors: &mut ErrorList) {
    for (field, selector) in
        [("labelSelector", &term.label_selector), ("namespaceSelector", &term.namespace_selector)]
    {
        if let Some(selector) = selector {
            validate_label_selector(selector, &path.child(field), errors);
        }
    }
    for name in items(&term.namespaces) {
        checks::label(name, &path.child("namespace"), errors);
    }
    let (keys, others) = (items(&term.match_label_keys), items(&term.mismatch_label_keys));
    label_keys("matchLabelKeys", keys, term.label_selector.as_ref(), path, errors);
    label_keys("mismatchLabelKeys", others, term.label_selector.as_ref(), path, errors);
    not_selected_twice(keys, term.label_selector.as_ref(), path, errors);
    if !others.is_empty() {
        let mismatch = Seen::all(others.iter().map(String::as_str));

        for (at, key) in keys.iter().enumerate().filter(|(_, key)| mismatch.contains(&key.as_str())) {
            let (list, detail) =
                (path.child("matchLabelKeys"), "exists in both matchLabelKeys and mismatchLabelKeys");
            errors.push(FieldError::invalid(&list.index(at), key, detail));
        }
    }
    if term.topology_key.is_empty() {
        errors.push(FieldError::required(&path.child("topologyKey"), "can not be empty"));
    }
    checks::qualified(&term.topology_key, &path.child("topologyKey"), errors);
}
