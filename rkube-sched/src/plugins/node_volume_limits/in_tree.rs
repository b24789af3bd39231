//! Disks that Kubernetes itself knew once: CSI drivers have taken them over, where a node says so (KEP-625).

use k8s_openapi::api::{core::v1::PersistentVolumeSpec, storage::v1::CSINode};

use super::Attachable;
use crate::snapshot::Disk;

/// The annotation of a node's drivers that lists what they have taken over.
const MIGRATED: &str = "storage.alpha.kubernetes.io/migrated-plugins";

/// What was once in Kubernetes, by its name there and that of its driver.
const PLUGINS: [(&str, &str); 6] = [
    (EBS, "ebs.csi.aws.com"),
    (GCE, "pd.csi.storage.gke.io"),
    (AZURE, "disk.csi.azure.com"),
    (CINDER, "cinder.csi.openstack.org"),
    (VSPHERE, "csi.vsphere.vmware.com"),
    (PORTWORX, "pxd.portworx.com"),
];
const EBS: &str = "kubernetes.io/aws-ebs";
const GCE: &str = "kubernetes.io/gce-pd";
const AZURE: &str = "kubernetes.io/azure-disk";
const CINDER: &str = "kubernetes.io/cinder";
const VSPHERE: &str = "kubernetes.io/vsphere-volume";
const PORTWORX: &str = "kubernetes.io/portworx-volume";

/// A disk as its driver's, if the node's driver has taken such disks over.
fn attachable(plugin: &str, handle: &str) -> Option<Attachable> {
    let (plugin, driver) = PLUGINS.into_iter().find(|(name, _)| *name == plugin)?;
    Some(Attachable { driver: driver.into(), handle: handle.into(), taken_over: Some(plugin) })
}

/// The name under which Kubernetes had a provisioner, and the driver that took over from it.
pub(super) fn provisioner(name: &str) -> Option<(&'static str, &'static str)> {
    PLUGINS.into_iter().find(|(plugin, _)| *plugin == name)
}

/// The disk of a persistent volume.
pub(super) fn of_volume(spec: &PersistentVolumeSpec) -> Option<Attachable> {
    if let Some(disk) = &spec.aws_elastic_block_store {
        attachable(EBS, &disk.volume_id)
    } else if let Some(disk) = &spec.gce_persistent_disk {
        attachable(GCE, &disk.pd_name)
    } else if let Some(disk) = &spec.azure_disk {
        attachable(AZURE, &disk.disk_uri)
    } else if let Some(disk) = &spec.cinder {
        attachable(CINDER, &disk.volume_id)
    } else if let Some(disk) = &spec.vsphere_volume {
        attachable(VSPHERE, &disk.volume_path)
    } else {
        attachable(PORTWORX, &spec.portworx_volume.as_ref()?.volume_id)
    }
}

/// A disk that a pod names itself.
pub(super) fn of_pod(disk: &Disk) -> Option<Attachable> {
    match disk {
        Disk::Ebs(id) => attachable(EBS, id),
        Disk::Gce { name, .. } => attachable(GCE, name),
        Disk::Attached { plugin, handle } => attachable(plugin, handle),
        Disk::Iscsi { .. } | Disk::Rbd { .. } => None,
    }
}

/// Whether the node's drivers have taken a plugin over.
pub(super) fn is_taken_over(plugin: &str, node: &CSINode) -> bool {
    taken_over(node).is_some_and(|all| lists(all, plugin))
}

/// All that the node's drivers have taken over, as a list.
pub(super) fn taken_over(node: &CSINode) -> Option<&str> {
    node.metadata.annotations.as_ref()?.get(MIGRATED).map(String::as_str)
}

/// Whether a plugin is on such a list.
pub(super) fn lists(all: &str, plugin: &str) -> bool {
    all.split(',').any(|name| name == plugin)
}
