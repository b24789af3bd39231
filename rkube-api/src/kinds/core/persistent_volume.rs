//! PersistentVolume. Semantics: <https://kubernetes.io/docs/concepts/storage/persistent-volumes/>

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec, PersistentVolumeStatus};
use serde_json::json;

use crate::{
    helpers::volumes::{claim_ref, short_modes, volume_class, volume_phase},
    kinds::shared::{items, quantities, semantic, text, volumes},
    meta::{ErrorList, FieldError, FieldPath},
    registry::Definition,
};

/// The definition of PersistentVolume.
pub fn definition() -> Definition {
    Definition::of::<PersistentVolume>()
        .cluster()
        .short(&["pv"])
        .returns_deleted()
        .default(default)
        .prepare_create(|new| new.status = Some(pending()))
        .prepare_update(|new, old| new.status.clone_from(&old.status))
        .validate(validate)
        .validate_update(validate_update)
        .status(|new, old| new.spec.clone_from(&old.spec), |_, _| ErrorList::new())
        .column("Capacity", "string", "How much it holds.", |volume, _| {
            let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref());
            json!(capacity.and_then(|capacity| capacity.get("storage")).map_or("0", |size| &size.0))
        })
        .column("Access Modes", "string", "How it may be used.", |volume, _| {
            json!(short_modes(volume.spec.as_ref().map_or(&[], |spec| items(&spec.access_modes))))
        })
        .column("Reclaim Policy", "string", "What becomes of it when its claim is gone.", |volume, _| {
            json!(volume.spec.as_ref().map_or("", |spec| text(&spec.persistent_volume_reclaim_policy)))
        })
        .column("Status", "string", "Whether it is free, bound or released.", |volume, _| {
            let going = volume.metadata.deletion_timestamp.is_some();
            json!(if going { "Terminating" } else { volume_phase(volume) })
        })
        .column("Claim", "string", "Which claim has it, or will have it.", |volume, _| {
            json!(claim_ref(volume).map_or_else(String::new, |claim| {
                format!("{}/{}", text(&claim.namespace), text(&claim.name))
            }))
        })
        .column("StorageClass", "string", "Its class.", |volume, _| json!(volume_class(volume)))
        .column("VolumeAttributesClass", "string", "The class of its attributes.", |volume, _| {
            let class = volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
            json!(class.unwrap_or("<unset>"))
        })
        .column("Reason", "string", "Why it is in its state.", |volume, _| {
            json!(volume.status.as_ref().map_or("", |status| text(&status.reason)))
        })
        .age()
        .wide("VolumeMode", "string", "What containers see of it.", |volume, _| {
            let mode = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
            json!(mode.unwrap_or("<unset>"))
        })
        .build()
}

fn pending() -> PersistentVolumeStatus {
    PersistentVolumeStatus { phase: Some("Pending".into()), ..PersistentVolumeStatus::default() }
}

fn default(volume: &mut PersistentVolume) {
    let spec = volume.spec.get_or_insert_default();
    quantities::canonicalize_all(&mut spec.capacity);
    volumes::default(spec);
    let status = volume.status.get_or_insert_default();
    crate::kinds::shared::fill(&mut status.phase, "Pending");
}

fn validate(volume: &PersistentVolume) -> ErrorList {
    let mut errors = ErrorList::new();
    let (path, none) = (FieldPath::new("spec"), PersistentVolumeSpec::default());
    let spec = volume.spec.as_ref().unwrap_or(&none);
    volumes::validate(spec, false, &path, &mut errors);
    if volumes::wipes_root(spec) {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(FieldError::forbidden(&path.child("persistentVolumeReclaimPolicy"), detail));
    }
    errors
}

fn validate_update(new: &PersistentVolume, old: &PersistentVolume) -> ErrorList {
    let mut errors = ErrorList::new();
    let none = PersistentVolumeSpec::default();
    let (new, old) = (new.spec.as_ref().unwrap_or(&none), old.spec.as_ref().unwrap_or(&none));
    let (mut source, was) = (volumes::only_source(new), volumes::only_source(old));
    // The secret for growing may be named later.
    if let (Some(new), Some(old)) = (&mut source.csi, &was.csi)
        && old.controller_expand_secret_ref.is_none()
    {
        new.controller_expand_secret_ref = None;
    }
    let spec = FieldPath::new("spec");
    if !semantic::equal(&source, &was) {
        let detail = format!(
            "spec.persistentvolumesource is immutable after creation\n{}",
            semantic::difference(&source, &was)
        );
        errors.push(FieldError::forbidden(&spec.child("persistentvolumesource"), detail));
    }
    errors.immutable(&FieldPath::new("volumeMode"), &new.volume_mode, &old.volume_mode);
    if old.node_affinity.is_some() && !semantic::equal(&new.node_affinity, &old.node_affinity) {
        let path = FieldPath::new("nodeAffinity");
        errors.push(FieldError::invalid(&path, &new.node_affinity, "field is immutable"));
    }
    if old.volume_attributes_class_name.is_some() && new.volume_attributes_class_name.is_none() {
        let detail = "update from non-nil value to nil is forbidden";
        errors.push(FieldError::forbidden(&spec.child("volumeAttributesClassName"), detail));
    }
    errors
}
