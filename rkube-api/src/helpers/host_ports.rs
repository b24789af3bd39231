//! Ports of the node that pods take.

use super::pod::host_ports;
use k8s_openapi::api::core::v1::Pod;

/// Every address of a node.
const ANY: &str = "0.0.0.0";
const TCP: &str = "TCP";

/// A port of the node, on one of its addresses or on all.
///
/// ```
/// use rkube_api::helpers::HostPort;
///
/// let pod = |ip: &str| serde_json::from_value(serde_json::json!({"spec": {"containers": [
///     {"name": "c", "ports": [{"containerPort": 80, "hostPort": 80, "hostIP": ip}]}
/// ]}})).unwrap();
/// let (any, one, other) = (HostPort::of(&pod("")), HostPort::of(&pod("10.0.0.1")), HostPort::of(&pod("10.0.0.2")));
/// assert!(any[0].conflicts(&one[0]));
/// assert!(!one[0].conflicts(&other[0]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// The protocol: TCP unless said otherwise.
    pub protocol: Box<str>,
    /// The address; `0.0.0.0`, the default, stands for all.
    pub address: Box<str>,
    /// The port.
    pub port: i32,
}

impl HostPort {
    /// The ports that a pod takes.
    pub fn of(pod: &Pod) -> Box<[Self]> {
        let ports = pod.spec.iter().flat_map(host_ports);
        let given = |text: &Option<String>, default: &str| {
            text.as_deref().filter(|text| !text.is_empty()).unwrap_or(default).into()
        };
        ports
            .map(|port| Self {
                protocol: given(&port.protocol, TCP),
                address: given(&port.host_ip, ANY),
                port: port.host_port.unwrap_or_default(),
            })
            .collect()
    }

    /// Whether two pods cannot have them at once.
    pub fn conflicts(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address || *self.address == *ANY || *other.address == *ANY)
    }
}
