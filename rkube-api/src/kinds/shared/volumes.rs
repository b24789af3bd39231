//! Rules of what a persistent volume is: its source, its size, how it may be used and from where.

use k8s_openapi::{
    api::core::v1::{PersistentVolumeSpec, SecretReference, VolumeNodeAffinity},
    apimachinery::pkg::api::resource::Quantity as Api,
};

use super::{checks, fill, items, pod::node_selector, quantities::Resources, text, yes};
use crate::meta::{ErrorList, FieldError, FieldPath, Quantity, names};

/// How a volume may be used.
pub(crate) const ACCESS_MODES: [&str; 4] =
    ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// What a container sees of a volume.
pub(crate) const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
const RECLAIM_POLICIES: [&str; 3] = ["Delete", "Recycle", "Retain"];
const INLINE: &str = "in the context of inline volumes";
const LONGEST_DRIVER_NAME: usize = 63;

/// Fills a volume's spec.
pub(crate) fn default(spec: &mut PersistentVolumeSpec) {
    fill(&mut spec.persistent_volume_reclaim_policy, "Retain");
    fill(&mut spec.volume_mode, "Filesystem");
    if let Some(host) = &mut spec.host_path {
        host.type_.get_or_insert_default();
    }
    if let Some(iscsi) = &mut spec.iscsi {
        fill(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(rbd) = &mut spec.rbd {
        fill(&mut rbd.pool, "rbd");
        fill(&mut rbd.user, "admin");
        fill(&mut rbd.keyring, "/etc/ceph/keyring");
    }
    if let Some(disk) = &mut spec.azure_disk {
        fill(&mut disk.caching_mode, "ReadWrite");
        fill(&mut disk.kind, "Shared");
        fill(&mut disk.fs_type, "ext4");
        disk.read_only.get_or_insert(false);
    }
    if let Some(scale) = &mut spec.scale_io {
        fill(&mut scale.storage_mode, "ThinProvisioned");
        fill(&mut scale.fs_type, "xfs");
    }
}

/// Checks a volume's spec; `inline` for one that stands in an attachment instead of an object of its own.
pub(crate) fn validate(
    spec: &PersistentVolumeSpec,
    inline: bool,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) {
    let modes = items(&spec.access_modes);
    if inline {
        inline_only(spec, path, errors);
    }
    if modes.is_empty() {
        errors.push(FieldError::required(&path.child("accessModes"), ""));
    }
    access_modes(modes, path, errors);
    if !inline {
        sizes(spec.capacity.as_ref(), &path.child("capacity"), errors);
    }
    let policy = text(&spec.persistent_volume_reclaim_policy);
    if !policy.is_empty() && !inline {
        let field = path.child("persistentVolumeReclaimPolicy");
        checks::supported(policy, &RECLAIM_POLICIES, &field, errors);
    }
    let reachable = spec.node_affinity.as_ref().filter(|_| !inline);
    let mut names = source_names(spec);
    match names.next() {
        None => errors.push(FieldError::required(path, "must specify a volume type")),
        Some(name) => source(spec, &path.child(name), errors),
    }
    for extra in names {
        errors.push(FieldError::forbidden(&path.child(extra), "may not specify more than 1 volume type"));
    }
    let named =
        reachable.is_some_and(|affinity| node_affinity(affinity, &path.child("nodeAffinity"), errors));
    if spec.local.is_some() && !named {
        errors.push(FieldError::required(&path.child("nodeAffinity"), "Local volume requires node affinity"));
    }
    if !inline {
        class_name(text(&spec.storage_class_name), &path.child("storageClassName"), errors);
        if let Some(mode) = &spec.volume_mode {
            checks::supported(mode, &VOLUME_MODES, &path.child("volumeMode"), errors);
        }
    }
    if let Some(attributes) = &spec.volume_attributes_class_name {
        let field = path.child("volumeAttributesClassName");
        if attributes.is_empty() {
            errors.push(FieldError::required(&field, "an empty string is disallowed"));
        }
        class_name(attributes, &field, errors);
        if spec.csi.is_none() {
            let detail = "has to be specified when using volumeAttributesClassName";
            errors.push(FieldError::required(&path.child("csi"), detail));
        }
    }
}

/// What an inline volume may not say.
fn inline_only(spec: &PersistentVolumeSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let mut forbid = |field: &str, there: bool, what: &str| {
        if there {
            errors.push(FieldError::forbidden(&path.child(field), format!("{what} {INLINE}")));
        }
    };
    let policy = text(&spec.persistent_volume_reclaim_policy);
    let mode = text(&spec.volume_mode);
    forbid("claimRef", spec.claim_ref.is_some(), "may not be specified");
    forbid("capacity", spec.capacity.as_ref().is_some_and(|it| !it.is_empty()), "may not be specified");
    forbid("persistentVolumeReclaimPolicy", !matches!(policy, "" | "Retain"), "may only be Retain");
    forbid("nodeAffinity", spec.node_affinity.is_some(), "may not be specified");
    forbid("storageClassName", !text(&spec.storage_class_name).is_empty(), "may not be specified");
    let filesystem = matches!(mode, "" | "Filesystem");
    forbid("volumeMode", !filesystem, "may not specify volumeMode other than Filesystem");
    if spec.csi.is_none() {
        let detail = format!("has to be specified {INLINE}");
        errors.push(FieldError::required(&path.child("csi"), detail));
    }
}

/// How a volume may be used, or a claim wants it used.
pub(crate) fn access_modes(modes: &[String], path: &FieldPath<'_>, errors: &mut ErrorList) {
    let field = path.child("accessModes");
    for mode in modes {
        checks::supported(mode, &ACCESS_MODES, &field, errors);
    }
    let shared = |mode: &String| mode != "ReadWriteOncePod" && ACCESS_MODES.contains(&mode.as_str());
    if modes.iter().any(|mode| mode == "ReadWriteOncePod") && modes.iter().any(shared) {
        let detail = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden(&field, detail));
    }
}

fn sizes(sizes: Option<&Resources>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let none = Resources::new();
    let sizes = sizes.unwrap_or(&none);
    if sizes.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    if !sizes.contains_key("storage") || sizes.len() > 1 {
        errors.push(FieldError::not_supported(path, sizes, &["storage"]));
    }
    for (name, size) in sizes {
        positive(size, &path.key(name), errors);
    }
}

/// A size: readable and more than nothing.
pub(crate) fn positive(size: &Api, path: &FieldPath<'_>, errors: &mut ErrorList) {
    match Quantity::try_from(size) {
        Err(error) => errors.push(FieldError::invalid(path, &size.0, error.to_string())),
        Ok(size) if size <= Quantity::default() => {
            errors.push(FieldError::invalid(path, size.to_string(), "must be greater than zero"));
        }
        Ok(_) => {}
    }
}

/// The name of a class, if there is one.
pub(crate) fn class_name(name: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if !name.is_empty() {
        checks::subdomain(name, path, errors);
    }
}

/// The name of a CSI driver.
pub(crate) fn driver_name(name: &str, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    if name.len() > LONGEST_DRIVER_NAME {
        errors.push(FieldError::too_long(path, LONGEST_DRIVER_NAME));
    }
    if !name.is_empty() {
        for message in names::dns1123_subdomain(&name.to_lowercase()) {
            errors.push(FieldError::invalid(path, name, message));
        }
    }
}

/// Whether any node is named.
fn node_affinity(affinity: &VolumeNodeAffinity, path: &FieldPath<'_>, errors: &mut ErrorList) -> bool {
    match &affinity.required {
        Some(selector) => {
            node_selector(selector, &path.child("required"), errors);
            true
        }
        None => {
            let detail = "must specify required node constraints";
            errors.push(FieldError::required(&path.child("required"), detail));
            false
        }
    }
}

/// The sources that a volume names; more than one is a mistake.
fn source_names(spec: &PersistentVolumeSpec) -> impl Iterator<Item = &'static str> + use<> {
    let named = [
        ("hostPath", spec.host_path.is_some()),
        ("gcePersistentDisk", spec.gce_persistent_disk.is_some()),
        ("awsElasticBlockStore", spec.aws_elastic_block_store.is_some()),
        ("glusterfs", spec.glusterfs.is_some()),
        ("flocker", spec.flocker.is_some()),
        ("nfs", spec.nfs.is_some()),
        ("rbd", spec.rbd.is_some()),
        ("quobyte", spec.quobyte.is_some()),
        ("cephfs", spec.cephfs.is_some()),
        ("iscsi", spec.iscsi.is_some()),
        ("cinder", spec.cinder.is_some()),
        ("fc", spec.fc.is_some()),
        ("flexVolume", spec.flex_volume.is_some()),
        ("azureFile", spec.azure_file.is_some()),
        ("vsphereVolume", spec.vsphere_volume.is_some()),
        ("photonPersistentDisk", spec.photon_persistent_disk.is_some()),
        ("portworxVolume", spec.portworx_volume.is_some()),
        ("azureDisk", spec.azure_disk.is_some()),
        ("scaleIO", spec.scale_io.is_some()),
        ("local", spec.local.is_some()),
        ("storageos", spec.storageos.is_some()),
        ("csi", spec.csi.is_some()),
    ];
    named.into_iter().filter_map(|(name, there)| there.then_some(name))
}

/// The volume's source alone, to compare.
pub(crate) fn only_source(spec: &PersistentVolumeSpec) -> PersistentVolumeSpec {
    PersistentVolumeSpec {
        access_modes: None,
        capacity: None,
        claim_ref: None,
        mount_options: None,
        node_affinity: None,
        persistent_volume_reclaim_policy: None,
        storage_class_name: None,
        volume_attributes_class_name: None,
        volume_mode: None,
        ..spec.clone()
    }
}

/// What must be said of the source.
fn source(spec: &PersistentVolumeSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if let Some(host) = &spec.host_path {
        checks::required(&host.path, &path.child("path"), errors);
        checks::no_backsteps(&host.path, &path.child("path"), errors);
    } else if let Some(local) = &spec.local {
        checks::required(&local.path, &path.child("path"), errors);
        checks::no_backsteps(&local.path, &path.child("path"), errors);
    } else if let Some(csi) = &spec.csi {
        driver_name(&csi.driver, &path.child("driver"), errors);
        checks::required(&csi.volume_handle, &path.child("volumeHandle"), errors);
        for (field, secret) in [
            ("controllerPublishSecretRef", &csi.controller_publish_secret_ref),
            ("nodePublishSecretRef", &csi.node_publish_secret_ref),
            ("controllerExpandSecretRef", &csi.controller_expand_secret_ref),
            ("nodeExpandSecretRef", &csi.node_expand_secret_ref),
        ] {
            secret_reference(secret.as_ref(), &path.child(field), errors);
        }
    } else if let Some(nfs) = &spec.nfs {
        checks::required(&nfs.server, &path.child("server"), errors);
        checks::required(&nfs.path, &path.child("path"), errors);
        if !nfs.path.starts_with('/') {
            errors.push(FieldError::invalid(&path.child("path"), &nfs.path, "must be an absolute path"));
        }
    } else {
        cloud_source(spec, path, errors);
    }
}

fn secret_reference(secret: Option<&SecretReference>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if let Some(secret) = secret {
        checks::required(text(&secret.name), &path.child("name"), errors);
        checks::required(text(&secret.namespace), &path.child("namespace"), errors);
    }
}

/// Sources of which little more is asked than that they are named.
fn cloud_source(spec: &PersistentVolumeSpec, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let mut need = |field: &str, value: &str| checks::required(value, &path.child(field), errors);
    if let Some(disk) = &spec.gce_persistent_disk {
        need("pdName", &disk.pd_name);
    } else if let Some(disk) = &spec.aws_elastic_block_store {
        need("volumeID", &disk.volume_id);
    } else if let Some(glusterfs) = &spec.glusterfs {
        need("endpoints", &glusterfs.endpoints);
        need("path", &glusterfs.path);
    } else if let Some(rbd) = &spec.rbd {
        need("monitors", rbd.monitors.first().map_or("", String::as_str));
        need("image", &rbd.image);
    } else if let Some(quobyte) = &spec.quobyte {
        need("registry", &quobyte.registry);
        need("volume", &quobyte.volume);
    } else if let Some(ceph) = &spec.cephfs {
        need("monitors", ceph.monitors.first().map_or("", String::as_str));
    } else if let Some(iscsi) = &spec.iscsi {
        need("targetPortal", &iscsi.target_portal);
        need("iqn", &iscsi.iqn);
        if !(0..=255).contains(&iscsi.lun) {
            errors.push(FieldError::invalid(&path.child("lun"), iscsi.lun, names::between(0, 255)));
        }
    } else if let Some(cinder) = &spec.cinder {
        need("volumeID", &cinder.volume_id);
    } else if let Some(flex) = &spec.flex_volume {
        need("driver", &flex.driver);
    } else if let Some(file) = &spec.azure_file {
        need("secretName", &file.secret_name);
        need("shareName", &file.share_name);
    } else if let Some(vsphere) = &spec.vsphere_volume {
        need("volumePath", &vsphere.volume_path);
    } else if let Some(photon) = &spec.photon_persistent_disk {
        need("pdID", &photon.pd_id);
    } else if let Some(portworx) = &spec.portworx_volume {
        need("volumeID", &portworx.volume_id);
    } else if let Some(disk) = &spec.azure_disk {
        need("diskName", &disk.disk_name);
        need("diskURI", &disk.disk_uri);
    } else if let Some(scale) = &spec.scale_io {
        need("gateway", &scale.gateway);
        need("system", &scale.system);
        need("volumeName", text(&scale.volume_name));
    }
}

/// Whether the root of a node's disk would be wiped when the volume is free again.
pub(crate) fn wipes_root(spec: &PersistentVolumeSpec) -> bool {
    let root = |path: &str| !path.is_empty() && path.split('/').all(|part| matches!(part, "" | "."));
    spec.host_path.as_ref().is_some_and(|host| root(&host.path))
        && text(&spec.persistent_volume_reclaim_policy) == "Recycle"
}

/// A flag as a cell, false if absent.
pub(crate) fn flag(value: &Option<bool>) -> serde_json::Value {
    serde_json::Value::Bool(yes(value))
}
