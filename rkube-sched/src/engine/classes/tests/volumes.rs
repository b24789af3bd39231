//! Pods with volumes: what the volume plugins have found out of all nodes and keep says the same as asking
//! anew, whatever becomes of claims, volumes, drivers and attachments.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::{CSINode, StorageClass, VolumeAttachment},
};
use proptest::prelude::*;
use rkube_api::{client::ObjectKey, context::Rng, object::Kind};
use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json};

use crate::{
    engine::{Classes, Decision, Engine},
    framework::{Handle, ProfileConfig, Profiles},
    queue::Nominator,
    snapshot::{PlacedPod, PodInfo, Snapshot},
    testing::{as_node, pod},
};

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
const NODES: u8 = 70;
const CLAIMS: u8 = 12;
const VOLUMES: u8 = 8;

/// What becomes of the world, with numbers of whom and how.
#[derive(Clone, Copy, Debug)]
enum Step {
    Node(u8, u8),
    Drivers(u8, u8),
    Claim(u8, u8),
    Volume(u8, u8, u8),
    Attachment(u8, u8, u8),
    RemovePod(u8),
    Decide(u8, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let any = any::<u8>;
    let step = prop_oneof![
        1 => (any(), any()).prop_map(|(who, how)| Step::Node(who, how)),
        1 => (any(), any()).prop_map(|(who, how)| Step::Drivers(who, how)),
        3 => (any(), any()).prop_map(|(who, how)| Step::Claim(who, how)),
        2 => (any(), any(), any()).prop_map(|(who, how, place)| Step::Volume(who, how, place)),
        1 => (any(), any(), any()).prop_map(|(who, node, volume)| Step::Attachment(who, node, volume)),
        1 => any().prop_map(Step::RemovePod),
        10 => (any(), any()).prop_map(|(kind, claim)| Step::Decide(kind, claim)),
    ];
    prop::collection::vec(step, 0..70)
}

fn object<K: DeserializeOwned>(value: Value) -> Arc<K> {
    Arc::new(from_value(value).unwrap())
}

struct World {
    handle: Handle,
    profiles: Profiles,
    snapshot: Snapshot,
    classes: Classes,
    count: usize,
}

fn profiles(handle: &Handle) -> Profiles {
    Profiles::build(&[ProfileConfig::standard()], &crate::plugins::all(), handle).unwrap()
}

impl World {
    fn new(nodes: &[u8]) -> Self {
        let handle = Handle::default();
        let mut world = Self {
            profiles: profiles(&handle),
            handle,
            snapshot: Snapshot::default(),
            classes: Classes::default(),
            count: 0,
        };
        for (name, provisioner) in [("made", "d"), ("there", "kubernetes.io/no-provisioner")] {
            let class = json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer"});
            world.insert::<StorageClass>(class);
        }
        for (number, choice) in nodes.iter().enumerate() {
            world.set_node(number as u8, *choice);
            world.set_drivers(number as u8, choice / 3);
        }
        (0..VOLUMES).for_each(|number| world.set_volume(number, number, number));
        (0..CLAIMS).for_each(|number| world.set_claim(number, number + 1));
        world
    }

    fn insert<K: Kind + DeserializeOwned>(&self, value: Value) {
        self.handle.listers.get().insert(object::<K>(value));
    }

    fn remove<K: Kind>(&self, namespace: &str, name: &str) {
        self.handle.listers.get::<K>().remove(&ObjectKey::new(namespace, name));
    }

    fn set_node(&mut self, number: u8, choice: u8) {
        let name = format!("n{}", number % NODES);
        let mut labels = json!({HOSTNAME: name, ZONE: format!("z{}", choice % 3)});
        if choice.is_multiple_of(11) {
            labels = json!({HOSTNAME: name});
        }
        self.snapshot.set_node(as_node(json!({
            "metadata": {"name": name, "labels": labels},
            "status": {"allocatable": {"cpu": "4", "memory": "16Gi", "pods": "4"}}
        })));
    }

    fn set_drivers(&self, number: u8, choice: u8) {
        let name = format!("n{}", number % NODES);
        if choice.is_multiple_of(7) {
            return self.remove::<CSINode>("", &name);
        }
        let limit = if choice.is_multiple_of(5) { Value::Null } else { json!(choice % 3) };
        let driver = |driver: &str| json!({"name": driver, "nodeID": name, "allocatable": {"count": limit}});
        let drivers = json!([driver("d"), driver("ebs.csi.aws.com")]);
        let migrated = if choice.is_multiple_of(2) { "kubernetes.io/aws-ebs" } else { "" };
        let annotations = json!({"storage.alpha.kubernetes.io/migrated-plugins": migrated});
        let meta = json!({"name": name, "annotations": annotations});
        self.insert::<CSINode>(json!({"metadata": meta, "spec": {"drivers": drivers}}));
    }

    /// A claim that has a volume, or waits for one.
    fn set_claim(&self, number: u8, choice: u8) {
        let name = format!("c{}", number % CLAIMS);
        if choice.is_multiple_of(9) {
            return self.remove::<PersistentVolumeClaim>("default", &name);
        }
        let mut meta = json!({"name": name, "namespace": "default", "uid": name});
        let mode = if choice.is_multiple_of(8) { "ReadWriteOncePod" } else { "ReadWriteOnce" };
        let class = ["made", "there"][usize::from(choice / 16 % 2)];
        let mut spec = json!({"accessModes": [mode], "storageClassName": class,
            "resources": {"requests": {"storage": "1Gi"}}});
        if !choice.is_multiple_of(4) {
            meta["annotations"] = json!({"pv.kubernetes.io/bind-completed": "true"});
            spec["volumeName"] = json!(format!("v{}", (choice / 4 + number % CLAIMS) % VOLUMES));
        }
        self.insert::<PersistentVolumeClaim>(json!({"metadata": meta, "spec": spec}));
    }

    fn set_volume(&self, number: u8, choice: u8, place: u8) {
        let name = format!("v{}", number % VOLUMES);
        if choice.is_multiple_of(13) && choice > 0 {
            return self.remove::<PersistentVolume>("", &name);
        }
        let mut spec = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "storageClassName": "there"});
        match choice % 4 {
            0 => spec["awsElasticBlockStore"] = json!({"volumeID": format!("h{}", number % 3)}),
            1 => spec["csi"] = json!({"driver": "d", "volumeHandle": format!("h{}", number % 5)}),
            _ => spec["csi"] = json!({"driver": "d", "volumeHandle": name}),
        }
        let only = |key: &str, values: Value| {
            let wanted = json!({"key": key, "operator": "In", "values": values});
            json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [wanted]}]}})
        };
        let host = |number: u8| format!("n{}", number % NODES);
        match place % 5 {
            0 => spec["nodeAffinity"] = only(HOSTNAME, json!([host(place)])),
            1 => spec["nodeAffinity"] = only(ZONE, json!([format!("z{}", place % 3)])),
            2 => spec["nodeAffinity"] = only(HOSTNAME, json!([host(place), host(place / 2), "nowhere"])),
            _ => {}
        }
        let labels =
            if place.is_multiple_of(7) { json!({ZONE: format!("z{}__z1", place % 3)}) } else { json!({}) };
        let meta = json!({"name": name, "labels": labels});
        self.insert::<PersistentVolume>(
            json!({"metadata": meta, "spec": spec, "status": {"phase": "Available"}}),
        );
    }

    fn set_attachment(&self, number: u8, node: u8, volume: u8) {
        let name = format!("a{}", number % 5);
        if volume.is_multiple_of(3) {
            return self.remove::<VolumeAttachment>("", &name);
        }
        let source = json!({"persistentVolumeName": format!("v{}", volume % VOLUMES)});
        let spec = json!({"attacher": "d", "nodeName": format!("n{}", node % NODES), "source": source});
        self.insert::<VolumeAttachment>(json!({"metadata": {"name": name}, "spec": spec}));
    }

    /// A pod with one or two claims, or with a disk of its own.
    fn pod(&self, kind: u8, claim: u8) -> PodInfo {
        let of_claim = |number: u8| {
            let name = format!("c{}", number % CLAIMS);
            json!({"name": name, "persistentVolumeClaim": {"claimName": name}})
        };
        let volumes = match kind % 6 {
            0 => json!([of_claim(claim), of_claim(claim + 1)]),
            1 => json!([{"name": "disk", "awsElasticBlockStore": {"volumeID": format!("h{}", claim % 4)}}]),
            _ => json!([of_claim(claim)]),
        };
        let asks = json!([{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]);
        pod(&format!("p{}", self.count), json!({"containers": asks, "volumes": volumes}))
    }

    fn apply(&mut self, step: Step, seed: u64) -> Result<(), TestCaseError> {
        match step {
            Step::Node(who, how) if how.is_multiple_of(6) => {
                self.snapshot.remove_node(&format!("n{}", who % NODES));
            }
            Step::Node(who, how) => self.set_node(who, how),
            Step::Drivers(who, how) => self.set_drivers(who, how),
            Step::Claim(who, how) => self.set_claim(who, how),
            Step::Volume(who, how, place) => self.set_volume(who, how, place),
            Step::Attachment(who, node, volume) => self.set_attachment(who, node, volume),
            Step::RemovePod(who) => {
                self.snapshot.remove_pod(&format!("uid-p{}", usize::from(who) % self.count.max(1)));
            }
            Step::Decide(kind, claim) => return self.decide(kind, claim % CLAIMS, seed),
        }
        Ok(())
    }

    /// Decides by what was kept, and anew by plugins that have kept nothing.
    fn decide(&mut self, kind: u8, claim: u8, seed: u64) -> Result<(), TestCaseError> {
        let pod = Arc::new(self.pod(kind, claim));
        self.count += 1;
        let (one, other, nominator) = (Rng::seeded(seed), Rng::seeded(seed), Nominator::default());
        let engine = |rng| Engine { snapshot: &self.snapshot, nominator: &nominator, rng };
        let anew = profiles(&self.handle);
        let plain = engine(&one).decide(&pod, anew.of(&pod).unwrap()).decision;
        let profile = self.profiles.of(&pod).unwrap();
        let quick = engine(&other).decide_in(&mut self.classes, &pod, profile).decision;
        prop_assert_eq!(format!("{plain:?}"), format!("{quick:?}"));
        if let Decision::Place(placement) = quick {
            let node = self.snapshot.view(placement.node).name().to_owned();
            self.snapshot.assume(PlacedPod::from(&*pod), &node);
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn pods_with_volumes_are_decided_as_if_all_were_asked_anew(
        nodes in prop::collection::vec(any::<u8>(), 1..usize::from(NODES)),
        steps in steps(),
        seed in 0..1000u64,
    ) {
        let mut world = World::new(&nodes);
        steps.into_iter().enumerate().try_for_each(|(at, step)| world.apply(step, seed + at as u64))?;
    }
}

/// Many nodes, pods of which each has a claim of its own, bound to a volume of a driver that has limits.
#[test]
fn pods_with_volumes_of_their_own_are_decided_by_groups() {
    let mut world = World::new(&[]);
    for number in 0..NODES {
        world.set_node(number, 1);
        world.set_drivers(number, 2);
    }
    for number in 0..2 * NODES {
        let name = format!("own{number}");
        let csi = json!({"driver": "d", "volumeHandle": name});
        world.insert::<PersistentVolume>(json!({"metadata": {"name": name}, "spec": {"csi": csi}}));
        let annotations = json!({"pv.kubernetes.io/bind-completed": "true"});
        let meta = json!({"name": name, "namespace": "default", "annotations": annotations});
        world.insert::<PersistentVolumeClaim>(json!({"metadata": meta, "spec": {"volumeName": name}}));
        let source = json!({"name": "data", "persistentVolumeClaim": {"claimName": name}});
        let pod = Arc::new(pod(&name, json!({"volumes": [source]})));
        let (nominator, rng) = (Nominator::default(), Rng::seeded(1));
        let engine = Engine { snapshot: &world.snapshot, nominator: &nominator, rng: &rng };
        let profile = world.profiles.of(&pod).unwrap();
        let decided = engine.decide_in(&mut world.classes, &pod, profile).decision;
        let Decision::Place(placement) = decided else { panic!("{decided:?}") };
        let node = world.snapshot.view(placement.node).name().to_owned();
        world.snapshot.assume(PlacedPod::from(&*pod), &node);
    }
    // The first one has no class; each node takes two.
    assert_eq!(world.classes.grouped(), u64::from(2 * NODES) - 1, "{:?}", world.classes);
}
