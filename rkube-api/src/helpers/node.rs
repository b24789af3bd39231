//! How a node stands.
//!
//! ```
//! use k8s_openapi::api::core::v1::Node;
//! use rkube_api::helpers::node;
//! let n: Node = serde_json::from_value(serde_json::json!({
//!     "status": {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"cpu": "4"}},
//! }))?;
//! assert!(node::is_ready(&n));
//! assert_eq!(node::allocatable(&n)["cpu"].value(), 4);
//! # Ok::<(), serde_json::Error>(())
//! ```

use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};

use super::resources::{Resources, read};
use crate::meta::conditions;

/// Its conditions.
#[must_use]
pub fn conditions_of(node: &Node) -> &[NodeCondition] {
    node.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default()
}

/// Is its condition `Ready` true?
#[must_use]
pub fn is_ready(node: &Node) -> bool {
    conditions::is_true(conditions_of(node), "Ready")
}

/// Is it cordoned?
#[must_use]
pub fn is_unschedulable(node: &Node) -> bool {
    node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false)
}

/// Its taints.
#[must_use]
pub fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default()
}

/// What pods may take of it.
#[must_use]
pub fn allocatable(node: &Node) -> Resources {
    read(node.status.as_ref().and_then(|s| s.allocatable.as_ref()))
}

/// What it has.
#[must_use]
pub fn capacity(node: &Node) -> Resources {
    read(node.status.as_ref().and_then(|s| s.capacity.as_ref()))
}

/// Its first address of a type, such as `InternalIP` or `Hostname`.
#[must_use]
pub fn address<'a>(node: &'a Node, kind: &str) -> Option<&'a str> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses.iter().find(|a| a.type_ == kind).map(|a| a.address.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn how_it_stands() {
        let node: Node = serde_json::from_value(json!({
            "spec": {"unschedulable": true, "taints": [{"key": "a", "effect": "NoSchedule"}]},
            "status": {
                "conditions": [{"type": "Ready", "status": "Unknown"}],
                "addresses": [{"type": "Hostname", "address": "h"}, {"type": "InternalIP", "address": "10.0.0.1"}],
                "capacity": {"pods": "110"},
            },
        }))
        .unwrap();
        assert!(!is_ready(&node) && is_unschedulable(&node));
        assert_eq!(taints(&node).len(), 1);
        assert_eq!(address(&node, "InternalIP"), Some("10.0.0.1"));
        assert_eq!(capacity(&node)["pods"].value(), 110);
        assert!(allocatable(&node).is_empty() && address(&node, "ExternalIP").is_none());
        assert!(!is_ready(&Node::default()) && !is_unschedulable(&Node::default()));
    }
}
