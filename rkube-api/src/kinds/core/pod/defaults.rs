//! What a pod gets beyond what every pod spec gets.

use k8s_openapi::api::core::v1::{Container, Pod, PodIP, PodSpec, PodStatus, ResourceRequirements};

use crate::{
    helpers::pod::containers_request,
    kinds::shared::{items, items_mut, pod, text, yes},
};

/// Fills a pod.
pub(super) fn pod(pod: &mut Pod) {
    if let Some(spec) = &mut pod.spec {
        pod::defaults::pod_spec(spec);
        spec.enable_service_links.get_or_insert(true);
        let host_network = yes(&spec.host_network);
        let containers = spec.containers.iter_mut().chain(items_mut(&mut spec.init_containers));
        for container in containers {
            requests_from_limits(&mut container.resources);
            if host_network {
                host_ports(container);
            }
        }
        pod_requests(spec);
    }
    if let Some(status) = &mut pod.status {
        addresses(status);
    }
}

/// Who says only how much a container may take asks for as much.
fn requests_from_limits(resources: &mut Option<ResourceRequirements>) {
    let Some(resources) = resources else { return };
    let Some(limits) = &resources.limits else { return };
    let requests = resources.requests.get_or_insert_default();
    for (name, limit) in limits {
        if !requests.contains_key(name) {
            requests.insert(name.clone(), limit.clone());
        }
    }
    if requests.is_empty() {
        resources.requests = None;
    }
}

/// On the host's network a container's port is the host's.
fn host_ports(container: &mut Container) {
    for port in items_mut(&mut container.ports) {
        if port.host_port.unwrap_or(0) == 0 {
            port.host_port = Some(port.container_port);
        }
    }
}

/// Completes the pod's own requests, if it says anything of its own resources (KEP-2837): what the
/// containers ask for together, else the pod's limit.
fn pod_requests(spec: &mut PodSpec) {
    let Some(resources) = &spec.resources else { return };
    if resources.limits.is_none() && resources.requests.is_none() {
        return;
    }
    let mut requests = resources.requests.clone().unwrap_or_default();
    for (name, together) in containers_request(spec) {
        if matches!(name.as_str(), "cpu" | "memory") && !requests.contains_key(&name) {
            requests.insert(name, together.into());
        }
    }
    for (name, limit) in resources.limits.iter().flatten() {
        let supported = matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-");
        if supported && !requests.contains_key(name) {
            requests.insert(name.clone(), limit.clone());
        }
    }
    if let Some(resources) = &mut spec.resources {
        resources.requests = (!requests.is_empty()).then_some(requests);
    }
}

/// The single address and the first of the list are one field; the single one wins.
fn addresses(status: &mut PodStatus) {
    match (text(&status.pod_ip), items(&status.pod_ips)) {
        ("", [first, ..]) => status.pod_ip = Some(first.ip.clone()),
        (one, [first, ..]) if one == first.ip => {}
        ("", []) => {}
        (one, _) => status.pod_ips = Some(vec![PodIP { ip: one.to_owned() }]),
    }
}
