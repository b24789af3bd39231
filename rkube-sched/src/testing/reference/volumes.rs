//! Volumes: what keeps a pod from a node, how its claims get their volumes there, and how good that is.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    core::v1::{Node, NodeSelector, PersistentVolume, PersistentVolumeClaim, Pod, Volume},
    storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment},
};
use rkube_api::{
    helpers::{
        affinity::RequiredNodeAffinity,
        volumes::{
            Wanted, capacity, claim_class, claim_of, claims_of, is_fully_bound, requested, volume_class,
            volume_name, waits_for_consumer,
        },
    },
    meta::{LabelSelector, Quantity},
};

use super::{Cluster, Verdict, label, name, namespace};

/// The objects that volumes are made of.
#[derive(Clone, Debug, Default)]
pub struct Storage {
    /// The claims.
    pub claims: Vec<PersistentVolumeClaim>,
    /// The volumes.
    pub volumes: Vec<PersistentVolume>,
    /// The classes.
    pub classes: Vec<StorageClass>,
    /// The drivers.
    pub drivers: Vec<CSIDriver>,
    /// The drivers of nodes.
    pub nodes: Vec<CSINode>,
    /// How much storage is left where.
    pub capacities: Vec<CSIStorageCapacity>,
    /// The volumes that are attached.
    pub attachments: Vec<VolumeAttachment>,
}

impl Storage {
    fn claim(&self, namespace: &str, name: &str) -> Option<&PersistentVolumeClaim> {
        self.claims.iter().find(|claim| {
            claim.metadata.namespace.as_deref() == Some(namespace)
                && claim.metadata.name.as_deref() == Some(name)
        })
    }

    fn volume(&self, name: &str) -> Option<&PersistentVolume> {
        self.volumes.iter().find(|volume| volume.metadata.name.as_deref() == Some(name))
    }

    fn class(&self, claim: &PersistentVolumeClaim) -> Option<&StorageClass> {
        self.classes.iter().find(|class| class.metadata.name.as_deref() == Some(claim_class(claim)))
    }

    fn driver(&self, name: &str) -> Option<&CSIDriver> {
        self.drivers.iter().find(|driver| driver.metadata.name.as_deref() == Some(name))
    }

    fn on_node(&self, node: &Node) -> Option<&CSINode> {
        self.nodes.iter().find(|there| there.metadata.name.as_deref() == Some(name(node)))
    }

    /// The claims of a pod; `None` if one is not there.
    fn claims_of(&self, pod: &Pod) -> Option<Vec<&PersistentVolumeClaim>> {
        claims_of(pod).map(|name| self.claim(namespace(pod), &name)).collect()
    }
}

fn volumes_of(pod: &Pod) -> &[Volume] {
    pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default()
}

/// Whether two volumes are one disk that both cannot have on one node.
fn one_disk(one: &Volume, other: &Volume) -> bool {
    let both_read = |one: Option<bool>, other: Option<bool>| one == Some(true) && other == Some(true);
    let gce = one.gce_persistent_disk.as_ref().zip(other.gce_persistent_disk.as_ref());
    let ebs = one.aws_elastic_block_store.as_ref().zip(other.aws_elastic_block_store.as_ref());
    gce.is_some_and(|(one, other)| one.pd_name == other.pd_name && !both_read(one.read_only, other.read_only))
        || ebs.is_some_and(|(one, other)| one.volume_id == other.volume_id)
}

/// No disk twice on one node, and a claim for one pod is for one pod in the whole cluster.
pub(super) fn volume_restrictions(cluster: &Cluster, pod: &Pod, node: &Node) -> Verdict {
    let mut there = cluster.pods_on(node).flat_map(volumes_of);
    let shared = there.any(|there| volumes_of(pod).iter().any(|mine| one_disk(mine, there)));
    let named = |pod: &Pod| {
        let plain = volumes_of(pod).iter().filter_map(|volume| volume.persistent_volume_claim.clone());
        plain.map(|source| source.claim_name).collect::<BTreeSet<String>>()
    };
    let mut claims = named(pod);
    claims.retain(|name| {
        let claim = cluster.storage.claim(namespace(pod), name);
        let modes = claim.and_then(|claim| claim.spec.as_ref()?.access_modes.clone());
        modes.is_some_and(|modes| modes.contains(&"ReadWriteOncePod".into()))
    });
    let mut others = cluster.pods.iter().filter(|other| namespace(other) == namespace(pod));
    let taken = others.any(|other| !named(other).is_disjoint(&claims));
    if shared || taken { Verdict::Refused } else { Verdict::Fits }
}

/// What a driver has to attach for a claim: (driver, the volume's handle, or the claim while there is none).
fn attached_for(storage: &Storage, claim: &PersistentVolumeClaim) -> Option<(String, String)> {
    match storage.volume(volume_name(claim)) {
        Some(volume) => {
            let csi = volume.spec.as_ref()?.csi.as_ref()?;
            Some((csi.driver.clone(), csi.volume_handle.clone()))
        }
        None => {
            let claim_name = format!("claim {:?} {:?}", claim.metadata.namespace, claim.metadata.name);
            Some((storage.class(claim)?.provisioner.clone(), claim_name))
        }
    }
}

/// A driver attaches no more volumes to a node than it can, and some drivers must be there.
pub(super) fn node_volume_limits(cluster: &Cluster, pod: &Pod, node: &Node) -> Verdict {
    let storage = &cluster.storage;
    let of = |pod: &Pod| {
        let claims = claims_of(pod).filter_map(|name| storage.claim(namespace(pod), &name));
        claims.filter_map(|claim| attached_for(storage, claim)).collect::<BTreeSet<_>>()
    };
    let wanted = of(pod);
    let there = storage.on_node(node).map_or(&[][..], |there| &there.spec.drivers);
    let missing = wanted.iter().any(|(driver, _)| {
        let needed = storage.driver(driver).and_then(|driver| driver.spec.prevent_pod_scheduling_if_missing);
        needed == Some(true) && !there.iter().any(|here| here.name == *driver)
    });
    let here = storage.attachments.iter().filter(|attachment| attachment.spec.node_name == name(node));
    let attached = here.filter_map(|attachment| {
        let volume = storage.volume(attachment.spec.source.persistent_volume_name.as_deref()?)?;
        let csi = volume.spec.as_ref()?.csi.as_ref()?;
        Some((csi.driver.clone(), csi.volume_handle.clone()))
    });
    let before: BTreeSet<(String, String)> = attached.chain(cluster.pods_on(node).flat_map(of)).collect();
    let too_many = there.iter().any(|driver| {
        let limit = driver.allocatable.as_ref().and_then(|allocatable| allocatable.count);
        let more = wanted.difference(&before).any(|(of, _)| *of == driver.name);
        let all = wanted.union(&before).filter(|(of, _)| *of == driver.name).count() as i64;
        more && limit.is_some_and(|limit| all > i64::from(limit))
    });
    if missing || too_many { Verdict::Refused } else { Verdict::Fits }
}

/// A pod stays in the zone and region that its volumes' labels name, where nodes name any.
pub(super) fn volume_zone(cluster: &Cluster, pod: &Pod, node: &Node) -> Verdict {
    let keys = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];
    let fits = volumes_of(pod).iter().all(|volume| {
        let Some((claim, false)) = claim_of("", volume) else { return true };
        let Some(claim) = cluster.storage.claim(namespace(pod), &claim) else { return false };
        let Some(volume) = cluster.storage.volume(volume_name(claim)) else {
            // It gets one in the right place.
            return volume_name(claim).is_empty()
                && cluster.storage.class(claim).is_some_and(waits_for_consumer);
        };
        let says =
            |key: &&&str| volume.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(**key));
        let silent = keys.iter().all(|key| label(node, key).is_none());
        silent
            || keys.iter().filter(says).all(|key| {
                let zones = &volume.metadata.labels.as_ref().unwrap_or(&BTreeMap::new())[*key].clone();
                label(node, key).is_some_and(|zone| zones.split("__").any(|there| there == zone))
            })
    });
    if fits { Verdict::Fits } else { Verdict::Hopeless }
}

fn reached(volume: &PersistentVolume, node: &Node) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required: Option<&NodeSelector> = affinity.and_then(|affinity| affinity.required.as_ref());
    required.is_none_or(|required| RequiredNodeAffinity::of_selector(required).matches_node(node))
}

/// How much a driver says is left for a class on a node, where it is enough for a claim.
fn left(storage: &Storage, claim: &PersistentVolumeClaim, node: &Node) -> Option<i64> {
    let enough = storage.capacities.iter().find(|capacity| {
        let limit = capacity.maximum_volume_size.as_ref().or(capacity.capacity.as_ref());
        let limit = limit.and_then(|limit| Quantity::try_from(limit).ok());
        let nodes = capacity.node_topology.as_ref();
        let nodes = nodes.and_then(|nodes| LabelSelector::from_api(Some(nodes)).ok());
        capacity.storage_class_name == claim_class(claim)
            && limit.is_some_and(|limit| limit >= requested(claim))
            && nodes.is_some_and(|nodes| nodes.matches_opt(node.metadata.labels.as_ref()))
    })?;
    Some(enough.capacity.as_ref().and_then(|left| Quantity::try_from(left).ok()).map_or(0, Quantity::value))
}

/// Whether a volume could be made for a claim, for pods on a node; with what is left, if anybody knows.
fn made(storage: &Storage, claim: &PersistentVolumeClaim, node: &Node) -> Option<Option<i64>> {
    let class = storage.class(claim)?;
    let parts = class.allowed_topologies.as_deref().unwrap_or_default();
    let in_part = parts.iter().any(|part| {
        let labels = part.match_label_expressions.as_deref().unwrap_or_default();
        let has = |key: &str, values: &[String]| {
            label(node, key).is_some_and(|value| values.contains(&value.to_owned()))
        };
        !labels.is_empty() && labels.iter().all(|wanted| has(&wanted.key, &wanted.values))
    });
    if class.provisioner == "kubernetes.io/no-provisioner" || !(parts.is_empty() || in_part) {
        return None;
    }
    match storage.driver(&class.provisioner).and_then(|driver| driver.spec.storage_capacity) {
        Some(true) => left(storage, claim, node).map(Some),
        _ => Some(None),
    }
}

/// How a pod's claims would get their volumes on a node.
#[derive(Clone, Debug, Default)]
pub struct Volumes {
    /// Claims, each with the volume that it gets.
    pub bindings: Vec<(PersistentVolumeClaim, PersistentVolume)>,
    /// Claims for which one is made, with what is left there, if anybody knows.
    pub provisions: Vec<(PersistentVolumeClaim, Option<i64>)>,
}

/// How a pod's claims get their volumes on a node; `None`: they do not.
pub fn volumes_on(cluster: &Cluster, pod: &Pod, node: &Node) -> Option<Volumes> {
    let storage = &cluster.storage;
    let claims = storage.claims_of(pod)?;
    if claims.iter().any(|claim| claim.metadata.deletion_timestamp.is_some()) {
        return None;
    }
    let (bound, mut unbound): (Vec<_>, Vec<_>) = claims.into_iter().partition(|claim| is_fully_bound(claim));
    let there = |claim: &&PersistentVolumeClaim| {
        storage.volume(volume_name(claim)).is_some_and(|volume| reached(volume, node))
    };
    let waits = |claim: &&PersistentVolumeClaim| {
        volume_name(claim).is_empty() && storage.class(claim).is_some_and(waits_for_consumer)
    };
    if !bound.iter().all(there) || !unbound.iter().all(waits) {
        return None;
    }
    unbound.sort_by_key(|claim| requested(claim));
    let mut volumes = Volumes::default();
    for claim in unbound {
        let taken = |volume: &&PersistentVolume| volumes.bindings.iter().any(|(_, taken)| taken == *volume);
        let free = storage.volumes.iter().filter(|volume| !taken(volume));
        let free: Vec<_> = free.cloned().map(std::sync::Arc::new).collect();
        match Wanted::of(claim).find(&free, |volume| reached(volume, node)) {
            Some(volume) => volumes.bindings.push((claim.clone(), (**volume).clone())),
            None => volumes.provisions.push((claim.clone(), made(storage, claim, node)?)),
        }
    }
    Some(volumes)
}

pub(super) fn volume_binding(cluster: &Cluster, pod: &Pod, node: &Node) -> Verdict {
    if volumes_on(cluster, pod, node).is_some() { Verdict::Fits } else { Verdict::Hopeless }
}

/// By class, the share of storage that stays free: of the volumes that are there, or else of those to be made.
pub(super) fn score_volume_binding(cluster: &Cluster, pod: &Pod, nodes: &[&Node]) -> Vec<i64> {
    let one = |node: &&Node| {
        let volumes = volumes_on(cluster, pod, node).unwrap_or_default();
        let mut classes = BTreeMap::<String, (i64, i64)>::new();
        for (claim, volume) in &volumes.bindings {
            let (asked, there) = classes.entry(volume_class(volume).to_owned()).or_default();
            *asked += requested(claim).value();
            *there += capacity(volume).value();
        }
        for (claim, left) in volumes.provisions.iter().filter(|_| volumes.bindings.is_empty()) {
            if let Some(left) = left {
                let (asked, there) = classes.entry(claim_class(claim).to_owned()).or_default();
                *asked += requested(claim).value();
                *there = *left;
            }
        }
        let free = classes
            .values()
            .map(|(asked, there)| if *there == 0 || asked > there { 0 } else { 100 - 100 * asked / there });
        let (sum, count) = (free.sum::<i64>() as f64, classes.len() as f64);
        if count == 0.0 { 0 } else { (sum / count).round() as i64 }
    };
    nodes.iter().map(one).collect()
}
