//! Graph and plan, driven against a small world without an API.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use proptest::prelude::*;
use rkube_api::{
    meta::object_meta::{FINALIZER_FOREGROUND, FINALIZER_ORPHAN},
    request::Verb,
};

use super::{
    graph::{Graph, Node, Task},
    plan::{self, Action, Owner},
};
use crate::resources::ApiResource;

fn resource() -> Arc<ApiResource> {
    Arc::new(ApiResource {
        group: String::new(),
        version: "v1".into(),
        resource: "configmaps".into(),
        kind: "ConfigMap".into(),
        namespaced: true,
        verbs: Verb::ALL.to_vec(),
    })
}

fn object(uid: &str, owners: &[(&str, bool)]) -> ObjectMeta {
    let reference = |(owner, block): &(&str, bool)| OwnerReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: (*owner).into(),
        uid: (*owner).into(),
        block_owner_deletion: Some(*block),
        controller: None,
    };
    ObjectMeta {
        name: Some(uid.into()),
        namespace: Some("a".into()),
        uid: Some(uid.into()),
        owner_references: Some(owners.iter().map(reference).collect()),
        ..Default::default()
    }
}

/// The server's objects, the collector's graph and queue.
#[derive(Default)]
struct World {
    objects: BTreeMap<String, ObjectMeta>,
    graph: Graph,
    queue: VecDeque<Task>,
}

impl World {
    fn put(&mut self, meta: ObjectMeta) {
        let tasks = self.graph.put(Node::new(&resource(), &meta));
        self.objects.insert(meta.uid.clone().unwrap(), meta);
        self.queue.extend(tasks);
    }

    /// The server's part of a delete.
    fn delete(&mut self, uid: &str, policy: &str) {
        let Some(mut meta) = self.objects.get(uid).cloned() else { return };
        let finalizers = meta.finalizers.get_or_insert_default();
        finalizers.retain(|name| name != FINALIZER_FOREGROUND && name != FINALIZER_ORPHAN);
        match policy {
            "Foreground" => finalizers.push(FINALIZER_FOREGROUND.into()),
            "Orphan" => finalizers.push(FINALIZER_ORPHAN.into()),
            _ => {}
        }
        meta.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        self.write(meta);
    }

    /// A write: an object under deletion that nothing holds any more is gone.
    fn write(&mut self, meta: ObjectMeta) {
        let free = meta.finalizers.as_ref().is_none_or(Vec::is_empty);
        if meta.deletion_timestamp.is_some() && free {
            let uid = meta.uid.unwrap();
            self.objects.remove(&uid);
            let tasks = self.graph.remove(&uid);
            self.queue.extend(tasks);
        } else {
            self.put(meta);
        }
    }

    fn owner(&self, reference: &OwnerReference) -> Owner {
        match self.objects.get(&reference.uid) {
            None => Owner::Dangling,
            Some(meta) if meta.finalizers.iter().flatten().any(|name| name == FINALIZER_FOREGROUND) => {
                Owner::Waiting
            }
            Some(_) => Owner::Solid,
        }
    }

    /// Does all tasks, as the worker does. Fails if there is no end.
    fn run(&mut self) {
        for _ in 0..10_000 {
            let Some(task) = self.queue.pop_front() else { return };
            match task {
                Task::Check(uid) => self.check(&uid),
                Task::Orphan(uid) => {
                    let dependents: Vec<String> =
                        self.graph.dependents(&uid).map(|dependent| dependent.uid.clone()).collect();
                    for dependent in dependents {
                        self.drop_owners(&dependent, &BTreeSet::from([uid.clone()]));
                    }
                    self.drop_finalizer(&uid, FINALIZER_ORPHAN);
                }
            }
        }
        panic!("the collector never rests");
    }

    fn check(&mut self, uid: &str) {
        let Some(node) = self.graph.get(uid).cloned() else { return };
        if !node.foreground && (node.deleting || self.graph.is_held(&node)) {
            return;
        }
        let Some(latest) = self.objects.get(uid).cloned() else { return };
        let action = if node.foreground {
            plan::waiting(&self.graph, &node)
        } else {
            let references = latest.owner_references.clone().unwrap_or_default();
            let owners: Vec<_> = references.into_iter().map(|it| (it.clone(), self.owner(&it))).collect();
            plan::decide(&self.graph, &latest, &owners)
        };
        match action {
            Action::Keep => {}
            Action::DropFinalizer(finalizer) => self.drop_finalizer(uid, finalizer),
            Action::CheckDependents(uids) => self.queue.extend(uids.into_iter().map(Task::Check)),
            Action::DropOwners(gone) => self.drop_owners(uid, &gone),
            Action::DeleteForeground { unblock } => {
                if unblock {
                    let mut meta = latest;
                    for owner in meta.owner_references.iter_mut().flatten() {
                        owner.block_owner_deletion = Some(false);
                    }
                    self.put(meta);
                }
                self.delete(uid, "Foreground");
            }
            Action::Delete { policy } => self.delete(uid, policy),
        }
    }

    fn drop_owners(&mut self, uid: &str, gone: &BTreeSet<String>) {
        let Some(mut meta) = self.objects.get(uid).cloned() else { return };
        meta.owner_references.get_or_insert_default().retain(|owner| !gone.contains(&owner.uid));
        self.write(meta);
    }

    fn drop_finalizer(&mut self, uid: &str, finalizer: &str) {
        let Some(mut meta) = self.objects.get(uid).cloned() else { return };
        meta.finalizers.get_or_insert_default().retain(|name| name != finalizer);
        self.write(meta);
    }

    fn names(&self) -> Vec<&str> {
        self.objects.keys().map(String::as_str).collect()
    }

    /// A deployment, its set, two pods, and a bystander.
    fn tree() -> Self {
        let mut world = Self::default();
        world.put(object("other", &[]));
        world.put(object("deployment", &[]));
        world.put(object("set", &[("deployment", true)]));
        world.put(object("pod1", &[("set", true)]));
        world.put(object("pod2", &[("set", true)]));
        world.run();
        world
    }
}

#[test]
fn background_takes_all_below() {
    let mut world = World::tree();
    assert_eq!(world.names().len(), 5);
    world.delete("deployment", "Background");
    assert!(!world.objects.contains_key("deployment"), "the owner goes at once");
    world.run();
    assert_eq!(world.names(), ["other"]);
}

#[test]
fn foreground_takes_the_owner_last() {
    let mut world = World::tree();
    world.delete("deployment", "Foreground");
    assert!(world.objects.contains_key("deployment"));
    // A pod that its node agent holds.
    world.objects.get_mut("pod1").unwrap().finalizers = Some(vec!["agent".into()]);
    world.run();
    assert_eq!(world.names(), ["deployment", "other", "pod1", "set"]);
    world.drop_finalizer("pod1", "agent");
    world.run();
    assert_eq!(world.names(), ["other"]);
}

#[test]
fn orphan_sets_the_dependents_free() {
    let mut world = World::tree();
    world.delete("deployment", "Orphan");
    world.run();
    assert_eq!(world.names(), ["other", "pod1", "pod2", "set"]);
    assert_eq!(world.objects["set"].owner_references.as_deref(), Some(&[][..]));
}

#[test]
fn one_live_owner_is_enough() {
    let mut world = World::tree();
    world.put(object("shared", &[("set", true), ("other", false)]));
    world.delete("deployment", "Background");
    world.run();
    assert_eq!(world.names(), ["other", "shared"]);
    let owners = world.objects["shared"].owner_references.as_ref().unwrap();
    assert_eq!(owners.iter().map(|owner| &*owner.uid).collect::<Vec<_>>(), ["other"]);
}

#[test]
fn an_owner_that_never_was_holds_nothing() {
    let mut world = World::tree();
    world.put(object("lost", &[("nobody", true)]));
    world.run();
    assert!(!world.objects.contains_key("lost"));
}

#[test]
fn a_dependent_that_does_not_block_is_not_waited_for() {
    let mut world = World::default();
    world.put(object("owner", &[]));
    let mut slow = object("slow", &[("owner", false)]);
    slow.finalizers = Some(vec!["agent".into()]);
    world.put(slow);
    world.delete("owner", "Foreground");
    world.run();
    assert_eq!(world.names(), ["slow"]);
    assert!(world.objects["slow"].deletion_timestamp.is_some());
}

#[test]
fn a_cycle_goes_when_a_member_is_deleted_and_stays_otherwise() {
    for policy in ["Background", "Foreground"] {
        let mut world = World::default();
        world.put(object("a", &[("c", true)]));
        world.put(object("b", &[("a", true)]));
        world.put(object("c", &[("b", true)]));
        world.run();
        assert_eq!(world.names(), ["a", "b", "c"], "an untouched cycle stays");
        world.delete("b", policy);
        world.run();
        assert_eq!(world.names(), Vec::<&str>::new(), "{policy}");
    }
}

#[test]
fn a_cycle_whose_members_are_all_deleted_in_the_foreground_goes() {
    let mut world = World::default();
    world.put(object("a", &[("b", true)]));
    world.put(object("b", &[("a", true)]));
    world.put(object("self", &[("self", true)]));
    ["a", "b", "self"].iter().for_each(|name| world.delete(name, "Foreground"));
    world.run();
    assert_eq!(world.names(), Vec::<&str>::new());
}

#[test]
fn an_owner_in_another_namespace_does_not_fit() {
    let mut graph = Graph::default();
    let mut owner = object("owner", &[]);
    owner.namespace = Some("b".into());
    graph.put(Node::new(&resource(), &owner));
    let dependent = Node::new(&resource(), &object("dependent", &[("owner", true)]));
    assert_eq!(graph.put(dependent), [Task::Check("dependent".into())]);
    // Nor does it wait for such a dependent.
    let owner = graph.get("owner").unwrap();
    assert_eq!(plan::waiting(&graph, owner), Action::DropFinalizer(FINALIZER_FOREGROUND));
}

proptest! {
    /// In any graph, whatever is deleted however: it ends, nothing stays half deleted, nothing without an
    /// owner was touched but what was deleted, and nobody keeps an owner that is gone.
    #[test]
    fn any_graph_comes_to_rest(
        edges in prop::collection::vec((0..8_usize, 0..8_usize, any::<bool>()), 0..16),
        deletes in prop::collection::vec((0..8_usize, 0..3_usize), 1..4),
    ) {
        let name = |n: usize| format!("o{n}");
        let mut world = World::default();
        let mut owners: BTreeMap<usize, BTreeMap<usize, bool>> = BTreeMap::new();
        for (dependent, owner, block) in edges {
            owners.entry(dependent).or_default().insert(owner, block);
        }
        for n in 0..8 {
            let list: Vec<(String, bool)> =
                owners.get(&n).into_iter().flatten().map(|(owner, block)| (name(*owner), *block)).collect();
            let list: Vec<(&str, bool)> = list.iter().map(|(owner, block)| (owner.as_str(), *block)).collect();
            world.put(object(&name(n), &list));
        }
        world.run();
        prop_assert_eq!(world.objects.len(), 8);
        for (n, policy) in &deletes {
            world.delete(&name(*n), ["Background", "Foreground", "Orphan"][*policy]);
            world.run();
        }
        for (uid, meta) in &world.objects {
            prop_assert!(meta.deletion_timestamp.is_none(), "{} is stuck", uid);
            for owner in meta.owner_references.iter().flatten() {
                prop_assert!(world.objects.contains_key(&owner.uid), "{} keeps {}", uid, owner.uid);
            }
        }
        for n in 0..8 {
            let deleted = deletes.iter().any(|(other, _)| *other == n);
            prop_assert!(!(deleted && world.objects.contains_key(&name(n))), "{} was deleted", n);
            if !deleted && !owners.contains_key(&n) {
                prop_assert!(world.objects.contains_key(&name(n)), "nothing owned {}", n);
            }
        }
    }
}
