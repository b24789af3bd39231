//! Defaults of a pod's spec, in a pod or in a workload's template, as Kubernetes fills them
//! (<https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>).

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerPort, DownwardAPIVolumeFile, EmptyDirVolumeSource, EnvVar, EphemeralContainer,
        HTTPGetAction, Lifecycle, PodSecurityContext, PodSpec, Probe, ProjectedVolumeSource, Volume,
    },
    apimachinery::pkg::api::resource::Quantity as Api,
};

use crate::kinds::shared::{fill, fill_zero, items_mut, quantities, text};

/// 0644: the mode of files that volumes make.
const FILE_MODE: i32 = 0o644;

/// What pods and templates get alike. What a pod alone gets is in its own definition.
pub(crate) fn pod_spec(spec: &mut PodSpec) {
    fill(&mut spec.dns_policy, "ClusterFirst");
    fill(&mut spec.restart_policy, "Always");
    fill(&mut spec.scheduler_name, "default-scheduler");
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.security_context.get_or_insert_with(PodSecurityContext::default);
    service_account(spec);
    spec.containers.iter_mut().for_each(container);
    items_mut(&mut spec.init_containers).iter_mut().for_each(container);
    items_mut(&mut spec.ephemeral_containers).iter_mut().for_each(ephemeral_container);
    items_mut(&mut spec.volumes).iter_mut().for_each(volume);
    quantities::canonicalize_all(&mut spec.overhead);
    quantities::canonicalize_requirements(&mut spec.resources);
}

/// The deprecated name of the service account follows the real one.
pub(crate) fn service_account(spec: &mut PodSpec) {
    if text(&spec.service_account_name).is_empty() {
        spec.service_account_name.clone_from(&spec.service_account);
    } else if spec.service_account != spec.service_account_name {
        spec.service_account.clone_from(&spec.service_account_name);
    }
}

macro_rules! container_defaults {
    ($container:expr) => {
        if text(&$container.image_pull_policy).is_empty() {
            $container.image_pull_policy = Some(pull_policy(text(&$container.image)).into());
        }
        fill(&mut $container.termination_message_path, "/dev/termination-log");
        fill(&mut $container.termination_message_policy, "File");
        items_mut(&mut $container.ports).iter_mut().for_each(port);
        items_mut(&mut $container.env).iter_mut().for_each(env);
        // Go's type has no absent resources: what a Go client sends back must be no change.
        $container.resources.get_or_insert_default();
        quantities::canonicalize_requirements(&mut $container.resources);
        probe(&mut $container.liveness_probe);
        probe(&mut $container.readiness_probe);
        probe(&mut $container.startup_probe);
        lifecycle(&mut $container.lifecycle);
    };
}

fn container(container: &mut Container) {
    container_defaults!(container);
}

fn ephemeral_container(container: &mut EphemeralContainer) {
    container_defaults!(container);
}

/// `Always` for an image that may change under its name, else `IfNotPresent`.
fn pull_policy(image: &str) -> &'static str {
    if is_latest(image) { "Always" } else { "IfNotPresent" }
}

/// Whether an image reference has the tag `latest`, or neither tag nor digest. One that can't be read
/// has no tag.
fn is_latest(image: &str) -> bool {
    if image.is_empty() {
        return false;
    }
    let (name, digest) = match image.split_once('@') {
        Some((name, _)) => (name, true),
        None => (image, false),
    };
    // A colon before the last slash belongs to the registry's port.
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match name[base..].rfind(':') {
        Some(colon) => (&name[..base + colon], Some(&name[base + colon + 1..])),
        None => (name, None),
    };
    // Upper case can only be in the registry's host.
    let repository = match path.split_once('/') {
        Some((host, rest)) if host.bytes().any(|b| b.is_ascii_uppercase() || b == b'.' || b == b':') => rest,
        _ => path,
    };
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        return false;
    }
    match tag {
        Some(tag) => tag == "latest",
        None => !digest,
    }
}

fn port(port: &mut ContainerPort) {
    fill(&mut port.protocol, "TCP");
}

fn env(env: &mut EnvVar) {
    let Some(from) = &mut env.value_from else { return };
    if let Some(field) = &mut from.field_ref {
        fill(&mut field.api_version, "v1");
    }
    if let Some(file) = &mut from.file_key_ref {
        file.optional.get_or_insert(false);
    }
    if let Some(resource) = &mut from.resource_field_ref {
        divisor(&mut resource.divisor);
    }
}

/// An absent divisor is stored as zero, which means one.
fn divisor(divisor: &mut Option<Api>) {
    quantities::canonicalize(divisor.get_or_insert_with(|| Api("0".into())));
}

fn probe(probe: &mut Option<Probe>) {
    let Some(probe) = probe else { return };
    fill_zero(&mut probe.timeout_seconds, 1);
    fill_zero(&mut probe.period_seconds, 10);
    fill_zero(&mut probe.success_threshold, 1);
    fill_zero(&mut probe.failure_threshold, 3);
    if let Some(get) = &mut probe.http_get {
        http_get(get);
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_with(String::new);
    }
}

fn http_get(get: &mut HTTPGetAction) {
    fill(&mut get.path, "/");
    fill(&mut get.scheme, "HTTP");
}

fn lifecycle(lifecycle: &mut Option<Lifecycle>) {
    let Some(lifecycle) = lifecycle else { return };
    for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop] {
        if let Some(get) = handler.as_mut().and_then(|handler| handler.http_get.as_mut()) {
            http_get(get);
        }
    }
}

fn volume(volume: &mut Volume) {
    if let Some(secret) = &mut volume.secret {
        secret.default_mode.get_or_insert(FILE_MODE);
    } else if let Some(map) = &mut volume.config_map {
        map.default_mode.get_or_insert(FILE_MODE);
    } else if let Some(projected) = &mut volume.projected {
        projected_volume(projected);
    } else if let Some(downward) = &mut volume.downward_api {
        downward.default_mode.get_or_insert(FILE_MODE);
        items_mut(&mut downward.items).iter_mut().for_each(downward_file);
    } else if let Some(dir) = &mut volume.empty_dir {
        dir.size_limit.iter_mut().for_each(quantities::canonicalize);
    } else if let Some(host) = &mut volume.host_path {
        host.type_.get_or_insert_with(String::new);
    } else if let Some(image) = &mut volume.image {
        if text(&image.pull_policy).is_empty() {
            image.pull_policy = Some(pull_policy(text(&image.reference)).into());
        }
    } else if let Some(ephemeral) = &mut volume.ephemeral {
        if let Some(template) = &mut ephemeral.volume_claim_template {
            fill(&mut template.spec.volume_mode, "Filesystem");
            if let Some(resources) = &mut template.spec.resources {
                quantities::canonicalize_all(&mut resources.limits);
                quantities::canonicalize_all(&mut resources.requests);
            }
        }
    } else if !has_source(volume) {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    } else {
        network_volume(volume);
    }
}

fn projected_volume(projected: &mut ProjectedVolumeSource) {
    projected.default_mode.get_or_insert(FILE_MODE);
    for source in items_mut(&mut projected.sources) {
        if let Some(downward) = &mut source.downward_api {
            items_mut(&mut downward.items).iter_mut().for_each(downward_file);
        }
        if let Some(token) = &mut source.service_account_token {
            token.expiration_seconds.get_or_insert(3600);
        }
        if let Some(certificate) = &mut source.pod_certificate {
            certificate.max_expiration_seconds.get_or_insert(86_400);
        }
    }
}

fn downward_file(file: &mut DownwardAPIVolumeFile) {
    if let Some(field) = &mut file.field_ref {
        fill(&mut field.api_version, "v1");
    }
    if let Some(resource) = &mut file.resource_field_ref {
        divisor(&mut resource.divisor);
    }
}

/// Defaults of the volume kinds that few pods use.
fn network_volume(volume: &mut Volume) {
    if let Some(iscsi) = &mut volume.iscsi {
        fill(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(rbd) = &mut volume.rbd {
        fill(&mut rbd.pool, "rbd");
        fill(&mut rbd.user, "admin");
        fill(&mut rbd.keyring, "/etc/ceph/keyring");
    }
    if let Some(disk) = &mut volume.azure_disk {
        fill(&mut disk.caching_mode, "ReadWrite");
        fill(&mut disk.kind, "Shared");
        fill(&mut disk.fs_type, "ext4");
        disk.read_only.get_or_insert(false);
    }
    if let Some(scale) = &mut volume.scale_io {
        fill(&mut scale.storage_mode, "ThinProvisioned");
        fill(&mut scale.fs_type, "xfs");
    }
}

/// Whether the volume says what it is.
pub(crate) fn has_source(volume: &Volume) -> bool {
    source_names(volume).next().is_some()
}

/// The sources that a volume names, in the order in which Kubernetes looks; more than one is a mistake.
pub(crate) fn source_names(volume: &Volume) -> impl Iterator<Item = &'static str> + use<> {
    let named = [
        ("emptyDir", volume.empty_dir.is_some()),
        ("hostPath", volume.host_path.is_some()),
        ("gitRepo", volume.git_repo.is_some()),
        ("gcePersistentDisk", volume.gce_persistent_disk.is_some()),
        ("awsElasticBlockStore", volume.aws_elastic_block_store.is_some()),
        ("secret", volume.secret.is_some()),
        ("nfs", volume.nfs.is_some()),
        ("iscsi", volume.iscsi.is_some()),
        ("glusterfs", volume.glusterfs.is_some()),
        ("flocker", volume.flocker.is_some()),
        ("persistentVolumeClaim", volume.persistent_volume_claim.is_some()),
        ("rbd", volume.rbd.is_some()),
        ("cinder", volume.cinder.is_some()),
        ("cephfs", volume.cephfs.is_some()),
        ("quobyte", volume.quobyte.is_some()),
        ("downwardAPI", volume.downward_api.is_some()),
        ("fc", volume.fc.is_some()),
        ("flexVolume", volume.flex_volume.is_some()),
        ("configMap", volume.config_map.is_some()),
        ("azureFile", volume.azure_file.is_some()),
        ("vsphereVolume", volume.vsphere_volume.is_some()),
        ("photonPersistentDisk", volume.photon_persistent_disk.is_some()),
        ("portworxVolume", volume.portworx_volume.is_some()),
        ("azureDisk", volume.azure_disk.is_some()),
        ("storageos", volume.storageos.is_some()),
        ("projected", volume.projected.is_some()),
        ("scaleIO", volume.scale_io.is_some()),
        ("csi", volume.csi.is_some()),
        ("ephemeral", volume.ephemeral.is_some()),
        ("image", volume.image.is_some()),
    ];
    named.into_iter().filter_map(|(name, there)| there.then_some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_decides_the_pull_policy() {
        for (image, want) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.25", "IfNotPresent"),
            ("registry:5000/nginx", "Always"),
            ("registry:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:0123", "IfNotPresent"),
            ("nginx:latest@sha256:0123", "Always"),
            ("", "IfNotPresent"),
            ("Nginx", "IfNotPresent"),
            ("Registry.example/nginx", "Always"),
        ] {
            assert_eq!(pull_policy(image), want, "{image}");
        }
    }
}
