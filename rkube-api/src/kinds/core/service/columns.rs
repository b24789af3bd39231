//! A service's row.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use serde_json::json;

use crate::{
    kinds::shared::{items, printing, text},
    registry::Builder,
};

/// Adds the columns.
pub(super) fn add(builder: Builder<Service>) -> Builder<Service> {
    builder
        .column("Type", "string", "How the service is reached.", |service, _| {
            json!(service.spec.as_ref().map_or("", |spec| text(&spec.type_)))
        })
        .column("Cluster-IP", "string", "Its address inside the cluster.", |service, _| {
            let addresses = service.spec.as_ref().map_or(&[][..], |spec| items(&spec.cluster_ips));
            printing::or(addresses.first().map_or("", String::as_str), printing::NONE)
        })
        .column("External-IP", "string", "Its addresses outside the cluster.", |service, _| {
            json!(external(service))
        })
        .column("Port(s)", "string", "Its ports, and those on the nodes.", |service, _| {
            let ports = service.spec.as_ref().map_or(&[][..], |spec| items(&spec.ports));
            let texts: Vec<String> = ports.iter().map(port).collect();
            printing::or(&texts.join(","), printing::NONE)
        })
        .age()
        .wide("Selector", "string", "Which pods serve it.", |service, _| {
            printing::labels(service.spec.as_ref().and_then(|spec| spec.selector.as_ref()))
        })
}

fn port(port: &ServicePort) -> String {
    let protocol = text(&port.protocol);
    match port.node_port.unwrap_or(0) {
        0 => format!("{}/{protocol}", port.port),
        node => format!("{}:{node}/{protocol}", port.port),
    }
}

fn external(service: &Service) -> String {
    let nothing = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&nothing);
    let given = items(&spec.external_ips).join(",");
    match text(&spec.type_) {
        "ClusterIP" | "NodePort" if given.is_empty() => printing::NONE.into(),
        "ClusterIP" | "NodePort" => given,
        "LoadBalancer" => match (balanced(service), given.is_empty()) {
            (addresses, true) if addresses.is_empty() => "<pending>".into(),
            (addresses, true) => addresses,
            (addresses, false) if addresses.is_empty() => given,
            (addresses, false) => format!("{addresses},{given}"),
        },
        "ExternalName" => text(&spec.external_name).to_owned(),
        _ => printing::UNKNOWN.into(),
    }
}

fn balanced(service: &Service) -> String {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.map_or(&[][..], |balancer| items(&balancer.ingress));
    let mut names: Vec<&str> = ingress
        .iter()
        .map(|ingress| match text(&ingress.ip) {
            "" => text(&ingress.hostname),
            ip => ip,
        })
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    names.join(",")
}
