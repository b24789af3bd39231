//! `pods/binding`: gives a pod to a node.

use std::collections::BTreeMap;

use async_trait::async_trait;
use k8s_openapi::{
    api::core::v1::{Binding, Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Handler, admit, check_place, success, typed_body};
use crate::{
    error::{ApiError, Cause},
    meta::{ErrorList, FieldError, FieldPath, conditions},
    object::Object,
    pipeline::{Call, rewrite},
    request::{ApiResponse, Body},
};

/// The handler.
pub(super) struct BindPod;

#[async_trait]
impl Handler for BindPod {
    fn serves(&self) -> (&str, &str, &str) {
        ("", "pods", "binding")
    }

    async fn serve(&self, call: &Call<'_>, body: Body) -> Result<ApiResponse, ApiError> {
        let binding = typed_body::<Binding>(body)?;
        check_place(call, &binding.metadata, "Binding")?;
        let mut warnings = Vec::new();
        let binding = admit(call, binding, call.options.dry_run, &mut warnings).await?;
        check_target(call, &binding)?;
        rewrite(call, |object| bind(call, &binding, object)).await?;
        Ok(success(warnings))
    }
}

fn check_target(call: &Call<'_>, binding: &Binding) -> Result<(), ApiError> {
    let mut errors = ErrorList::default();
    let target = FieldPath::new("target");
    let kind = binding.target.kind.as_deref().unwrap_or_default();
    if !["", "Node"].contains(&kind) {
        errors.push(FieldError::not_supported(&target.child("kind"), kind, &["Node", "<empty>"]));
    }
    if binding.target.name.as_deref().unwrap_or_default().is_empty() {
        errors.push(FieldError::required(&target.child("name"), ""));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::Invalid {
        group: String::new(),
        kind: "Binding".into(),
        name: call.name().to_owned(),
        causes: errors.iter().map(Cause::from).collect(),
    })
}

/// The pod on its node.
fn bind(call: &Call<'_>, binding: &Binding, object: &Object) -> Result<Object, ApiError> {
    let conflict = |message: String| ApiError::Conflict {
        group: String::new(),
        resource: "pods/binding".into(),
        name: call.name().to_owned(),
        message,
        causes: Vec::new(),
    };
    check_preconditions(call, &binding.metadata, object)?;
    let mut object = object.clone();
    let now = call.server.context().clock.now().0;
    let Some(pod) = object.as_kind_mut::<Pod>() else {
        return Err(ApiError::internal("a pod is stored as another kind"));
    };
    let name = pod.metadata.name.clone().unwrap_or_default();
    let spec = pod.spec.get_or_insert_default();
    if pod.metadata.deletion_timestamp.is_some() {
        return Err(conflict(format!("pod {name} is being deleted, cannot be assigned to a host")));
    }
    if let Some(node) = spec.node_name.as_deref().filter(|node| !node.is_empty()) {
        return Err(conflict(format!("pod {name} is already assigned to node {node:?}")));
    }
    if spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        return Err(conflict(format!("pod {name} has non-empty .spec.schedulingGates")));
    }
    spec.node_name.clone_from(&binding.target.name);
    merge(&mut pod.metadata.annotations, &binding.metadata.annotations);
    merge(&mut pod.metadata.labels, &binding.metadata.labels);
    let status = pod.status.get_or_insert_default();
    status.nominated_node_name = None;
    let scheduled = PodCondition {
        type_: "PodScheduled".into(),
        status: "True".into(),
        last_transition_time: None,
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    };
    conditions::set(status.conditions.get_or_insert_default(), scheduled, now);
    Ok(object)
}

fn check_preconditions(call: &Call<'_>, wanted: &ObjectMeta, object: &Object) -> Result<(), ApiError> {
    let set = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    if let Some(uid) = set(&wanted.uid).filter(|uid| uid != object.uid()) {
        let message =
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", object.uid());
        return Err(call.conflict(object.name(), message));
    }
    if let Some(version) = set(&wanted.resource_version).filter(|it| it != object.resource_version()) {
        let message = format!(
            "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {}",
            object.resource_version()
        );
        return Err(call.conflict(object.name(), message));
    }
    Ok(())
}

fn merge(into: &mut Option<BTreeMap<String, String>>, from: &Option<BTreeMap<String, String>>) {
    if let Some(from) = from.as_ref().filter(|from| !from.is_empty()) {
        into.get_or_insert_default().extend(from.clone());
    }
}
