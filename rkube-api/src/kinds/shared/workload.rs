//! What workloads share: a selector, a pod template that it must match, counts of pods.

use k8s_openapi::{
    api::core::v1::PodTemplateSpec, apimachinery::pkg::apis::meta::v1::LabelSelector as ApiSelector,
};

use super::{
    items,
    pod::{self, defaults},
    text,
};
use crate::meta::{
    ErrorList, FieldError, FieldPath, LabelSelector,
    object_meta::{validate_annotations, validate_label_selector, validate_labels},
};

/// Fills a template's pod spec.
pub(crate) fn default_template(template: &mut PodTemplateSpec) {
    if let Some(spec) = &mut template.spec {
        defaults::pod_spec(spec);
    }
}

/// Checks a selector and the template whose pods it must select.
pub(crate) fn validate(
    selector: &ApiSelector,
    template: Option<&PodTemplateSpec>,
    kind: &str,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let field = path.child("selector");
    validate_label_selector(selector, &field, errors);
    if *selector == ApiSelector::default()
        || (selector.match_labels.as_ref().is_none_or(|labels| labels.is_empty())
            && items(&selector.match_expressions).is_empty())
    {
        errors.push(FieldError::invalid(&field, selector, "empty selector is invalid for deployment"));
    }
    match LabelSelector::from_api(Some(selector)) {
        Err(_) => errors.push(FieldError::invalid(&field, selector, "invalid label selector")),
        Ok(compiled) => pod_template(&compiled, template, kind, &path.child("template"), errors),
    }
}

fn pod_template(
    selector: &LabelSelector,
    template: Option<&PodTemplateSpec>,
    kind: &str,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let Some(template) = template else {
        errors.push(FieldError::required(path, ""));
        return;
    };
    let meta = template.metadata.as_ref();
    let labels = meta.and_then(|meta| meta.labels.as_ref());
    if !selector.is_everything() && !selector.matches_opt(labels) {
        let (metadata, detail) = (path.child("metadata"), "`selector` does not match template `labels`");
        errors.push(FieldError::invalid(&metadata.child("labels"), labels, detail));
    }
    if let Some(labels) = labels {
        validate_labels(labels, &path.child("labels"), errors);
    }
    if let Some(annotations) = meta.and_then(|meta| meta.annotations.as_ref()) {
        validate_annotations(annotations, &path.child("annotations"), errors);
    }
    let spec_path = path.child("spec");
    let Some(spec) = &template.spec else {
        errors.push(FieldError::required(&spec_path.child("containers"), ""));
        return;
    };
    pod::validate(spec, None, &spec_path, errors);
    if !items(&spec.ephemeral_containers).is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(&spec_path.child("ephemeralContainers"), detail));
    }
    // A policy that no pod may have was refused above.
    let policy = text(&spec.restart_policy);
    if policy != "Always" {
        errors.push(FieldError::not_supported(&spec_path.child("restartPolicy"), policy, &["Always"]));
    }
    if spec.active_deadline_seconds.is_some() {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden(&spec_path.child("activeDeadlineSeconds"), detail));
    }
}

/// What looks like a mistake in a template.
pub(crate) fn warnings(template: Option<&PodTemplateSpec>) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(spec) = template.and_then(|template| template.spec.as_ref()) {
        let path = FieldPath::new("spec");
        let template = path.child("template");
        pod::warnings::find(spec, None, &template.child("spec"), &mut found);
    }
    found
}

/// Checks counts of a status: none below zero, none of those marked above the number of pods.
pub(crate) fn counts(
    replicas: i32,
    counts: &[(&str, Option<i32>, bool)],
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    errors.non_negative(&path.child("replicas"), i64::from(replicas));
    for &(field, count, _) in counts {
        errors.non_negative(&path.child(field), i64::from(count.unwrap_or(0)));
    }
    for &(field, count, bounded) in counts {
        if let Some(count) = count.filter(|&count| bounded && count > replicas) {
            let detail = "cannot be greater than status.replicas";
            errors.push(FieldError::invalid(&path.child(field), count, detail));
        }
    }
}

/// Checks that no more pods are available than are ready.
pub(crate) fn available_are_ready(
    available: Option<i32>,
    ready: Option<i32>,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let available = available.unwrap_or(0);
    if available > ready.unwrap_or(0) {
        let detail = "cannot be greater than readyReplicas";
        errors.push(FieldError::invalid(&path.child("availableReplicas"), available, detail));
    }
}
