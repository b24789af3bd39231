//! `nodeSelector` and node affinity: where a pod must run, and where it would rather.

use k8s_openapi::api::core::v1::{
    Node, NodeAffinity as ApiNodeAffinity, NodeSelector, NodeSelectorTerm, PreferredSchedulingTerm,
};
use rkube_api::helpers::affinity::RequiredNodeAffinity;
use serde::Deserialize;

use crate::{
    framework::{
        Actions, Args, ClusterEvent, ConfigError, CycleState, Filter, Handle, Hint, Interest, Locality,
        MAX_NODE_SCORE, Normalization, Plugin, PointSet, Points, PreFilter, PreFiltered, PreScore, Resource,
        Score, Status, Subject, default_normalize,
    },
    matching::{CompiledTerm, CompiledTerms, required_node_names},
    snapshot::{NodeSet, NodeView, PodInfo, Snapshot},
};

/// The plugin's name.
pub const NAME: &str = "NodeAffinity";

const REFUSED: &str = "node(s) didn't match Pod's node affinity/selector";
const REFUSED_BY_ADDED: &str = "node(s) didn't match scheduler-enforced node affinity";
const CONFLICT: &str = "pod affinity terms conflict";

/// The plugin's arguments, as in `KubeSchedulerConfiguration`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeAffinityArgs {
    /// Affinity that every pod of the profile has besides its own.
    #[serde(default)]
    pub added_affinity: Option<ApiNodeAffinity>,
}

/// Filters and scores by node affinity. See the module's documentation.
#[derive(Debug)]
pub struct NodeAffinity {
    added_required: Option<Vec<NodeSelectorTerm>>,
    added_preferred: Vec<PreferredSchedulingTerm>,
}

/// Makes the plugin from [`NodeAffinityArgs`].
pub fn make(args: &Args, _: &Handle) -> Result<PointSet, ConfigError> {
    let args: NodeAffinityArgs = args.read(NAME)?;
    let plugin = NodeAffinity::new(args.added_affinity.unwrap_or_default());
    Ok(Points::of(plugin).pre_filter().filter().pre_score().score().done())
}

/// Compiled for one cycle.
#[derive(Clone)]
struct Required {
    added: Option<CompiledTerms>,
    selector: Option<CompiledTerm>,
    terms: Option<CompiledTerms>,
}

#[derive(Clone)]
struct Preferred(Vec<(CompiledTerm, i64)>);

fn affinity(pod: &PodInfo) -> Option<&ApiNodeAffinity> {
    pod.spec()?.affinity.as_ref()?.node_affinity.as_ref()
}

fn required(pod: &PodInfo) -> Option<&[NodeSelectorTerm]> {
    let required = affinity(pod)?.required_during_scheduling_ignored_during_execution.as_ref()?;
    Some(&required.node_selector_terms)
}

fn preferred(pod: &PodInfo) -> &[PreferredSchedulingTerm] {
    affinity(pod)
        .and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_deref())
        .unwrap_or_default()
}

impl NodeAffinity {
    /// The plugin with an affinity that every pod has besides its own.
    pub fn new(added: ApiNodeAffinity) -> Self {
        Self {
            added_required: added
                .required_during_scheduling_ignored_during_execution
                .map(|selector| selector.node_selector_terms),
            added_preferred: added.preferred_during_scheduling_ignored_during_execution.unwrap_or_default(),
        }
    }

    fn compile(&self, pod: &PodInfo, snapshot: &Snapshot) -> Required {
        let terms = |terms: &[NodeSelectorTerm]| CompiledTerms::new(terms, snapshot);
        let selector = pod.spec().and_then(|spec| spec.node_selector.as_ref());
        Required {
            added: self.added_required.as_deref().map(terms),
            selector: selector.map(|labels| CompiledTerm::of_labels(labels, snapshot)),
            terms: required(pod).map(terms),
        }
    }

    /// Whether the pod may run on a node that is not in any snapshot.
    fn admits(&self, pod: &PodInfo, node: &Node) -> bool {
        let added = self.added_required.as_ref().map(|terms| {
            RequiredNodeAffinity::of_selector(&NodeSelector { node_selector_terms: terms.clone() })
        });
        let own = pod.spec().map(RequiredNodeAffinity::of).unwrap_or_default();
        added.is_none_or(|added| added.matches_node(node)) && own.matches_node(node)
    }
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> Vec<Interest> {
        vec![Interest::new(Resource::Node, Actions::ADD | Actions::UPDATE_NODE_LABEL)]
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> Hint {
        match &event.subject {
            Subject::Node { old, new: Some(new) } => {
                let matched = old.as_ref().is_some_and(|old| self.admits(pod, old));
                (self.admits(pod, new) && !matched).into()
            }
            _ => Hint::Queue,
        }
    }

    fn locality(&self, _: &PodInfo, _: &Snapshot) -> Locality {
        Locality::Node
    }
}

impl PreFilter for NodeAffinity {
    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, snapshot: &Snapshot) -> PreFiltered {
        let selector = pod.spec().and_then(|spec| spec.node_selector.as_ref());
        let (terms, plain) = (required(pod), selector.is_none_or(|labels| labels.is_empty()));
        if plain && terms.is_none() && self.added_required.is_none() {
            return Status::skip().into();
        }
        state.write(self.compile(pod, snapshot));
        let Some(names) = required_node_names(terms.unwrap_or_default()) else {
            return PreFiltered::default();
        };
        if names.is_empty() {
            return Status::unresolvable(CONFLICT).into();
        }
        let nodes = names.into_iter().filter_map(|name| snapshot.find(name)).collect();
        PreFiltered { status: Status::success(), nodes: Some(nodes) }
    }
}

impl Filter for NodeAffinity {
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: NodeView<'_>) -> Status {
        let compiled;
        let required = match state.read::<Required>() {
            Some(required) => required,
            None => {
                compiled = self.compile(pod, node.snapshot());
                &compiled
            }
        };
        if required.added.as_ref().is_some_and(|terms| !terms.matches(node)) {
            return Status::unresolvable(REFUSED_BY_ADDED);
        }
        let refused = required.selector.as_ref().is_some_and(|term| !term.matches(node))
            || required.terms.as_ref().is_some_and(|terms| !terms.matches(node));
        if refused { Status::unresolvable(REFUSED) } else { Status::success() }
    }
}

impl PreScore for NodeAffinity {
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, nodes: NodeSet<'_>) -> Status {
        let terms = self.added_preferred.iter().chain(preferred(pod));
        let terms: Vec<_> = terms
            .filter(|term| term.weight != 0)
            .map(|term| (CompiledTerm::new(&term.preference, nodes.snapshot()), i64::from(term.weight)))
            .collect();
        if terms.is_empty() {
            return Status::skip();
        }
        state.write(Preferred(terms));
        Status::success()
    }
}

impl Score for NodeAffinity {
    fn score(&self, state: &CycleState, _: &PodInfo, node: NodeView<'_>) -> Result<i64, Status> {
        let terms = state.read::<Preferred>().map_or(&[][..], |preferred| &preferred.0);
        Ok(terms.iter().filter(|(term, _)| term.matches(node)).map(|(_, weight)| weight).sum())
    }

    fn normalize(&self, _: &CycleState, _: &PodInfo, scores: &mut [i64]) -> Status {
        default_normalize(MAX_NODE_SCORE, false, scores);
        Status::success()
    }

    fn normalization(&self) -> Normalization {
        Normalization::ByValue
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    fn cluster() -> Snapshot {
        let node = |name, zone: &str, disk: &str| json!({"metadata": {"name": name, "labels": {"zone": zone, "disk": disk}}});
        testing::snapshot([node("a", "z1", "ssd"), node("b", "z1", "hdd"), node("c", "z2", "ssd")])
    }

    fn wants(key: &str, values: &[&str]) -> serde_json::Value {
        json!({"matchExpressions": [{"key": key, "operator": "In", "values": values}]})
    }

    fn plain() -> NodeAffinity {
        NodeAffinity::new(ApiNodeAffinity::default())
    }

    #[test]
    fn selector_and_terms_must_both_match() {
        let pod = testing::pod(
            "p",
            json!({
                "nodeSelector": {"disk": "ssd"},
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [wants("zone", &["z2", "z9"]), wants("zone", &["z3"])]
                }}}
            }),
        );
        testing::assert_filter(&plain(), &pod, &cluster(), &[REFUSED, REFUSED, ""]);
    }

    #[test]
    fn the_profiles_own_affinity_is_told_apart() {
        let args = json!({"addedAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [wants("zone", &["z1"])]
        }}});
        let args: NodeAffinityArgs = Args(args).read(NAME).unwrap();
        let plugin = NodeAffinity::new(args.added_affinity.unwrap());
        let pod = testing::pod("p", json!({"nodeSelector": {"disk": "ssd"}}));
        testing::assert_filter(&plugin, &pod, &cluster(), &["", REFUSED, REFUSED_BY_ADDED]);
    }

    #[test]
    fn named_nodes_narrow_the_search_and_conflicts_end_it() {
        let named = |names: &[&str]| json!({"key": "metadata.name", "operator": "In", "values": names});
        let pod = |fields: serde_json::Value| {
            testing::pod(
                "p",
                json!({"affinity": {"nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": fields}]}
                }}}),
            )
        };
        let snapshot = cluster();
        let ask = |pod: &PodInfo| plain().pre_filter(&mut CycleState::default(), pod, &snapshot);
        let only = ask(&pod(json!([named(&["b", "gone"])]))).nodes.unwrap();
        assert_eq!(only.into_iter().collect::<Vec<_>>(), [snapshot.find("b").unwrap()]);
        let conflict = ask(&pod(json!([named(&["a"]), named(&["b"])]))).status;
        assert_eq!(conflict, Status::unresolvable(CONFLICT));
        assert!(ask(&testing::pod("p", json!({}))).status.is_skip());
    }

    /// By hand: sums 2 + 6, 2, 6; scaled to the maximum of 8: 100, 25, 75.
    #[test]
    fn preferences_add_up() {
        let pod = testing::pod(
            "p",
            json!({"affinity": {"nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 2, "preference": wants("zone", &["z1"])},
                    {"weight": 6, "preference": wants("disk", &["ssd"])},
                    {"weight": 50, "preference": {}}
                ]
            }}}),
        );
        testing::assert_scores(&plain(), Some(&plain()), &pod, &cluster(), &[100, 25, 75]);
    }

    #[test]
    fn a_label_that_now_matches_helps() {
        let pod = testing::pod("p", json!({"nodeSelector": {"disk": "ssd"}}));
        let node =
            |disk: &str| testing::as_node(json!({"metadata": {"name": "a", "labels": {"disk": disk}}}));
        let (hdd, ssd, other) = (node("hdd"), node("ssd"), node("tape"));
        let update = |old, new| ClusterEvent::node_updated(old, new).unwrap();
        assert_eq!(plain().hint(&pod, &update(&hdd, &ssd)), Hint::Queue);
        assert_eq!(plain().hint(&pod, &update(&hdd, &other)), Hint::Skip);
        assert_eq!(plain().hint(&pod, &ClusterEvent::node_added(ssd)), Hint::Queue);
    }
}
