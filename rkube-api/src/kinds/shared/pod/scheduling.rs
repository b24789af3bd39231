//! Rules of what decides where a pod runs, affinity apart.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{PodSpec, Toleration, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::{
    kinds::shared::{checks, items, seen::Seen, text},
    meta::{ErrorList, FieldError, FieldPath, names, object_meta::validate_label_selector},
};

/// Checks gates and spread.
pub(super) fn validate(spec: &PodSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let gates = path.child("readinessGates");
    for (at, gate) in items(&spec.readiness_gates).iter().enumerate() {
        checks::qualified(&gate.condition_type, &gates.index(at).child("conditionType"), errors);
    }
    let gates = path.child("schedulingGates");
    let mut seen = Seen::new();
    for (at, gate) in items(&spec.scheduling_gates).iter().enumerate() {
        checks::qualified(&gate.name, &gates.index(at), errors);
        if !seen.insert(gate.name.as_str()) {
            errors.push(FieldError::duplicate(&gates.index(at), &gate.name));
        }
    }
    let constraints = items(&spec.topology_spread_constraints);
    if !constraints.is_empty() {
        spread(constraints, &path.child("topologySpreadConstraints"), errors);
    }
    if let Some(name) = spec.scheduling_group.as_ref().and_then(|group| group.pod_group_name.as_ref()) {
        let group = path.child("schedulingGroup");
        checks::subdomain(name, &group.child("podGroupName"), errors);
    }
}

/// Checks whether pods of a class may displace others.
pub(crate) fn preemption_policy(policy: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    checks::one_of(policy, &["PreemptLowerPriority", "Never"], path, errors);
}

/// Checks what a taint does.
pub(crate) fn taint_effect(effect: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    checks::one_of(effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"], path, errors);
}

/// Checks tolerations.
pub(super) fn tolerations(tolerations: &[Toleration], path: &FieldPath<'_>, errors: &mut ErrorList) {
    for (at, toleration) in tolerations.iter().enumerate() {
        let path = path.index(at);
        let (key, operator, value, effect) = (
            text(&toleration.key),
            text(&toleration.operator),
            text(&toleration.value),
            text(&toleration.effect),
        );
        if !key.is_empty() {
            checks::qualified(key, &path.child("key"), errors);
        } else if operator != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(&path.child("operator"), operator, detail));
        }
        if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(&path.child("effect"), effect, detail));
        }
        toleration_value(operator, value, &path, errors);
        if !effect.is_empty() {
            taint_effect(effect, &path.child("effect"), errors);
        }
    }
}

fn toleration_value(operator: &str, value: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    match operator {
        "" | "Equal" => {
            let messages = names::label_value(value);
            if !messages.is_empty() {
                errors.push(FieldError::invalid(&path.child("operator"), value, messages.join(";")));
            }
        }
        "Exists" if !value.is_empty() => errors.push(FieldError::invalid(
            &path.child("operator"),
            value,
            "value must be empty when `operator` is 'Exists'",
        )),
        "Exists" => {}
        // KEP-5471.
        "Lt" | "Gt" => {
            if value.parse::<i64>().is_err() {
                let detail = "must be a valid decimal integer in canonical form";
                errors.push(FieldError::invalid(&path.child("value"), value, detail));
            }
        }
        other => {
            errors.push(FieldError::not_supported(&path.child("operator"), other, &["Equal", "Exists"]));
        }
    }
}

fn spread(constraints: &[TopologySpreadConstraint], path: &FieldPath<'_>, errors: &mut ErrorList) {
    let mut seen = Seen::new();
    for (at, constraint) in constraints.iter().enumerate() {
        let path = path.index(at);
        let action = constraint.when_unsatisfiable.as_str();
        positive(constraint.max_skew, &path.child("maxSkew"), errors);
        if constraint.topology_key.is_empty() {
            errors.push(FieldError::required(&path.child("topologyKey"), "can not be empty"));
        }
        let allowed = ["DoNotSchedule", "ScheduleAnyway"];
        checks::supported(action, &allowed, &path.child("whenUnsatisfiable"), errors);
        if !seen.insert((constraint.topology_key.as_str(), action)) {
            let value = format!("{{{}, {action}}}", constraint.topology_key);
            errors.push(FieldError::duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), value));
        }
        if let Some(domains) = constraint.min_domains {
            positive(domains, &path.child("minDomains"), errors);
            if action != "DoNotSchedule" {
                let detail =
                    format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.push(FieldError::invalid(&path.child("minDomains"), domains, detail));
            }
        }
        for (field, policy) in [
            ("nodeAffinityPolicy", &constraint.node_affinity_policy),
            ("nodeTaintsPolicy", &constraint.node_taints_policy),
        ] {
            if let Some(policy) = policy {
                checks::supported(policy, &["Honor", "Ignore"], &path.child(field), errors);
            }
        }
        let selector = constraint.label_selector.as_ref();
        let keys = items(&constraint.match_label_keys);
        label_keys("matchLabelKeys", keys, selector, &path, errors);
        not_selected_twice(keys, selector, &path, errors);
        if let Some(selector) = selector {
            validate_label_selector(selector, &path.child("labelSelector"), errors);
        }
    }
}

fn positive(number: i32, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if number <= 0 {
        errors.push(FieldError::invalid(path, number, "must be greater than 0"));
    }
}

/// Checks keys whose values are taken from the pod's own labels.
pub(super) fn label_keys(
    field: &str,
    keys: &[String],
    selector: Option<&LabelSelector>,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    if keys.is_empty() {
        return;
    }
    let path = path.child(field);
    if selector.is_none() {
        errors.push(FieldError::forbidden(&path, "must not be specified when labelSelector is not set"));
        return;
    }
    for (at, key) in keys.iter().enumerate() {
        checks::qualified(key, &path.index(at), errors);
    }
}

/// A key whose value is taken from the pod's labels has been written into the selector already, so who
/// selects by it besides has it there twice.
pub(super) fn not_selected_twice(
    keys: &[String],
    selector: Option<&LabelSelector>,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let Some(selector) = selector.filter(|_| !keys.is_empty()) else { return };
    let at: BTreeMap<&str, usize> = keys.iter().enumerate().map(|(at, key)| (key.as_str(), at)).collect();
    let mut seen =
        Seen::all(selector.match_labels.iter().flat_map(|labels| labels.keys().map(String::as_str)));
    for expression in items(&selector.match_expressions) {
        let key = expression.key.as_str();
        if let Some(&at) = at.get(key).filter(|_| seen.contains(&key)) {
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.push(FieldError::invalid(&path.index(at), key, detail));
        }
        seen.insert(key);
    }
}
