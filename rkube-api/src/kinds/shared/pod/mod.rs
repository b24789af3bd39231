//! A pod's spec, in a pod or in a workload's template: its defaults and its rules, with the paths and
//! words of Kubernetes' own validation (`pkg/apis/core/validation`).

pub(crate) mod defaults;
pub(crate) mod warnings;

mod affinity;
mod containers;
mod env;
mod network;
mod os;
mod probes;
mod resources;
mod scheduling;
mod security;
mod volumes;

use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

pub(crate) use affinity::node_selector;
pub(crate) use resources::{is_extended, quantity};
pub(crate) use scheduling::{preemption_policy, taint_effect};

use super::{checks, container::View, items, seen::Seen, text};
use crate::meta::{ErrorList, FieldError, FieldPath, names, object_meta::validate_labels};
use volumes::Volumes;

/// What the rules of a container look at besides the container.
struct Context<'a> {
    spec: &'a PodSpec,
    volumes: Volumes<'a>,
    /// Whether the spec is a pod's, not a template's.
    in_pod: bool,
    host_users: bool,
}

/// Checks a pod's spec (then its metadata are given) or a template's.
pub(crate) fn validate(
    spec: &PodSpec,
    pod: Option<&ObjectMeta>,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    if spec.termination_grace_period_seconds.is_none() {
        errors.push(FieldError::required(&path.child("terminationGracePeriodSeconds"), ""));
    }
    let context = Context {
        spec,
        volumes: volumes::validate(items(&spec.volumes), pod, &path.child("volumes"), errors),
        in_pod: pod.is_some(),
        host_users: spec.host_users.unwrap_or(true),
    };
    resources::claims(spec, &path.child("resourceClaims"), errors);
    containers::validate(&context, path, errors);
    resources::pod(spec, path, errors);
    network::host_ports(spec, pod.is_some(), path, errors);
    let policies = ["Always", "OnFailure", "Never"];
    checks::one_of(text(&spec.restart_policy), &policies, &path.child("restartPolicy"), errors);
    network::dns_policy(spec, path, errors);
    if let Some(labels) = &spec.node_selector {
        validate_labels(labels, &path.child("nodeSelector"), errors);
    }
    security::pod(spec, path, errors);
    if let Some(affinity) = &spec.affinity {
        affinity::validate(affinity, &path.child("affinity"), errors);
    }
    network::dns_config(spec, &path.child("dnsConfig"), errors);
    scheduling::validate(spec, path, errors);
    os::validate(spec, path, errors);
    security::host_users(spec, path, errors);
    network::host_name_override(spec, path, errors);
    names_and_numbers(spec, path, errors);
    env::file_volumes(&context, path, errors);
}

fn names_and_numbers(spec: &PodSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let is_subdomain = |value: &Option<String>, field: &str, errors: &mut ErrorList| {
        if !text(value).is_empty() {
            checks::subdomain(text(value), &path.child(field), errors);
        }
    };
    is_subdomain(&spec.service_account_name, "serviceAccountName", errors);
    is_subdomain(&spec.node_name, "nodeName", errors);
    if let Some(seconds) = spec.active_deadline_seconds
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let detail = names::between(1, i64::from(i32::MAX));
        errors.push(FieldError::invalid(&path.child("activeDeadlineSeconds"), seconds, detail));
    }
    for (field, value) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if !text(value).is_empty() {
            checks::label(text(value), &path.child(field), errors);
        }
    }
    if let Some(tolerations) = spec.tolerations.as_deref().filter(|list| !list.is_empty()) {
        scheduling::tolerations(tolerations, &path.child("tolerations"), errors);
    }
    network::host_aliases(items(&spec.host_aliases), &path.child("hostAliases"), errors);
    is_subdomain(&spec.priority_class_name, "priorityClassName", errors);
    if let Some(name) = &spec.runtime_class_name {
        checks::subdomain(name, &path.child("runtimeClassName"), errors);
    }
    if let Some(policy) = &spec.preemption_policy {
        scheduling::preemption_policy(policy, &path.child("preemptionPolicy"), errors);
    }
    resources::overhead(spec, &path.child("overhead"), errors);
}

/// Calls `visit` with every container of the spec, in the order init, main, ephemeral.
fn each_container<'a>(
    spec: &'a PodSpec,
    path: &FieldPath<'_>,
    mut visit: impl FnMut(View<'a>, &FieldPath<'_>),
) {
    let inits = path.child("initContainers");
    for (at, container) in items(&spec.init_containers).iter().enumerate() {
        visit(View::of(container), &inits.index(at));
    }
    let mains = path.child("containers");
    for (at, container) in spec.containers.iter().enumerate() {
        visit(View::of(container), &mains.index(at));
    }
    let ephemerals = path.child("ephemeralContainers");
    for (at, container) in items(&spec.ephemeral_containers).iter().enumerate() {
        visit(View::ephemeral(container), &ephemerals.index(at));
    }
}

/// The host ports of containers that run at the same time must differ.
fn unique_host_ports(containers: &[Container], path: &FieldPath<'_>, errors: &mut ErrorList) {
    let mut seen = Seen::new();
    for (at, container) in containers.iter().enumerate() {
        for (port_at, port) in items(&container.ports).iter().enumerate() {
            let number = port.host_port.unwrap_or(0);
            let (protocol, address) = (text(&port.protocol), text(&port.host_ip));
            if number != 0 && !seen.insert((protocol, address, number)) {
                let value = format!("{protocol}/{address}/{number}");
                let (container, ports) = (path.index(at), "ports");
                let field = container.child(ports);
                errors.push(FieldError::duplicate(&field.index(port_at).child("hostPort"), value));
            }
        }
    }
}
