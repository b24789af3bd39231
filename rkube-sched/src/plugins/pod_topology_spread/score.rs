//! Soft constraints.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::FixedState;

use super::{HOSTNAME, PodTopologySpread, SOFT, constraint::Compiled, own};
use crate::{
    framework::{CycleState, MAX_NODE_SCORE, PreScore, Score, Status},
    snapshot::{NodeSet, NodeView, PodInfo},
};

/// The raw score of a node that lacks a label: it ends with 0, and the others are not measured against it.
const LEFT_OUT: i64 = -1;

#[derive(Clone)]
struct ScoreState {
    compiled: Arc<Compiled>,
    /// Whether nodes that lack a label are left out.
    all_labels: bool,
    /// How many pods count in each domain, by constraint; nodes without the label share a domain. Nodes as
    /// domains are counted one by one.
    domains: Arc<[HashMap<Option<u32>, i64, FixedState>]>,
    /// What a pod weighs, by constraint: the more domains, the more.
    weights: Arc<[f64]>,
}

impl ScoreState {
    fn new(compiled: Compiled, all_labels: bool, pod: &PodInfo, nodes: NodeSet<'_>) -> Self {
        let count = compiled.constraints.len();
        let mut domains = vec![HashMap::<Option<u32>, i64, FixedState>::default(); count];
        let by_node = |index: usize| compiled.constraints[index].key == HOSTNAME;
        let scored = |node: &NodeView<'_>| !all_labels || compiled.has_all_domains(*node);
        let mut scored_nodes = 0;
        for node in nodes.iter().filter(scored) {
            scored_nodes += 1;
            for index in (0..count).filter(|index| !by_node(*index)) {
                domains[index].entry(domain(&compiled, index, node)).or_default();
            }
        }
        let size = |index: usize| if by_node(index) { scored_nodes } else { domains[index].len() };
        let weights = (0..count).map(|index| ((size(index) + 2) as f64).ln()).collect();
        let snapshot = nodes.snapshot();
        for node in snapshot.nodes().iter().map(|&id| snapshot.view(id)).filter(scored) {
            for (index, constraint) in compiled.constraints.iter().enumerate() {
                // Domains without a node in question are of no interest.
                if compiled.includes(index, node, pod)
                    && let Some(sum) = domains[index].get_mut(&domain(&compiled, index, node))
                {
                    *sum += constraint.count(node, &pod.key.namespace);
                }
            }
        }
        Self { compiled: Arc::new(compiled), all_labels, domains: domains.into(), weights }
    }

    fn score(&self, pod: &PodInfo, node: NodeView<'_>) -> i64 {
        if self.all_labels && !self.compiled.has_all_domains(node) {
            return LEFT_OUT;
        }
        let mut score = 0.0;
        for (index, constraint) in self.compiled.constraints.iter().enumerate() {
            if self.compiled.domain(index, node).is_none() {
                continue;
            }
            let count = if constraint.key == HOSTNAME {
                constraint.count(node, &pod.key.namespace)
            } else {
                self.domains[index].get(&domain(&self.compiled, index, node)).copied().unwrap_or(0)
            };
            // A greater skew allowed makes differences between domains matter less.
            score += count as f64 * self.weights[index] + (constraint.max_skew - 1) as f64;
        }
        score.round() as i64
    }
}

/// The node's domain; an empty label is as none, which is what kube-scheduler makes of it.
fn domain(compiled: &Compiled, index: usize, node: NodeView<'_>) -> Option<u32> {
    let value = compiled.domain(index, node)?;
    node.snapshot().label_values().get(value).filter(|text| !text.is_empty()).map(|_| value)
}

impl PreScore for PodTopologySpread {
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, nodes: NodeSet<'_>) -> Status {
        let constraints = self.constraints(pod, SOFT);
        if constraints.is_empty() {
            return Status::skip();
        }
        let all_labels = !own(pod).is_empty() || !self.system_defaults;
        let compiled = Compiled::new(constraints, pod, nodes.snapshot());
        state.write(ScoreState::new(compiled, all_labels, pod, nodes));
        Status::success()
    }
}

impl Score for PodTopologySpread {
    /// The pods that count, weighed: the fewer the better.
    fn score(&self, state: &CycleState, pod: &PodInfo, node: NodeView<'_>) -> Result<i64, Status> {
        match state.read::<ScoreState>() {
            Some(state) => Ok(state.score(pod, node)),
            None => Err(Status::error("PreScore has not run")),
        }
    }

    fn normalize(&self, _: &CycleState, _: &PodInfo, scores: &mut [i64]) -> Status {
        let counted = || scores.iter().copied().filter(|score| *score != LEFT_OUT);
        let least = counted().min().unwrap_or(0);
        let most = counted().max().unwrap_or(0);
        for score in scores {
            *score = match *score {
                LEFT_OUT => 0,
                _ if most == 0 => MAX_NODE_SCORE,
                raw => MAX_NODE_SCORE * (most + least - raw) / most,
            };
        }
        Status::success()
    }
}
