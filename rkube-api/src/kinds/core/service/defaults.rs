//! What a service gets that does not say it.

use std::net::IpAddr;

use k8s_openapi::{
    api::core::v1::{ClientIPConfig, Service, ServiceSpec, SessionAffinityConfig},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::NO_CLUSTER_IP;
use crate::kinds::shared::{fill, items, items_mut, text};

/// Three hours.
const AFFINITY_SECONDS: i32 = 10_800;

/// Fills a service.
pub(super) fn service(service: &mut Service) {
    if let Some(spec) = &mut service.spec {
        fill(&mut spec.type_, "ClusterIP");
        session_affinity(spec);
        ports(spec);
        traffic(spec);
    }
    let is_balanced = service.spec.as_ref().is_some_and(|spec| text(&spec.type_) == "LoadBalancer");
    if let Some(balancer) = service.status.as_mut().and_then(|status| status.load_balancer.as_mut())
        && is_balanced
    {
        for ingress in items_mut(&mut balancer.ingress) {
            if !text(&ingress.ip).is_empty() && ingress.ip_mode.is_none() {
                ingress.ip_mode = Some("VIP".into());
            }
        }
    }
}

fn session_affinity(spec: &mut ServiceSpec) {
    fill(&mut spec.session_affinity, "None");
    match spec.session_affinity.as_deref() {
        Some("None") => spec.session_affinity_config = None,
        Some("ClientIP") => {
            let timed = spec
                .session_affinity_config
                .as_ref()
                .and_then(|config| config.client_ip.as_ref()?.timeout_seconds)
                .is_some();
            if !timed {
                spec.session_affinity_config = Some(SessionAffinityConfig {
                    client_ip: Some(ClientIPConfig { timeout_seconds: Some(AFFINITY_SECONDS) }),
                });
            }
        }
        _ => {}
    }
}

fn ports(spec: &mut ServiceSpec) {
    for port in items_mut(&mut spec.ports) {
        fill(&mut port.protocol, "TCP");
        let unset = match &port.target_port {
            None | Some(IntOrString::Int(0)) => true,
            Some(IntOrString::String(name)) => name.is_empty(),
            Some(IntOrString::Int(_)) => false,
        };
        if unset {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
}

fn traffic(spec: &mut ServiceSpec) {
    let kind = text(&spec.type_);
    let balanced = kind == "LoadBalancer";
    let reaches_outside =
        balanced || kind == "NodePort" || (kind == "ClusterIP" && !items(&spec.external_ips).is_empty());
    let internal = matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer");
    if reaches_outside {
        fill(&mut spec.external_traffic_policy, "Cluster");
    }
    if internal && spec.internal_traffic_policy.is_none() {
        spec.internal_traffic_policy = Some("Cluster".into());
    }
    if balanced {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
}

/// The address families of a new service in a cluster whose first family is IPv4 (KEP-563): the family
/// of its address if it asks for one, both for a headless service without selector.
pub(super) fn families(spec: &mut ServiceSpec) {
    if text(&spec.type_) == "ExternalName" {
        return;
    }
    let asked: Vec<String> = items(&spec.cluster_ips)
        .iter()
        .filter_map(|address| address.parse::<IpAddr>().ok())
        .map(|address| if address.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned())
        .collect();
    let headless = text(&spec.cluster_ip) == NO_CLUSTER_IP;
    let selects = spec.selector.as_ref().is_some_and(|selector| !selector.is_empty());
    if headless && !selects && spec.ip_families.is_none() && spec.ip_family_policy.is_none() {
        spec.ip_family_policy = Some("RequireDualStack".into());
        spec.ip_families = Some(vec!["IPv4".into(), "IPv6".into()]);
        return;
    }
    if items(&spec.ip_families).is_empty() {
        spec.ip_families = Some(if asked.is_empty() { vec!["IPv4".into()] } else { asked });
    }
    if spec.ip_family_policy.is_none() {
        let two = items(&spec.ip_families).len() > 1;
        spec.ip_family_policy = Some(if two { "RequireDualStack" } else { "SingleStack" }.into());
    }
}
