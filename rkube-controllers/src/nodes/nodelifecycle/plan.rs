//! What a node's silence means: conditions, taints, and when to look again.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Node, NodeCondition, Pod, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
};
use rkube_api::{
    helpers::{
        node as nodes,
        taints::{effect, remove, set},
    },
    meta::conditions,
};

/// The taint of a node that says it isn't ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The taint of a node that says nothing.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// The taint of a cordoned node.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Taints that keep pods away while a condition is true.
const PRESSURE: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// The conditions that turn Unknown when a node falls silent.
const SILENCED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// How long nodes may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A node that was heard before.
    pub running: Duration,
    /// A node that was never heard: its agent is starting.
    pub starting: Duration,
}

impl Default for Patience {
    /// Kubernetes' defaults: 50 s, and 60 s at the start.
    fn default() -> Self {
        Self { running: Duration::from_secs(50), starting: Duration::from_secs(60) }
    }
}

/// What is known of a node.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The node.
    pub node: &'a Node,
    /// For how long neither its lease was renewed nor its status reported.
    pub silent: Duration,
    /// The limits.
    pub patience: Patience,
    /// Whether pods may be driven out of nodes at present; see `zones`.
    pub may_drive_out: bool,
    /// The time.
    pub now: Time,
}

/// What to do about a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The node with its new conditions, if they change.
    pub status: Option<Box<Node>>,
    /// The taints that it should have, if they change.
    pub taints: Option<Vec<Taint>>,
    /// Whether the node lost its readiness just now, so that its pods aren't ready either.
    pub pods_not_ready: bool,
    /// Whether a taint that drives pods out is due but isn't allowed now.
    pub held_back: bool,
    /// When the node would be silent for too long.
    pub look_again: Option<Duration>,
}

/// Decides.
pub fn plan(observed: &Observed<'_>) -> Plan {
    let node = observed.node;
    let heard = ready(node).is_some();
    let limit = if heard { observed.patience.running } else { observed.patience.starting };
    let lost = observed.silent >= limit;
    let changed = if lost { silenced(node, &observed.now) } else { None };
    let after = changed.as_ref().unwrap_or(node);
    let was_ready = nodes::is_ready(node);
    let (taints, held_back) = taints(after, observed);
    Plan {
        pods_not_ready: !nodes::is_ready(after) && (was_ready || lost && changed.is_some()),
        taints: (taints != nodes::taints(node)).then_some(taints),
        held_back,
        look_again: (!lost).then(|| limit.saturating_sub(observed.silent)),
        status: changed.map(Box::new),
    }
}

fn ready(node: &Node) -> Option<&NodeCondition> {
    conditions::get(nodes::conditions_of(node), "Ready")
}

/// The node as one that nothing is known of; `None` if its conditions say so already.
fn silenced(node: &Node, now: &Time) -> Option<Node> {
    let mut changed = node.clone();
    let list = changed.status.get_or_insert_default().conditions.get_or_insert_default();
    for kind in SILENCED {
        let old = conditions::get(list, kind).cloned();
        if old.as_ref().is_some_and(|old| old.status == "Unknown") {
            continue;
        }
        let (reason, message) = if old.is_some() {
            ("NodeStatusUnknown", "Kubelet stopped posting node status.")
        } else {
            ("NodeStatusNeverUpdated", "Kubelet never posted node status.")
        };
        let heartbeat = old.and_then(|old| old.last_heartbeat_time);
        let condition = NodeCondition {
            type_: kind.into(),
            status: "Unknown".into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_heartbeat_time: heartbeat.or_else(|| node.metadata.creation_timestamp.clone()),
            last_transition_time: Some(now.clone()),
        };
        conditions::set(list, condition, now.0);
    }
    (changed != *node).then_some(changed)
}

/// The taints that the node should have, and whether one was held back.
fn taints(node: &Node, observed: &Observed<'_>) -> (Vec<Taint>, bool) {
    let mut taints = nodes::taints(node).to_vec();
    let state = ready(node).map(|condition| condition.status.as_str());
    let readiness = match state {
        Some("True") => None,
        Some("False") => Some(NOT_READY),
        Some(_) => Some(UNREACHABLE),
        // Nothing was said yet: nothing is concluded.
        None => return (taints, false),
    };
    for key in [NOT_READY, UNREACHABLE] {
        want(&mut taints, key, effect::NO_SCHEDULE, readiness == Some(key), &observed.now);
        if readiness != Some(key) {
            remove(&mut taints, key, effect::NO_EXECUTE);
        }
    }
    for (kind, key) in PRESSURE {
        let under = conditions::is_true(nodes::conditions_of(node), kind);
        want(&mut taints, key, effect::NO_SCHEDULE, under, &observed.now);
    }
    want(&mut taints, UNSCHEDULABLE, effect::NO_SCHEDULE, nodes::is_unschedulable(node), &observed.now);
    let Some(key) = readiness else { return (taints, false) };
    let drives = taints.iter().any(|taint| taint.key == key && taint.effect == effect::NO_EXECUTE);
    if !drives && observed.may_drive_out {
        want(&mut taints, key, effect::NO_EXECUTE, true, &observed.now);
    }
    (taints, !drives && !observed.may_drive_out)
}

/// Adds or removes a taint; one that is there keeps its time.
fn want(taints: &mut Vec<Taint>, key: &str, effect: &str, wanted: bool, now: &Time) {
    if !wanted {
        remove(taints, key, effect);
    } else if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
        let taint =
            Taint { key: key.into(), effect: effect.into(), value: None, time_added: Some(now.clone()) };
        set(taints, taint);
    }
}

/// The pod as one that isn't ready, its node being lost; `None` if it isn't ready anyway.
pub fn not_ready(pod: &Pod, now: &Time) -> Option<Pod> {
    let ready = conditions::get(pod.status.as_ref()?.conditions.as_deref()?, "Ready")?;
    if ready.status == "False" {
        return None;
    }
    let mut condition = ready.clone();
    condition.status = "False".into();
    crate::facts::with_condition(pod, condition, now)
}
