//! Node. Semantics: <https://kubernetes.io/docs/concepts/architecture/nodes/>

use k8s_openapi::api::core::v1::{Node, NodeSystemInfo};
use serde_json::{Value, json};

use crate::{
    kinds::shared::{items, printing, quantities, text, yes},
    meta::ErrorList,
    registry::Definition,
};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

/// The definition of Node.
pub fn definition() -> Definition {
    Definition::of::<Node>()
        .cluster()
        .short(&["no"])
        .default(default)
        .prepare_update(|new, old| new.status.clone_from(&old.status))
        .status(|new, old| new.spec.clone_from(&old.spec), validate_status)
        .selectable("spec.unschedulable", |node| Some(unschedulable(node).to_string()))
        .column("Status", "string", "Whether the node is ready and takes pods.", |node, _| {
            json!(status(node))
        })
        .column("Roles", "string", "The node's roles, from its labels.", |node, _| json!(roles(node)))
        .age()
        .column("Version", "string", "The node agent's version.", |node, _| {
            json!(info(node).map_or("", |info| &info.kubelet_version))
        })
        .wide("Internal-IP", "string", "Its address inside the cluster.", |node, _| {
            address(node, "InternalIP")
        })
        .wide("External-IP", "string", "Its address outside the cluster.", |node, _| {
            address(node, "ExternalIP")
        })
        .wide("OS-Image", "string", "Its operating system.", |node, _| {
            printing::or(info(node).map_or("", |info| &info.os_image), printing::UNKNOWN)
        })
        .wide("Kernel-Version", "string", "Its kernel.", |node, _| {
            printing::or(info(node).map_or("", |info| &info.kernel_version), printing::UNKNOWN)
        })
        .wide("Container-Runtime", "string", "What runs its containers.", |node, _| {
            printing::or(info(node).map_or("", |info| &info.container_runtime_version), printing::UNKNOWN)
        })
        .build()
}

fn unschedulable(node: &Node) -> bool {
    node.spec.as_ref().is_some_and(|spec| yes(&spec.unschedulable))
}

fn info(node: &Node) -> Option<&NodeSystemInfo> {
    node.status.as_ref()?.node_info.as_ref()
}

fn status(node: &Node) -> String {
    let conditions = node.status.as_ref().map_or(&[][..], |status| items(&status.conditions));
    let mut text = match conditions.iter().find(|condition| condition.type_ == "Ready") {
        Some(ready) if ready.status == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if unschedulable(node) {
        text.push_str(",SchedulingDisabled");
    }
    text
}

fn roles(node: &Node) -> String {
    let labels = node.metadata.labels.iter().flatten();
    let mut roles: Vec<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None => (key == ROLE_LABEL).then_some(value.as_str()),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { printing::NONE.into() } else { roles.join(",") }
}

fn address(node: &Node, kind: &str) -> Value {
    let addresses = node.status.as_ref().map_or(&[][..], |status| items(&status.addresses));
    let found = addresses.iter().find(|address| address.type_ == kind);
    printing::or(found.map_or("", |address| &address.address), printing::NONE)
}

fn default(node: &mut Node) {
    if let Some(status) = &mut node.status {
        quantities::canonicalize_all(&mut status.capacity);
        quantities::canonicalize_all(&mut status.allocatable);
        if status.allocatable.is_none() {
            status.allocatable.clone_from(&status.capacity);
        }
    }
    if let Some(spec) = &mut node.spec {
        // The single range and the first of the list are one field.
        match (text(&spec.pod_cidr), items(&spec.pod_cidrs)) {
            ("", [first, ..]) => spec.pod_cidr = Some(first.clone()),
            (one, [first, ..]) if one == first => {}
            ("", []) => {}
            (one, _) => spec.pod_cidrs = Some(vec![one.to_owned()]),
        }
    }
}

fn validate_status(_new: &Node, _old: &Node) -> ErrorList {
    ErrorList::new()
}
