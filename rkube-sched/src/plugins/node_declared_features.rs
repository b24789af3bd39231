//! A pod that uses a young feature of nodes goes to one that has it (KEP-5328).
//!
//! A node's kubelet says in `status.declaredFeatures` what it can do; what a pod needs follows from its spec.
//! Features that every supported node has are not declared, and not asked for.

use k8s_openapi::api::core::v1::{Container, Node, PodSpec};

use crate::{
    engine::Candidates,
    framework::{
        Actions, Args, ClusterEvent, ConfigError, CycleState, Filter, Handle, Hint, Interest, Locality,
        Plugin, PointSet, Points, Resource, Status, Subject,
    },
    snapshot::{NodeView, PodInfo, Snapshot},
};

/// The plugin's name.
pub const NAME: &str = "NodeDeclaredFeatures";

/// Whether a pod needs a feature.
type Needs = fn(&PodSpec) -> bool;

/// The features of Kubernetes 1.37 that decide where a pod runs.
const FEATURES: &[(&str, Needs)] = &[
    ("RestartAllContainersOnContainerExits", restarts_all),
    ("UserNamespacesHostNetworkSupport", |spec| {
        spec.host_network == Some(true) && spec.host_users == Some(false)
    }),
    ("VolumeBindMountOptions", binds_with_options),
];

fn restarts_all(spec: &PodSpec) -> bool {
    let rules = containers(spec).flat_map(|container| container.restart_policy_rules.iter().flatten());
    rules.into_iter().any(|rule| rule.action == "RestartAllContainers")
}

fn binds_with_options(spec: &PodSpec) -> bool {
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let mounts = (containers(spec).map(|container| &container.volume_mounts))
        .chain(ephemeral.map(|container| &container.volume_mounts));
    mounts.flatten().flatten().any(|mount| mount.bind_mount_options.as_ref().is_some_and(|it| !it.is_empty()))
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.containers.iter().chain(spec.init_containers.iter().flatten())
}

/// The features that a pod needs.
fn needed(pod: &PodInfo) -> impl Iterator<Item = &'static str> {
    let features =
        pod.spec().into_iter().flat_map(|spec| FEATURES.iter().filter(move |(_, needs)| needs(spec)));
    features.map(|&(name, _)| name)
}

fn declares(node: &Node, feature: &str) -> bool {
    let declared = node.status.as_ref().and_then(|status| status.declared_features.as_deref());
    declared.unwrap_or_default().iter().any(|name| name == feature)
}

/// Filters by declared features. See the module's documentation.
#[derive(Debug)]
pub struct NodeDeclaredFeatures;

/// Makes the plugin; it has no arguments.
pub fn make(_: &Args, _: &Handle) -> Result<PointSet, ConfigError> {
    Ok(Points::of(NodeDeclaredFeatures).filter().done())
}

impl Plugin for NodeDeclaredFeatures {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> Vec<Interest> {
        vec![Interest::new(Resource::Node, Actions::ADD | Actions::UPDATE_NODE_DECLARED_FEATURES)]
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> Hint {
        match &event.subject {
            Subject::Node { new: Some(node), .. } => needed(pod).all(|name| declares(node, name)).into(),
            _ => Hint::Queue,
        }
    }

    fn locality(&self, _: &PodInfo, _: &Snapshot) -> Locality {
        Locality::Node
    }

    fn same_content(&self, one: &PodInfo, other: &PodInfo) -> bool {
        needed(one).eq(needed(other))
    }
}

impl Filter for NodeDeclaredFeatures {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: NodeView<'_>) -> Status {
        let has = |feature: &str| node.node().is_some_and(|node| declares(node, feature));
        let missing: Vec<_> = needed(pod).filter(|feature| !has(feature)).collect();
        if missing.is_empty() {
            return Status::success();
        }
        let missing = missing.join(", ");
        Status::unresolvable(format!(
            "node declared features check failed - unsatisfied requirements: {missing}"
        ))
    }

    fn filter_all(&self, state: &CycleState, pod: &PodInfo, nodes: &mut Candidates<'_>) {
        if needed(pod).next().is_some() {
            nodes.retain(|node| self.filter(state, pod, node));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    fn declaring(name: &str, features: &[&str]) -> serde_json::Value {
        json!({"metadata": {"name": name}, "status": {"declaredFeatures": features}})
    }

    #[test]
    fn a_pod_goes_where_all_that_it_needs_is_declared() {
        let both = ["RestartAllContainersOnContainerExits", "UserNamespacesHostNetworkSupport"];
        let snapshot = testing::snapshot([
            declaring("new", &both),
            declaring("half", &both[..1]),
            declaring("old", &[]),
        ]);
        let plain = testing::pod("p", json!({"hostNetwork": true}));
        testing::assert_filter(&NodeDeclaredFeatures, &plain, &snapshot, &["", "", ""]);
        let rules =
            json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [1]}}]);
        let init = json!([{"name": "i", "restartPolicyRules": rules}]);
        let picky =
            testing::pod("p", json!({"hostNetwork": true, "hostUsers": false, "initContainers": init}));
        let text = "node declared features check failed - unsatisfied requirements: ";
        let half = format!("{text}{}", both[1]);
        let old = format!("{text}{}", both.join(", "));
        testing::assert_filter(&NodeDeclaredFeatures, &picky, &snapshot, &["", &half, &old]);
        assert!(!NodeDeclaredFeatures.same_content(&plain, &picky));
    }

    #[test]
    fn mount_options_count_in_every_container() {
        let mounts = json!([{"name": "v", "mountPath": "/v", "bindMountOptions": ["nosuid"]}]);
        for kind in ["containers", "initContainers", "ephemeralContainers"] {
            let pod = testing::pod("p", json!({kind: [{"name": "c", "volumeMounts": mounts}]}));
            assert_eq!(needed(&pod).collect::<Vec<_>>(), ["VolumeBindMountOptions"], "{kind}");
        }
    }

    #[test]
    fn only_a_node_that_declares_enough_helps() {
        let pod = testing::pod("p", json!({"hostNetwork": true, "hostUsers": false}));
        let node = |features: &[&str]| testing::as_node(declaring("n", features));
        let (old, new) = (node(&[]), node(&["UserNamespacesHostNetworkSupport"]));
        let event = ClusterEvent::node_updated(&old, &new).unwrap();
        assert!(NodeDeclaredFeatures.events()[0].matches(&event));
        assert_eq!(NodeDeclaredFeatures.hint(&pod, &event), Hint::Queue);
        assert_eq!(NodeDeclaredFeatures.hint(&pod, &ClusterEvent::node_added(old)), Hint::Skip);
    }
}
