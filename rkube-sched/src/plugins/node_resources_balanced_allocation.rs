//! Prefers nodes on which the pod evens out the use of resources.
//!
//! With `f` the fractions requested of each resource, a node's balance is `100 * (1 - deviation(f))`.
//! The score is `50 + (50 + balance with the pod - balance without it) / 2`, in whole numbers, as in
//! kube-scheduler since 1.35.

use std::collections::BTreeSet;

use rkube_api::meta::validation::{ErrorList, FieldError, FieldPath};
use serde::Deserialize;
use smallvec::SmallVec;

use crate::{
    allocation::{ResourceSpec, Wanted, completed, cpu_and_memory, wanted},
    framework::{
        Args, ConfigError, CycleState, Handle, Interest, Locality, MAX_NODE_SCORE, Normalization, Plugin,
        PointSet, Points, PreScore, Score, Status,
    },
    snapshot::{NodeSet, NodeView, PodInfo, Snapshot},
};

/// The plugin's name.
pub const NAME: &str = "NodeResourcesBalancedAllocation";

/// The plugin's arguments, as in `KubeSchedulerConfiguration`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BalancedAllocationArgs {
    /// The resources that count, by default CPU and memory; weights must be 1.
    #[serde(default = "cpu_and_memory")]
    pub resources: Vec<ResourceSpec>,
}

impl Default for BalancedAllocationArgs {
    fn default() -> Self {
        Self { resources: cpu_and_memory() }
    }
}

/// Scores by balance. See the module's documentation.
#[derive(Debug)]
pub struct BalancedAllocation {
    resources: Vec<ResourceSpec>,
}

/// Makes the plugin from [`BalancedAllocationArgs`].
pub fn make(args: &Args, _: &Handle) -> Result<PointSet, ConfigError> {
    let args: BalancedAllocationArgs = args.read(NAME)?;
    let resources = completed(args.resources);
    validate(&resources).map_err(|errors| ConfigError::arguments(NAME, errors.to_string()))?;
    Ok(Points::of(BalancedAllocation { resources }).pre_score().score().done())
}

fn validate(resources: &[ResourceSpec]) -> Result<(), ErrorList> {
    let (mut errors, mut seen) = (ErrorList::default(), BTreeSet::new());
    let path = FieldPath::new("resources");
    for (index, ResourceSpec { name, weight }) in resources.iter().enumerate() {
        let path = path.index(index);
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        if *weight != 1 {
            errors.push(FieldError::invalid(&path.child("weight"), weight, "must be 1"));
        }
    }
    errors.into_result()
}

#[derive(Clone)]
struct State(Vec<Wanted>);

/// `100 * (1 - deviation)`, cut to a whole number.
fn balance(fractions: &[f64]) -> i64 {
    let deviation = match fractions {
        [a, b] => ((a - b) / 2.0).abs(),
        [] | [_] => 0.0,
        many => {
            let mean = many.iter().sum::<f64>() / many.len() as f64;
            let squares = many.iter().map(|fraction| (fraction - mean) * (fraction - mean));
            (squares.sum::<f64>() / many.len() as f64).sqrt()
        }
    };
    ((1.0 - deviation) * MAX_NODE_SCORE as f64) as i64
}

/// The score, from what the node has of each resource, what is requested, and what the pod adds.
fn score_of(resources: impl Iterator<Item = (i64, i64, i64)>) -> i64 {
    let (mut with, mut without) = (SmallVec::<[f64; 4]>::new(), SmallVec::<[f64; 4]>::new());
    for (allocatable, requested, amount) in resources.filter(|(allocatable, ..)| *allocatable != 0) {
        let fraction = |amount: i64| (amount as f64 / allocatable as f64).min(1.0);
        with.push(fraction(requested.saturating_add(amount)));
        without.push(fraction(requested));
    }
    MAX_NODE_SCORE / 2 + (MAX_NODE_SCORE / 2 + balance(&with) - balance(&without)) / 2
}

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> Vec<Interest> {
        Vec::new()
    }

    fn locality(&self, _: &PodInfo, _: &Snapshot) -> Locality {
        Locality::NodeAndPods
    }
}

impl PreScore for BalancedAllocation {
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, nodes: NodeSet<'_>) -> Status {
        let wanted = wanted(nodes.snapshot(), pod, &self.resources, false);
        // A pod that asks for nothing changes no balance; scored, such pods would all pile up on the
        // node that happens to be most even.
        if wanted.iter().all(|resource| resource.amount == 0) {
            return Status::skip();
        }
        state.write(State(wanted));
        Status::success()
    }
}

impl Score for BalancedAllocation {
    fn score(&self, state: &CycleState, _: &PodInfo, node: NodeView<'_>) -> Result<i64, Status> {
        match state.read::<State>() {
            Some(State(wanted)) => Ok(score_of(wanted.iter().map(|resource| {
                (node.allocatable(resource.column), node.requested(resource.column), resource.amount)
            }))),
            None => Err(Status::error("PreScore has not run")),
        }
    }

    fn score_all(&self, state: &CycleState, _: &PodInfo, nodes: NodeSet<'_>, scores: &mut [i64]) -> Status {
        let Some(State(wanted)) = state.read::<State>() else {
            return Status::error("PreScore has not run");
        };
        let columns = nodes.snapshot().columns();
        let wanted: Vec<_> = wanted.iter().map(|wanted| (wanted.columns(columns), wanted.amount)).collect();
        for (score, id) in scores.iter_mut().zip(nodes.ids()) {
            let row = id.row();
            let resources = wanted.iter();
            *score =
                score_of(resources.map(|((has, requested), amount)| (has[row], requested[row], *amount)));
        }
        Status::success()
    }

    fn normalization(&self) -> Normalization {
        Normalization::None
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn wrong_arguments_are_refused() {
        let refused = |resources| make(&Args(json!({"resources": resources})), &Handle::default()).err();
        for resources in [json!([]), json!([{"name": "cpu"}]), json!([{"name": "cpu", "weight": 1}])] {
            assert!(refused(resources).is_none());
        }
        let text = refused(json!([{"name": "cpu"}, {"name": "cpu", "weight": 2}])).unwrap().to_string();
        assert!(text.contains("resources[1].name: Duplicate value: \"cpu\""), "{text}");
        assert!(text.contains("resources[1].weight: Invalid value: 2: must be 1"), "{text}");
    }

    use serde_json::json;

    use super::*;
    use crate::{snapshot::PlacedPod, testing};

    fn plugin() -> BalancedAllocation {
        BalancedAllocation { resources: cpu_and_memory() }
    }

    /// By hand. Without the pod both are even: 100. With it: a uses 3000/4000 of CPU and 5000/10000 of
    /// memory, deviation 0.125, balance 87; b 3000/6000 and 5000/10000, balance 100.
    /// Scores: 50 + (50 + 87 - 100) / 2 = 68 and 50 + 50 / 2 = 75.
    #[test]
    fn empty_nodes_of_two_sizes() {
        let snapshot = testing::snapshot([
            testing::node("a", json!({"cpu": "4", "memory": "10000"})),
            testing::node("b", json!({"cpu": "6", "memory": "10000"})),
        ]);
        let pod = testing::pod_asking("p", json!({"cpu": "3", "memory": "5000"}));
        testing::assert_scores(&plugin(), Some(&plugin()), &pod, &snapshot, &[68, 75]);
    }

    /// By hand. On a 1 of 4 CPU and 5000 of 10000 are in use: deviation 0.125, balance 87; with the pod
    /// (1 CPU) 0.5 and 0.5: 100; score 50 + (50 + 13) / 2 = 81. On b the pod makes an even node uneven:
    /// balance 100 to 87 (0.25 and 0): 50 + (50 - 13) / 2 = 68.
    #[test]
    fn a_pod_that_evens_a_node_out_is_welcome_there() {
        let mut snapshot = testing::snapshot([
            testing::node("a", json!({"cpu": "4", "memory": "10000"})),
            testing::node("b", json!({"cpu": "4", "memory": "10000"})),
        ]);
        let there = testing::pod_asking("q", json!({"cpu": "1", "memory": "5000"}));
        snapshot.set_pod(PlacedPod::from(&there), "a");
        let pod = testing::pod_asking("p", json!({"cpu": "1", "memory": "0"}));
        testing::assert_scores(&plugin(), Some(&plugin()), &pod, &snapshot, &[81, 68]);
    }

    /// By hand: fractions 0.5, 0.25, 0; mean 0.25; variance (0.0625 + 0 + 0.0625) / 3; deviation 0.2041.
    #[test]
    fn three_resources_use_the_standard_deviation() {
        assert_eq!(balance(&[0.5, 0.25, 0.0]), 79);
    }

    #[test]
    fn a_pod_that_asks_for_nothing_is_not_scored() {
        let snapshot = testing::snapshot([testing::node("a", json!({"cpu": "4", "memory": "10000"}))]);
        let nodes = NodeSet::new(&snapshot, snapshot.nodes());
        let pod = testing::pod_asking("p", json!({}));
        assert!(plugin().pre_score(&mut CycleState::default(), &pod, nodes).is_skip());
    }
}
