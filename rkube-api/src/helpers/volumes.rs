//! What several components need to know of volumes, claims and storage classes.
//!
//! Source: <https://kubernetes.io/docs/concepts/storage/persistent-volumes/>
//!
//! ```
//! use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
//! use rkube_api::helpers::volumes::{self, Wanted};
//! use serde_json::{from_value, json};
//! let volume = |name: &str, size: &str| std::sync::Arc::new(from_value::<PersistentVolume>(json!({
//!     "metadata": {"name": name},
//!     "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "disk"},
//!     "status": {"phase": "Available"},
//! })).unwrap());
//! let claim: PersistentVolumeClaim = from_value(json!({
//!     "metadata": {"name": "c", "namespace": "default", "uid": "1"},
//!     "spec": {"storageClassName": "disk", "accessModes": ["ReadWriteOnce"],
//!              "resources": {"requests": {"storage": "2Gi"}}},
//! })).unwrap();
//! let volumes = [volume("large", "10Gi"), volume("small", "1Gi"), volume("fits", "3Gi")];
//! let found = Wanted::of(&claim).find(volumes.iter(), |_| true).unwrap();
//! assert_eq!(found.metadata.name.as_deref(), Some("fits"));
//! # assert_eq!(volumes::claim_class(&claim), "disk");
//! ```

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::{
            ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, Pod, Volume,
        },
        storage::v1::StorageClass,
    },
    apimachinery::pkg::{
        api::resource::Quantity as ApiQuantity,
        apis::meta::v1::{ObjectMeta, OwnerReference},
    },
};

use crate::meta::{LabelSelector, Quantity};

/// Annotation of a claim: the node that the scheduler has chosen for the claim's pod.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Annotation of a claim: all that binds it to its volume is done.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Annotation of a claim or volume: the control plane bound the two, no user.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Annotation of a claim: who is to provision a volume for it.
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The annotation of before: some provisioners look at it still.
pub const BETA_STORAGE_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// Annotation of a volume: who has provisioned it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Annotation that named the class before there was a field.
pub const BETA_STORAGE_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// The provisioner of classes whose volumes nobody makes.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// The finalizer that keeps a claim that pods use.
pub const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// The finalizer that keeps a volume that is bound.
pub const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";
/// The mode of volumes that wait until a pod uses them.
pub const WAIT_FOR_FIRST_CONSUMER: &str = "WaitForFirstConsumer";

const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const FILESYSTEM: &str = "Filesystem";

/// The value of an annotation.
pub fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Whether pods that name no class get this one.
pub fn is_default_class(class: &StorageClass) -> bool {
    DEFAULT_CLASS.iter().any(|name| annotation(&class.metadata, name) == Some("true"))
}

/// The class that claims get which name none: of several defaults the newest, by name if they are equally
/// old.
pub fn default_class<'a>(
    classes: impl IntoIterator<Item = &'a Arc<StorageClass>>,
) -> Option<&'a Arc<StorageClass>> {
    let defaults = classes.into_iter().filter(|class| is_default_class(class));
    defaults.min_by(|a, b| {
        let age = |class: &StorageClass| class.metadata.creation_timestamp.as_ref().map(|time| time.0);
        age(b).cmp(&age(a)).then_with(|| a.metadata.name.cmp(&b.metadata.name))
    })
}

/// Whether volumes of the class wait until a pod uses them.
pub fn waits_for_consumer(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some(WAIT_FOR_FIRST_CONSUMER)
}

/// Whether the claim names a class, be it the empty one.
pub fn has_class(claim: &PersistentVolumeClaim) -> bool {
    annotation(&claim.metadata, BETA_STORAGE_CLASS).is_some()
        || claim.spec.as_ref().is_some_and(|spec| spec.storage_class_name.is_some())
}

/// The class of a claim; empty for none.
pub fn claim_class(claim: &PersistentVolumeClaim) -> &str {
    let field = || claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&claim.metadata, BETA_STORAGE_CLASS).or_else(field).unwrap_or_default()
}

/// The class of a volume; empty for none.
pub fn volume_class(volume: &PersistentVolume) -> &str {
    let field = || volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&volume.metadata, BETA_STORAGE_CLASS).or_else(field).unwrap_or_default()
}

/// The name of the volume that a claim is bound to, or asks for; empty for none.
pub fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

/// The claim's phase.
pub fn claim_phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// The volume's phase.
pub fn volume_phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether the claim has its volume for good.
pub fn is_fully_bound(claim: &PersistentVolumeClaim) -> bool {
    !volume_name(claim).is_empty() && annotation(&claim.metadata, BIND_COMPLETED).is_some()
}

/// Which claim a volume is bound to, or kept for.
pub fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// Whether the volume is bound to this claim, or kept for it: by name, and by UID if it says one.
pub fn is_bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    claim_ref(volume).is_some_and(|reference| {
        let uid = reference.uid.as_deref().unwrap_or_default();
        reference.name == claim.metadata.name
            && reference.namespace == claim.metadata.namespace
            && (uid.is_empty() || Some(uid) == claim.metadata.uid.as_deref())
    })
}

/// Keeps a volume for a claim, as the control plane does; false if it was so already. A user who kept it for
/// the claim may take that back: only what the control plane itself decided bears its mark.
pub fn bind_volume(volume: &mut PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let by_controller = !is_bound_to(volume, claim);
    let meta = &claim.metadata;
    let spec = volume.spec.get_or_insert_default();
    let there = spec.claim_ref.as_ref().map(|there| (&there.namespace, &there.name, &there.uid));
    let mut changed = there != Some((&meta.namespace, &meta.name, &meta.uid));
    if changed {
        spec.claim_ref = Some(ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("PersistentVolumeClaim".into()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            field_path: None,
        });
    }
    if by_controller {
        changed |= mark(&mut volume.metadata, BOUND_BY_CONTROLLER, "yes");
    }
    changed
}

/// Sets an annotation; false if it was so already.
pub fn mark(meta: &mut ObjectMeta, name: &str, value: &str) -> bool {
    let before = meta.annotations.get_or_insert_default().insert(name.into(), value.into());
    before.as_deref() != Some(value)
}

/// `Filesystem` or `Block`.
fn mode(mode: Option<&String>) -> &str {
    mode.map_or(FILESYSTEM, |mode| if mode.is_empty() { FILESYSTEM } else { mode })
}

/// How much a claim asks for, or a volume has.
pub fn storage(resources: Option<&BTreeMap<String, ApiQuantity>>) -> Quantity {
    let amount = resources.and_then(|resources| resources.get("storage"));
    amount.and_then(|amount| Quantity::try_from(amount).ok()).unwrap_or_default()
}

/// How much storage a claim asks for.
pub fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    storage(resources.and_then(|resources| resources.requests.as_ref()))
}

/// How much storage a volume has.
pub fn capacity(volume: &PersistentVolume) -> Quantity {
    storage(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()))
}

/// Whether the volume lets itself be used in every way that is asked for.
pub fn offers_modes(volume: &PersistentVolume, wanted: &[String]) -> bool {
    let offered = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
    wanted.iter().all(|mode| offered.contains(mode))
}

/// What a volume is to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// It is bound to the claim, or kept for it.
    Kept,
    /// It is nobody's, and what the claim asks for.
    Free,
}

/// What a claim asks of a volume.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    claim: &'a PersistentVolumeClaim,
    size: Quantity,
    selector: Option<LabelSelector>,
    modes: &'a [String],
    mode: &'a str,
    class: &'a str,
    attributes: &'a str,
}

impl<'a> Wanted<'a> {
    /// What this claim asks for. A selector that cannot be read selects nothing.
    pub fn of(claim: &'a PersistentVolumeClaim) -> Self {
        let spec = claim.spec.as_ref();
        let selector = spec.and_then(|spec| spec.selector.as_ref()).map(|selector| {
            LabelSelector::from_api(Some(selector)).unwrap_or_else(|_| LabelSelector::nothing())
        });
        Self {
            claim,
            size: requested(claim),
            selector,
            modes: spec.and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default(),
            mode: mode(spec.and_then(|spec| spec.volume_mode.as_ref())),
            class: claim_class(claim),
            attributes: spec
                .and_then(|spec| spec.volume_attributes_class_name.as_deref())
                .unwrap_or_default(),
        }
    }

    /// What a volume is to the claim, wherever the volume can be used. `None`: it has another, or is not what
    /// the claim asks for.
    pub fn fit(&self, volume: &PersistentVolume) -> Option<Fit> {
        let kept = claim_ref(volume).is_some();
        if kept && !is_bound_to(volume, self.claim) || !self.holds(volume) {
            None
        } else if kept {
            Some(Fit::Kept)
        } else {
            self.finds(volume).then_some(Fit::Free)
        }
    }

    /// Whether a volume could hold the claim's data as it wants it used, whoever has the volume.
    fn holds(&self, volume: &PersistentVolume) -> bool {
        let spec = volume.spec.as_ref();
        let attributes = spec.and_then(|spec| spec.volume_attributes_class_name.as_deref());
        mode(spec.and_then(|spec| spec.volume_mode.as_ref())) == self.mode
            && volume.metadata.deletion_timestamp.is_none()
            && attributes.unwrap_or_default() == self.attributes
            && capacity(volume) >= self.size
    }

    /// Whether a volume that is nobody's is one of those that the claim means.
    fn finds(&self, volume: &PersistentVolume) -> bool {
        let labels = volume.metadata.labels.as_ref();
        volume_phase(volume) == "Available"
            && self.selector.as_ref().is_none_or(|selector| selector.matches_opt(labels))
            && volume_class(volume) == self.class
            && offers_modes(volume, self.modes)
    }

    /// The volume to bind the claim to: one that is kept for it, else the smallest that is free, of equally
    /// large ones the first. `reachable` says whether it can be used where it must be; if one that is kept for
    /// the claim cannot, there is none.
    pub fn find<'v>(
        &self,
        volumes: impl IntoIterator<Item = &'v Arc<PersistentVolume>>,
        reachable: impl Fn(&PersistentVolume) -> bool,
    ) -> Option<&'v Arc<PersistentVolume>> {
        let mut smallest: Option<(Quantity, &Arc<PersistentVolume>)> = None;
        for volume in volumes {
            match self.fit(volume) {
                None => {}
                Some(Fit::Kept) => return reachable(volume).then_some(volume),
                Some(Fit::Free) => {
                    let size = capacity(volume);
                    let smaller = smallest.as_ref().is_none_or(|(least, _)| size < *least);
                    if smaller && reachable(volume) {
                        smallest = Some((size, volume));
                    }
                }
            }
        }
        smallest.map(|(_, volume)| volume)
    }

    /// Why the claim cannot be bound to the volume that it names: Kubernetes' words.
    pub fn misfit(&self, volume: &PersistentVolume) -> Option<&'static str> {
        if capacity(volume) < self.size {
            Some("requested PV is too small")
        } else if volume_class(volume) != self.class {
            Some("storageClassName does not match")
        } else if mode(volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref())) != self.mode {
            Some("incompatible volumeMode")
        } else if !offers_modes(volume, self.modes) {
            Some("incompatible accessMode")
        } else {
            None
        }
    }
}

/// The name of the claim that a pod's volume stands for, and whether it is made for that pod alone.
///
/// ```
/// use k8s_openapi::api::core::v1::Volume;
/// use rkube_api::helpers::volumes::claim_of;
/// let volume: Volume = serde_json::from_value(serde_json::json!({"name": "data", "ephemeral": {}})).unwrap();
/// assert_eq!(claim_of("web-0", &volume), Some(("web-0-data".into(), true)));
/// ```
pub fn claim_of<'a>(pod: &str, volume: &'a Volume) -> Option<(std::borrow::Cow<'a, str>, bool)> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some((source.claim_name.as_str().into(), false));
    }
    volume.ephemeral.as_ref().map(|_| (format!("{pod}-{}", volume.name).into(), true))
}

/// The names of all claims of a pod.
pub fn claims_of(pod: &Pod) -> impl Iterator<Item = std::borrow::Cow<'_, str>> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(move |volume| claim_of(name, volume)).map(|(claim, _)| claim)
}

/// Whether a claim was made for this pod alone, as its owner says.
pub fn is_made_for(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
    let owns = |owner: &OwnerReference| {
        owner.controller == Some(true) && Some(owner.uid.as_str()) == pod.metadata.uid.as_deref()
    };
    owners.iter().any(owns)
}

/// Whether only one pod at a time may use the claim.
pub fn is_for_one_pod(spec: &PersistentVolumeClaimSpec) -> bool {
    spec.access_modes.iter().flatten().any(|mode| mode == "ReadWriteOncePod")
}

/// The access modes in short: `RWO,RWX`.
pub fn short_modes(modes: &[String]) -> String {
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let there = known.iter().filter(|(long, _)| modes.iter().any(|mode| mode == long));
    there.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn claim(spec: Value) -> PersistentVolumeClaim {
        let meta = json!({"name": "c", "namespace": "d", "uid": "1"});
        let mut value = json!({"metadata": meta, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "2Gi"}}}});
        value["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        from_value(value).unwrap()
    }

    fn volume(name: &str, size: &str, spec: Value) -> Arc<PersistentVolume> {
        let mut value = json!({"metadata": {"name": name, "labels": {"tier": name}}, "spec": {
            "accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "capacity": {"storage": size}},
            "status": {"phase": "Available"}});
        value["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        Arc::new(from_value(value).unwrap())
    }

    fn found(claim: &PersistentVolumeClaim, volumes: &[Arc<PersistentVolume>]) -> Option<String> {
        Wanted::of(claim).find(volumes, |_| true).and_then(|volume| volume.metadata.name.clone())
    }

    #[test]
    fn the_smallest_that_fits_is_taken_and_one_kept_for_the_claim_before_all() {
        let mut volumes = vec![
            volume("ten", "10Gi", json!({})),
            volume("one", "1Gi", json!({})),
            volume("three", "3Gi", json!({})),
            volume("other-class", "2Gi", json!({"storageClassName": "x"})),
            volume("block", "2Gi", json!({"volumeMode": "Block"})),
            volume("attributes", "2Gi", json!({"volumeAttributesClassName": "x"})),
            volume("reader", "2Gi", json!({"accessModes": ["ReadOnlyMany"]})),
            volume("taken", "2Gi", json!({"claimRef": {"name": "x", "namespace": "d"}})),
            volume("remade", "2Gi", json!({"claimRef": {"name": "c", "namespace": "d", "uid": "0"}})),
        ];
        assert_eq!(found(&claim(json!({})), &volumes), Some("three".into()));
        assert_eq!(
            found(&claim(json!({"selector": {"matchLabels": {"tier": "ten"}}})), &volumes),
            Some("ten".into())
        );
        assert_eq!(found(&claim(json!({"storageClassName": "x"})), &volumes), Some("other-class".into()));
        assert_eq!(found(&claim(json!({"volumeMode": "Block"})), &volumes), Some("block".into()));
        assert_eq!(found(&claim(json!({"accessModes": ["ReadWriteMany"]})), &volumes), None);
        volumes.push(volume("kept", "50Gi", json!({"claimRef": {"name": "c", "namespace": "d"}})));
        assert_eq!(found(&claim(json!({})), &volumes), Some("kept".into()));
    }

    #[test]
    fn the_newest_default_class_counts() {
        let class = |name: &str, time: &str, default: &str| {
            Arc::new(
                from_value::<StorageClass>(json!({"provisioner": "p", "metadata": {"name": name,
                "creationTimestamp": time, "annotations": {DEFAULT_CLASS[0]: default}}}))
                .unwrap(),
            )
        };
        let mut classes = vec![
            class("b", "2026-01-01T00:00:00Z", "true"),
            class("a", "2026-01-01T00:00:00Z", "true"),
            class("c", "2026-01-02T00:00:00Z", "false"),
        ];
        let name =
            |classes: &[Arc<StorageClass>]| default_class(classes).unwrap().metadata.name.clone().unwrap();
        assert_eq!(name(&classes), "a");
        classes.push(class("z", "2026-01-02T00:00:00Z", "true"));
        assert_eq!(name(&classes), "z");
        assert!(default_class(&classes[2..3]).is_none());
    }

    #[test]
    fn modes_in_short() {
        let modes = |modes: &[&str]| short_modes(&modes.iter().map(|&mode| mode.into()).collect::<Vec<_>>());
        assert_eq!(modes(&["ReadWriteMany", "ReadWriteOnce", "x"]), "RWO,RWX");
        assert_eq!(modes(&[]), "");
    }
}
