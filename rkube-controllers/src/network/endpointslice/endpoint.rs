//! One pod as an endpoint of a service, and the ports it offers there.

use k8s_openapi::{
    api::{
        core::v1::{Container, Node, ObjectReference, Pod, Service, ServicePort},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::facts;

/// The label of a node that names its zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// The address families that a service has, as `IPv4` and `IPv6`.
pub(crate) fn families(service: &Service) -> Vec<String> {
    let spec = service.spec.as_ref();
    let declared = spec.and_then(|spec| spec.ip_families.clone()).unwrap_or_default();
    if !declared.is_empty() {
        return declared;
    }
    let address = spec.and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    vec![family(address).to_owned()]
}

/// The family of an address.
pub(crate) fn family(address: &str) -> &'static str {
    if address.contains(':') { "IPv6" } else { "IPv4" }
}

/// Whether the pod has an address and has not run to its end.
pub(crate) fn belongs(pod: &Pod) -> bool {
    !facts::is_finished(pod) && addresses(pod).next().is_some()
}

fn addresses(pod: &Pod) -> impl Iterator<Item = &str> {
    let status = pod.status.as_ref();
    let many = status.and_then(|status| status.pod_ips.as_deref()).unwrap_or_default();
    let one = status.and_then(|status| status.pod_ip.as_deref()).filter(|_| many.is_empty());
    many.iter().map(|address| address.ip.as_str()).chain(one).filter(|address| !address.is_empty())
}

/// The pod's endpoint in a family; `None` if it has no address there.
pub(crate) fn endpoint(
    service: &Service,
    pod: &Pod,
    node: Option<&Node>,
    address_type: &str,
) -> Option<Endpoint> {
    // One address a family: the first.
    let address = addresses(pod).find(|address| family(address) == address_type)?;
    let meta = &pod.metadata;
    let publish = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let terminating = meta.deletion_timestamp.is_some();
    let serving = facts::is_ready(pod);
    let zone = node.and_then(|node| node.metadata.labels.as_ref()?.get(ZONE).cloned());
    Some(Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(publish || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(service, pod),
        node_name: Some(facts::node(pod).to_owned()).filter(|node| !node.is_empty()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            ..ObjectReference::default()
        }),
        zone,
        ..Endpoint::default()
    })
}

/// The name by which DNS knows the pod within the service.
fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let name = spec.hostname.clone().filter(|name| !name.is_empty())?;
    (spec.subdomain.as_deref() == service.metadata.name.as_deref()).then_some(name)
}

/// The ports that the pod offers for the service. A named port that the pod doesn't have is left out.
pub(crate) fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let offered = ports.iter().filter_map(|port| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            protocol: Some(protocol(port).to_owned()),
            port: Some(number(port, pod)?),
            app_protocol: port.app_protocol.clone(),
        })
    });
    offered.collect()
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn number(port: &ServicePort, pod: &Pod) -> Option<i32> {
    let name = match port.target_port.as_ref() {
        None | Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) if name.is_empty() => return Some(port.port),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    // Init containers that keep running (sidecars) offer ports too.
    let keeps_running = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(keeps_running);
    let mut offered =
        spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let fits = |other: &str| other == protocol(port);
    offered
        .find(|offer| offer.name.as_ref() == Some(name) && fits(offer.protocol.as_deref().unwrap_or("TCP")))
        .map(|offer| offer.container_port)
}
