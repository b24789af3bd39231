//! What to tell the author of a pod's spec that is valid and still looks like a mistake.

use k8s_openapi::{
    api::core::v1::{NodeSelectorTerm, PodSpec, ResourceRequirements},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::each_container;
use crate::{
    kinds::shared::{container::View, items, seen::Seen, text},
    meta::{FieldPath, Quantity, names},
};

/// Finds what is suspicious in a pod's spec (then its metadata are given) or a template's.
pub(crate) fn find(spec: &PodSpec, pod: Option<&ObjectMeta>, path: &FieldPath<'_>, found: &mut Vec<String>) {
    if let Some(name) = pod.and_then(|pod| pod.name.as_deref()) {
        let messages = names::dns1123_label(name);
        if !messages.is_empty() {
            found.push(format!(
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; \
                 a DNS label is recommended: [{}]",
                messages.join(" ")
            ));
        }
    }
    for finalizer in pod.into_iter().flat_map(|pod| items(&pod.finalizers)) {
        if !finalizer.contains('/') {
            found.push(format!(
                "metadata.finalizers: \"{finalizer}\": prefer a domain-qualified finalizer name including a path \
                 (/) to avoid accidental conflicts with other finalizer writers"
            ));
        }
    }
    if spec.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        let field = path.child("terminationGracePeriodSeconds");
        found.push(format!("{field}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    old_labels(spec, path, found);
    volumes(spec, &path.child("volumes"), found);
    each_container(spec, path, |view, path| container(&view, path, found));
}

/// Why a label of nodes should not be used any more, and what instead.
fn deprecated(label: &str) -> Option<&'static str> {
    Some(match label {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        _ => return None,
    })
}

fn old_labels(spec: &PodSpec, path: &FieldPath<'_>, found: &mut Vec<String>) {
    let selector = path.child("nodeSelector");
    for label in spec.node_selector.iter().flat_map(|labels| labels.keys()) {
        if let Some(why) = deprecated(label) {
            found.push(format!("{}: {why}", selector.key(label)));
        }
    }
    let spread = path.child("topologySpreadConstraints");
    for (at, constraint) in items(&spec.topology_spread_constraints).iter().enumerate() {
        let (label, at) = (&constraint.topology_key, spread.index(at));
        if let Some(why) = deprecated(label) {
            found.push(format!("{}: {label} is {why}", at.child("topologyKey")));
        }
    }
    let Some(nodes) = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref()) else {
        return;
    };
    let (affinity, nodes_path) = (path.child("affinity"), "nodeAffinity");
    let nodes_path = affinity.child(nodes_path);
    let required = nodes_path.child("requiredDuringSchedulingIgnoredDuringExecution");
    let terms = required.child("nodeSelectorTerms");
    let selector = nodes.required_during_scheduling_ignored_during_execution.iter();
    for (at, term) in selector.flat_map(|selector| &selector.node_selector_terms).enumerate() {
        node_term(term, &terms.index(at), found);
    }
    let preferred = nodes_path.child("preferredDuringSchedulingIgnoredDuringExecution");
    let terms = items(&nodes.preferred_during_scheduling_ignored_during_execution);
    for (at, term) in terms.iter().enumerate() {
        let at = preferred.index(at);
        node_term(&term.preference, &at.child("preference"), found);
    }
}

fn node_term(term: &NodeSelectorTerm, path: &FieldPath<'_>, found: &mut Vec<String>) {
    let expressions = path.child("matchExpressions");
    for (at, requirement) in items(&term.match_expressions).iter().enumerate() {
        let (label, at) = (&requirement.key, expressions.index(at));
        if let Some(why) = deprecated(label) {
            found.push(format!("{}: {label} is {why}", at.child("key")));
        }
    }
}

fn volumes(spec: &PodSpec, path: &FieldPath<'_>, found: &mut Vec<String>) {
    for (at, volume) in items(&spec.volumes).iter().enumerate() {
        let path = path.index(at);
        for (field, there, since) in [
            (
                "photonPersistentDisk",
                volume.photon_persistent_disk.is_some(),
                "v1.11, non-functional in v1.16+",
            ),
            ("gitRepo", volume.git_repo.is_some(), "v1.11, and disabled by default in v1.33+"),
            ("scaleIO", volume.scale_io.is_some(), "v1.16, non-functional in v1.22+"),
            ("flocker", volume.flocker.is_some(), "v1.22, non-functional in v1.25+"),
            ("storageOS", volume.storageos.is_some(), "v1.22, non-functional in v1.25+"),
            ("quobyte", volume.quobyte.is_some(), "v1.22, non-functional in v1.25+"),
            ("glusterfs", volume.glusterfs.is_some(), "v1.25, non-functional in v1.26+"),
            ("rbd", volume.rbd.is_some(), "v1.28, non-functional in v1.31+"),
            ("cephfs", volume.cephfs.is_some(), "v1.28, non-functional in v1.31+"),
        ] {
            if there {
                found.push(format!("{}: deprecated in {since}", path.child(field)));
            }
        }
    }
}

fn container(view: &View<'_>, path: &FieldPath<'_>, found: &mut Vec<String>) {
    if let Some(resources) = view.resources {
        fractions(resources, &path.child("resources"), found);
    }
    let (env, mut seen) = (path.child("env"), Seen::new());
    for (at, variable) in view.env.iter().enumerate() {
        if !variable.name.is_empty() && !seen.insert(variable.name.as_str()) {
            found.push(format!(
                "{}: hides previous definition of \"{}\", which may be dropped when using apply",
                env.index(at),
                variable.name
            ));
        }
    }
    if view.ports.len() < 2 {
        return;
    }
    let (ports, mut seen) = (path.child("ports"), Seen::new());
    for (at, port) in view.ports.iter().enumerate() {
        let key = (port.container_port, text(&port.protocol), port.host_port, text(&port.host_ip));
        if !seen.insert(key) {
            let first = view.ports.iter().position(|other| {
                (other.container_port, text(&other.protocol), other.host_port, text(&other.host_ip)) == key
            });
            let first = ports.index(first.unwrap_or(0)).to_string();
            found.push(format!("{}: duplicate port definition with {first}", ports.index(at)));
        }
    }
}

/// Bytes come whole.
fn fractions(resources: &ResourceRequirements, path: &FieldPath<'_>, found: &mut Vec<String>) {
    for (field, list) in [("limits", &resources.limits), ("requests", &resources.requests)] {
        let path = path.child(field);
        for name in ["memory", "ephemeral-storage"] {
            let Some(amount) = list.as_ref().and_then(|list| list.get(name)) else { continue };
            if let Ok(parsed) = Quantity::try_from(amount)
                && parsed.as_i64().is_none()
                && parsed.milli_value() % 1000 != 0
            {
                let field = path.key(name);
                found.push(format!(
                    "{field}: fractional byte value \"{parsed}\" is invalid, must be an integer"
                ));
            }
        }
    }
}
