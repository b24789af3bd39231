//! Keeps pods off cordoned nodes, unless they tolerate that.

use k8s_openapi::api::core::v1::Taint;
use rkube_api::helpers::taints::tolerated;

use crate::{
    framework::{
        Actions, Args, ClusterEvent, ConfigError, CycleState, Filter, Handle, Hint, Interest, Plugin,
        PointSet, Points, Resource, Status, Subject, is_own_update,
    },
    snapshot::{NodeView, PodInfo},
};

/// The plugin's name.
pub const NAME: &str = "NodeUnschedulable";

/// Filters cordoned nodes. See the module's documentation.
#[derive(Debug)]
pub struct NodeUnschedulable;

/// Makes the plugin; it has no arguments.
pub fn make(_: &Args, _: &Handle) -> Result<PointSet, ConfigError> {
    Ok(Points::of(NodeUnschedulable).filter().done())
}

fn tolerates_cordon(pod: &PodInfo) -> bool {
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    tolerated(&taint, pod.tolerations())
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> Vec<Interest> {
        vec![
            Interest::new(Resource::Node, Actions::ADD | Actions::UPDATE_NODE_TAINT),
            Interest::new(Resource::PendingPod, Actions::UPDATE_POD_TOLERATION),
        ]
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> Hint {
        match &event.subject {
            Subject::Node { new: Some(node), .. } => {
                let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or_default();
                (!cordoned || tolerates_cordon(pod)).into()
            }
            Subject::Pod { .. } => is_own_update(pod, event).into(),
            _ => Hint::Queue,
        }
    }
}

impl Filter for NodeUnschedulable {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: NodeView<'_>) -> Status {
        if !node.unschedulable() || tolerates_cordon(pod) {
            return Status::success();
        }
        Status::unresolvable("node(s) were unschedulable")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[test]
    fn cordoned_nodes_take_only_pods_that_tolerate_it() {
        let snapshot =
            testing::snapshot([json!({"metadata": {"name": "a"}, "spec": {"unschedulable": true}})]);
        let node = snapshot.view(snapshot.nodes()[0]);
        let refused = NodeUnschedulable.filter(&CycleState::default(), &testing::pod("p", json!({})), node);
        assert_eq!(refused, Status::unresolvable("node(s) were unschedulable"));
        let daemon =
            json!({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]});
        let daemon = testing::pod("p", daemon);
        assert!(NodeUnschedulable.filter(&CycleState::default(), &daemon, node).is_success());
    }

    #[test]
    fn uncordoning_helps() {
        let pod = testing::pod("p", json!({}));
        let event = |unschedulable: bool| {
            let value = json!({"metadata": {"name": "a"}, "spec": {"unschedulable": unschedulable}});
            ClusterEvent::node_added(testing::as_node(value))
        };
        assert_eq!(NodeUnschedulable.hint(&pod, &event(false)), Hint::Queue);
        assert_eq!(NodeUnschedulable.hint(&pod, &event(true)), Hint::Skip);
    }
}
