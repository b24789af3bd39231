//! The plugin over caches filled by hand.

use k8s_openapi::Metadata;
use rkube_api::client::Change;
use serde_json::{Value, from_value, json};

use super::{
    plan::{NO_SPACE, NOT_REACHED, NOTHING_TO_BIND, VOLUME_GONE},
    *,
};
use crate::testing;

struct World {
    handle: Handle,
    plugin: VolumeBinding,
    snapshot: Snapshot,
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> Arc<K> {
    Arc::new(from_value(value).unwrap())
}

fn merge(mut base: Value, fields: Value) -> Value {
    base.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    base
}

fn pod(claims: &[&str]) -> PodInfo {
    let source = |claim: &&str| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}});
    testing::pod("p", json!({"volumes": claims.iter().map(source).collect::<Vec<_>>()}))
}

fn named(objects: &[Arc<PersistentVolume>]) -> Vec<&str> {
    objects.iter().map(|object| object.metadata().name.as_deref().unwrap()).collect()
}

impl World {
    /// Two nodes in two zones; a class whose volumes are there, one whose volumes are made, one that is not
    /// waited for.
    fn new() -> Self {
        Self::with(json!({}))
    }

    fn with(args: Value) -> Self {
        let handle = Handle::default();
        let plugin = VolumeBinding::new(from_value(args).unwrap(), &handle).unwrap();
        let nodes = ["a", "b"].map(|name| testing::node_labelled(name, json!({"zone": format!("z{name}")})));
        let world = Self { handle, plugin, snapshot: testing::snapshot(nodes) };
        for (name, provisioner, mode) in [
            ("there", NO_PROVISIONER, "WaitForFirstConsumer"),
            ("made", "example.com", "WaitForFirstConsumer"),
            ("now", "example.com", "Immediate"),
        ] {
            world.class(name, json!({"provisioner": provisioner, "volumeBindingMode": mode}));
        }
        world
    }

    fn class(&self, name: &str, fields: Value) {
        let class = merge(json!({"metadata": {"name": name}}), fields);
        self.handle.listers.get().insert(object::<StorageClass>(class));
    }

    fn claim(&self, name: &str, class: &str, size: &str, annotations: Value, volume: &str) {
        let spec = json!({"storageClassName": class, "accessModes": ["ReadWriteOnce"], "volumeName": volume,
            "resources": {"requests": {"storage": size}}});
        let meta = json!({"name": name, "namespace": "default", "uid": name, "annotations": annotations});
        let claim = object::<PersistentVolumeClaim>(json!({"metadata": meta, "spec": spec}));
        self.handle.listers.get().insert(claim);
    }

    /// A free volume of the class `there` on a node, or anywhere.
    fn volume(&self, name: &str, size: &str, node: &str, fields: Value) {
        let spec = merge(
            json!({"storageClassName": "there", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}}),
            fields,
        );
        let mut value = json!({"metadata": {"name": name}, "spec": spec, "status": {"phase": "Available"}});
        if !node.is_empty() {
            let here = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node]});
            value["spec"]["nodeAffinity"] =
                json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}});
        }
        self.handle.listers.get().insert(object::<PersistentVolume>(value));
    }

    fn prepared(&self, claims: &[&str]) -> (CycleState, Status) {
        let mut state = CycleState::default();
        let status = self.plugin.pre_filter(&mut state, &pod(claims), &self.snapshot).status;
        (state, status)
    }

    /// What PreFilter says, or else what Filter says of both nodes.
    fn answers(&self, claims: &[&str]) -> String {
        let (state, status) = self.prepared(claims);
        if !status.is_success() {
            return format!("{}{}", if status.is_skip() { "skip" } else { "" }, status.message());
        }
        let ask = |id: &_| self.plugin.filter(&state, &pod(claims), self.snapshot.view(*id)).message();
        self.snapshot.nodes().iter().map(ask).collect::<Vec<_>>().join(" | ")
    }

    /// Which volumes are taken for the claims on a node, and for which claims one is to be made.
    fn reserve(&self, claims: &[&str], node: &str) -> (CycleState, Vec<String>) {
        let (mut state, status) = self.prepared(claims);
        assert!(status.is_success(), "{status:?}");
        let view = self.snapshot.view(self.snapshot.find(node).unwrap());
        assert!(self.plugin.reserve(&mut state, &pod(claims), view).is_success());
        let reserved = state.read::<Reserved>().cloned().unwrap_or_default();
        let bindings = reserved
            .volumes
            .iter()
            .map(|(volume, claim)| format!("{}={}", claim.name, named(std::slice::from_ref(volume))[0]));
        let made = reserved.claims.iter().map(|claim| {
            let node = annotation(&claim.metadata, SELECTED_NODE).unwrap();
            format!("{}@{node}", claim.metadata.name.as_deref().unwrap())
        });
        let all = bindings.chain(made).collect();
        (state, all)
    }
}

#[test]
fn what_keeps_a_pod_from_every_node_is_said_once() {
    let world = World::new();
    assert_eq!(world.answers(&[]), "skip");
    assert_eq!(world.answers(&["x"]), "persistentvolumeclaim \"x\" not found");
    world.claim("c", "now", "1Gi", json!({}), "");
    assert_eq!(world.answers(&["c"]), WAITS);
    world.claim("c", "missing", "1Gi", json!({}), "");
    assert_eq!(world.answers(&["c"]), WAITS);
    world.claim("c", "there", "1Gi", json!({}), "v");
    assert_eq!(world.answers(&["c"]), WAITS, "the user has chosen, the controller must bind");
    let ephemeral = testing::pod("p", json!({"volumes": [{"name": "v", "ephemeral": {}}]}));
    let ask = || world.plugin.pre_filter(&mut CycleState::default(), &ephemeral, &world.snapshot).status;
    let waiting = "waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-v\"";
    assert_eq!(ask().message(), waiting);
    world.claim("p-v", "there", "1Gi", json!({}), "");
    let foreign = "PVC default/p-v was not created for pod default/p (pod is not owner)";
    assert_eq!(ask().message(), foreign);
    let lost = json!({"metadata": {"name": "c", "namespace": "default"}, "spec": {"volumeName": "v"},
        "status": {"phase": "Lost"}});
    world.handle.listers.get().insert(object::<PersistentVolumeClaim>(lost));
    let text = "persistentvolumeclaim \"c\" bound to non-existent persistentvolume \"v\"";
    assert_eq!(world.answers(&["c"]), text);
}

#[test]
fn a_bound_claim_keeps_its_pods_where_its_volume_is() {
    let world = World::new();
    let done = json!({"pv.kubernetes.io/bind-completed": "yes"});
    world.claim("c", "there", "1Gi", done.clone(), "v");
    assert_eq!(world.answers(&["c"]), format!("{VOLUME_GONE} | {VOLUME_GONE}"));
    world.volume("v", "1Gi", "b", json!({}));
    assert_eq!(world.answers(&["c"]), format!("{NOT_REACHED} | "));
    world.claim("d", "there", "9Gi", json!({}), "");
    let both = format!("{NOT_REACHED}, {NOTHING_TO_BIND}");
    assert_eq!(world.answers(&["c", "d"]), format!("{both} | {NOTHING_TO_BIND}"));
    let (state, _) = world.prepared(&["c"]);
    assert!(state.read::<Plan>().unwrap().all_bound());
    world.volume("v", "1Gi", "", json!({}));
    assert_eq!(world.answers(&["c"]), " | ");
}

#[test]
fn claims_get_the_smallest_volumes_that_their_node_reaches() {
    let world = World::new();
    world.claim("small", "there", "1Gi", json!({}), "");
    world.claim("large", "there", "2Gi", json!({}), "");
    world.volume("a-large", "5Gi", "a", json!({}));
    world.volume("anywhere", "3Gi", "", json!({}));
    world.volume("b-small", "1Gi", "b", json!({}));
    world.volume("b-block", "1Gi", "b", json!({"volumeMode": "Block"}));
    assert_eq!(world.answers(&["large", "small"]), " | ");
    let both = ["large", "small"];
    let (mut state, taken) = world.reserve(&["small"], "b");
    assert_eq!(taken, ["small=b-small"]);
    assert_eq!(world.answers(&both), format!("{NOTHING_TO_BIND} | "), "the claim has its volume, on b");
    world.plugin.unreserve(&mut state, &pod(&both), "b");
    // What was decided just now is taken, until it is given back.
    let (mut state, taken) = world.reserve(&both, "a");
    assert_eq!(taken, ["small=anywhere", "large=a-large"]);
    world.claim("third", "there", "3Gi", json!({}), "");
    assert_eq!(world.answers(&["third"]), format!("{NOTHING_TO_BIND} | {NOTHING_TO_BIND}"));
    world.plugin.unreserve(&mut state, &pod(&both), "a");
    world.plugin.unreserve(&mut state, &pod(&both), "a");
    assert_eq!(world.answers(&["third"]), " | ");
}

#[test]
fn a_volume_that_is_kept_for_the_claim_is_the_only_one() {
    let world = World::new();
    world.claim("c", "there", "1Gi", json!({}), "");
    world.volume("free", "1Gi", "a", json!({}));
    world.volume("kept", "9Gi", "b", json!({"claimRef": {"name": "c", "namespace": "default"}}));
    world.volume("other", "1Gi", "b", json!({"claimRef": {"name": "d", "namespace": "default"}}));
    assert_eq!(world.answers(&["c"]), format!("{NOTHING_TO_BIND} | "));
    let (state, taken) = world.reserve(&["c"], "b");
    assert_eq!(taken, ["c=kept"]);
    let reserved = state.read::<Reserved>().unwrap();
    let volume = &reserved.volumes[0].0;
    let reference = volume.spec.as_ref().unwrap().claim_ref.as_ref().unwrap();
    assert_eq!(reference.uid.as_deref(), Some("c"));
    assert_eq!(volume.metadata.annotations, None, "its user has kept it, not the scheduler");
}

#[test]
fn volumes_are_made_where_their_class_allows_it() {
    let world = World::new();
    world.claim("c", "made", "2Gi", json!({}), "");
    assert_eq!(world.reserve(&["c"], "b").1, ["c@b"]);
    let world = World::new();
    world.claim("c", "made", "2Gi", json!({"volume.kubernetes.io/selected-node": "b"}), "");
    assert_eq!(world.answers(&["c"]), format!("{NOTHING_TO_BIND} | "));
    let topology = json!([{"matchLabelExpressions": [{"key": "zone", "values": ["za", "zc"]}]}]);
    world.class(
        "made",
        json!({"provisioner": "example.com", "volumeBindingMode": "WaitForFirstConsumer",
        "allowedTopologies": topology}),
    );
    world.claim("c", "made", "2Gi", json!({}), "");
    assert_eq!(world.answers(&["c"]), format!(" | {NOTHING_TO_BIND}"));
}

#[test]
fn volumes_are_made_where_there_is_storage() {
    let world = World::new();
    world.class("made", json!({"provisioner": "example.com", "volumeBindingMode": "WaitForFirstConsumer"}));
    world.claim("c", "made", "2Gi", json!({}), "");
    let driver =
        |tells: bool| json!({"metadata": {"name": "example.com"}, "spec": {"storageCapacity": tells}});
    world.handle.listers.get().insert(object::<CSIDriver>(driver(true)));
    assert_eq!(world.answers(&["c"]), format!("{NO_SPACE} | {NO_SPACE}"));
    let capacity = |name: &str, zone: &str, fields: Value| {
        let value = json!({"metadata": {"name": name, "namespace": "default"}, "storageClassName": "made",
            "nodeTopology": {"matchLabels": {"zone": zone}}});
        object::<CSIStorageCapacity>(merge(value, fields))
    };
    let add = |it: &Arc<CSIStorageCapacity>| world.handle.listers.get().insert(it.clone());
    let (little, much) =
        (capacity("1", "za", json!({"capacity": "1Gi"})), capacity("1", "za", json!({"capacity": "3Gi"})));
    add(&little);
    add(&capacity("2", "zb", json!({"capacity": "9Gi", "maximumVolumeSize": "1Gi"})));
    assert_eq!(world.answers(&["c"]), format!("{NO_SPACE} | {NO_SPACE}"));
    add(&much);
    assert_eq!(world.answers(&["c"]), format!(" | {NO_SPACE}"));
    let hint = |old: &Arc<CSIStorageCapacity>, new: &Arc<CSIStorageCapacity>| {
        let change = Change::Updated { old: old.clone(), new: new.clone() };
        world.plugin.hint(&pod(&["c"]), &ClusterEvent::other(&change))
    };
    assert_eq!((hint(&little, &much), hint(&much, &little)), (Hint::Queue, Hint::Skip));
    world.handle.listers.get().insert(object::<CSIDriver>(driver(false)));
    assert_eq!(world.answers(&["c"]), " | ");
}

/// By hand: 1 of 2 is half, 1 of 5 a fifth; two classes count alike.
#[test]
fn the_less_is_used_the_better_or_as_the_shape_says() {
    let build = |args: Value| {
        let world = World::with(args);
        world.class(
            "other",
            json!({"provisioner": NO_PROVISIONER, "volumeBindingMode": "WaitForFirstConsumer"}),
        );
        world.claim("c", "there", "1Gi", json!({}), "");
        world.claim("d", "other", "1Gi", json!({}), "");
        world.volume("v", "2Gi", "a", json!({}));
        world.volume("w", "5Gi", "b", json!({}));
        world.volume("x", "4Gi", "", json!({"storageClassName": "other"}));
        world
    };
    let check = |args: Value, claims: &[&str], expected: [i64; 2]| {
        let world = build(args);
        let (mut state, _) = world.prepared(claims);
        let nodes = NodeSet::new(&world.snapshot, world.snapshot.nodes());
        assert!(world.plugin.pre_score(&mut state, &pod(claims), nodes).is_success());
        let scores = nodes.iter().map(|node| world.plugin.score(&state, &pod(claims), node).unwrap());
        assert_eq!(scores.collect::<Vec<_>>(), expected);
    };
    check(json!({}), &["c"], [50, 80]);
    // (50 + 75) / 2 and (80 + 75) / 2, rounded.
    check(json!({}), &["c", "d"], [63, 78]);
    let full = json!([{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]);
    check(json!({"shape": full}), &["c"], [50, 20]);
    let bad = |args: Value| VolumeBinding::new(from_value(args).unwrap(), &Handle::default()).is_err();
    assert!(bad(json!({"bindTimeoutSeconds": -1})) && bad(json!({"shape": []})));
}

#[test]
fn what_helps_a_pod() {
    let world = World::new();
    let claim = |name: &str| {
        let meta = json!({"name": name, "namespace": "default"});
        Change::Added(object::<PersistentVolumeClaim>(json!({"metadata": meta})))
    };
    let hint = |event: ClusterEvent| world.plugin.hint(&pod(&["c"]), &event);
    assert_eq!(hint(ClusterEvent::other(&claim("c"))), Hint::Queue);
    assert_eq!(hint(ClusterEvent::other(&claim("d"))), Hint::Skip);
    let class = |topology: Value| {
        object::<StorageClass>(
            json!({"metadata": {"name": "s"}, "provisioner": "p", "allowedTopologies": topology}),
        )
    };
    let update = |old: Value, new: Value| Change::Updated { old: class(old), new: class(new) };
    assert_eq!(hint(ClusterEvent::other(&update(json!([]), json!([])))), Hint::Skip);
    assert_eq!(hint(ClusterEvent::other(&update(json!([]), json!([{}])))), Hint::Queue);
    let node = object::<CSINode>(json!({"metadata": {"name": "a"}, "spec": {"drivers": []}}));
    assert_eq!(hint(ClusterEvent::other(&Change::Added(node.clone()))), Hint::Queue);
    let same = Change::Updated { old: node.clone(), new: node };
    assert_eq!(hint(ClusterEvent::other(&same)), Hint::Skip);
}
