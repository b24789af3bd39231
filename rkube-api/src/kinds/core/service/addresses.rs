//! Rules of a service's addresses and their families (KEP-563).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::NO_CLUSTER_IP;
use crate::{
    kinds::shared::{checks, items, seen::Seen, text},
    meta::{ErrorList, FieldError, FieldPath},
};

const FOR_GOOD: &str = "may not change once set";

/// Whether the service has no address of its own.
pub(super) fn is_headless(spec: &ServiceSpec) -> bool {
    matches!(items(&spec.cluster_ips), [one] if one == NO_CLUSTER_IP)
}

/// Checks addresses, families and the policy on them.
pub(super) fn validate(spec: &ServiceSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if text(&spec.type_) == "ExternalName" {
        return;
    }
    let (one, all, list) = (text(&spec.cluster_ip), items(&spec.cluster_ips), path.child("clusterIPs"));
    match (one, all) {
        ("", []) => {}
        ("", all) => {
            let detail = "must be empty when `clusterIP` is not specified";
            errors.push(FieldError::invalid(&list, all, detail));
        }
        (_, []) => errors.push(FieldError::required(&list, "")),
        (one, [first, ..]) if one != first => {
            errors.push(FieldError::invalid(&list, all, "first value must match `clusterIP`"));
        }
        _ => {}
    }
    let (families, mut seen) = (path.child("ipFamilies"), Seen::new());
    for (at, family) in items(&spec.ip_families).iter().enumerate() {
        checks::supported(family, &["IPv4", "IPv6"], &families.index(at), errors);
        if !seen.insert(family.as_str()) {
            errors.push(FieldError::duplicate(&families.index(at), family));
        }
    }
    if let Some(policy) = &spec.ip_family_policy {
        let allowed = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        checks::supported(policy, &allowed, &path.child("ipFamilyPolicy"), errors);
    }
    cluster_ips(spec, all, &list, errors);
}

fn cluster_ips(spec: &ServiceSpec, all: &[String], path: &FieldPath<'_>, errors: &mut ErrorList) {
    let before = errors.len();
    for (at, address) in all.iter().enumerate() {
        if at > 0 || address != NO_CLUSTER_IP {
            checks::ip(address, &[], &path.index(at), errors);
        } else if all.len() > 1 {
            let detail = "'None' must be the first and only value";
            errors.push(FieldError::invalid(path, all, detail));
        }
    }
    let readable = errors.len() == before;
    if all.len() > 2 {
        errors.push(FieldError::invalid(path, all, "may only hold up to 2 values"));
    }
    if !readable || is_headless(spec) {
        return;
    }
    if all.len() > 1 && !checks::both_families(all.iter().filter_map(|address| address.parse().ok())) {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(path, all, detail));
    }
    for (at, (address, family)) in all.iter().zip(items(&spec.ip_families)).enumerate() {
        let is_six = address.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6());
        let expected = match (family.as_str(), is_six) {
            ("IPv4", true) => "an IPv4",
            ("IPv6", false) => "an IPv6",
            _ => continue,
        };
        let detail = format!("expected {expected} value as indicated by `ipFamilies[{at}]`");
        errors.push(FieldError::invalid(&path.index(at), address, detail));
    }
}

/// What of the addresses may not change.
pub(super) fn validate_update(new: &Service, old: &Service) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = FieldPath::new("spec");
    let (Some(new), Some(old)) = (&new.spec, &old.spec) else { return errors };
    let external = |spec: &ServiceSpec| text(&spec.type_) == "ExternalName";
    if !external(new) && !external(old) {
        let (headless, was_headless) = (is_headless(new), is_headless(old));
        if !(headless && was_headless) {
            kept_addresses(new, old, &path, &mut errors);
        }
        if !headless && !was_headless {
            kept_families(new, old, &path, &mut errors);
        }
    }
    let balanced = |spec: &ServiceSpec| text(&spec.type_) == "LoadBalancer";
    if balanced(new) && balanced(old) && new.load_balancer_class != old.load_balancer_class {
        let (field, value) = (path.child("loadBalancerClass"), &new.load_balancer_class);
        errors.push(FieldError::invalid(&field, value, FOR_GOOD));
    }
    let checked = |spec: &ServiceSpec| balanced(spec) && text(&spec.external_traffic_policy) == "Local";
    if checked(new) && checked(old) && new.health_check_node_port != old.health_check_node_port {
        errors.push(FieldError::forbidden(&path.child("healthCheckNodePort"), "field is immutable"));
    }
    errors
}

fn kept_addresses(new: &ServiceSpec, old: &ServiceSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let (is, was, list) = (items(&new.cluster_ips), items(&old.cluster_ips), path.child("clusterIPs"));
    if is.len() == was.len() {
        for (at, _) in is.iter().zip(was).enumerate().filter(|(_, (is, was))| is != was) {
            errors.push(FieldError::invalid(&list.index(at), is, FOR_GOOD));
        }
        return;
    }
    if is.is_empty() {
        errors.push(FieldError::invalid(&list.index(0), is, "primary clusterIP can not be unset"));
    }
    if let (Some(first), Some(old)) = (is.first(), was.first())
        && first != old
    {
        errors.push(FieldError::invalid(&list.index(0), is, FOR_GOOD));
    }
    if is.len() == 1 && was.len() > 1 && text(&new.ip_family_policy) != "SingleStack" {
        let detail = "must be set to 'SingleStack' when releasing the secondary clusterIP";
        let value = &new.ip_family_policy;
        errors.push(FieldError::invalid(&path.child("ipFamilyPolicy"), value, detail));
    }
}

fn kept_families(new: &ServiceSpec, old: &ServiceSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let (is, was, list) = (items(&new.ip_families), items(&old.ip_families), path.child("ipFamilies"));
    let swapped = is.len() == was.len() && is != was;
    let moved = matches!((is.first(), was.first()), (Some(is), Some(was)) if is != was);
    if swapped || moved {
        errors.push(FieldError::invalid(&list.index(0), is, FOR_GOOD));
    }
    if is.len() < was.len() && is.len() == 1 && text(&new.ip_family_policy) != "SingleStack" {
        let detail = "must be set to 'SingleStack' when releasing the secondary ipFamily";
        let value = &new.ip_family_policy;
        errors.push(FieldError::invalid(&path.child("ipFamilyPolicy"), value, detail));
    }
}
