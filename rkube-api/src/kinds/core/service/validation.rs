//! Rules of services.

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service, ServicePort, ServiceSpec};

use super::addresses;
use crate::{
    kinds::shared::{checks, items, seen::Seen, text},
    meta::{ErrorList, FieldError, FieldPath, object_meta::validate_labels},
};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";
/// A day.
const MAX_AFFINITY_SECONDS: i32 = 86_400;

/// Rules on create and on update.
pub(super) fn validate(service: &Service) -> ErrorList {
    let mut errors = ErrorList::new();
    let empty = ServiceSpec::default();
    let (spec, path) = (service.spec.as_ref().unwrap_or(&empty), FieldPath::new("spec"));
    let kind = text(&spec.type_);
    if items(&spec.ports).is_empty() && !addresses::is_headless(spec) && kind != "ExternalName" {
        errors.push(FieldError::required(&path.child("ports"), ""));
    }
    by_type(spec, kind, &path, &mut errors);
    ports(spec, &path.child("ports"), &mut errors);
    if let Some(selector) = &spec.selector {
        validate_labels(selector, &path.child("selector"), &mut errors);
    }
    affinity(spec, &path, &mut errors);
    addresses::validate(spec, &path, &mut errors);
    let externals = path.child("externalIPs");
    for (at, address) in items(&spec.external_ips).iter().enumerate() {
        let (field, before) = (externals.index(at), errors.len());
        checks::ip(address, &[], &field, &mut errors);
        if errors.len() == before {
            checks::endpoint_ip(address, &field, &mut errors);
        }
    }
    checks::one_of(kind, &TYPES, &path.child("type"), &mut errors);
    unique_ports(spec, kind, &path.child("ports"), &mut errors);
    load_balancer(spec, kind, &path, &mut errors);
    traffic(spec, &path, &mut errors);
    errors
}

fn by_type(spec: &ServiceSpec, kind: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    match kind {
        "LoadBalancer" | "NodePort" if addresses::is_headless(spec) => {
            let (list, detail) =
                (path.child("clusterIPs"), format!("may not be set to 'None' for {kind} services"));
            errors.push(FieldError::invalid(&list.index(0), super::NO_CLUSTER_IP, detail));
        }
        "ExternalName" => {
            for (field, there) in [
                ("clusterIPs", !items(&spec.cluster_ips).is_empty()),
                ("ipFamilies", !items(&spec.ip_families).is_empty()),
                ("ipFamilyPolicy", spec.ip_family_policy.is_some()),
            ] {
                if there {
                    let detail = "may not be set for ExternalName services";
                    errors.push(FieldError::forbidden(&path.child(field), detail));
                }
            }
            let name = text(&spec.external_name);
            match name.strip_suffix('.').unwrap_or(name) {
                "" => errors.push(FieldError::required(&path.child("externalName"), "")),
                name => checks::subdomain(name, &path.child("externalName"), errors),
            }
        }
        _ => {}
    }
}

fn ports(spec: &ServiceSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let ports = items(&spec.ports);
    let mut seen = Seen::new();
    for (at, port) in ports.iter().enumerate() {
        let (path, name) = (path.index(at), text(&port.name));
        if !name.is_empty() {
            checks::label(name, &path.child("name"), errors);
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
        } else if ports.len() > 1 {
            errors.push(FieldError::required(&path.child("name"), ""));
        }
        checks::port(port.port, &path.child("port"), errors);
        checks::one_of(text(&port.protocol), &checks::PROTOCOLS, &path.child("protocol"), errors);
        if let Some(target) = &port.target_port {
            checks::port_or_name(target, &path.child("targetPort"), errors);
        }
        if let Some(protocol) = &port.app_protocol {
            checks::qualified(protocol, &path.child("appProtocol"), errors);
        }
    }
}

fn unique_ports(spec: &ServiceSpec, kind: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let ports = items(&spec.ports);
    let (mut nodes, mut seen) = (Seen::new(), Seen::new());
    for (at, port) in ports.iter().enumerate() {
        let number = port.node_port.unwrap_or(0);
        if number == 0 {
            continue;
        }
        let path = path.index(at);
        if kind == "ClusterIP" {
            let detail = "may not be used when `type` is 'ClusterIP'";
            errors.push(FieldError::forbidden(&path.child("nodePort"), detail));
        }
        if !nodes.insert((text(&port.protocol), number)) {
            errors.push(FieldError::duplicate(&path.child("nodePort"), number));
        }
    }
    for (at, port) in ports.iter().enumerate() {
        if !seen.insert((text(&port.protocol), port.port)) {
            let key =
                ServicePort { protocol: port.protocol.clone(), port: port.port, ..ServicePort::default() };
            errors.push(FieldError::duplicate(&path.index(at), key));
        }
    }
}

fn affinity(spec: &ServiceSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let kind = text(&spec.session_affinity);
    checks::one_of(kind, &["ClientIP", "None"], &path.child("sessionAffinity"), errors);
    let config = path.child("sessionAffinityConfig");
    match kind {
        "ClientIP" => {
            let client = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
            let seconds = client.and_then(|client| client.timeout_seconds);
            let client_path = config.child("clientIP");
            let field = client_path.child("timeoutSeconds");
            match seconds {
                None => {
                    errors.push(FieldError::required(&field, "when session affinity type is ClientIP"));
                }
                Some(seconds) if !(1..=MAX_AFFINITY_SECONDS).contains(&seconds) => {
                    let detail = format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}");
                    errors.push(FieldError::invalid(&field, seconds, detail));
                }
                Some(_) => {}
            }
        }
        "None" if spec.session_affinity_config.is_some() => {
            errors.push(FieldError::forbidden(&config, "must not be set when session affinity is None"))
        }
        _ => {}
    }
}

fn load_balancer(spec: &ServiceSpec, kind: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let balanced = kind == "LoadBalancer";
    let ranges = items(&spec.load_balancer_source_ranges);
    let list = path.child("LoadBalancerSourceRanges");
    if !ranges.is_empty() && !balanced {
        errors.push(FieldError::forbidden(&list, ONLY_BALANCED));
    }
    for (at, range) in ranges.iter().enumerate() {
        checks::cidr(range.trim(), &[], &list.index(at), errors);
    }
    if spec.allocate_load_balancer_node_ports.is_some() && !balanced {
        errors.push(FieldError::forbidden(&path.child("allocateLoadBalancerNodePorts"), ONLY_BALANCED));
    }
    if let Some(class) = &spec.load_balancer_class {
        if balanced {
            checks::qualified(class, &path.child("loadBalancerClass"), errors);
        } else {
            errors.push(FieldError::forbidden(&path.child("loadBalancerClass"), ONLY_BALANCED));
        }
    }
}

/// Whether it can be reached from outside the cluster.
fn reaches_outside(spec: &ServiceSpec) -> bool {
    match text(&spec.type_) {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !items(&spec.external_ips).is_empty(),
        _ => false,
    }
}

fn traffic(spec: &ServiceSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let policies = ["Cluster", "Local"];
    let (external, field) = (text(&spec.external_traffic_policy), path.child("externalTrafficPolicy"));
    if reaches_outside(spec) {
        checks::one_of(external, &policies, &field, errors);
    } else if !external.is_empty() {
        let detail = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(&field, external, detail));
    }
    let health = spec.health_check_node_port.unwrap_or(0);
    let needs_health = text(&spec.type_) == "LoadBalancer" && external == "Local";
    if health != 0 {
        let field = path.child("healthCheckNodePort");
        if needs_health {
            checks::port(health, &field, errors);
        } else {
            let detail =
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(FieldError::invalid(&field, health, detail));
        }
    }
    match spec.internal_traffic_policy.as_deref() {
        Some(policy) => checks::supported(policy, &policies, &path.child("internalTrafficPolicy"), errors),
        None if matches!(text(&spec.type_), "NodePort" | "LoadBalancer" | "ClusterIP") => {
            errors.push(FieldError::required(&path.child("internalTrafficPolicy"), ""));
        }
        None => {}
    }
    if let Some(distribution) = &spec.traffic_distribution {
        let allowed = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        checks::supported(distribution, &allowed, &path.child("trafficDistribution"), errors);
    }
}

/// Rules on a write of the status.
pub(super) fn validate_status(new: &Service, old: &Service) -> ErrorList {
    let mut errors = ErrorList::new();
    let ingress = |service: &Service| -> Vec<LoadBalancerIngress> {
        let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        balancer.map(|balancer| items(&balancer.ingress).to_vec()).unwrap_or_default()
    };
    let (list, status) = (ingress(new), FieldPath::new("status"));
    let balancer = status.child("loadBalancer");
    let path = balancer.child("ingress");
    let kind = new.spec.as_ref().map_or("", |spec| text(&spec.type_));
    if kind != "LoadBalancer" && !list.is_empty() {
        let detail = "may only be used when `spec.type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden(&path, detail));
        return errors;
    }
    let old = ingress(old);
    let known: Vec<&str> = old.iter().map(|ingress| text(&ingress.ip)).collect();
    for (at, ingress) in list.iter().enumerate() {
        validate_ingress(ingress, &known, &path.index(at), &mut errors);
    }
    errors
}

fn validate_ingress(
    ingress: &LoadBalancerIngress,
    known: &[&str],
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let (ip, field) = (text(&ingress.ip), path.child("ipMode"));
    if !ip.is_empty() {
        checks::ip(ip, known, &path.child("ip"), errors);
    }
    match &ingress.ip_mode {
        None if !ip.is_empty() => {
            errors.push(FieldError::required(&field, "must be specified when `ip` is set"));
        }
        None => {}
        Some(_) if ip.is_empty() => {
            errors.push(FieldError::forbidden(&field, "may not be specified when `ip` is not set"));
        }
        Some(mode) => checks::supported(mode, &["Proxy", "VIP"], &field, errors),
    }
    let name = text(&ingress.hostname);
    if !name.is_empty() {
        checks::subdomain(name, &path.child("hostname"), errors);
        if name.parse::<std::net::IpAddr>().is_ok() {
            let detail = "must be a DNS name, not an IP address";
            errors.push(FieldError::invalid(&path.child("hostname"), name, detail));
        }
    }
}
