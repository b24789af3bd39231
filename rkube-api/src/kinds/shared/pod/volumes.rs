//! Rules of volumes and of what containers do with them.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{DownwardAPIVolumeFile, KeyToPath, ProjectedVolumeSource, Volume, VolumeMount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use smallvec::SmallVec;

use super::{defaults::source_names, env};
use crate::{
    kinds::shared::{checks, container::View, items, seen::Seen, text, yes},
    meta::{ErrorList, FieldError, FieldPath, Quantity, names},
};

const FEW: usize = 16;
const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// The valid volumes, by name.
pub(super) struct Volumes<'a> {
    few: SmallVec<[&'a Volume; 8]>,
    many: BTreeMap<&'a str, &'a Volume>,
}

impl<'a> Volumes<'a> {
    /// The volume of this name.
    pub(super) fn get(&self, name: &str) -> Option<&'a Volume> {
        let few = self.few.iter().find(|volume| volume.name == name).copied();
        few.or_else(|| self.many.get(name).copied())
    }

    fn add(&mut self, volume: &'a Volume) {
        if self.few.len() < FEW {
            self.few.push(volume);
        } else {
            self.many.insert(&volume.name, volume);
        }
    }
}

/// Checks volumes; those that are valid can be mounted.
pub(super) fn validate<'a>(
    volumes: &'a [Volume],
    pod: Option<&ObjectMeta>,
    path: &FieldPath<'_>,
    errors: &mut ErrorList,
) -> Volumes<'a> {
    let mut valid = Volumes { few: SmallVec::new(), many: BTreeMap::new() };
    for (at, volume) in volumes.iter().enumerate() {
        let path = path.index(at);
        let before = errors.len();
        source(volume, pod, &path, errors);
        if volume.name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        } else {
            checks::label(&volume.name, &path.child("name"), errors);
        }
        if valid.get(&volume.name).is_some() {
            errors.push(FieldError::duplicate(&path.child("name"), &volume.name));
        }
        if errors.len() == before {
            valid.add(volume);
        }
    }
    valid
}

fn source(volume: &Volume, pod: Option<&ObjectMeta>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let mut sources = source_names(volume);
    let Some(first) = sources.next() else {
        errors.push(FieldError::required(path, "must specify a volume type"));
        return;
    };
    for extra in sources {
        errors.push(FieldError::forbidden(&path.child(extra), "may not specify more than 1 volume type"));
    }
    let field = path.child(first);
    match first {
        "emptyDir" => empty_dir(volume, &field, errors),
        "ephemeral" => claim_template(volume, pod, path, errors),
        "projected" => {
            if let Some(projected) = &volume.projected {
                projections(projected, &field, errors);
            }
        }
        "secret" | "configMap" | "downwardAPI" | "hostPath" | "persistentVolumeClaim" | "image" => {
            local_source(volume, &field, errors);
        }
        _ => network_source(volume, &field, errors),
    }
}

fn empty_dir(volume: &Volume, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let limit = volume.empty_dir.as_ref().and_then(|dir| dir.size_limit.as_ref());
    if limit.is_some_and(|limit| Quantity::try_from(limit).is_ok_and(|limit| !limit.is_negative())) {
        return;
    }
    if limit.is_some() {
        let detail = "SizeLimit field must be a valid resource quantity";
        errors.push(FieldError::forbidden(&path.child("sizeLimit"), detail));
    }
}

/// The one source of these that the volume has.
fn local_source(volume: &Volume, path: &FieldPath<'_>, errors: &mut ErrorList) {
    if let Some(host) = &volume.host_path {
        checks::required(&host.path, &path.child("path"), errors);
        checks::no_backsteps(&host.path, &path.child("path"), errors);
        checks::supported(text(&host.type_), &HOST_PATH_TYPES, &path.child("type"), errors);
    } else if let Some(secret) = &volume.secret {
        checks::required(text(&secret.secret_name), &path.child("secretName"), errors);
        files(secret.default_mode, items(&secret.items), path, errors);
    } else if let Some(claim) = &volume.persistent_volume_claim {
        checks::required(&claim.claim_name, &path.child("claimName"), errors);
    } else if let Some(downward) = &volume.downward_api {
        checks::file_mode(downward.default_mode, &path.child("defaultMode"), errors);
        items(&downward.items).iter().for_each(|file| downward_file(file, path, errors));
    } else if let Some(map) = &volume.config_map {
        checks::required(&map.name, &path.child("name"), errors);
        files(map.default_mode, items(&map.items), path, errors);
    } else if let Some(image) = &volume.image {
        checks::required(text(&image.reference), &path.child("reference"), errors);
        let allowed = ["Always", "IfNotPresent", "Never"];
        checks::one_of(text(&image.pull_policy), &allowed, &path.child("pullPolicy"), errors);
    }
}

fn files(mode: Option<i32>, keys: &[KeyToPath], path: &FieldPath<'_>, errors: &mut ErrorList) {
    checks::file_mode(mode, &path.child("defaultMode"), errors);
    let path = path.child("items");
    for (at, key) in keys.iter().enumerate() {
        key_to_path(key, &path.index(at), errors);
    }
}

fn key_to_path(key: &KeyToPath, path: &FieldPath<'_>, errors: &mut ErrorList) {
    checks::required(&key.key, &path.child("key"), errors);
    checks::required(&key.path, &path.child("path"), errors);
    checks::free_path(&key.path, &path.child("path"), errors);
    checks::file_mode(key.mode, &path.child("mode"), errors);
}

fn downward_file(file: &DownwardAPIVolumeFile, path: &FieldPath<'_>, errors: &mut ErrorList) {
    checks::required(&file.path, &path.child("path"), errors);
    checks::free_path(&file.path, &path.child("path"), errors);
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), resource) => {
            env::field_ref(field, &env::FILE_FIELDS, &path.child("fieldRef"), errors);
            if resource.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(path, "resource", detail));
            }
        }
        (None, Some(resource)) => {
            env::resource_ref(resource, true, &path.child("resourceFieldRef"), errors);
        }
        (None, None) => {
            errors.push(FieldError::required(path, "one of fieldRef and resourceFieldRef is required"));
        }
    }
    checks::file_mode(file.mode, &path.child("mode"), errors);
}

fn projections(projected: &ProjectedVolumeSource, path: &FieldPath<'_>, errors: &mut ErrorList) {
    checks::file_mode(projected.default_mode, &path.child("defaultMode"), errors);
    let mut paths = Seen::new();
    let sources = path.child("sources");
    for (at, source) in items(&projected.sources).iter().enumerate() {
        let at = sources.index(at);
        let mut count = 0;
        let secret = source.secret.as_ref().map(|secret| ("secret", &secret.name, &secret.items));
        let map = source.config_map.as_ref().map(|map| ("configMap", &map.name, &map.items));
        for (field, name, keys) in secret.into_iter().chain(map) {
            count += 1;
            let field = at.child(field);
            checks::required(name, &field.child("name"), errors);
            files(None, items(keys), &field, errors);
            for key in items(keys) {
                if !key.path.is_empty() && !paths.insert(key.path.as_str()) {
                    errors.push(FieldError::invalid(path, name, "conflicting duplicate paths"));
                }
            }
        }
        if let Some(downward) = &source.downward_api {
            count += 1;
            for file in items(&downward.items) {
                downward_file(file, &at.child("downwardAPI"), errors);
                if !file.path.is_empty() && !paths.insert(file.path.as_str()) {
                    errors.push(FieldError::invalid(path, &file.path, "conflicting duplicate paths"));
                }
            }
        }
        if let Some(token) = &source.service_account_token {
            count += 1;
            let seconds = token.expiration_seconds.unwrap_or(0);
            token_lifetime(seconds, &at.child("serviceAccountToken"), errors);
            checks::required(&token.path, &path.child("path"), errors);
            checks::free_path(&token.path, &path.child("path"), errors);
        }
        count += usize::from(source.cluster_trust_bundle.is_some());
        count += usize::from(source.pod_certificate.is_some());
        if count > 1 {
            let detail = "may not specify more than 1 volume type per source";
            errors.push(FieldError::forbidden(&at, detail));
        }
    }
}

fn token_lifetime(seconds: i64, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let detail = match seconds {
        ..600 => "may not specify a duration less than 10 minutes",
        4_294_967_297.. => "may not specify a duration larger than 2^32 seconds",
        _ => return,
    };
    errors.push(FieldError::invalid(&path.child("expirationSeconds"), seconds, detail));
}

fn claim_template(volume: &Volume, pod: Option<&ObjectMeta>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let (field, name) = (path.child("ephemeral"), volume.name.as_str());
    let template_path = field.child("volumeClaimTemplate");
    match volume.ephemeral.as_ref().and_then(|ephemeral| ephemeral.volume_claim_template.as_ref()) {
        None => errors.push(FieldError::required(&template_path, "")),
        Some(template) if items(&template.spec.access_modes).is_empty() => {
            let spec = template_path.child("spec");
            let detail = "at least 1 access mode is required";
            errors.push(FieldError::required(&spec.child("accessModes"), detail));
        }
        Some(_) => {}
    }
    if let Some(pod) = pod.and_then(|pod| pod.name.as_deref()).filter(|pod| !pod.is_empty())
        && !name.is_empty()
    {
        let claim = format!("{pod}-{name}");
        for message in names::dns1123_subdomain(&claim) {
            let detail = format!("PVC name \"{claim}\": {message}");
            errors.push(FieldError::invalid(&path.child("name"), name, detail));
        }
    }
}

/// Volumes that live on other machines: what must be said of the one that this is.
fn network_source(volume: &Volume, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let mut need = |field: &str, value: &str| checks::required(value, &path.child(field), errors);
    if let Some(repository) = &volume.git_repo {
        need("repository", &repository.repository);
    } else if let Some(nfs) = &volume.nfs {
        need("server", &nfs.server);
        need("path", &nfs.path);
        if !nfs.path.starts_with('/') {
            let detail = "must be an absolute path";
            errors.push(FieldError::invalid(&path.child("path"), &nfs.path, detail));
        }
    } else if let Some(disk) = &volume.gce_persistent_disk {
        need("pdName", &disk.pd_name);
    } else if let Some(disk) = &volume.aws_elastic_block_store {
        need("volumeID", &disk.volume_id);
    } else if let Some(iscsi) = &volume.iscsi {
        need("targetPortal", &iscsi.target_portal);
        need("iqn", &iscsi.iqn);
    } else if let Some(glusterfs) = &volume.glusterfs {
        need("endpoints", &glusterfs.endpoints);
        need("path", &glusterfs.path);
    } else if let Some(cinder) = &volume.cinder {
        need("volumeID", &cinder.volume_id);
    } else if let Some(flex) = &volume.flex_volume {
        need("driver", &flex.driver);
    } else if let Some(file) = &volume.azure_file {
        need("secretName", &file.secret_name);
        need("shareName", &file.share_name);
    } else if let Some(disk) = &volume.azure_disk {
        need("diskName", &disk.disk_name);
        need("diskURI", &disk.disk_uri);
    } else if let Some(csi) = &volume.csi {
        need("driver", &csi.driver);
    }
}

/// Checks a container's mounts and devices.
pub(super) fn mounts(view: &View<'_>, volumes: &Volumes<'_>, path: &FieldPath<'_>, errors: &mut ErrorList) {
    let mut points = Seen::new();
    let device_names = Seen::all(view.volume_devices.iter().map(|device| device.name.as_str()));
    let device_paths = Seen::all(view.volume_devices.iter().map(|device| device.device_path.as_str()));
    let list = path.child("volumeMounts");
    for (at, mount) in view.volume_mounts.iter().enumerate() {
        let path = list.index(at);
        checks::required(&mount.name, &path.child("name"), errors);
        if volumes.get(&mount.name).is_none() {
            errors.push(FieldError::not_found(&path.child("name"), &mount.name));
        }
        checks::required(&mount.mount_path, &path.child("mountPath"), errors);
        if !points.insert(mount.mount_path.as_str()) {
            errors.push(FieldError::invalid(&path.child("mountPath"), &mount.mount_path, "must be unique"));
        }
        if device_names.contains(&mount.name.as_str()) {
            let detail = "must not already exist in volumeDevices";
            errors.push(FieldError::invalid(&path.child("name"), &mount.name, detail));
        }
        if device_paths.contains(&mount.mount_path.as_str()) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.push(FieldError::invalid(&path.child("mountPath"), &mount.mount_path, detail));
        }
        let (sub, expression) = (text(&mount.sub_path), text(&mount.sub_path_expr));
        if !sub.is_empty() {
            checks::descending_path(sub, &list.child("subPath"), errors);
        }
        if !expression.is_empty() {
            if !sub.is_empty() {
                let detail = "subPathExpr and subPath are mutually exclusive";
                errors.push(FieldError::invalid(&path.child("subPathExpr"), expression, detail));
            }
            checks::descending_path(expression, &list.child("subPathExpr"), errors);
        }
        propagation(view, mount, &list, errors);
    }
    if !view.volume_devices.is_empty() {
        devices(view, volumes, &path.child("volumeDevices"), errors);
    }
}

fn propagation(view: &View<'_>, mount: &VolumeMount, list: &FieldPath<'_>, errors: &mut ErrorList) {
    if let Some(mode) = mount.mount_propagation.as_deref() {
        let path = list.child("mountPropagation");
        checks::supported(mode, &["Bidirectional", "HostToContainer", "None"], &path, errors);
        let privileged = view.security_context.is_some_and(|security| yes(&security.privileged));
        if mode == "Bidirectional" && !privileged {
            let detail = "Bidirectional mount propagation is available only to privileged containers";
            errors.push(FieldError::forbidden(&path, detail));
        }
    }
    match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            let path = list.child("recursiveReadOnly");
            if !yes(&mount.read_only) {
                let detail = "may only be specified when readOnly is true";
                errors.push(FieldError::forbidden(&path, detail));
            }
            if mount.mount_propagation.as_deref().is_some_and(|mode| mode != "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.push(FieldError::forbidden(&path, detail));
            }
        }
        Some(other) => {
            let allowed = ["Disabled", "Enabled", "IfPossible"];
            errors.push(FieldError::not_supported(&list.child("recursiveReadOnly"), other, &allowed));
        }
    }
}

fn devices(view: &View<'_>, volumes: &Volumes<'_>, list: &FieldPath<'_>, errors: &mut ErrorList) {
    let (mut names, mut paths) = (Seen::new(), Seen::new());
    let mount_names = Seen::all(view.volume_mounts.iter().map(|mount| mount.name.as_str()));
    let mount_paths = Seen::all(view.volume_mounts.iter().map(|mount| mount.mount_path.as_str()));
    for (at, device) in view.volume_devices.iter().enumerate() {
        let (path, name, place) = (list.index(at), device.name.as_str(), device.device_path.as_str());
        checks::required(name, &path.child("name"), errors);
        let mut refuse = |field: &str, value: &str, detail: &str| {
            errors.push(FieldError::invalid(&path.child(field), value, detail));
        };
        if !name.is_empty() && !names.insert(name) {
            refuse("name", name, "must be unique");
        }
        let found = volumes.get(name);
        if found.is_some_and(|v| v.persistent_volume_claim.is_none() && v.ephemeral.is_none()) {
            let detail =
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
            refuse("name", name, detail);
        }
        if place.split('/').any(|part| part == "..") {
            refuse("devicePath", place, "can not contain backsteps ('..')");
        } else if !paths.insert(place) {
            refuse("devicePath", place, "must be unique");
        }
        if mount_names.contains(&name) {
            refuse("name", name, "must not already exist in volumeMounts");
        }
        if mount_paths.contains(&place) {
            refuse("devicePath", place, "must not already exist as a path in volumeMounts");
        }
        if found.is_none() {
            errors.push(FieldError::not_found(&path.child("name"), name));
        }
        checks::required(place, &path.child("devicePath"), errors);
    }
}
