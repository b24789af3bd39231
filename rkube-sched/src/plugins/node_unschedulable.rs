//! Keeps pods off cordoned nodes, unless they tolerate that.

use k8s_openapi::api::core::v1::Taint;
use rkube_api::helpers::taints::tolerated;

use crate::{
    engine::Candidates,
    framework::{
        Actions, Args, ClusterEvent, ConfigError, CycleState, Filter, Handle, Hint, Interest, Locality,
        Plugin, PointSet, Points, Resource, Status, Subject, is_own_update,
    },
    snapshot::{NodeView, PodInfo, Snapshot},
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
            Subject::Waiting { .. } => is_own_update(pod, event).into(),
            _ => Hint::Queue,
        }
    }

    fn locality(&self, _: &PodInfo, _: &Snapshot) -> Locality {
        Locality::Node
    }
}

impl Filter for NodeUnschedulable {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: NodeView<'_>) -> Status {
        if !node.unschedulable() || tolerates_cordon(pod) {
            return Status::success();
        }
        Status::unresolvable("node(s) were unschedulable")
    }

    fn filter_all(&self, state: &CycleState, pod: &PodInfo, nodes: &mut Candidates<'_>) {
        if nodes.snapshot().unschedulable_nodes() > 0 {
            nodes.retain(|node| self.filter(state, pod, node));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[test]
    fn cordoned_nodes_take_only_pods_that_tolerate_it() {
        let nodes = [true, false].map(|cordoned| {
            json!({"metadata": {"name": format!("{cordoned}")}, "spec": {"unschedulable": cordoned}})
        });
        let mut snapshot = testing::snapshot(nodes);
        let plain = testing::pod("p", json!({}));
        testing::assert_filter(&NodeUnschedulable, &plain, &snapshot, &["node(s) were unschedulable", ""]);
        let daemon =
            json!({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]});
        let daemon = testing::pod("p", daemon);
        testing::assert_filter(&NodeUnschedulable, &daemon, &snapshot, &["", ""]);
        snapshot.remove_node("true");
        testing::assert_filter(&NodeUnschedulable, &plain, &snapshot, &[""]);
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
