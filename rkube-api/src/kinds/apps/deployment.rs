//! Deployment. Semantics: <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/>

use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentStatus},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::json;

use crate::{
    kinds::shared::{fill, printing, workload},
    meta::ErrorList,
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
        .generation(|new, old| new.spec != old.spec || new.metadata.annotations != old.metadata.annotations)
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

fn validate_status(_new: &Deployment, _old: &Deployment) -> ErrorList {
    ErrorList::new()
}
