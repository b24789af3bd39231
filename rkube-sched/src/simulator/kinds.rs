//! The kinds that a simulation knows: one line each.

use std::{any::TypeId, sync::Arc};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{ReplicaSet, StatefulSet},
        core::v1::{
            Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service,
        },
        policy::v1::PodDisruptionBudget,
        resource::v1::{DeviceClass, DeviceTaintRule, ResourceClaim, ResourceClaimTemplate, ResourceSlice},
        scheduling::{v1::PriorityClass, v1beta1::PodGroup},
        storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment},
    },
};
use rkube_api::{
    fields::{Schema, schema_of},
    object::{Kind, Object, ObjectError},
};
use serde_json::Value;

use crate::framework::Listers;

/// How objects of a kind are read, and where plugins find them.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) is_namespaced: bool,
    schema: fn() -> Option<&'static Schema>,
    decode: fn(Value) -> Result<Object, ObjectError>,
    keep: fn(&Listers, Object),
    copy: fn(&Listers, &Listers),
}

/// All of them. Nodes make up the snapshot, and so do pods, which are looked up too; the others are looked up only.
pub(super) fn all() -> [Known; 22] {
    [
        Known { keep: |_, _| {}, ..known::<Node>() },
        Known { keep: |_, _| {}, ..known::<Pod>() },
        known::<Namespace>(),
        known::<PriorityClass>(),
        known::<PodDisruptionBudget>(),
        known::<Service>(),
        known::<ReplicationController>(),
        known::<ReplicaSet>(),
        known::<StatefulSet>(),
        known::<PersistentVolume>(),
        known::<PersistentVolumeClaim>(),
        known::<StorageClass>(),
        known::<CSINode>(),
        known::<CSIDriver>(),
        known::<CSIStorageCapacity>(),
        known::<VolumeAttachment>(),
        known::<PodGroup>(),
        known::<DeviceClass>(),
        known::<DeviceTaintRule>(),
        known::<ResourceClaim>(),
        known::<ResourceClaimTemplate>(),
        known::<ResourceSlice>(),
    ]
}

fn known<K: Kind>() -> Known {
    Known {
        api_version: K::API_VERSION,
        kind: K::KIND,
        is_namespaced: TypeId::of::<K::Scope>() == TypeId::of::<NamespaceResourceScope>(),
        schema: schema::<K>,
        decode: Object::typed_from_value::<K>,
        keep: keep::<K>,
        copy: copy::<K>,
    }
}

/// `io.k8s.api.scheduling.v1.PriorityClass` is of the group `scheduling.k8s.io`.
fn schema<K: Kind>() -> Option<&'static Schema> {
    let group = K::GROUP.split('.').next().filter(|group| !group.is_empty()).unwrap_or("core");
    schema_of(&format!("io.k8s.api.{group}.{}.{}", K::VERSION, K::KIND))
}

fn keep<K: Kind>(listers: &Listers, object: Object) {
    if let Ok(object) = object.into_kind::<K>() {
        listers.get::<K>().insert(object);
    }
}

fn copy<K: Kind>(from: &Listers, to: &Listers) {
    let to = to.get::<K>();
    for object in from.get::<K>().list() {
        to.insert(object);
    }
}

/// The same objects in listers of their own.
pub(super) fn copy_all(from: &Listers) -> Listers {
    let to = Listers::default();
    all().iter().for_each(|known| (known.copy)(from, &to));
    to
}

impl Known {
    /// The kind of an object.
    pub(super) fn find(api_version: &str, kind: &str) -> Option<Self> {
        all().into_iter().find(|known| known.api_version == api_version && known.kind == kind)
    }

    pub(super) fn schema(&self) -> Option<&'static Schema> {
        (self.schema)()
    }

    pub(super) fn decode(&self, value: Value) -> Result<Object, ObjectError> {
        (self.decode)(value)
    }

    /// Puts an object where plugins look it up.
    pub(super) fn keep(&self, listers: &Listers, object: Object) {
        (self.keep)(listers, object);
    }
}

/// The namespaces that must be there, because pods are, with the label that each has.
pub(super) fn infer_namespaces<'a>(listers: &Listers, names: impl Iterator<Item = &'a str>) {
    let namespaces = listers.get::<Namespace>();
    for name in names {
        if namespaces.get("", name).is_none() {
            let mut namespace = Namespace::default();
            namespace.metadata.name = Some(name.to_owned());
            namespace.metadata.labels = Some([("kubernetes.io/metadata.name".into(), name.into())].into());
            namespaces.insert(Arc::new(namespace));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_schema() {
        for known in all() {
            assert!(known.schema().is_some(), "{}", known.kind);
        }
    }
}
