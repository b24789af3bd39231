//! What a service keeps when it is updated: what the cluster gave it, as long as it still needs that.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use crate::kinds::shared::{items, items_mut, text};

/// Prepares an update.
pub(super) fn prepare(new: &mut Service, old: &Service) {
    new.status.clone_from(&old.status);
    let (Some(new), Some(old)) = (&mut new.spec, &old.spec) else { return };
    keep_allocated(new, old);
    sync_cluster_ips(new, old);
    drop_unneeded(new, old);
    if needs_cluster_ip(new) {
        if items(&new.ip_families).is_empty() {
            new.ip_families.clone_from(&old.ip_families);
        }
        if new.ip_family_policy.is_none() {
            new.ip_family_policy.clone_from(&old.ip_family_policy);
        }
        super::defaults::families(new);
    }
}

/// Whether services of this type have an address in the cluster.
pub(super) fn needs_cluster_ip(spec: &ServiceSpec) -> bool {
    matches!(text(&spec.type_), "ClusterIP" | "NodePort" | "LoadBalancer")
}

/// Whether the service has a port on every node.
pub(super) fn needs_node_port(spec: &ServiceSpec) -> bool {
    match text(&spec.type_) {
        "NodePort" => true,
        "LoadBalancer" => spec.allocate_load_balancer_node_ports.unwrap_or(true),
        _ => false,
    }
}

fn needs_health_port(spec: &ServiceSpec) -> bool {
    text(&spec.type_) == "LoadBalancer" && text(&spec.external_traffic_policy) == "Local"
}

/// Fills in what the client left out because the cluster had chosen it.
fn keep_allocated(new: &mut ServiceSpec, old: &ServiceSpec) {
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        if text(&new.cluster_ip).is_empty() {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if items(&new.cluster_ips).is_empty() && new.cluster_ip == old.cluster_ip {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
    }
    if needs_node_port(old) && needs_node_port(new) {
        keep_node_ports(new, old);
    }
    if needs_health_port(old) && needs_health_port(new) && new.health_check_node_port.unwrap_or(0) == 0 {
        new.health_check_node_port = old.health_check_node_port;
    }
}

fn keep_node_ports(new: &mut ServiceSpec, old: &ServiceSpec) {
    let number = |port: Option<i32>| port.unwrap_or(0);
    let by_name: BTreeMap<&str, i32> =
        items(&old.ports).iter().map(|port| (text(&port.name), number(port.node_port))).collect();
    let mut used: Vec<i32> = items(&new.ports).iter().map(|port| number(port.node_port)).collect();
    for port in items_mut(&mut new.ports) {
        if number(port.node_port) != 0 {
            continue;
        }
        if let Some(&was) = by_name.get(text(&port.name))
            && was != 0
            && !used.contains(&was)
        {
            port.node_port = Some(was);
            used.push(was);
        }
    }
}

/// `clusterIP` and `clusterIPs[0]` are one field; whichever the client changed is what it means.
fn sync_cluster_ips(new: &mut ServiceSpec, old: &ServiceSpec) {
    let (one, was_one) = (text(&new.cluster_ip), text(&old.cluster_ip));
    let (all, were) = (items(&new.cluster_ips), items(&old.cluster_ips));
    if one.is_empty() && !was_one.is_empty() {
        if all == were {
            new.cluster_ips = None;
        }
    } else if all.is_empty() && !were.is_empty() {
        if one == was_one {
            new.cluster_ip = None;
        } else {
            new.cluster_ips = new.cluster_ip.clone().map(|address| vec![address]);
        }
    } else if one != was_one && all == were {
        new.cluster_ips = (!one.is_empty()).then(|| vec![one.to_owned()]);
    } else if !one.is_empty() && all.is_empty() {
        new.cluster_ips = Some(vec![one.to_owned()]);
    }
}

/// Takes away what the new type does not have, unless the client changed it in the same write.
fn drop_unneeded(new: &mut ServiceSpec, old: &ServiceSpec) {
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        if new.cluster_ip == old.cluster_ip {
            new.cluster_ip = None;
            new.cluster_ips = None;
        }
        if new.ip_families == old.ip_families {
            new.ip_families = None;
        }
        if new.ip_family_policy == old.ip_family_policy {
            new.ip_family_policy = None;
        }
    }
    if needs_node_port(old) && !needs_node_port(new) && same_node_ports(new, old) {
        items_mut(&mut new.ports).iter_mut().for_each(|port| port.node_port = None);
    }
    if needs_health_port(old)
        && !needs_health_port(new)
        && new.health_check_node_port == old.health_check_node_port
    {
        new.health_check_node_port = None;
    }
    if text(&old.type_) == "LoadBalancer" && text(&new.type_) != "LoadBalancer" {
        if new.allocate_load_balancer_node_ports == old.allocate_load_balancer_node_ports {
            new.allocate_load_balancer_node_ports = None;
        }
        if new.load_balancer_class == old.load_balancer_class {
            new.load_balancer_class = None;
        }
    }
    if text(&new.type_) == "ExternalName"
        && text(&old.type_) != "ExternalName"
        && new.internal_traffic_policy == old.internal_traffic_policy
    {
        new.internal_traffic_policy = None;
    }
    let outside = |spec: &ServiceSpec| {
        matches!(text(&spec.type_), "NodePort" | "LoadBalancer") || !items(&spec.external_ips).is_empty()
    };
    if outside(old) && !outside(new) && new.external_traffic_policy == old.external_traffic_policy {
        new.external_traffic_policy = None;
    }
}

fn same_node_ports(new: &ServiceSpec, old: &ServiceSpec) -> bool {
    let ports = |spec: &ServiceSpec| {
        items(&spec.ports).iter().map(|port| port.node_port.unwrap_or(0)).collect::<Vec<_>>()
    };
    ports(new) == ports(old)
}
