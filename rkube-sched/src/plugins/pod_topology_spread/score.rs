//! Soft constraints.

use std::sync::Arc;

use super::{
    HOSTNAME, PodTopologySpread, SOFT,
    constraint::{ABSENT, Compiled},
    own,
};
use crate::{
    framework::{CycleState, MAX_NODE_SCORE, PreScore, Score, Status},
    snapshot::{NodeId, NodeSet, NodeView, PodInfo, Snapshot},
};

/// The raw score of a node that lacks a label: it ends with 0, and the others are not measured against it.
const LEFT_OUT: i64 = -1;

#[derive(Clone)]
struct ScoreState {
    compiled: Arc<Compiled>,
    /// Whether nodes that lack a label are left out.
    all_labels: bool,
    /// How many pods count in each domain, by constraint; the last is that of nodes without the label.
    /// Nodes as domains are counted one by one.
    domains: Arc<[Vec<i64>]>,
    /// What a pod weighs, by constraint: the more domains, the more.
    weights: Arc<[f64]>,
}

impl ScoreState {
    fn new(compiled: Compiled, all_labels: bool, pod: &PodInfo, nodes: NodeSet<'_>) -> Self {
        let snapshot = nodes.snapshot();
        let mut domains = compiled.no_domains();
        domains.iter_mut().for_each(|counts| counts.push(ABSENT));
        let by_node = |index: usize| compiled.constraints[index].key == HOSTNAME;
        let scored = |id: &&NodeId| !all_labels || compiled.has_all_domains(**id);
        let mut scored_nodes = 0;
        for id in nodes.ids().iter().filter(scored) {
            scored_nodes += 1;
            for (index, counts) in domains.iter_mut().enumerate().filter(|(index, _)| !by_node(*index)) {
                counts[domain(&compiled, index, *id, snapshot)] = 0;
            }
        }
        let present = |counts: &Vec<i64>| counts.iter().filter(|count| **count != ABSENT).count();
        let size = |index: usize| if by_node(index) { scored_nodes } else { present(&domains[index]) };
        let weights = (0..domains.len()).map(|index| ((size(index) + 2) as f64).ln()).collect();
        for id in snapshot.nodes().iter().filter(scored) {
            for (index, counts) in domains.iter_mut().enumerate() {
                let sum = &mut counts[domain(&compiled, index, *id, snapshot)];
                // Domains without a node in question are of no interest.
                if *sum != ABSENT && compiled.includes(index, snapshot.view(*id), pod) {
                    *sum += compiled.peers(index, *id);
                }
            }
        }
        Self { compiled: Arc::new(compiled), all_labels, domains: domains.into(), weights }
    }

    fn score(&self, node: NodeId, snapshot: &Snapshot) -> i64 {
        if self.all_labels && !self.compiled.has_all_domains(node) {
            return LEFT_OUT;
        }
        let mut score = 0.0;
        for (index, constraint) in self.compiled.constraints.iter().enumerate() {
            if self.compiled.domain(index, node).is_none() {
                continue;
            }
            let count = if constraint.key == HOSTNAME {
                self.compiled.peers(index, node)
            } else {
                self.domains[index][domain(&self.compiled, index, node, snapshot)].max(0)
            };
            // A greater skew allowed makes differences between domains matter less.
            score += count as f64 * self.weights[index] + (constraint.max_skew - 1) as f64;
        }
        score.round() as i64
    }
}

/// The node's domain; an empty label is as none, which is what kube-scheduler makes of it.
fn domain(compiled: &Compiled, index: usize, node: NodeId, snapshot: &Snapshot) -> usize {
    let topology = compiled.topology(index);
    let named = |part: &usize| {
        snapshot.label_values().get(topology.value(*part)).is_some_and(|text| !text.is_empty())
    };
    topology.of(node).filter(named).unwrap_or(topology.bound())
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
    fn score(&self, state: &CycleState, _: &PodInfo, node: NodeView<'_>) -> Result<i64, Status> {
        match state.read::<ScoreState>() {
            Some(state) => Ok(state.score(node.id(), node.snapshot())),
            None => Err(Status::error("PreScore has not run")),
        }
    }

    fn score_all(&self, state: &CycleState, _: &PodInfo, nodes: NodeSet<'_>, scores: &mut [i64]) -> Status {
        let Some(state) = state.read::<ScoreState>() else { return Status::error("PreScore has not run") };
        for (score, id) in scores.iter_mut().zip(nodes.ids()) {
            *score = state.score(*id, nodes.snapshot());
        }
        Status::success()
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
