//! Rules of the addresses in a pod's status.

use k8s_openapi::api::core::v1::PodStatus;

use crate::{
    kinds::shared::{checks, items, text},
    meta::{ErrorList, FieldError, FieldPath},
};

/// Checks the pod's addresses and its host's.
pub(super) fn validate(new: &PodStatus, old: &PodStatus, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let ips: Vec<&str> = items(&new.pod_ips).iter().map(|address| address.ip.as_str()).collect();
    let known: Vec<&str> = items(&old.pod_ips).iter().map(|address| address.ip.as_str()).collect();
    list(&ips, &known, &path.child("podIPs"), errors);
    let ips: Vec<&str> = items(&new.host_ips).iter().map(|address| address.ip.as_str()).collect();
    let known: Vec<&str> = items(&old.host_ips).iter().map(|address| address.ip.as_str()).collect();
    let field = path.child("hostIPs");
    if let Some(first) = ips.first().filter(|first| **first != text(&new.host_ip)) {
        let first_path = field.index(0);
        errors.push(FieldError::invalid(&first_path.child("ip"), first, "must be equal to `hostIP`"));
    }
    list(&ips, &known, &field, errors);
}

fn list(ips: &[&str], known: &[&str], path: &FieldPath<'_>, errors: &mut ErrorList) {
    for (at, ip) in ips.iter().enumerate() {
        checks::ip(ip, known, &path.index(at), errors);
    }
    if ips.len() > 1 {
        let parsed = ips.iter().filter_map(|ip| ip.parse().ok());
        if ips.len() > 2 || !checks::both_families(parsed) {
            let detail = "may specify no more than one IP for each IP family";
            errors.push(FieldError::invalid(path, ips, detail));
        }
    }
}
