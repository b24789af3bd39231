//! What a pod's volumes mean to scheduling, without the rest of the pod.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Volume};
use rkube_api::helpers::volumes::claim_of;

/// The volumes of a pod that bind it to nodes or keep others away from them.
///
/// ```
/// use rkube_sched::snapshot::PodVolumes;
/// let pod = serde_json::from_value(serde_json::json!({"metadata": {"name": "web-0"}, "spec": {
///     "containers": [], "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "data", "ephemeral": {}}],
/// }})).unwrap();
/// let volumes = PodVolumes::of(&pod).unwrap();
/// assert_eq!(&*volumes.claims[0].name, "web-0-data");
/// assert!(PodVolumes::of(&Default::default()).is_none());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodVolumes {
    /// The claims, in the pod's namespace.
    pub claims: Box<[PodClaim]>,
    /// The disks that the pod itself names.
    pub disks: Box<[Disk]>,
}

/// A claim that a pod uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodClaim {
    /// Its name.
    pub name: Box<str>,
    /// Whether it is made for this pod alone.
    pub ephemeral: bool,
}

/// A disk that a pod names without a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disk {
    /// A persistent disk of GCE.
    Gce {
        /// Its name.
        name: Box<str>,
        /// Whether the pod only reads.
        read_only: bool,
    },
    /// A volume of EBS, by its id.
    Ebs(Box<str>),
    /// An iSCSI target.
    Iscsi {
        /// Its qualified name.
        iqn: Box<str>,
        /// Whether the pod only reads.
        read_only: bool,
    },
    /// An image of Ceph.
    Rbd {
        /// The monitors, of which one in common makes it the same cluster.
        monitors: Box<[String]>,
        /// The pool.
        pool: Box<str>,
        /// The image.
        image: Box<str>,
        /// Whether the pod only reads.
        read_only: bool,
    },
    /// Another disk that is attached to nodes, of which they may have a limit.
    Attached {
        /// The plugin that Kubernetes had for it.
        plugin: &'static str,
        /// What it is called there.
        handle: Box<str>,
    },
}

impl Disk {
    fn of(volume: &Volume) -> Option<Self> {
        if let Some(disk) = &volume.gce_persistent_disk {
            let read_only = disk.read_only.unwrap_or_default();
            return Some(Self::Gce { name: disk.pd_name.as_str().into(), read_only });
        }
        if let Some(disk) = &volume.aws_elastic_block_store {
            return Some(Self::Ebs(disk.volume_id.as_str().into()));
        }
        if let Some(disk) = &volume.iscsi {
            let read_only = disk.read_only.unwrap_or_default();
            return Some(Self::Iscsi { iqn: disk.iqn.as_str().into(), read_only });
        }
        if let Some(disk) = &volume.azure_disk {
            return Some(Self::attached("kubernetes.io/azure-disk", &disk.disk_uri));
        }
        if let Some(disk) = &volume.cinder {
            return Some(Self::attached("kubernetes.io/cinder", &disk.volume_id));
        }
        if let Some(disk) = &volume.vsphere_volume {
            return Some(Self::attached("kubernetes.io/vsphere-volume", &disk.volume_path));
        }
        if let Some(disk) = &volume.portworx_volume {
            return Some(Self::attached("kubernetes.io/portworx-volume", &disk.volume_id));
        }
        let disk = volume.rbd.as_ref()?;
        Some(Self::Rbd {
            monitors: disk.monitors.clone().into(),
            pool: disk.pool.as_deref().unwrap_or("rbd").into(),
            image: disk.image.as_str().into(),
            read_only: disk.read_only.unwrap_or_default(),
        })
    }

    fn attached(plugin: &'static str, handle: &str) -> Self {
        Self::Attached { plugin, handle: handle.into() }
    }

    /// Whether two pods with these cannot be on one node: it is the same disk, and not both only read.
    pub fn conflicts(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ebs(one), Self::Ebs(two)) => one == two,
            (Self::Gce { name: one, read_only: reads }, Self::Gce { name: two, read_only: other_reads })
            | (
                Self::Iscsi { iqn: one, read_only: reads },
                Self::Iscsi { iqn: two, read_only: other_reads },
            ) => one == two && !(*reads && *other_reads),
            (
                Self::Rbd { monitors, pool, image, read_only },
                Self::Rbd { monitors: others, pool: other_pool, image: other_image, read_only: other_reads },
            ) => {
                let same_cluster = monitors.iter().any(|monitor| others.contains(monitor));
                same_cluster && pool == other_pool && image == other_image && !(*read_only && *other_reads)
            }
            _ => false,
        }
    }
}

impl PodVolumes {
    /// Those of a pod; `None` if it has none that matter.
    pub fn of(pod: &Pod) -> Option<Arc<Self>> {
        let volumes = pod.spec.as_ref()?.volumes.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let claims = volumes.iter().filter_map(|volume| claim_of(name, volume));
        let claims: Box<[PodClaim]> =
            claims.map(|(name, ephemeral)| PodClaim { name: name.as_ref().into(), ephemeral }).collect();
        let disks: Box<[Disk]> = volumes.iter().filter_map(Disk::of).collect();
        (!claims.is_empty() || !disks.is_empty()).then(|| Arc::new(Self { claims, disks }))
    }

    /// The claims that the pod names, which others may name too.
    pub fn shared_claims(&self) -> impl Iterator<Item = &str> {
        self.claims.iter().filter(|claim| !claim.ephemeral).map(|claim| &*claim.name)
    }
}
