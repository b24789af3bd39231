//! Whether an object goes, as a pure function of its owners and dependents.
//!
//! Source: the documentation page "Garbage Collection" and `garbagecollector` of Kubernetes.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use rkube_api::meta::object_meta::{FINALIZER_FOREGROUND, FINALIZER_ORPHAN};

use super::graph::{Graph, Node};

/// What an owner reference leads to, as looked up live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The owner is there.
    Solid,
    /// The owner is not there: gone, another object by now, or in another namespace.
    Dangling,
    /// The owner waits for its dependents to go.
    Waiting,
}

/// What to do about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Keep,
    /// Let the object go: it has waited for its dependents, and none blocks it any more.
    DropFinalizer(&'static str),
    /// Look at the dependents that it waits for.
    CheckDependents(Vec<String>),
    /// Take these owners out of the references; another one holds the object.
    DropOwners(BTreeSet<String>),
    /// Delete it after its dependents. `unblock`: its own references must not block its owners, for one
    /// of its dependents waits already, so there may be a cycle.
    DeleteForeground {
        /// Whether to make its references non-blocking first.
        unblock: bool,
    },
    /// Delete it, by the policy that it asks for or in the background.
    Delete {
        /// `Background`, `Foreground` or `Orphan`.
        policy: &'static str,
    },
}

/// What to do about an object that waits for its dependents.
pub fn waiting(graph: &Graph, node: &Node) -> Action {
    let blocking: Vec<&Node> = blocking(graph, node).collect();
    // Those that wait themselves come back when their own dependents are gone; unless they wait for
    // this object: then all of a cycle would wait for ever.
    let others: Vec<&Node> = blocking.iter().filter(|other| !other.foreground).copied().collect();
    if others.is_empty() && blocking.iter().all(|other| waits_for(graph, other, node)) {
        return Action::DropFinalizer(FINALIZER_FOREGROUND);
    }
    Action::CheckDependents(others.into_iter().map(|other| other.uid.clone()).collect())
}

/// The dependents that an object has to wait for.
fn blocking<'a>(graph: &'a Graph, node: &'a Node) -> impl Iterator<Item = &'a Node> {
    graph.dependents(&node.uid).filter(|dependent| {
        let blocks =
            |owner: &OwnerReference| owner.uid == node.uid && owner.block_owner_deletion == Some(true);
        dependent.owners.iter().any(blocks) && dependent.may_be_owned_by(node)
    })
}

/// Whether `first` waits for `last`, itself or by way of others that wait.
fn waits_for(graph: &Graph, first: &Node, last: &Node) -> bool {
    let mut seen = BTreeSet::new();
    let mut ahead = vec![first];
    while let Some(node) = ahead.pop() {
        if node.uid == last.uid {
            return true;
        }
        if node.foreground && seen.insert(node.uid.as_str()) {
            ahead.extend(blocking(graph, node));
        }
    }
    false
}

/// What to do about an object by its owners, each with what it leads to.
pub fn decide(graph: &Graph, latest: &ObjectMeta, owners: &[(OwnerReference, Owner)]) -> Action {
    let uid = latest.uid.as_deref().unwrap_or_default();
    let is = |wanted: Owner| owners.iter().filter(move |(_, owner)| *owner == wanted);
    if owners.is_empty() {
        return Action::Keep;
    }
    if is(Owner::Solid).next().is_some() {
        let gone: BTreeSet<String> = owners
            .iter()
            .filter(|(_, owner)| *owner != Owner::Solid)
            .map(|(reference, _)| reference.uid.clone())
            .collect();
        return if gone.is_empty() { Action::Keep } else { Action::DropOwners(gone) };
    }
    let has_dependents = graph.dependents(uid).next().is_some();
    if is(Owner::Waiting).next().is_some() && has_dependents {
        let unblock = graph.dependents(uid).any(|dependent| dependent.foreground);
        return Action::DeleteForeground { unblock };
    }
    let has = |name: &str| latest.finalizers.iter().flatten().any(|finalizer| finalizer == name);
    let policy = if has(FINALIZER_ORPHAN) {
        "Orphan"
    } else if has(FINALIZER_FOREGROUND) {
        "Foreground"
    } else {
        "Background"
    };
    Action::Delete { policy }
}
