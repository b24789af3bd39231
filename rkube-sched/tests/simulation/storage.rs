//! Volumes and claims, and controllers that do the least: they bind, make and free volumes.

use std::sync::Arc;

use rkube_api::{
    client::{Api, DeleteParams, Patch, PatchParams, PostParams},
    context::Rng,
    helpers::{
        affinity::RequiredNodeAffinity,
        pod::{is_terminal, node_name},
        volumes::{
            BIND_COMPLETED, BOUND_BY_CONTROLLER, PROVISIONED_BY, SELECTED_NODE, annotation, claim_class,
            claim_phase, claim_ref, claims_of, is_fully_bound, volume_name, volume_phase,
        },
    },
    k8s_openapi::{
        api::{
            core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
            storage::v1::{CSINode, StorageClass},
        },
        apimachinery::pkg::apis::meta::v1::ObjectMeta,
    },
};
use rkube_sched::testing::reference::Storage;
use serde_json::{Value, json};

use crate::{
    checks::Broken,
    cluster::{World, from},
    shapes::{chance, pick},
};

const DRIVER: &str = "csi.example.com";
/// So many claims and volumes have a name of their own.
const NUMBERS: usize = 5;
/// How many volumes the driver attaches to each of the first nodes; to the others as many as one likes.
const LIMITS: [usize; 4] = [1, 2, 1, 3];

/// What an administrator does to volumes.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    AddVolume(Value),
    DeleteVolume(usize),
    AddClaim(Value),
    /// The one at this place of the list.
    DeleteClaim(usize),
}

pub(crate) fn draw(rng: &Rng) -> Change {
    match rng.below(10) {
        0..=2 => Change::AddVolume(volume(rng, rng.below(NUMBERS))),
        3..=7 => Change::AddClaim(claim(rng, rng.below(NUMBERS))),
        8 => Change::DeleteVolume(rng.below(NUMBERS)),
        _ => Change::DeleteClaim(rng.below(1000)),
    }
}

fn only(key: &str, value: &str) -> Value {
    let label = json!({"key": key, "operator": "In", "values": [value]});
    json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [label]}]}})
}

/// A volume that is there for who needs one.
fn volume(rng: &Rng, number: usize) -> Value {
    let mut spec = json!({
        "capacity": {"storage": format!("{}Gi", 1 + rng.below(3))}, "storageClassName": "there",
        "accessModes": ["ReadWriteOnce", "ReadWriteOncePod"], "hostPath": {"path": "/data"}
    });
    match rng.below(3) {
        0 => spec["nodeAffinity"] = only("zone", pick(rng, &["z0", "z1", "z2"])),
        1 => spec["nodeAffinity"] = only("kubernetes.io/hostname", &format!("n{}", rng.below(10))),
        _ => {}
    }
    json!({"metadata": {"name": format!("v{number}")}, "spec": spec})
}

fn claim(rng: &Rng, number: usize) -> Value {
    let class = pick(rng, &["there", "there", "made", "made", "now", "nobody"]);
    json!({
        "metadata": {"name": format!("c{number}"), "namespace": pick(rng, &["default", "default", "other"])},
        "spec": {
            "storageClassName": class,
            "accessModes": [pick(rng, &["ReadWriteOnce", "ReadWriteOnce", "ReadWriteOncePod"])],
            "resources": {"requests": {"storage": format!("{}Gi", 1 + rng.below(2))}}
        }
    })
}

/// Gives a pod one or two claims, which need not be there.
pub(crate) fn adorn(rng: &Rng, pod: &mut Value) {
    let count = 1 + usize::from(chance(rng, 1, 4));
    let volume = |at: usize| {
        let name = format!("c{}", rng.below(NUMBERS));
        json!({"name": format!("v{at}"), "persistentVolumeClaim": {"claimName": name}})
    };
    pod["spec"]["volumes"] = (0..count).map(volume).collect();
}

fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// The claims of a pod, as far as they are there.
fn its_claims<'a>(
    pod: &'a Pod,
    claims: &'a [PersistentVolumeClaim],
) -> impl Iterator<Item = Option<&'a PersistentVolumeClaim>> {
    claims_of(pod).map(move |name| {
        claims.iter().find(|claim| {
            claim.metadata.name.as_deref() == Some(&*name)
                && claim.metadata.namespace == pod.metadata.namespace
        })
    })
}

/// Whether all claims of a pod are there to stay, and as old as `age` seconds.
pub(crate) fn are_there(storage: &Storage, pod: &Pod, now: i64, age: u64) -> bool {
    its_claims(pod, &storage.claims).all(|claim| {
        claim.is_some_and(|claim| {
            let made = claim.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
            claim.metadata.deletion_timestamp.is_none() && made + age as i64 <= now
        })
    })
}

/// Whether a pod has its volumes on a node.
pub(crate) fn are_reached(storage: &Storage, pod: &Pod, node: &Node) -> bool {
    its_claims(pod, &storage.claims).flatten().all(|claim| {
        let volume = storage.volumes.iter().find(|volume| name(&volume.metadata) == volume_name(claim));
        is_fully_bound(claim) && volume.is_some_and(|volume| is_reached(volume, node))
    })
}

fn is_reached(volume: &PersistentVolume, node: &Node) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    required.is_none_or(|required| RequiredNodeAffinity::of_selector(required).matches_node(node))
}

impl World {
    /// The classes, what the driver says of nodes, and the first volumes and claims.
    pub(crate) async fn furnish_storage(&self) {
        for (name, provisioner, mode) in [
            ("there", "kubernetes.io/no-provisioner", "WaitForFirstConsumer"),
            ("made", DRIVER, "WaitForFirstConsumer"),
            ("now", DRIVER, "Immediate"),
        ] {
            let meta = json!({"name": name});
            let class = json!({"metadata": meta, "provisioner": provisioner, "volumeBindingMode": mode});
            self.create::<StorageClass>(class).await;
        }
        for (number, limit) in LIMITS.into_iter().enumerate() {
            let driver = json!({"name": DRIVER, "nodeID": "n", "allocatable": {"count": limit}});
            let meta = json!({"name": format!("n{number}")});
            self.create::<CSINode>(json!({"metadata": meta, "spec": {"drivers": [driver]}})).await;
        }
        for number in 0..NUMBERS {
            self.change_storage(Change::AddVolume(volume(&self.kubelet, number))).await;
            self.change_storage(Change::AddClaim(claim(&self.kubelet, number))).await;
        }
    }

    fn claims_in(&self, meta: &ObjectMeta) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.admin.clone(), meta.namespace.as_deref().unwrap())
    }

    pub(crate) async fn change_storage(&self, change: Change) {
        match change {
            Change::AddVolume(volume) => {
                let _ = self.api::<PersistentVolume>().create(&PostParams::default(), from(volume)).await;
            }
            Change::DeleteVolume(number) => self.remove_volume(&format!("v{number}")).await,
            Change::AddClaim(claim) => {
                let claim: PersistentVolumeClaim = from(claim);
                let _ = self.claims_in(&claim.metadata).create(&PostParams::default(), claim).await;
            }
            Change::DeleteClaim(at) => {
                let claims = self.all::<PersistentVolumeClaim>().await;
                if let Some(claim) = (!claims.is_empty()).then(|| &claims[at % claims.len()]) {
                    let claims = self.claims_in(&claim.metadata);
                    let _ = claims.delete(name(&claim.metadata), &DeleteParams::now()).await;
                }
            }
        }
    }

    async fn remove_volume(&self, name: &str) {
        let _ = self.api::<PersistentVolume>().delete(name, &DeleteParams::now()).await;
    }

    /// The controllers' work, of which `eagerness` of a hundred is done.
    pub(crate) async fn keep_storage(&self, eagerness: usize) {
        let (storage, pods, nodes) = (self.watchman.storage().await, self.all().await, self.all().await);
        for volume in &storage.volumes {
            if self.kubelet.below(100) < eagerness {
                self.keep_volume(volume, &storage.claims).await;
            }
        }
        for claim in &storage.claims {
            if self.kubelet.below(100) < eagerness {
                self.keep_claim(claim, &pods, &nodes, eagerness == 100).await;
            }
        }
    }

    async fn keep_volume(&self, volume: &PersistentVolume, claims: &[PersistentVolumeClaim]) {
        let meta = &volume.metadata;
        let of = claim_ref(volume)
            .map(|of| claims.iter().find(|claim| Some(uid(&claim.metadata)) == of.uid.as_deref()));
        match of {
            None if meta.deletion_timestamp.is_some() => self.release(volume).await,
            None if volume_phase(volume) != "Available" => self.volume_is(volume, "Available").await,
            None => {}
            Some(Some(claim)) if volume_name(claim).is_empty() => self.bind_claim(claim, volume).await,
            Some(Some(claim)) if volume_name(claim) == name(meta) => {
                if claim_phase(claim) != "Bound" {
                    let bound = Patch::Merge(json!({"status": {"phase": "Bound"}}));
                    let claims = self.claims_in(&claim.metadata);
                    let _ = claims.patch_status(name(&claim.metadata), &PatchParams::default(), &bound).await;
                }
                if volume_phase(volume) != "Bound" {
                    self.volume_is(volume, "Bound").await;
                }
            }
            Some(_) => self.release(volume).await,
        }
    }

    async fn volume_is(&self, volume: &PersistentVolume, phase: &str) {
        let status = Patch::Merge(json!({"status": {"phase": phase}}));
        let volumes = self.api::<PersistentVolume>();
        let _ = volumes.patch_status(name(&volume.metadata), &PatchParams::default(), &status).await;
    }

    /// A volume whose claim is gone goes, if it was made for it, or is there for others.
    async fn release(&self, volume: &PersistentVolume) {
        let meta = &volume.metadata;
        let mut change = json!({"metadata": {"resourceVersion": meta.resource_version}});
        let goes = annotation(meta, PROVISIONED_BY).is_some() || meta.deletion_timestamp.is_some();
        if goes {
            self.remove_volume(name(meta)).await;
            change = json!({"metadata": {"finalizers": null}});
        } else {
            change["metadata"]["annotations"] = json!({BOUND_BY_CONTROLLER: null});
            change["spec"] = json!({"claimRef": null});
        }
        let volumes = self.api::<PersistentVolume>();
        let freed = volumes.patch(name(meta), &PatchParams::default(), &Patch::Merge(change)).await;
        if freed.is_ok() && !goes {
            self.volume_is(volume, "Available").await;
        }
    }

    async fn bind_claim(&self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) {
        let meta = json!({"resourceVersion": claim.metadata.resource_version, "annotations": {BIND_COMPLETED: "yes"}});
        let bound = json!({"metadata": meta, "spec": {"volumeName": volume.metadata.name}});
        self.change_claim(claim, bound).await;
    }

    async fn change_claim(&self, claim: &PersistentVolumeClaim, change: Value) {
        let claims = self.claims_in(&claim.metadata);
        let _ = claims.patch(name(&claim.metadata), &PatchParams::default(), &Patch::Merge(change)).await;
    }

    async fn keep_claim(
        &self,
        claim: &PersistentVolumeClaim,
        pods: &[Arc<Pod>],
        nodes: &[Arc<Node>],
        works: bool,
    ) {
        let meta = &claim.metadata;
        if meta.deletion_timestamp.is_some() {
            let uses = |pod: &&Arc<Pod>| {
                let mut names = claims_of(pod);
                pod.metadata.namespace == meta.namespace
                    && names.any(|name| Some(&*name) == meta.name.as_deref())
            };
            if !pods.iter().filter(uses).any(|pod| node_name(pod).is_some() && !is_terminal(pod)) {
                self.change_claim(claim, json!({"metadata": {"finalizers": null}})).await;
            }
            return;
        }
        if !volume_name(claim).is_empty() {
            return;
        }
        match (claim_class(claim), annotation(meta, SELECTED_NODE)) {
            ("now", _) => {
                self.make_volume(claim, only("zone", ["z0", "z1", "z2"][self.kubelet.below(3)])).await
            }
            ("made", Some(node)) => {
                let there = nodes.iter().any(|known| name(&known.metadata) == node);
                // At times the driver cannot make it there.
                if !there || (!works && self.kubelet.below(5) == 0) {
                    let annotations = json!({SELECTED_NODE: null});
                    let meta = json!({"resourceVersion": meta.resource_version, "annotations": annotations});
                    self.change_claim(claim, json!({"metadata": meta})).await;
                } else {
                    self.make_volume(claim, only("kubernetes.io/hostname", node)).await;
                }
            }
            _ => {}
        }
    }

    async fn make_volume(&self, claim: &PersistentVolumeClaim, place: Value) {
        let meta = &claim.metadata;
        let of = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "namespace": meta.namespace, "name": meta.name, "uid": meta.uid
        });
        let spec = claim.spec.as_ref().unwrap();
        let size = spec.resources.as_ref().and_then(|resources| resources.requests.clone());
        let name = format!("made-{}", uid(meta));
        let made = json!({
            "metadata": {"name": name, "annotations": {PROVISIONED_BY: DRIVER}},
            "spec": {
                "capacity": size, "accessModes": spec.access_modes, "storageClassName": spec.storage_class_name,
                "claimRef": of, "nodeAffinity": place, "csi": {"driver": DRIVER, "volumeHandle": name},
                "persistentVolumeReclaimPolicy": "Delete"
            }
        });
        let _ = self.api::<PersistentVolume>().create(&PostParams::default(), from(made)).await;
    }

    /// What must hold at any time: a volume has one claim, and that is the one that has it.
    pub(crate) async fn check_storage(&self) -> Broken {
        let mut broken = Broken::new();
        let Storage { claims, volumes, .. } = self.watchman.storage().await;
        for (at, claim) in claims.iter().enumerate().filter(|(_, claim)| !volume_name(claim).is_empty()) {
            let name = volume_name(claim);
            if claims[..at].iter().any(|other| volume_name(other) == name) {
                broken.push(format!("volume {name} has two claims"));
            }
            let volume = volumes.iter().find(|volume| volume.metadata.name.as_deref() == Some(name));
            let of = volume.map(|volume| claim_ref(volume).and_then(|of| of.uid.as_deref()));
            if of.is_some_and(|of| of != Some(uid(&claim.metadata))) {
                broken.push(format!("volume {name} of {:?} is kept for {of:?}", claim.metadata.name));
            }
        }
        broken
    }
}
