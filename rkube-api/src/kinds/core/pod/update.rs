//! What of a pod may change after it was made.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Container, EphemeralContainer, NodeAffinity, NodeSelectorTerm, Pod, PodSchedulingGate, PodSpec,
    Toleration,
};

use super::validation::MIRROR;
use crate::{
    kinds::shared::{items, seen::Seen, semantic},
    meta::{ErrorList, FieldError, FieldPath, names},
};

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,\
    `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const TERMS: &str = "requiredDuringSchedulingIgnoredDuringExecution";

/// Rules on a change of the pod itself.
pub(super) fn validate(new: &Pod, old: &Pod) -> ErrorList {
    let mut errors = ErrorList::new();
    mirror(new, old, &mut errors);
    if let (Some(new), Some(old)) = (&new.spec, &old.spec)
        && new != old
    {
        spec(new, old, &FieldPath::new("spec"), &mut errors);
    }
    errors
}

/// Whether a pod is a mirror is for life.
fn mirror(new: &Pod, old: &Pod, errors: &mut ErrorList) {
    let hash = |pod: &'_ Pod| pod.metadata.annotations.as_ref().and_then(|all| all.get(MIRROR)).cloned();
    let detail = match (hash(new), hash(old)) {
        (new, old) if new == old => return,
        (_, Some(_)) => "may not remove or update mirror pod annotation",
        (_, None) => "may not add mirror pod annotation",
    };
    let metadata = FieldPath::new("metadata");
    let annotations = metadata.child("annotations");
    errors.push(FieldError::forbidden(&annotations.key(MIRROR), detail));
}

fn spec(new: &PodSpec, old: &PodSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let same_length = |new: &[Container], old: &[Container], field: &str, errors: &mut ErrorList| {
        let same = new.len() == old.len();
        if !same {
            let detail = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(&path.child(field), detail));
        }
        same
    };
    let (inits, old_inits) = (items(&new.init_containers), items(&old.init_containers));
    if !same_length(&new.containers, &old.containers, "containers", errors)
        || !same_length(inits, old_inits, "initContainers", errors)
        || !deadline(new, old, path, errors)
    {
        return;
    }
    tolerations(items(&new.tolerations), items(&old.tolerations), &path.child("tolerations"), errors);
    let gates_path = path.child("schedulingGates");
    gates(items(&new.scheduling_gates), items(&old.scheduling_gates), &gates_path, errors);
    let allowed = allowed(new, old, path, errors);
    if !semantic::equal(new, &allowed) {
        let difference = semantic::difference(new, &allowed);
        let detail = format!("pod updates may not change fields other than {UPDATABLE}\n{difference}");
        errors.push(FieldError::forbidden(path, detail));
    }
}

/// The old spec with every change that is allowed: what the new one must equal.
fn allowed(new: &PodSpec, old: &PodSpec, path: &FieldPath<'_>, errors: &mut ErrorList) -> PodSpec {
    let mut allowed = old.clone();
    for (container, new) in allowed.containers.iter_mut().zip(&new.containers) {
        container.image.clone_from(&new.image);
    }
    for (container, new) in allowed.init_containers.iter_mut().flatten().zip(items(&new.init_containers)) {
        container.image.clone_from(&new.image);
    }
    allowed.active_deadline_seconds = new.active_deadline_seconds;
    allowed.scheduling_gates.clone_from(&new.scheduling_gates);
    allowed.tolerations.clone_from(&new.tolerations);
    let negative = old.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0);
    if negative && new.termination_grace_period_seconds == Some(1) {
        allowed.termination_grace_period_seconds = Some(1);
    }
    if !items(&old.scheduling_gates).is_empty() {
        while_gated(new, old, &mut allowed, path, errors);
    }
    allowed
}

/// A pod that is held back may be narrowed to fewer nodes (KEP-3838).
fn while_gated(
    new: &PodSpec,
    old: &PodSpec,
    allowed: &mut PodSpec,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    if new.node_selector != old.node_selector {
        let nothing = BTreeMap::new();
        let selector = new.node_selector.as_ref().unwrap_or(&nothing);
        if old.node_selector.iter().flatten().any(|(key, value)| selector.get(key) != Some(value)) {
            let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            errors.push(FieldError::invalid(&path.child("nodeSelector"), selector, detail));
        }
        allowed.node_selector.clone_from(&new.node_selector);
    }
    let nodes = |spec: &PodSpec| spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.clone());
    let (new_nodes, old_nodes) = (nodes(new), nodes(old));
    if new_nodes != old_nodes {
        let affinity = path.child("affinity");
        narrower(new_nodes.as_ref(), old_nodes.as_ref(), &affinity.child("nodeAffinity"), errors);
        let rest = allowed.affinity.take().unwrap_or_default();
        let changed = Affinity { node_affinity: new_nodes, ..rest };
        allowed.affinity = (new.affinity.is_some() || changed != Affinity::default()).then_some(changed);
    }
}

fn narrower(
    new: Option<&NodeAffinity>,
    old: Option<&NodeAffinity>,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let terms = |affinity: Option<&NodeAffinity>| -> Vec<NodeSelectorTerm> {
        let required = affinity
            .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
        required.map(|selector| selector.node_selector_terms.clone()).unwrap_or_default()
    };
    let (new, old) = (terms(new), terms(old));
    let required = path.child(TERMS);
    let path = required.child("nodeSelectorTerms");
    if !old.is_empty() && old.len() != new.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(FieldError::invalid(&path, new, detail));
        return;
    }
    for (at, (new, old)) in new.iter().zip(&old).enumerate() {
        let (expressions, fields) = (items(&old.match_expressions), items(&old.match_fields));
        let (new_expressions, new_fields) = (items(&new.match_expressions), items(&new.match_fields));
        let was_empty = expressions.is_empty() && fields.is_empty();
        let is_empty = new_expressions.is_empty() && new_fields.is_empty();
        if (was_empty && !is_empty)
            || !new_expressions.starts_with(expressions)
            || !new_fields.starts_with(fields)
        {
            let detail = "only additions are allowed (no mutations or deletions)";
            errors.push(FieldError::invalid(&path.index(at), new, detail));
        }
    }
}

/// A deadline may be set and be made shorter. `false` if it is so wrong that nothing else matters.
fn deadline(new: &PodSpec, old: &PodSpec, path: &FieldPath<'_>, errors: &mut ErrorList) -> bool {
    let path = path.child("activeDeadlineSeconds");
    let (detail, go_on) = match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            (names::between(0, i64::from(i32::MAX)), false)
        }
        (Some(new), Some(old)) if old < new => {
            ("must be less than or equal to previous value".to_owned(), false)
        }
        (None, Some(_)) => ("must not update from a positive integer to nil value".to_owned(), true),
        _ => return true,
    };
    errors.push(FieldError::invalid(&path, new.active_deadline_seconds, detail));
    go_on
}

/// Tolerations may be added, and for existing ones the seconds may change.
fn tolerations(new: &[Toleration], old: &[Toleration], path: &FieldPath<'_>, errors: &mut ErrorList) {
    let key = |toleration: &Toleration| {
        let Toleration { effect, key, operator, value, .. } = toleration.clone();
        (effect, key, operator, value)
    };
    let kept = Seen::all(new.iter().map(key));
    if !old.iter().all(|toleration| kept.contains(&key(toleration))) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(path, detail));
    }
}

/// Gates can only be opened.
fn gates(new: &[PodSchedulingGate], old: &[PodSchedulingGate], path: &FieldPath<'_>, errors: &mut ErrorList) {
    let known = Seen::all(old.iter().map(|gate| gate.name.as_str()));
    for (at, gate) in new.iter().enumerate().filter(|(_, gate)| !known.contains(&gate.name.as_str())) {
        let field = path.index(at);
        let detail = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
        errors.push(FieldError::forbidden(&field.child("name"), detail));
    }
}

/// Prepares a write of `pods/ephemeralcontainers`: only that list is the client's.
pub fn prepare_ephemeral_containers(new: &mut Pod, old: &Pod) {
    let list: Option<Vec<EphemeralContainer>> =
        new.spec.as_mut().and_then(|spec| spec.ephemeral_containers.take());
    new.spec.clone_from(&old.spec);
    new.status.clone_from(&old.status);
    if let Some(spec) = &mut new.spec {
        spec.ephemeral_containers = list;
    }
}

/// What is wrong with a write of `pods/ephemeralcontainers`, besides what the rules of pods say (KEP-277).
pub fn validate_ephemeral_containers(new: &Pod, old: &Pod) -> ErrorList {
    let mut errors = ErrorList::new();
    if old.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR)) {
        let detail = "static pods do not support ephemeral containers";
        errors.push(FieldError::forbidden(&FieldPath::root(), detail));
        return errors;
    }
    let list = |pod: &'_ Pod| -> Vec<EphemeralContainer> {
        pod.spec.as_ref().map(|spec| items(&spec.ephemeral_containers).to_vec()).unwrap_or_default()
    };
    let (new, spec) = (list(new), FieldPath::new("spec"));
    let path = spec.child("ephemeralContainers");
    let by_name: BTreeMap<&str, &EphemeralContainer> =
        new.iter().map(|container| (container.name.as_str(), container)).collect();
    for old in &list(old) {
        let name = &old.name;
        match by_name.get(name.as_str()) {
            None => errors.push(FieldError::forbidden(
                &path,
                format!("existing ephemeral containers \"{name}\" may not be removed\n"),
            )),
            Some(new) if !semantic::equal(*new, old) => errors.push(FieldError::forbidden(
                &path,
                format!(
                    "existing ephemeral containers \"{name}\" may not be changed\n{}",
                    semantic::difference(*new, old)
                ),
            )),
            Some(_) => {}
        }
    }
    errors
}
