//! PersistentVolumeClaim. Semantics: <https://kubernetes.io/docs/concepts/storage/persistent-volumes/>

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus, TypedLocalObjectReference,
    TypedObjectReference,
};
use serde_json::json;

use crate::{
    helpers::volumes::{self, BETA_STORAGE_CLASS, claim_class, claim_phase, short_modes, volume_name},
    kinds::shared::{checks, fill, items, quantities, semantic, text, volumes as rules},
    meta::{ErrorList, FieldError, FieldPath, Quantity, object_meta::validate_label_selector},
    registry::Definition,
};

/// The definition of PersistentVolumeClaim.
pub fn definition() -> Definition {
    Definition::of::<PersistentVolumeClaim>()
        .short(&["pvc"])
        .returns_deleted()
        .default(default)
        .prepare_create(|new| {
            new.status = Some(PersistentVolumeClaimStatus {
                phase: Some("Pending".into()),
                ..PersistentVolumeClaimStatus::default()
            });
            one_source(new);
        })
        .prepare_update(|new, old| {
            new.status.clone_from(&old.status);
            one_source(new);
        })
        .validate(validate)
        .validate_update(validate_update)
        .status(|new, old| new.spec.clone_from(&old.spec), validate_status)
        .column("Status", "string", "Whether it has its volume.", |claim, _| {
            let going = claim.metadata.deletion_timestamp.is_some();
            json!(if going { "Terminating" } else { claim_phase(claim) })
        })
        .column("Volume", "string", "Its volume.", |claim, _| json!(volume_name(claim)))
        .column("Capacity", "string", "How much its volume holds.", |claim, _| {
            let capacity = claim.status.as_ref().and_then(|status| status.capacity.as_ref());
            let size = capacity.and_then(|capacity| capacity.get("storage")).map_or("0", |size| &size.0);
            json!(if volume_name(claim).is_empty() { "" } else { size })
        })
        .column("Access Modes", "string", "How its volume may be used.", |claim, _| {
            let bound = claim.status.as_ref().filter(|_| !volume_name(claim).is_empty());
            json!(short_modes(bound.map_or(&[], |status| items(&status.access_modes))))
        })
        .column("StorageClass", "string", "The class that it asks for.", |claim, _| json!(claim_class(claim)))
        .column("VolumeAttributesClass", "string", "The class of attributes it asks for.", |claim, _| {
            let class = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
            json!(class.unwrap_or("<unset>"))
        })
        .age()
        .wide("VolumeMode", "string", "What containers see of its volume.", |claim, _| {
            let mode = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
            json!(mode.unwrap_or("<unset>"))
        })
        .build()
}

fn default(claim: &mut PersistentVolumeClaim) {
    let spec = claim.spec.get_or_insert_default();
    fill(&mut spec.volume_mode, "Filesystem");
    if let Some(resources) = &mut spec.resources {
        quantities::canonicalize_all(&mut resources.requests);
        quantities::canonicalize_all(&mut resources.limits);
    }
    let status = claim.status.get_or_insert_default();
    fill(&mut status.phase, "Pending");
    quantities::canonicalize_all(&mut status.capacity);
    quantities::canonicalize_all(&mut status.allocated_resources);
}

/// Where the data come from is said twice, the old way and the new; who says one says both.
fn one_source(claim: &mut PersistentVolumeClaim) {
    let Some(spec) = &mut claim.spec else { return };
    match (&spec.data_source, &spec.data_source_ref) {
        (Some(old), None) => {
            spec.data_source_ref = Some(TypedObjectReference {
                api_group: old.api_group.clone(),
                kind: old.kind.clone(),
                name: old.name.clone(),
                namespace: None,
            });
        }
        (None, Some(new)) if text(&new.namespace).is_empty() => {
            spec.data_source = Some(TypedLocalObjectReference {
                api_group: new.api_group.clone(),
                kind: new.kind.clone(),
                name: new.name.clone(),
            });
        }
        _ => {}
    }
}

fn validate(claim: &PersistentVolumeClaim) -> ErrorList {
    let mut errors = ErrorList::new();
    let (path, none) = (FieldPath::new("spec"), PersistentVolumeClaimSpec::default());
    let spec = claim.spec.as_ref().unwrap_or(&none);
    if items(&spec.access_modes).is_empty() {
        let detail = "at least 1 access mode is required";
        errors.push(FieldError::required(&path.child("accessModes"), detail));
    }
    if let Some(selector) = &spec.selector {
        validate_label_selector(selector, &path.child("selector"), &mut errors);
    }
    rules::access_modes(items(&spec.access_modes), &path, &mut errors);
    let resources = path.child("resources");
    let field = resources.key("storage");
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    match requests.and_then(|requests| requests.get("storage")) {
        None => errors.push(FieldError::required(&field, "")),
        Some(size) => rules::positive(size, &field, &mut errors),
    }
    rules::class_name(text(&spec.storage_class_name), &path.child("storageClassName"), &mut errors);
    if let Some(mode) = &spec.volume_mode {
        checks::supported(mode, &rules::VOLUME_MODES, &path.child("volumeMode"), &mut errors);
    }
    sources(spec, &path, &mut errors);
    let attributes = text(&spec.volume_attributes_class_name);
    rules::class_name(attributes, &path.child("volumeAttributesClassName"), &mut errors);
    errors
}

fn sources(spec: &PersistentVolumeClaimSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let old = spec.data_source.as_ref().map(|it| ("dataSource", &it.name, &it.kind, &it.api_group));
    let new = spec.data_source_ref.as_ref().map(|it| ("dataSourceRef", &it.name, &it.kind, &it.api_group));
    for (field, name, kind, group) in old.into_iter().chain(new) {
        let field = path.child(field);
        checks::required(name, &field.child("name"), errors);
        checks::required(kind, &field.child("kind"), errors);
        match text(group) {
            "" if kind != "PersistentVolumeClaim" => {
                let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
                errors.push(FieldError::invalid(&field, kind, detail));
            }
            "" => {}
            group => checks::subdomain(group, &field.child("apiGroup"), errors),
        }
    }
    let foreign = spec.data_source_ref.as_ref().map_or("", |new| text(&new.namespace));
    if !foreign.is_empty() {
        let field = path.child("dataSourceRef");
        checks::label(foreign, &field.child("namespace"), errors);
    }
    let detail = match (old, new) {
        (Some(_), Some(_)) if !foreign.is_empty() => {
            "may not be specified when dataSourceRef.namespace is specified"
        }
        (Some((_, name, kind, group)), Some(new)) if (name, kind, group) != (new.1, new.2, new.3) => {
            "must match dataSourceRef"
        }
        _ => return,
    };
    errors.push(FieldError::invalid(path, path.child("dataSource").to_string(), detail));
}

fn validate_update(new: &PersistentVolumeClaim, old: &PersistentVolumeClaim) -> ErrorList {
    let mut errors = ErrorList::new();
    let none = PersistentVolumeClaimSpec::default();
    let (spec, was) = (new.spec.as_ref().unwrap_or(&none), old.spec.as_ref().unwrap_or(&none));
    let path = FieldPath::new("spec");
    let beta = |claim: &PersistentVolumeClaim| {
        let annotations = claim.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(BETA_STORAGE_CLASS)).cloned()
    };
    let (beta_new, beta_old) = (beta(new), beta(old));
    // From the annotation to the field, or from nothing to the field.
    let named_now = was.storage_class_name.is_none()
        && spec.storage_class_name.is_some()
        && (beta_old.is_none() || beta_old == spec.storage_class_name);
    let moved = named_now && beta_old.is_some() && (beta_new.is_none() || beta_new == beta_old);
    if !moved && beta_new != beta_old {
        let metadata = FieldPath::new("metadata");
        let field = metadata.child(BETA_STORAGE_CLASS);
        errors.push(FieldError::invalid(&field, beta_new.unwrap_or_default(), "field is immutable"));
    }
    let (may, kept) = (may_change(spec, was, named_now, claim_phase(new) == "Bound"), was);
    if !semantic::equal(&may, kept) {
        let detail = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for \
             bound claims\n{}",
            semantic::difference(&may, kept)
        );
        errors.push(FieldError::forbidden(&path, detail));
    }
    let (size, capacity) = (volumes::requested(new), claim_capacity(old));
    if size < volumes::requested(old) && size <= capacity {
        let resources = path.child("resources");
        let requests = resources.child("requests");
        let detail = "field can not be less than status.capacity";
        errors.push(FieldError::forbidden(&requests.child("storage"), detail));
    }
    errors.immutable(&FieldPath::new("volumeMode"), &spec.volume_mode, &was.volume_mode);
    if was.volume_attributes_class_name.is_some() {
        let detail = match spec.volume_attributes_class_name.as_deref() {
            None => "update from non-nil value to nil is forbidden",
            Some("") => "update from non-nil value to an empty string is forbidden",
            Some(_) => return errors,
        };
        errors.push(FieldError::forbidden(&path.child("volumeAttributesClassName"), detail));
    }
    errors
}

fn claim_capacity(claim: &PersistentVolumeClaim) -> Quantity {
    volumes::storage(claim.status.as_ref().and_then(|status| status.capacity.as_ref()))
}

/// The new spec with what may change as it was.
fn may_change(
    new: &PersistentVolumeClaimSpec,
    old: &PersistentVolumeClaimSpec,
    named_now: bool,
    bound: bool,
) -> PersistentVolumeClaimSpec {
    let mut may = new.clone();
    if text(&old.volume_name).is_empty() {
        may.volume_name.clone_from(&old.volume_name);
    }
    if named_now {
        may.storage_class_name.clone_from(&old.storage_class_name);
    }
    if bound {
        let was = old.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let was = was.and_then(|requests| requests.get("storage"));
        let now = may.resources.as_mut().and_then(|resources| resources.requests.as_mut());
        if let (Some(now), Some(was)) = (now, was) {
            now.insert("storage".into(), was.clone());
        }
        may.volume_attributes_class_name.clone_from(&old.volume_attributes_class_name);
    }
    may
}

fn validate_status(new: &PersistentVolumeClaim, _: &PersistentVolumeClaim) -> ErrorList {
    let mut errors = ErrorList::new();
    let Some(status) = &new.status else { return errors };
    let path = FieldPath::new("status");
    for (field, sizes) in
        [("capacity", &status.capacity), ("allocatedResources", &status.allocated_resources)]
    {
        let path = path.child(field);
        for (name, size) in sizes.iter().flatten() {
            super::super::shared::pod::quantity(name, size, &path.key(name), &mut errors);
        }
    }
    errors
}
