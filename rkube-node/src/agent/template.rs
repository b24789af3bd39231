//! What a node is made like, and the Node object of it.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo, Taint},
    apimachinery::pkg::{
        api::resource::Quantity as ApiQuantity,
        apis::meta::v1::{ObjectMeta, Time},
    },
};
use rkube_api::meta::{Quantity, conditions, quantity::Format};
use serde::{Deserialize, Serialize};

use crate::runtime::{RuntimeError, RuntimeInfo};

/// What a node offers and is called. The default is a machine of 32 processors, 256 GiB of memory and
/// 1 TiB of storage for 110 pods, Linux on amd64: 110 is the kubelet's own limit, the rest what KWOK's
/// nodes have, so that figures can be compared.
///
/// ```
/// use rkube_node::agent::NodeTemplate;
/// let small = NodeTemplate { cpu: "2".parse().unwrap(), memory: "4Gi".parse().unwrap(), ..Default::default() };
/// assert_eq!(small.pods, 110);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NodeTemplate {
    /// Processors.
    pub cpu: Quantity,
    /// Memory.
    pub memory: Quantity,
    /// Local storage.
    pub ephemeral_storage: Quantity,
    /// How many pods at most.
    pub pods: u32,
    /// Further resources, `example.com/gpu`.
    pub resources: BTreeMap<String, Quantity>,
    /// What of all these is kept from pods: allocatable is capacity less this.
    pub reserved: BTreeMap<String, Quantity>,
    /// Labels besides those that every node has.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Taints.
    pub taints: Vec<Taint>,
    /// `kubernetes.io/arch`.
    pub architecture: String,
    /// `kubernetes.io/os`.
    pub operating_system: String,
    /// What the node says its operating system is.
    pub os_image: String,
    /// And its kernel.
    pub kernel_version: String,
    /// The young features of Kubernetes that it declares (KEP-5328); pods that use another go elsewhere.
    pub declared_features: Vec<String>,
}

impl Default for NodeTemplate {
    fn default() -> Self {
        let binary = |value| Quantity::new(value, Format::BinarySI);
        Self {
            cpu: Quantity::new(32, Format::DecimalSI),
            memory: binary(256 << 30),
            ephemeral_storage: binary(1 << 40),
            pods: 110,
            resources: BTreeMap::new(),
            reserved: BTreeMap::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            taints: Vec::new(),
            architecture: "amd64".into(),
            operating_system: "linux".into(),
            os_image: "rkube".into(),
            kernel_version: "6.12.0".into(),
            declared_features: ["UserNamespacesHostNetworkSupport", "VolumeBindMountOptions"]
                .map(Into::into)
                .into(),
        }
    }
}

/// What a node is short of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Memory.
    pub memory: bool,
    /// Storage.
    pub disk: bool,
    /// Process ids.
    pub pid: bool,
}

impl NodeTemplate {
    fn capacity(&self) -> BTreeMap<String, Quantity> {
        let mut all = self.resources.clone();
        all.insert("cpu".into(), self.cpu);
        all.insert("memory".into(), self.memory);
        all.insert("ephemeral-storage".into(), self.ephemeral_storage);
        all.insert("pods".into(), Quantity::new(i64::from(self.pods), Format::DecimalSI));
        all
    }

    fn allocatable(&self) -> BTreeMap<String, Quantity> {
        let mut all = self.capacity();
        for (name, reserved) in &self.reserved {
            if let Some(quantity) = all.get_mut(name) {
                let left = *quantity - *reserved;
                *quantity = if left.is_negative() { Quantity::ZERO } else { left };
            }
        }
        all
    }

    /// The labels of a node of this name.
    pub fn labels_of(&self, name: &str) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        for domain in ["kubernetes.io", "beta.kubernetes.io"] {
            labels.insert(format!("{domain}/arch"), self.architecture.clone());
            labels.insert(format!("{domain}/os"), self.operating_system.clone());
        }
        labels.insert("kubernetes.io/hostname".into(), name.to_owned());
        labels
    }
}

/// What a Node object says, besides its template.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) name: &'a str,
    pub(super) template: &'a NodeTemplate,
    pub(super) ips: &'a [IpAddr],
    pub(super) runtime: &'a RuntimeInfo,
    pub(super) pressure: Pressure,
    pub(super) health: &'a Result<(), RuntimeError>,
    pub(super) now: Timestamp,
}

fn api(quantities: BTreeMap<String, Quantity>) -> BTreeMap<String, ApiQuantity> {
    quantities.into_iter().map(|(name, value)| (name, ApiQuantity(value.to_string()))).collect()
}

fn conditions_of(facts: &Facts<'_>) -> [NodeCondition; 4] {
    let now = Some(crate::pod::seconds(facts.now));
    let condition = |kind: &str, status: bool, reason: &str, message: String| NodeCondition {
        type_: kind.into(),
        status: if status { "True" } else { "False" }.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_heartbeat_time: now.clone(),
        last_transition_time: now.clone(),
    };
    let pressure = |kind: &str, has: bool, (bad, bad_text): (&str, &str), (good, good_text): (&str, &str)| {
        let (reason, text) = if has { (bad, bad_text) } else { (good, good_text) };
        condition(kind, has, reason, format!("kubelet has {text}"))
    };
    let Pressure { memory, disk, pid } = facts.pressure;
    [
        pressure(
            "MemoryPressure",
            memory,
            ("KubeletHasInsufficientMemory", "insufficient memory available"),
            ("KubeletHasSufficientMemory", "sufficient memory available"),
        ),
        pressure(
            "DiskPressure",
            disk,
            ("KubeletHasDiskPressure", "disk pressure"),
            ("KubeletHasNoDiskPressure", "no disk pressure"),
        ),
        pressure(
            "PIDPressure",
            pid,
            ("KubeletHasInsufficientPID", "insufficient PID available"),
            ("KubeletHasSufficientPID", "sufficient PID available"),
        ),
        match facts.health {
            Ok(()) => condition("Ready", true, "KubeletReady", "kubelet is posting ready status".into()),
            Err(error) => condition("Ready", false, "KubeletNotReady", error.to_string()),
        },
    ]
}

/// A number that depends on the node's name alone, as hexadecimal digits: what a machine's ids are here.
fn machine_id(name: &str, salt: &str) -> String {
    let hash = [salt, name].concat().bytes().fold(0x6c62_272e_07bb_0142_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0100_0000_01b3_0000_0193)
    });
    format!("{hash:032x}")
}

/// Brings a status up to what the node is now; what others write into it is kept.
pub(super) fn report(facts: &Facts<'_>, status: &mut NodeStatus) {
    let template = facts.template;
    status.capacity = Some(api(template.capacity()));
    status.allocatable = Some(api(template.allocatable()));
    let mut addresses: Vec<_> = facts
        .ips
        .iter()
        .map(|ip| NodeAddress { type_: "InternalIP".into(), address: ip.to_string() })
        .collect();
    addresses.push(NodeAddress { type_: "Hostname".into(), address: facts.name.to_owned() });
    status.addresses = Some(addresses);
    status.declared_features = Some(template.declared_features.clone());
    status.node_info = Some(NodeSystemInfo {
        architecture: template.architecture.clone(),
        operating_system: template.operating_system.clone(),
        os_image: template.os_image.clone(),
        kernel_version: template.kernel_version.clone(),
        kubelet_version: concat!("v1.37.0-rkube.", env!("CARGO_PKG_VERSION")).into(),
        container_runtime_version: format!("{}://{}", facts.runtime.name, facts.runtime.version),
        machine_id: machine_id(facts.name, "machine"),
        system_uuid: machine_id(facts.name, "system"),
        boot_id: machine_id(facts.name, "boot"),
        ..NodeSystemInfo::default()
    });
    let list = status.conditions.get_or_insert_default();
    for condition in conditions_of(facts) {
        conditions::set(list, condition, crate::pod::seconds(facts.now).0);
    }
}

/// The object that registers the node.
pub(super) fn node(facts: &Facts<'_>) -> Node {
    let template = facts.template;
    let mut status = NodeStatus::default();
    report(facts, &mut status);
    let annotations = template.annotations.clone();
    Node {
        metadata: ObjectMeta {
            name: Some(facts.name.to_owned()),
            labels: Some(template.labels_of(facts.name)),
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: (!template.taints.is_empty()).then(|| template.taints.clone()),
            ..NodeSpec::default()
        }),
        status: Some(status),
    }
}

/// Whether two reports differ in more than when they were made.
pub(super) fn differs(old: &NodeStatus, new: &NodeStatus) -> bool {
    let quiet = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None::<Time>;
        }
        status
    };
    quiet(old) != quiet(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<'a>(template: &'a NodeTemplate, runtime: &'a RuntimeInfo, now: i64) -> Facts<'a> {
        Facts {
            name: "n",
            template,
            ips: &[],
            runtime,
            pressure: Pressure::default(),
            health: &Ok(()),
            now: Timestamp::from_second(now).unwrap(),
        }
    }

    #[test]
    fn a_node_says_what_its_template_says() {
        let mut template = NodeTemplate::default();
        template.reserved.insert("cpu".into(), "500m".parse().unwrap());
        let runtime =
            RuntimeInfo { name: "sim".into(), version: "1".into(), capabilities: Default::default() };
        let node = node(&facts(&template, &runtime, 0));
        let status = node.status.clone().unwrap();
        let text = |map: &Option<BTreeMap<String, ApiQuantity>>, name| map.as_ref().unwrap()[name].0.clone();
        assert_eq!(text(&status.capacity, "cpu"), "32");
        assert_eq!(text(&status.capacity, "memory"), "256Gi");
        assert_eq!(text(&status.capacity, "ephemeral-storage"), "1Ti");
        assert_eq!(text(&status.allocatable, "cpu"), "31500m");
        assert_eq!(text(&status.allocatable, "pods"), "110");
        assert_eq!(node.metadata.labels.unwrap()["kubernetes.io/hostname"], "n");
        let reasons: Vec<_> = status
            .conditions
            .unwrap()
            .into_iter()
            .map(|one| (one.type_, one.status, one.reason.unwrap()))
            .collect();
        assert_eq!(reasons[3], ("Ready".into(), "True".into(), "KubeletReady".into()));
        assert_eq!(reasons[0].2, "KubeletHasSufficientMemory");
    }

    #[test]
    fn a_later_report_differs_in_time_only() {
        let template = NodeTemplate::default();
        let runtime =
            RuntimeInfo { name: "sim".into(), version: "1".into(), capabilities: Default::default() };
        let old = node(&facts(&template, &runtime, 0)).status.unwrap();
        let mut new = old.clone();
        report(&facts(&template, &runtime, 99), &mut new);
        assert!(old != new && !differs(&old, &new));
        let pressed = Facts {
            pressure: Pressure { disk: true, ..Pressure::default() },
            ..facts(&template, &runtime, 99)
        };
        report(&pressed, &mut new);
        assert!(differs(&old, &new));
        let disk = conditions::get(new.conditions.as_deref().unwrap(), "DiskPressure").unwrap();
        assert_eq!(disk.last_transition_time.as_ref().unwrap().0.as_second(), 99);
    }
}
