//! Rules of pods beyond those of every pod spec.

use k8s_openapi::api::core::v1::{Pod, PodSpec, VolumeProjection};

use super::{addresses, transitions};
use crate::{
    kinds::shared::{checks, items, pod, text},
    meta::{ErrorList, FieldError, FieldPath, names},
};

/// The annotation of a pod that stands for one that a node runs by itself.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
const SYSTEM_CONDITIONS: [&str; 3] = ["PodScheduled", "Ready", "Initialized"];

/// Rules on create and on update.
pub(super) fn validate(pod: &Pod) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = FieldPath::new("spec");
    match &pod.spec {
        None => errors.push(FieldError::required(&path.child("containers"), "")),
        Some(spec) => {
            pod::validate(spec, Some(&pod.metadata), &path, &mut errors);
            if text(&spec.service_account_name).is_empty() {
                no_tokens(spec, &path, &mut errors);
            }
        }
    }
    deletion_cost(pod, &mut errors);
    mirror(pod, &mut errors);
    errors
}

/// What looks like a mistake.
pub(super) fn warnings(pod: &Pod) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(spec) = &pod.spec {
        pod::warnings::find(spec, Some(&pod.metadata), &FieldPath::new("spec"), &mut found);
    }
    found
}

/// Rules on create alone.
pub(super) fn validate_create(pod: &Pod) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = FieldPath::new("spec");
    if let Some(spec) = &pod.spec {
        if !items(&spec.ephemeral_containers).is_empty() {
            let detail = "cannot be set on create";
            errors.push(FieldError::forbidden(&path.child("ephemeralContainers"), detail));
        }
        if !text(&spec.node_name).is_empty() && !items(&spec.scheduling_gates).is_empty() {
            let detail = "cannot be set until all schedulingGates have been cleared";
            errors.push(FieldError::forbidden(&path.child("nodeName"), detail));
        }
    }
    errors
}

/// Without a service account there is nobody for whom a token could be.
fn no_tokens(spec: &PodSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let volumes = path.child("volumes");
    for (at, volume) in items(&spec.volumes).iter().enumerate() {
        let sources: &[VolumeProjection] =
            volume.projected.as_ref().map_or(&[], |projected| items(&projected.sources));
        for (source_at, source) in sources.iter().enumerate() {
            if source.service_account_token.is_some() {
                let volume = volumes.index(at);
                let projected = volume.child("projected");
                let sources = projected.child("sources");
                errors.push(FieldError::forbidden(
                    &sources.index(source_at).child("serviceAccountToken"),
                    "must not be specified when serviceAccountName is not set",
                ));
            }
        }
    }
}

/// KEP-2255: the annotation is a number.
fn deletion_cost(pod: &Pod, errors: &mut ErrorList) {
    const KEY: &str = "controller.kubernetes.io/pod-deletion-cost";
    let Some(cost) = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(KEY)) else {
        return;
    };
    let digits = cost.strip_prefix('-').unwrap_or(cost);
    let canonical = !cost.starts_with('+') && (digits == "0" || !digits.starts_with('0'));
    if !canonical || cost.parse::<i32>().is_err() {
        let (metadata, annotations) = (FieldPath::new("metadata"), "annotations");
        let annotations = metadata.child(annotations);
        errors.push(FieldError::invalid(&annotations.key(KEY), cost, "must be a 32bit integer"));
    }
}

/// A pod that mirrors one of a node's own is on that node.
fn mirror(pod: &Pod, errors: &mut ErrorList) {
    let annotations = pod.metadata.annotations.as_ref();
    let is_mirror = annotations.is_some_and(|annotations| annotations.contains_key(MIRROR));
    if is_mirror && pod.spec.as_ref().is_none_or(|spec| text(&spec.node_name).is_empty()) {
        let metadata = FieldPath::new("metadata");
        let annotations = metadata.child("annotations");
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(&annotations.key(MIRROR), "", detail));
    }
}

/// Rules on a write of the status.
pub(super) fn validate_status(new: &Pod, old: &Pod) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = FieldPath::new("status");
    let (Some(status), empty) = (&new.status, Default::default()) else { return errors };
    let old_status = old.status.as_ref().unwrap_or(&empty);
    let conditions = path.child("conditions");
    for (at, condition) in items(&status.conditions).iter().enumerate() {
        if condition.observed_generation.is_some_and(|generation| generation < 0) {
            let (field, detail) = (conditions.index(at), "must be a non-negative integer");
            let value = condition.observed_generation;
            errors.push(FieldError::invalid(&field.child("observedGeneration"), value, detail));
        }
        if !SYSTEM_CONDITIONS.contains(&condition.type_.as_str()) {
            let field = conditions.index(at);
            let messages = names::qualified_name(&condition.type_);
            errors.push_messages(&field.child("Type"), &condition.type_, messages);
        }
    }
    let nominated = text(&status.nominated_node_name);
    if !nominated.is_empty() && nominated != text(&old_status.nominated_node_name) {
        checks::subdomain(nominated, &path.child("nominatedNodeName"), &mut errors);
    }
    if !text(&old_status.qos_class).is_empty() {
        let (new, old) = (text(&status.qos_class), text(&old_status.qos_class));
        errors.immutable(&path.child("qosClass"), new, old);
    }
    transitions::validate(old, status, old_status, &path, &mut errors);
    addresses::validate(status, old_status, &path, &mut errors);
    errors
}
