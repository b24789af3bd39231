//! A container that has ended and may not run again stays ended.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, PodStatus};

use crate::{
    kinds::shared::{items, text},
    meta::{ErrorList, FieldError, FieldPath},
};

/// Checks that no container comes back to life that may not.
pub(super) fn validate(
    pod: &Pod,
    new: &PodStatus,
    old: &PodStatus,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let Some(spec) = &pod.spec else { return };
    let inits = items(&spec.init_containers);
    for (field, new, old, containers) in [
        ("containerStatuses", &new.container_statuses, &old.container_statuses, &spec.containers[..]),
        ("initContainerStatuses", &new.init_container_statuses, &old.init_container_statuses, inits),
        (
            "ephemeralContainerStatuses",
            &new.ephemeral_container_statuses,
            &old.ephemeral_container_statuses,
            &[],
        ),
    ] {
        list(items(new), items(old), spec, containers, &path.child(field), errors);
    }
}

fn exit_code(status: &ContainerStatus) -> Option<i32> {
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

fn list(
    new: &[ContainerStatus],
    old: &[ContainerStatus],
    spec: &PodSpec,
    containers: &[Container],
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    for (at, was) in old.iter().enumerate() {
        let Some(code) = exit_code(was) else { continue };
        let Some(is) = new.iter().find(|is| is.name == was.name) else { continue };
        if exit_code(is).is_some() {
            continue;
        }
        let container = containers.iter().find(|container| container.name == was.name);
        if !container.is_some_and(|container| may_restart(container, spec, code)) {
            let field = path.index(at);
            let detail = "may not be transitioned to non-terminated state";
            errors.push(FieldError::forbidden(&field.child("state"), detail));
        }
    }
}

/// Whether a container that ended with this code may run again: by its rules, its own policy, the pod's.
fn may_restart(container: &Container, spec: &PodSpec, code: i32) -> bool {
    let all = spec.containers.iter().chain(items(&spec.init_containers));
    let restarts_all = |container: &Container| {
        items(&container.restart_policy_rules).iter().any(|rule| rule.action == "RestartAllContainers")
    };
    if all.into_iter().any(restarts_all) {
        return true;
    }
    let applies = items(&container.restart_policy_rules).iter().any(|rule| {
        rule.exit_codes
            .as_ref()
            .is_some_and(|codes| items(&codes.values).contains(&code) == (codes.operator == "In"))
    });
    let policy = container.restart_policy.as_deref().unwrap_or(text(&spec.restart_policy));
    applies || policy == "Always" || (policy == "OnFailure" && code != 0)
}
