//! A pod that names its node goes there or nowhere.

use crate::{
    engine::Candidates,
    framework::{
        Actions, Args, ClusterEvent, ConfigError, CycleState, Filter, Handle, Hint, Interest, Locality,
        Plugin, PointSet, Points, Resource, Status, Subject,
    },
    snapshot::{NodeView, PodInfo, Snapshot, node_of},
};

/// The plugin's name.
pub const NAME: &str = "NodeName";

/// Filters by `spec.nodeName`. See the module's documentation.
#[derive(Debug)]
pub struct NodeName;

/// Makes the plugin; it has no arguments.
pub fn make(_: &Args, _: &Handle) -> Result<PointSet, ConfigError> {
    Ok(Points::of(NodeName).filter().done())
}

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> Vec<Interest> {
        vec![Interest::new(Resource::Node, Actions::ADD)]
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> Hint {
        match &event.subject {
            Subject::Node { new: Some(node), .. } => {
                node_of(&pod.pod).is_none_or(|wanted| node.metadata.name.as_deref() == Some(wanted)).into()
            }
            _ => Hint::Queue,
        }
    }

    fn locality(&self, _: &PodInfo, _: &Snapshot) -> Locality {
        Locality::Node
    }
}

impl Filter for NodeName {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: NodeView<'_>) -> Status {
        match node_of(&pod.pod) {
            Some(wanted) if wanted != node.name() => {
                Status::unresolvable("node(s) didn't match the requested node name")
            }
            _ => Status::success(),
        }
    }

    fn filter_all(&self, state: &CycleState, pod: &PodInfo, nodes: &mut Candidates<'_>) {
        if node_of(&pod.pod).is_some() {
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
    fn only_the_named_node_will_do() {
        let snapshot = testing::snapshot(["a", "b"].map(|name| json!({"metadata": {"name": name}})));
        let pod = testing::pod("p", json!({"nodeName": "b"}));
        let refused = "node(s) didn't match the requested node name";
        testing::assert_filter(&NodeName, &pod, &snapshot, &[refused, ""]);
        testing::assert_filter(&NodeName, &testing::pod("p", json!({})), &snapshot, &["", ""]);
    }
}
