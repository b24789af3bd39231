//! Deployment. Semantics: <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/>

use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentStatus, DeploymentStrategy, RollingUpdateDeployment},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::json;

use crate::{
    kinds::shared::{
        checks::{int_or_percent, not_above_everything},
        fill, printing, semantic, text, workload,
    },
    meta::{ErrorList, FieldError, FieldPath, intstr::percent_of},
    registry::Definition,
};

/// The definition of Deployment.
pub fn definition() -> Definition {
    Definition::of::<Deployment>()
        .short(&["deploy"])
        .categories(&["all"])
        .default(default)
        .prepare_create(|new| new.status = Some(DeploymentStatus::default()))
        .prepare_update(|new, old| new.status.clone_from(&old.status))
        .validate(validate)
        .validate_update(validate_update)
        .warnings(|deployment| workload::warnings(Some(&deployment.spec.template)))
        .generation(generation_moves)
        .status(prepare_status, validate_status)
        .scale(scale, |deployment, replicas| deployment.spec.replicas = Some(replicas))
        .column("Ready", "string", "How many of the pods wanted are ready.", |deployment, _| {
            let ready = status(deployment, |status| status.ready_replicas);
            json!(format!("{ready}/{}", deployment.spec.replicas.unwrap_or(1)))
        })
        .column("Up-to-date", "string", "Pods that have the template's latest state.", |deployment, _| {
            json!(status(deployment, |status| status.updated_replicas))
        })
        .column("Available", "string", "Pods that have been ready for long enough.", |deployment, _| {
            json!(status(deployment, |status| status.available_replicas))
        })
        .age()
        .wide("Containers", "string", "Names of the template's containers.", |deployment, _| {
            printing::container_names(deployment.spec.template.spec.as_ref())
        })
        .wide("Images", "string", "Images of the template's containers.", |deployment, _| {
            printing::images(deployment.spec.template.spec.as_ref())
        })
        .wide("Selector", "string", "Which pods belong to it.", |deployment, _| {
            printing::selector(&deployment.spec.selector)
        })
        .build()
}

fn status(deployment: &Deployment, number: fn(&DeploymentStatus) -> Option<i32>) -> i32 {
    deployment.status.as_ref().and_then(number).unwrap_or(0)
}

fn scale(deployment: &Deployment) -> (i32, i32, String) {
    let replicas = status(deployment, |status| status.replicas);
    let selector = printing::selector_text(&deployment.spec.selector);
    (deployment.spec.replicas.unwrap_or(1), replicas, selector)
}

fn default(deployment: &mut Deployment) {
    let spec = &mut deployment.spec;
    spec.replicas.get_or_insert(1);
    spec.revision_history_limit.get_or_insert(10);
    spec.progress_deadline_seconds.get_or_insert(600);
    let strategy = spec.strategy.get_or_insert_default();
    fill(&mut strategy.type_, "RollingUpdate");
    if strategy.type_.as_deref() == Some("RollingUpdate") {
        let quarter = || IntOrString::String("25%".into());
        let rolling = strategy.rolling_update.get_or_insert_default();
        rolling.max_unavailable.get_or_insert_with(quarter);
        rolling.max_surge.get_or_insert_with(quarter);
    }
    workload::default_template(&mut spec.template);
}

fn prepare_status(new: &mut Deployment, old: &Deployment) {
    new.spec.clone_from(&old.spec);
    new.metadata.labels.clone_from(&old.metadata.labels);
}

/// The annotations count too: kubectl notes there why a rollout happened.
fn generation_moves(new: &Deployment, old: &Deployment) -> bool {
    !semantic::equal(&new.spec, &old.spec)
        || !semantic::equal(&new.metadata.annotations, &old.metadata.annotations)
}

fn validate(deployment: &Deployment) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, path) = (&deployment.spec, FieldPath::new("spec"));
    let number = |value: Option<i32>| i64::from(value.unwrap_or(0));
    errors.non_negative(&path.child("replicas"), number(spec.replicas));
    workload::validate(&spec.selector, Some(&spec.template), "ReplicaSet", &path, &mut errors);
    if let Some(strategy) = &spec.strategy {
        validate_strategy(strategy, &path.child("strategy"), &mut errors);
    }
    errors.non_negative(&path.child("minReadySeconds"), number(spec.min_ready_seconds));
    errors.non_negative(&path.child("revisionHistoryLimit"), number(spec.revision_history_limit));
    if let Some(seconds) = spec.progress_deadline_seconds {
        let field = path.child("progressDeadlineSeconds");
        errors.non_negative(&field, i64::from(seconds));
        if seconds <= spec.min_ready_seconds.unwrap_or(0) {
            errors.push(FieldError::invalid(&field, seconds, "must be greater than minReadySeconds"));
        }
    }
    errors
}

fn validate_strategy(strategy: &DeploymentStrategy, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let rolling_path = path.child("rollingUpdate");
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("Recreate", Some(_)) => errors.push(FieldError::forbidden(
            &rolling_path,
            "may not be specified when strategy `type` is 'Recreate'",
        )),
        ("Recreate", None) => {}
        ("RollingUpdate", Some(rolling)) => validate_rolling(rolling, &rolling_path, errors),
        ("RollingUpdate", None) => {
            errors.push(FieldError::required(&rolling_path, "this should be defaulted and never be nil"))
        }
        (other, _) => {
            errors.push(FieldError::not_supported(&path.child("type"), other, &["Recreate", "RollingUpdate"]))
        }
    }
}

fn validate_rolling(rolling: &RollingUpdateDeployment, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let zero = IntOrString::Int(0);
    let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = rolling.max_surge.as_ref().unwrap_or(&zero);
    let field = path.child("maxUnavailable");
    int_or_percent(unavailable, &field, errors);
    int_or_percent(surge, &path.child("maxSurge"), errors);
    if amount(unavailable) == 0 && amount(surge) == 0 {
        errors.push(FieldError::invalid(&field, unavailable, "may not be 0 when `maxSurge` is 0"));
    }
    not_above_everything(unavailable, &field, errors);
}

fn amount(value: &IntOrString) -> i64 {
    match value {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(text) => percent_of(text).unwrap_or(0),
    }
}

fn validate_update(new: &Deployment, old: &Deployment) -> ErrorList {
    let mut errors = ErrorList::new();
    if !semantic::equal(&new.spec.selector, &old.spec.selector) {
        let path = FieldPath::new("spec");
        errors.immutable(&path.child("selector"), &new.spec.selector, &old.spec.selector);
    }
    errors
}

fn validate_status(new: &Deployment, old: &Deployment) -> ErrorList {
    let mut errors = ErrorList::new();
    let Some(status) = &new.status else { return errors };
    let path = FieldPath::new("status");
    errors.non_negative(&path.child("observedGeneration"), status.observed_generation.unwrap_or(0));
    let counts = [
        ("updatedReplicas", status.updated_replicas, true),
        ("readyReplicas", status.ready_replicas, true),
        ("availableReplicas", status.available_replicas, true),
        ("unavailableReplicas", status.unavailable_replicas, false),
        ("terminatingReplicas", status.terminating_replicas, false),
        ("collisionCount", status.collision_count, false),
    ];
    workload::counts(status.replicas.unwrap_or(0), &counts, &path, &mut errors);
    workload::available_are_ready(status.available_replicas, status.ready_replicas, &path, &mut errors);
    let collisions = old.status.as_ref().and_then(|status| status.collision_count);
    if status.collision_count < collisions {
        let value = status.collision_count;
        errors.push(FieldError::invalid(&path.child("collisionCount"), value, "cannot be decremented"));
    }
    errors
}
