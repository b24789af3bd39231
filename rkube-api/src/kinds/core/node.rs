//! Node. Semantics: <https://kubernetes.io/docs/concepts/architecture/nodes/>

use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeSystemInfo, Taint};
use serde_json::{Value, json};

use crate::{
    kinds::shared::{
        checks, items,
        pod::{quantity, taint_effect},
        printing, quantities,
        seen::Seen,
        text, yes,
    },
    meta::{ErrorList, FieldError, FieldPath, names},
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
        .validate(validate)
        .validate_update(validate_update)
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

fn validate(node: &Node) -> ErrorList {
    let mut errors = ErrorList::new();
    let metadata = FieldPath::new("metadata");
    if let Some(spec) = &node.spec {
        // Kubernetes, too, says `metadata.taints`.
        taints(items(&spec.taints), &metadata.child("taints"), &mut errors);
        let (ranges, path) = (items(&spec.pod_cidrs), FieldPath::new("spec"));
        let path = path.child("podCIDRs");
        for (at, range) in ranges.iter().enumerate() {
            checks::cidr(range, &[], &path.index(at), &mut errors);
        }
        let addresses = ranges.iter().filter_map(|range| Some(checks::parse_cidr(range)?.0));
        if ranges.len() > 2 || (ranges.len() == 2 && !checks::both_families(addresses)) {
            let detail = "may specify no more than one CIDR for each IP family";
            errors.push(FieldError::invalid(&path, ranges, detail));
        }
    }
    resources(node, &mut errors);
    errors
}

fn taints(taints: &[Taint], path: &FieldPath<'_>, errors: &mut ErrorList) {
    let mut seen = Seen::new();
    for (at, taint) in taints.iter().enumerate() {
        let path = path.index(at);
        checks::qualified(&taint.key, &path.child("key"), errors);
        let value = text(&taint.value);
        let messages = names::label_value(value);
        if !messages.is_empty() {
            errors.push(FieldError::invalid(&path.child("value"), value, messages.join(";")));
        }
        taint_effect(&taint.effect, &path.child("effect"), errors);
        if !seen.insert((taint.key.as_str(), taint.effect.as_str())) {
            let mut error = FieldError::duplicate(&path, taint);
            error.detail = "taints must be unique by key and effect pair".into();
            errors.push(error);
        }
    }
}

fn resources(node: &Node, errors: &mut ErrorList) {
    let Some(status) = &node.status else { return };
    let path = FieldPath::new("status");
    for (field, resources) in [("capacity", &status.capacity), ("allocatable", &status.allocatable)] {
        let path = path.child(field);
        for (name, amount) in resources.iter().flatten() {
            quantity(name, amount, &path.child(name), errors);
        }
    }
}

fn validate_update(new: &Node, old: &Node) -> ErrorList {
    let mut errors = ErrorList::new();
    addresses(new, &mut errors);
    let path = FieldPath::new("spec");
    let Some(old) = &old.spec else { return errors };
    let empty = NodeSpec::default();
    let new = new.spec.as_ref().unwrap_or(&empty);
    if !items(&old.pod_cidrs).is_empty() && new.pod_cidrs != old.pod_cidrs {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(FieldError::forbidden(&path.child("podCIDRs"), detail));
    }
    if !text(&old.provider_id).is_empty() && new.provider_id != old.provider_id {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.push(FieldError::forbidden(&path.child("providerID"), detail));
    }
    if text(&new.external_id) != text(&old.external_id) {
        errors.push(FieldError::forbidden(&path.child("externalID"), "may not be updated"));
    }
    errors
}

fn addresses(node: &Node, errors: &mut ErrorList) {
    let addresses = node.status.as_ref().map_or(&[][..], |status| items(&status.addresses));
    let (path, mut seen) = (FieldPath::new("status"), Seen::new());
    let path = path.child("addresses");
    for (at, address) in addresses.iter().enumerate() {
        if !seen.insert((address.type_.as_str(), address.address.as_str())) {
            errors.push(FieldError::duplicate(&path.index(at), address));
        }
    }
}

fn validate_status(new: &Node, _old: &Node) -> ErrorList {
    let mut errors = ErrorList::new();
    resources(new, &mut errors);
    addresses(new, &mut errors);
    errors
}
