//! EndpointSlice. Semantics: <https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/>

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use serde_json::json;

use crate::{
    kinds::shared::{checks, fill, items, items_mut, printing, seen::Seen, semantic, text},
    meta::{ErrorList, FieldError, FieldPath, object_meta::validate_labels},
    registry::Definition,
};

const MAX_TOPOLOGY_LABELS: usize = 16;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;
const MAX_ENDPOINTS: usize = 1000;
const MAX_ZONE_HINTS: usize = 8;

/// The definition of EndpointSlice.
pub fn definition() -> Definition {
    Definition::of::<EndpointSlice>()
        .default(default)
        .validate(validate)
        .validate_update(validate_update)
        .generation(generation_moves)
        .column("AddressType", "string", "What kind of addresses it holds.", |slice, _| {
            json!(slice.address_type)
        })
        .column("Ports", "string", "The endpoints' ports.", |slice, _| {
            json!(printing::up_to_three(items(&slice.ports).iter().map(|port| {
                match (port.port, &port.name) {
                    (Some(number), _) => number.to_string(),
                    (None, Some(name)) => name.clone(),
                    (None, None) => "*".into(),
                }
            })))
        })
        .column("Endpoints", "string", "The endpoints' addresses.", |slice, _| {
            let endpoints = items(&slice.endpoints).iter();
            json!(printing::up_to_three(endpoints.flat_map(|endpoint| endpoint.addresses.iter().cloned())))
        })
        .age()
        .build()
}

fn default(slice: &mut EndpointSlice) {
    for port in items_mut(&mut slice.ports) {
        port.name.get_or_insert_with(String::new);
        fill(&mut port.protocol, "TCP");
    }
}

/// Everything but the metadata counts, and of the metadata the labels.
fn generation_moves(new: &EndpointSlice, old: &EndpointSlice) -> bool {
    new.address_type != old.address_type
        || !semantic::equal(&new.endpoints, &old.endpoints)
        || !semantic::equal(&new.ports, &old.ports)
        || !semantic::equal(&new.metadata.labels, &old.metadata.labels)
}

fn validate(slice: &EndpointSlice) -> ErrorList {
    let mut errors = ErrorList::new();
    let kinds = ["FQDN", "IPv4", "IPv6"];
    checks::one_of(&slice.address_type, &kinds, &FieldPath::new("addressType"), &mut errors);
    let (endpoints, path) = (items(&slice.endpoints), FieldPath::new("endpoints"));
    if endpoints.len() > MAX_ENDPOINTS {
        errors.push(FieldError::too_many(&path, endpoints.len(), MAX_ENDPOINTS));
    } else {
        for (at, endpoint) in endpoints.iter().enumerate() {
            validate_endpoint(endpoint, &slice.address_type, &path.index(at), &mut errors);
        }
    }
    let (ports, path) = (items(&slice.ports), FieldPath::new("ports"));
    if ports.len() > MAX_PORTS {
        errors.push(FieldError::too_many(&path, ports.len(), MAX_PORTS));
    } else {
        validate_ports(ports, &path, &mut errors);
    }
    errors
}

fn validate_endpoint(endpoint: &Endpoint, kind: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let (addresses, list) = (&endpoint.addresses, path.child("addresses"));
    if addresses.is_empty() {
        errors.push(FieldError::required(&list, "must contain at least 1 address"));
    } else if addresses.len() > MAX_ADDRESSES {
        errors.push(FieldError::too_many(&list, addresses.len(), MAX_ADDRESSES));
    }
    for (at, address) in addresses.iter().enumerate() {
        validate_address(address, kind, &list.index(at), errors);
    }
    if let Some(labels) = &endpoint.deprecated_topology {
        let path = path.child("deprecatedTopology");
        if labels.len() > MAX_TOPOLOGY_LABELS {
            errors.push(FieldError::too_many(&path, labels.len(), MAX_TOPOLOGY_LABELS));
        }
        validate_labels(labels, &path, errors);
    }
    if let Some(name) = &endpoint.node_name {
        checks::subdomain(name, &path.child("nodeName"), errors);
    }
    if let Some(name) = &endpoint.hostname {
        checks::label(name, &path.child("hostname"), errors);
    }
    let zones = endpoint.hints.as_ref().map_or(&[][..], |hints| items(&hints.for_zones));
    let (hints, mut seen) = (path.child("hints"), Seen::new());
    let list = hints.child("forZones");
    if zones.len() > MAX_ZONE_HINTS {
        errors.push(FieldError::too_many(&list, zones.len(), MAX_ZONE_HINTS));
        return;
    }
    for (at, zone) in zones.iter().enumerate() {
        let path = list.index(at);
        if !seen.insert(zone.name.as_str()) {
            errors.push(FieldError::duplicate(&path.child("name"), &zone.name));
        }
        checks::required(&zone.name, &path.child("name"), errors);
    }
}

fn validate_address(address: &str, kind: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let wrong = |detail: &str| FieldError::invalid(path, address, detail);
    match (kind, address.parse::<std::net::IpAddr>()) {
        ("IPv4", Ok(ip)) if ip.is_ipv4() => checks::endpoint_ip(address, path, errors),
        ("IPv4", _) => errors.push(wrong("must be a valid IPv4 address")),
        ("IPv6", Ok(ip)) if ip.is_ipv6() => checks::endpoint_ip(address, path, errors),
        ("IPv6", _) => errors.push(wrong("must be a valid IPv6 address")),
        ("FQDN", _) if address.is_empty() => errors.push(FieldError::required(path, "")),
        ("FQDN", _) => {
            let name = address.strip_suffix('.').unwrap_or(address);
            let before = errors.len();
            checks::subdomain(name, path, errors);
            if errors.len() == before && !name.contains('.') {
                errors.push(wrong("should be a domain with at least two segments separated by dots"));
            }
        }
        _ => {}
    }
}

fn validate_ports(ports: &[EndpointPort], path: &FieldPath<'_>, errors: &mut ErrorList) {
    let mut seen = Seen::new();
    for (at, port) in ports.iter().enumerate() {
        let (path, name) = (path.index(at), text(&port.name));
        if !name.is_empty() {
            checks::label(name, &path.child("name"), errors);
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        checks::one_of(text(&port.protocol), &checks::PROTOCOLS, &path.child("protocol"), errors);
        if let Some(protocol) = &port.app_protocol {
            checks::qualified(protocol, &path.child("appProtocol"), errors);
        }
    }
}

fn validate_update(new: &EndpointSlice, old: &EndpointSlice) -> ErrorList {
    let mut errors = ErrorList::new();
    errors.immutable(&FieldPath::new("addressType"), &new.address_type, &old.address_type);
    errors
}
