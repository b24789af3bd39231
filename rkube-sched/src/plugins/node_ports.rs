//! Keeps pods off nodes where the ports are taken that they want.

use crate::{
    framework::{
        Actions, Args, ClusterEvent, ConfigError, CycleState, Filter, Handle, Hint, Interest, Locality,
        Plugin, PointSet, Points, PreFilter, PreFiltered, Resource, Status, Subject,
    },
    matching::HostPort,
    snapshot::{NodeView, PodInfo, Snapshot},
};

/// The plugin's name.
pub const NAME: &str = "NodePorts";

const REFUSED: &str = "node(s) didn't have free ports for the requested pod ports";

/// Filters by the ports of nodes. See the module's documentation.
#[derive(Debug)]
pub struct NodePorts;

/// Makes the plugin; it has no arguments.
pub fn make(_: &Args, _: &Handle) -> Result<PointSet, ConfigError> {
    Ok(Points::of(NodePorts).pre_filter().filter().done())
}

fn conflict(wanted: &[HostPort], taken: &[HostPort]) -> bool {
    wanted.iter().any(|port| taken.iter().any(|other| port.conflicts(other)))
}

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> Vec<Interest> {
        vec![
            Interest::new(Resource::AssignedPod, Actions::DELETE),
            Interest::new(Resource::Node, Actions::ADD),
        ]
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> Hint {
        match &event.subject {
            Subject::Pod { old: Some(gone), new: None } => conflict(&pod.ports, &gone.ports).into(),
            _ => Hint::Queue,
        }
    }

    fn locality(&self, pod: &PodInfo, _: &Snapshot) -> Locality {
        if pod.ports.is_empty() { Locality::Node } else { Locality::NodeAndPods }
    }
}

impl PreFilter for NodePorts {
    fn pre_filter(&self, _: &mut CycleState, pod: &PodInfo, _: &Snapshot) -> PreFiltered {
        if pod.ports.is_empty() { Status::skip().into() } else { PreFiltered::default() }
    }
}

impl Filter for NodePorts {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: NodeView<'_>) -> Status {
        if pod.ports.is_empty() {
            return Status::success();
        }
        let taken = node.pods().any(|there| conflict(&pod.ports, &there.ports));
        if taken { Status::unschedulable(REFUSED) } else { Status::success() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing;

    fn with_port(name: &str, mut port: Value) -> PodInfo {
        port["containerPort"] = json!(80);
        testing::pod(name, json!({"nodeName": "a", "containers": [{"name": "c", "ports": [port]}]}))
    }

    #[test]
    fn a_port_is_taken_by_protocol_and_address() {
        let mut snapshot = testing::snapshot(["a", "b"].map(|name| testing::node(name, json!({}))));
        let there = with_port("x", json!({"hostPort": 80, "hostIP": "10.0.0.1"}));
        testing::place(&mut snapshot, [(there, "a")]);
        let check = |port, expected: &str| {
            testing::assert_filter(&NodePorts, &with_port("p", port), &snapshot, &[expected, ""]);
        };
        check(json!({"hostPort": 80}), REFUSED);
        check(json!({"hostPort": 80, "hostIP": "0.0.0.0"}), REFUSED);
        check(json!({"hostPort": 80, "hostIP": "10.0.0.1"}), REFUSED);
        check(json!({"hostPort": 80, "hostIP": "10.0.0.2"}), "");
        check(json!({"hostPort": 80, "protocol": "UDP"}), "");
        check(json!({"hostPort": 81}), "");
        check(json!({}), "");
        let ask =
            |port| NodePorts.pre_filter(&mut CycleState::default(), &with_port("p", port), &snapshot).status;
        assert!(ask(json!({})).is_skip());
        let locality = |port| NodePorts.locality(&with_port("p", port), &snapshot);
        assert_eq!(locality(json!({})), Locality::Node);
        assert_eq!(locality(json!({"hostPort": 1})), Locality::NodeAndPods);
        assert!(ask(json!({"hostPort": 1})).is_success());
    }

    #[test]
    fn only_a_pod_that_had_the_port_helps_by_going() {
        let pod = with_port("p", json!({"hostPort": 80}));
        let gone = |port| ClusterEvent::assigned_pod_deleted(testing::placed(with_port("x", port)));
        assert_eq!(NodePorts.hint(&pod, &gone(json!({"hostPort": 80}))), Hint::Queue);
        assert_eq!(NodePorts.hint(&pod, &gone(json!({"hostPort": 81}))), Hint::Skip);
    }
}
