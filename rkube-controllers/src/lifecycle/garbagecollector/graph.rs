//! Who owns whom, as far as the watches have told. Pure: changes in, tasks out.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use rkube_api::meta::object_meta::{FINALIZER_FOREGROUND, FINALIZER_ORPHAN};

use crate::resources::ApiResource;
use std::sync::Arc;

/// An object, as far as ownership goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its resource.
    pub resource: Arc<ApiResource>,
    /// Its namespace, empty if it has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its owners.
    pub owners: Vec<OwnerReference>,
    /// Whether its deletion has begun.
    pub deleting: bool,
    /// Whether it waits for its dependents to go first.
    pub foreground: bool,
    /// Whether its dependents are to lose it before it goes.
    pub orphan: bool,
}

impl Node {
    /// What the metadata of an object say.
    pub fn new(resource: &Arc<ApiResource>, meta: &ObjectMeta) -> Self {
        let has = |name: &str| meta.finalizers.iter().flatten().any(|finalizer| finalizer == name);
        let deleting = meta.deletion_timestamp.is_some();
        Self {
            resource: resource.clone(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            deleting,
            foreground: deleting && has(FINALIZER_FOREGROUND),
            orphan: deleting && has(FINALIZER_ORPHAN),
        }
    }

    /// Whether a reference from this object can mean that one: same kind, and a namespaced owner in the
    /// same namespace.
    pub fn may_be_owned_by(&self, owner: &Node) -> bool {
        !owner.resource.namespaced || owner.namespace == self.namespace
    }
}

/// What a worker is to look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// Whether this object has any reason left to exist, or to wait.
    Check(String),
    /// Take this object out of its dependents' owners.
    Orphan(String),
}

/// The graph, by UID.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: BTreeMap<String, Node>,
    /// The UIDs of an owner's dependents, whether the owner is known or not.
    dependents: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// The object of this UID.
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// The objects that name this UID as an owner.
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Node> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|uid| self.nodes.get(uid))
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether every owner of the object is known, fits, and isn't waiting for it to go.
    pub fn is_held(&self, node: &Node) -> bool {
        node.owners.iter().all(|reference| {
            self.nodes.get(&reference.uid).is_some_and(|owner| {
                owner.name == reference.name
                    && owner.resource.kind == reference.kind
                    && node.may_be_owned_by(owner)
                    && !owner.foreground
            })
        })
    }

    /// An object is there, new or changed.
    pub fn put(&mut self, node: Node) -> Vec<Task> {
        let mut tasks = Vec::new();
        let old = self.nodes.remove(&node.uid);
        for owner in old.iter().flat_map(|old| &old.owners) {
            self.unlink(&owner.uid, &node.uid);
            // An owner that waits may have waited for this object, or for its blocking reference.
            if self.nodes.get(&owner.uid).is_some_and(|owner| owner.foreground)
                && !node.owners.contains(owner)
            {
                tasks.push(Task::Check(owner.uid.clone()));
            }
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(node.uid.clone());
        }
        let was = |test: fn(&Node) -> bool| old.as_ref().is_some_and(test);
        if node.orphan && !was(|old| old.orphan) {
            tasks.push(Task::Orphan(node.uid.clone()));
        }
        if node.foreground && !was(|old| old.foreground) {
            tasks.extend(self.dependents(&node.uid).map(|dependent| Task::Check(dependent.uid.clone())));
            tasks.push(Task::Check(node.uid.clone()));
        }
        let owners_changed = old.as_ref().is_none_or(|old| old.owners != node.owners);
        if owners_changed && !node.owners.is_empty() && !self.is_held(&node) {
            tasks.push(Task::Check(node.uid.clone()));
        }
        self.nodes.insert(node.uid.clone(), node);
        tasks
    }

    /// An object is gone.
    pub fn remove(&mut self, uid: &str) -> Vec<Task> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
        }
        let mut tasks: Vec<Task> =
            self.dependents(uid).map(|dependent| Task::Check(dependent.uid.clone())).collect();
        let waiting = node
            .owners
            .iter()
            .filter(|owner| self.nodes.get(&owner.uid).is_some_and(|owner| owner.foreground));
        tasks.extend(waiting.map(|owner| Task::Check(owner.uid.clone())));
        tasks
    }

    /// A resource is served no more: its objects are out of sight. What they own is to be looked at.
    pub fn forget(&mut self, resource: &ApiResource) -> Vec<Task> {
        let of = |node: &&Node| *node.resource == *resource;
        let gone: Vec<String> = self.nodes.values().filter(of).map(|node| node.uid.clone()).collect();
        let tasks: Vec<Task> = gone.iter().flat_map(|uid| self.remove(uid)).collect();
        let known = |task: &Task| match task {
            Task::Check(uid) | Task::Orphan(uid) => self.nodes.contains_key(uid),
        };
        tasks.into_iter().filter(known).collect()
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}
