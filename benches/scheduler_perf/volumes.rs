//! The volumes of workloads' pods: each has a claim of its own, bound to a volume of its own before the pod comes.

use rkube::{
    k8s_openapi::api::{
        core::v1::{PersistentVolume, PersistentVolumeClaim},
        storage::v1::CSINode,
    },
    prelude::*,
};
use serde_json::{from_value, json};

use crate::workloads::Workload;

const DRIVER: &str = "ebs.csi.aws.com";
/// How many volumes the driver takes on a node.
const LIMIT: i32 = 39;

/// What stands behind the claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// Disks that Kubernetes itself knew once; nodes have no limit.
    InTree,
    /// The same, where a CSI driver has taken them over and nodes have its limit.
    Migrated,
    /// Volumes of a CSI driver; nodes have its limit.
    Csi,
}

impl Backing {
    /// The pod's claim and volume, bound to each other.
    pub(crate) fn of(self, pod: &Pod) -> (PersistentVolumeClaim, PersistentVolume) {
        let (name, namespace) = (&pod.metadata.name, &pod.metadata.namespace);
        let claim = json!({
            "metadata": {"name": name, "namespace": namespace,
                "annotations": {"pv.kubernetes.io/bind-completed": "true"}},
            "spec": {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Gi"}},
                "volumeName": name},
        });
        let mut spec = json!({
            "accessModes": ["ReadOnlyMany"], "capacity": {"storage": "1Gi"},
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "name": name, "namespace": namespace},
        });
        match self {
            Self::InTree | Self::Migrated => spec["awsElasticBlockStore"] = json!({"volumeID": name}),
            Self::Csi => spec["csi"] = json!({"driver": DRIVER, "volumeHandle": name}),
        }
        let volume = json!({"metadata": {"name": name}, "spec": spec});
        (from_value(claim).unwrap(), from_value(volume).unwrap())
    }

    /// What the node says of its driver.
    pub(crate) fn on_node(self, node: &Node) -> Option<CSINode> {
        let migrated = match self {
            Self::InTree => return None,
            Self::Migrated => "kubernetes.io/aws-ebs",
            Self::Csi => "",
        };
        let driver = json!({"name": DRIVER, "nodeID": node.metadata.name, "allocatable": {"count": LIMIT}});
        let annotations = json!({"storage.alpha.kubernetes.io/migrated-plugins": migrated});
        let meta = json!({"name": node.metadata.name, "annotations": annotations});
        Some(from_value(json!({"metadata": meta, "spec": {"drivers": [driver]}})).unwrap())
    }
}

/// Makes what a workload's nodes and pods have of volumes, before the pods come.
pub(crate) async fn make(client: Client, workload: &Workload, nodes: usize) {
    let Some(backing) = workload.backing else { return };
    let params = PostParams::default();
    let drivers: Api<CSINode> = Api::all(client.clone());
    for of_node in workload.nodes(nodes).filter_map(|node| backing.on_node(&node)) {
        drivers.create(&params, of_node).await.unwrap();
    }
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    for pod in workload.first_pods(nodes).chain(workload.measured_pods(nodes)) {
        let (claim, volume) = backing.of(&pod);
        let namespace = claim.metadata.namespace.clone().unwrap_or_default();
        let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace);
        volumes.create(&params, volume).await.unwrap();
        claims.create(&params, claim).await.unwrap();
    }
}
