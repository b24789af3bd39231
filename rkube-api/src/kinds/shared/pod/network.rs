//! Rules of a pod's network: ports on the host, DNS, names.

use k8s_openapi::api::core::v1::{HostAlias, PodSpec};

use crate::{
    kinds::shared::{checks, items, text, yes},
    meta::{ErrorList, FieldError, FieldPath, names},
};

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;

/// On the host's network a port is the host's. A template may leave that to the pod's defaults.
pub(super) fn host_ports(spec: &PodSpec, in_pod: bool, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if !yes(&spec.host_network) {
        return;
    }
    let containers = path.child("containers");
    for (at, container) in spec.containers.iter().enumerate() {
        let container_path = containers.index(at);
        let ports = container_path.child("ports");
        for (at, port) in items(&container.ports).iter().enumerate() {
            let host = port.host_port.unwrap_or(0);
            if (in_pod || host != 0) && host != port.container_port {
                errors.push(FieldError::invalid(
                    &ports.index(at).child("hostPort"),
                    host,
                    "must match `containerPort` when `hostNetwork` is true",
                ));
            }
        }
    }
}

/// Checks how names are resolved.
pub(super) fn dns_policy(spec: &PodSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let allowed = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    checks::one_of(text(&spec.dns_policy), &allowed, &path.child("dnsPolicy"), errors);
}

/// Checks the pod's own resolver configuration.
pub(super) fn dns_config(spec: &PodSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let own = text(&spec.dns_policy) == "None";
    let Some(config) = &spec.dns_config else {
        if own {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(FieldError::required(path, detail));
        }
        return;
    };
    let (servers, searches) = (items(&config.nameservers), items(&config.searches));
    let servers_path = path.child("nameservers");
    if own && servers.is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.push(FieldError::required(&servers_path, detail));
        return;
    }
    if servers.len() > MAX_NAMESERVERS {
        let detail = format!("must not have more than {MAX_NAMESERVERS} nameservers");
        errors.push(FieldError::invalid(&servers_path, servers, detail));
    }
    for (at, server) in servers.iter().enumerate() {
        checks::ip(server, &[], &servers_path.index(at), errors);
    }
    let searches_path = path.child("searches");
    if searches.len() > MAX_SEARCHES {
        let detail = format!("must not have more than {MAX_SEARCHES} search paths");
        errors.push(FieldError::invalid(&searches_path, searches, detail));
    }
    if searches.iter().map(|search| search.len() + 1).sum::<usize>() > MAX_SEARCH_CHARACTERS + 1 {
        let detail = format!(
            "must not have more than {MAX_SEARCH_CHARACTERS} characters (including spaces) in the search list"
        );
        errors.push(FieldError::invalid(&searches_path, searches, detail));
    }
    for (at, search) in searches.iter().enumerate().filter(|(_, search)| *search != ".") {
        search_path(search.strip_suffix('.').unwrap_or(search), &searches_path.index(at), errors);
    }
    let options = path.child("options");
    for (at, option) in items(&config.options).iter().enumerate() {
        if text(&option.name).is_empty() {
            errors.push(FieldError::required(&options.index(at), "must not be empty"));
        }
    }
}

/// A subdomain whose labels may hold underscores (KEP-4427).
fn search_path(search: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if search.contains('_') {
        let messages = names::dns1123_subdomain(&search.replace('_', "a"));
        errors.push_messages(path, search, messages);
    } else {
        checks::subdomain(search, path, errors);
    }
}

/// Checks entries of the hosts file.
pub(super) fn host_aliases(aliases: &[HostAlias], path: &FieldPath<'_>, errors: &mut ErrorList) {
    for (at, alias) in aliases.iter().enumerate() {
        let path = path.index(at);
        checks::ip(&alias.ip, &[], &path.child("ip"), errors);
        let names = path.child("hostnames");
        for (at, name) in items(&alias.hostnames).iter().enumerate() {
            checks::subdomain(name, &names.index(at), errors);
        }
    }
}

/// Checks a host name that replaces the usual one (KEP-4762).
pub(super) fn host_name_override(spec: &PodSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let Some(name) = &spec.hostname_override else { return };
    let field = path.child("hostnameOverride");
    if yes(&spec.set_hostname_as_fqdn) {
        let detail = "may not be specified when setHostnameAsFQDN is true";
        errors.push(FieldError::forbidden(&field, detail));
    }
    if yes(&spec.host_network) {
        errors.push(FieldError::forbidden(&field, "may not be specified when hostNetwork is true"));
    }
    if name.len() > 64 {
        errors.push(FieldError::too_long(&field, 64));
    }
    checks::subdomain(name, &field, errors);
}
