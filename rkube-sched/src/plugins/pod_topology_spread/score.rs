//! Soft constraints.

use std::sync::Arc;

use super::{HOSTNAME, PodTopologySpread, SOFT, constraint::Compiled, own};
use crate::{
    framework::{CycleState, MAX_NODE_SCORE, Normalization, PreScore, Score, Status},
    snapshot::{Facet, NodeId, NodeSet, NodeView, PodInfo, Snapshot, Sums},
};

/// The raw score of a node that lacks a label: it ends with 0, and the others are not measured against it.
const LEFT_OUT: i64 = -1;

/// The constraints, and what counts for them.
#[derive(Clone)]
struct Soft(Arc<Compiled>, Arc<[Option<Sums>]>);

impl Soft {
    /// How many pods count on a node, for a constraint by which each node is a domain of its own.
    fn peers(&self, index: usize, node: NodeId) -> i64 {
        self.1[index].as_ref().and_then(|sums| Some(sums.at(sums.topology.of(node)?))).unwrap_or(0)
    }

    fn by_node(&self, index: usize) -> bool {
        self.0.constraints[index].key == HOSTNAME
    }
}

#[derive(Clone)]
struct ScoreState {
    soft: Soft,
    /// The number of the empty label value, if a node has it.
    empty: Option<u32>,
    /// How many pods count in the domain of an empty label, by constraint: to kube-scheduler it is that of
    /// the nodes without the label.
    unnamed: Arc<[i64]>,
    /// What a pod weighs, by constraint: the more domains, the more.
    weights: Arc<[f64]>,
}

impl ScoreState {
    fn new(soft: Soft, pod: &PodInfo, nodes: NodeSet<'_>) -> Self {
        let (compiled, snapshot) = (&soft.0, nodes.snapshot());
        let empty = empty(snapshot);
        let size = |index: usize| {
            let topology = compiled.topology(index);
            let (mut size, mut seen) = (0, vec![false; topology.bound() + 1]);
            for (id, count) in nodes.counted().filter(|(id, _)| !compiled.leaves_out(*id)) {
                let domain = named(compiled, index, id, empty);
                let own = soft.by_node(index) || (domain.is_some() && topology.parts_nodes());
                let before = !own && std::mem::replace(&mut seen[domain.unwrap_or(topology.bound())], true);
                size += if own { count } else { usize::from(!before) };
            }
            size
        };
        let indexes = 0..compiled.constraints.len();
        let weights = indexes.clone().map(|index| ((size(index) + 2) as f64).ln()).collect();
        let unnamed = indexes.map(|index| unnamed(compiled, index, pod, snapshot)).collect();
        Self { soft, empty, unnamed, weights }
    }

    fn score(&self, node: NodeId) -> i64 {
        let compiled = &self.soft.0;
        if compiled.leaves_out(node) {
            return LEFT_OUT;
        }
        let mut score = 0.0;
        for (index, constraint) in compiled.constraints.iter().enumerate() {
            if compiled.domain(index, node).is_none() {
                continue;
            }
            let count = if self.soft.by_node(index) {
                self.soft.peers(index, node)
            } else {
                let domain = named(compiled, index, node, self.empty);
                domain.map_or(self.unnamed[index], |domain| compiled.count(index, domain))
            };
            // A greater skew allowed makes differences between domains matter less.
            score += count as f64 * self.weights[index] + (constraint.max_skew - 1) as f64;
        }
        score.round() as i64
    }
}

/// The number of the empty label value, if a node has it.
fn empty(snapshot: &Snapshot) -> Option<u32> {
    snapshot.label_values().find("")
}

/// The node's domain; an empty label is as none, which is what kube-scheduler makes of it.
fn named(compiled: &Compiled, index: usize, node: NodeId, empty: Option<u32>) -> Option<usize> {
    let topology = compiled.topology(index);
    topology.of(node).filter(|part| empty.is_none_or(|empty| topology.value(*part) != empty))
}

/// How many pods count on nodes without the label or with an empty one. Nobody asks where none is empty.
fn unnamed(compiled: &Compiled, index: usize, pod: &PodInfo, snapshot: &Snapshot) -> i64 {
    let empty = empty(snapshot);
    if empty.is_none() {
        return 0;
    }
    let peers = compiled.peers_by_node(index, pod, snapshot);
    let count =
        |id: NodeId| peers.as_ref().and_then(|sums| Some(sums.at(sums.topology.of(id)?))).unwrap_or(0);
    let unnamed = snapshot.nodes().iter().filter(|id| {
        !compiled.leaves_out(**id)
            && named(compiled, index, **id, empty).is_none()
            && compiled.includes(index, snapshot.view(**id), pod)
    });
    unnamed.map(|id| count(*id)).sum()
}

impl PodTopologySpread {
    /// The soft constraints of a pod, if it has any.
    fn soft(&self, pod: &PodInfo, snapshot: &Snapshot) -> Option<Soft> {
        let constraints = self.constraints(pod, SOFT);
        if constraints.is_empty() {
            return None;
        }
        let all_labels = !own(pod).is_empty() || !self.system_defaults;
        let compiled = Compiled::new(constraints, all_labels, pod, snapshot);
        let by_node = |index: usize| compiled.constraints[index].key == HOSTNAME;
        let peers = (0..compiled.constraints.len())
            .map(|index| by_node(index).then(|| compiled.peers_by_node(index, pod, snapshot)).flatten());
        let peers = peers.collect();
        Some(Soft(Arc::new(compiled), peers))
    }

    /// What a node is to the soft constraints.
    pub(super) fn soft_facets(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Option<Vec<Facet>> {
        let Some(soft) = self.soft(pod, snapshot) else { return Some(Vec::new()) };
        // A node with an empty label is not like others in its part.
        if empty(snapshot).is_some() {
            return None;
        }
        let facets = soft.0.facets().chain(soft.1.iter().flatten().map(Facet::of)).collect();
        state.write(soft);
        Some(facets)
    }
}

impl PreScore for PodTopologySpread {
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, nodes: NodeSet<'_>) -> Status {
        let soft = state.read::<Soft>().cloned().or_else(|| self.soft(pod, nodes.snapshot()));
        let Some(soft) = soft else { return Status::skip() };
        state.write(ScoreState::new(soft, pod, nodes));
        Status::success()
    }
}

impl Score for PodTopologySpread {
    /// The pods that count, weighed: the fewer the better.
    fn score(&self, state: &CycleState, _: &PodInfo, node: NodeView<'_>) -> Result<i64, Status> {
        match state.read::<ScoreState>() {
            Some(state) => Ok(state.score(node.id())),
            None => Err(Status::error("PreScore has not run")),
        }
    }

    fn score_all(&self, state: &CycleState, _: &PodInfo, nodes: NodeSet<'_>, scores: &mut [i64]) -> Status {
        let Some(state) = state.read::<ScoreState>() else { return Status::error("PreScore has not run") };
        for (score, id) in scores.iter_mut().zip(nodes.ids()) {
            *score = state.score(*id);
        }
        Status::success()
    }

    fn normalization(&self) -> Normalization {
        Normalization::ByValue
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
