//! Volumes for the reference's tests: what there is at first, and what becomes of it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Volume};
use rkube_api::{
    client::Cache,
    helpers::volumes::{BIND_COMPLETED, bind_volume, claim_ref, mark},
    object::Kind,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json};

use super::{Storage, Volumes};
use crate::framework::Handle;

const ZONE: &str = "topology.kubernetes.io/zone";

fn object<K: DeserializeOwned>(value: Value) -> K {
    from_value(value).unwrap()
}

fn one_of<'a>(from: &[&'a str], choice: u8) -> &'a str {
    from[usize::from(choice) % from.len()]
}

/// The volumes of a pod: of two, each a claim, a disk or none.
pub(super) fn volumes(choices: &[u8]) -> Vec<Volume> {
    let one = |(at, choice): (usize, &u8)| {
        let number = choice / 6;
        let source = match choice % 6 {
            0 => json!({"persistentVolumeClaim": {"claimName": format!("c{}", number % 7)}}),
            1 => json!({"gcePersistentDisk": {"pdName": "d", "readOnly": number % 2 == 0}}),
            2 if number % 4 == 0 => json!({"awsElasticBlockStore": {"volumeID": "e"}}),
            _ => return None,
        };
        let mut volume = json!({"name": format!("v{at}")});
        volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        Some(object(volume))
    };
    choices.iter().enumerate().filter_map(one).collect()
}

/// A volume that nobody has.
fn volume(number: u8, [size, place, class, kind]: [u8; 4]) -> PersistentVolume {
    let mut spec = json!({
        "capacity": {"storage": format!("{}Gi", 1 + size % 4)}, "accessModes": ["ReadWriteOnce", "ReadWriteOncePod"],
        "storageClassName": one_of(&["there", "there", "made"], class)
    });
    let only = |key: &str, value: String| {
        let label = json!({"key": key, "operator": "In", "values": [value]});
        json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [label]}]}})
    };
    match place % 5 {
        0 => spec["nodeAffinity"] = only("zone", format!("z{}", place / 5 % 3)),
        1 | 2 => spec["nodeAffinity"] = only("kubernetes.io/hostname", format!("n{}", place / 5 % 7)),
        _ => {}
    }
    if kind % 3 > 0 {
        spec["csi"] =
            json!({"driver": one_of(&["d", "e"], kind / 3), "volumeHandle": format!("h{}", number / 2)});
    }
    let labels =
        if kind / 6 % 4 == 0 { json!({ZONE: one_of(&["z0", "z1__z2"], kind / 24)}) } else { json!({}) };
    let meta = json!({"name": format!("v{number}"), "labels": labels});
    object(json!({"metadata": meta, "spec": spec, "status": {"phase": "Available"}}))
}

fn claim(space: &str, number: u8, choice: u8) -> PersistentVolumeClaim {
    let class = one_of(&["there", "made", "part", "told", "now"], choice);
    let mode = one_of(&["ReadWriteOnce", "ReadWriteOnce", "ReadWriteOncePod"], choice / 5);
    let size = format!("{}Gi", 1 + choice / 15 % 4);
    let mut meta =
        json!({"name": format!("c{number}"), "namespace": space, "uid": format!("{space}-{number}")});
    if choice / 60 == 4 {
        meta["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    let resources = json!({"requests": {"storage": size}});
    object(json!({"metadata": meta,
        "spec": {"storageClassName": class, "accessModes": [mode], "resources": resources}}))
}

/// Six claims in each of two namespaces, six volumes, classes of all sorts, drivers that have limits.
pub(super) fn storage(choices: [u8; 20]) -> Storage {
    let mut storage = Storage::default();
    for number in 0..6 {
        let at = usize::from(number);
        let turned = choices[at].rotate_left(3);
        storage.volumes.push(volume(number, [choices[at], choices[at + 6], turned, choices[at + 8]]));
        for space in ["default", "other"] {
            storage.claims.push(claim(space, number, choices[at + 12]));
        }
    }
    for (name, provisioner, mode) in [
        ("there", "kubernetes.io/no-provisioner", "WaitForFirstConsumer"),
        ("made", "d", "WaitForFirstConsumer"),
        ("part", "x", "WaitForFirstConsumer"),
        ("told", "e", "WaitForFirstConsumer"),
        ("now", "d", "Immediate"),
    ] {
        let part = json!([{"matchLabelExpressions": [{"key": "zone", "values": ["z0", "z2"]}]}]);
        let topologies = if name == "part" { part } else { json!([]) };
        storage.classes.push(object(json!({"metadata": {"name": name}, "provisioner": provisioner,
            "volumeBindingMode": mode, "allowedTopologies": topologies})));
    }
    let (needed, told) = (choices[18].is_multiple_of(6), (choices[18] / 6).is_multiple_of(2));
    storage.drivers.push(object(json!({"metadata": {"name": "e"}, "spec": {"storageCapacity": told}})));
    let spec = json!({"preventPodSchedulingIfMissing": needed});
    storage.drivers.push(object(json!({"metadata": {"name": "d"}, "spec": spec})));
    for number in 0..5u8 {
        let limit = choices[usize::from(number) + 13] % 4;
        let driver = |name: &str| json!({"name": name, "nodeID": "n", "allocatable": {"count": limit}});
        let drivers = if limit == 0 { json!([]) } else { json!([driver("d"), driver("e")]) };
        let meta = json!({"name": format!("n{number}")});
        storage.nodes.push(object(json!({"metadata": meta, "spec": {"drivers": drivers}})));
        let zone = format!("z{}", number % 3);
        let nodes = json!({"matchLabels": {"zone": zone}});
        let meta = json!({"name": format!("c{number}"), "namespace": "default"});
        storage.capacities.push(object(json!({"metadata": meta, "storageClassName": "told", "nodeTopology": nodes,
            "capacity": format!("{}Gi", limit), "maximumVolumeSize": if number == 0 { json!("2Gi") } else { Value::Null }})));
    }
    for number in 0..choices[19] % 3 {
        let source = json!({"persistentVolumeName": format!("v{number}")});
        let spec =
            json!({"attacher": "d", "nodeName": format!("n{}", choices[19] / 3 % 4), "source": source});
        let meta = json!({"name": format!("a{number}")});
        storage.attachments.push(object(json!({"metadata": meta, "spec": spec})));
    }
    storage
}

/// A volume that nobody has is another.
pub(super) fn replace(storage: &mut Storage, number: u8, choices: [u8; 4]) {
    let new = volume(number, choices);
    let old = storage.volumes.iter_mut().find(|old| old.metadata.name == new.metadata.name);
    if let Some(old) = old.filter(|old| claim_ref(old).is_none()) {
        *old = new;
    }
}

/// What the controllers make of a decision.
pub(super) fn bind(storage: &mut Storage, volumes: Volumes, node: &str) {
    let Volumes { mut bindings, provisions } = volumes;
    for (claim, _) in provisions {
        let meta = &claim.metadata;
        let name = format!("made-{}-{}", meta.namespace.as_deref().unwrap(), meta.name.as_deref().unwrap());
        let mut made = volume(0, [0; 4]);
        let spec = made.spec.as_mut().unwrap();
        let label = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node]});
        spec.node_affinity =
            object(json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [label]}]}}));
        spec.storage_class_name.clone_from(&claim.spec.as_ref().unwrap().storage_class_name);
        spec.csi = object(json!({"driver": "d", "volumeHandle": name}));
        made.metadata.labels = None;
        made.metadata.name = Some(name);
        storage.volumes.push(made.clone());
        bindings.push((claim, made));
    }
    for (claim, volume) in bindings {
        let kept =
            storage.volumes.iter_mut().find(|other| other.metadata.name == volume.metadata.name).unwrap();
        bind_volume(kept, &claim);
        kept.status = object(json!({"phase": "Bound"}));
        let same = |other: &&mut PersistentVolumeClaim| other.metadata.uid == claim.metadata.uid;
        let bound = storage.claims.iter_mut().find(same).unwrap();
        bound.spec.as_mut().unwrap().volume_name = volume.metadata.name.clone();
        mark(&mut bound.metadata, BIND_COMPLETED, "yes");
    }
    // The engine's caches are in the order of their keys, too.
    storage.volumes.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
}

/// Shows the scheduler what there is.
pub(super) fn show(storage: &Storage, handle: &Handle) {
    fn all<K: Kind>(objects: &[K], cache: &Cache<K>) {
        for object in objects {
            cache.insert(Arc::new(object.clone()));
        }
    }
    let listers = &handle.listers;
    all(&storage.claims, &listers.get());
    all(&storage.volumes, &listers.get());
    all(&storage.classes, &listers.get());
    all(&storage.drivers, &listers.get());
    all(&storage.nodes, &listers.get());
    all(&storage.capacities, &listers.get());
    all(&storage.attachments, &listers.get());
}
