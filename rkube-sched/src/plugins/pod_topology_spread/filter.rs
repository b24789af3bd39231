//! Hard constraints.

use std::{collections::BTreeMap, sync::Arc};

use super::{HARD, NO_LABEL, PodTopologySpread, REFUSED, constraint::Compiled};
use crate::{
    engine::Candidates,
    framework::{CycleState, Filter, PreFilter, PreFilterExtensions, PreFiltered, Status},
    plugins::{Refuses, filter_all_by, filter_by},
    snapshot::{Facet, NodeId, NodeView, PlacedPod, PodInfo, Snapshot, Sums},
};

/// The counts before the cycle, and what a what-if run has moved since.
#[derive(Clone)]
struct FilterState {
    compiled: Arc<Compiled>,
    /// Whether the pod itself counts, by constraint.
    counts_itself: Arc<[bool]>,
    /// By constraint and domain.
    moved: Vec<(usize, usize, i64)>,
    /// The fewest pods in any domain, by constraint.
    fewest: Vec<i64>,
}

impl FilterState {
    fn new(compiled: Compiled, pod: &PodInfo) -> Self {
        let itself = compiled.constraints.iter().map(|constraint| constraint.selector.matches(pod.labels()));
        let mut state = Self {
            counts_itself: itself.collect(),
            compiled: Arc::new(compiled),
            moved: Vec::new(),
            fewest: Vec::new(),
        };
        state.find_fewest();
        state
    }

    fn moved(&self, index: usize, domain: usize) -> i64 {
        let here = self.moved.iter().filter(|(of, at, _)| (*of, *at) == (index, domain));
        here.map(|(.., change)| change).sum()
    }

    fn count(&self, index: usize, domain: usize) -> i64 {
        let before = self.compiled.count(index, domain);
        if self.moved.is_empty() { before } else { before + self.moved(index, domain) }
    }

    fn find_fewest(&mut self) {
        self.fewest = (0..self.compiled.constraints.len()).map(|index| self.fewest_of(index)).collect();
    }

    /// The fewest pods in any domain; none if there are fewer domains than the constraint wants.
    fn fewest_of(&self, index: usize) -> i64 {
        let none = BTreeMap::new();
        let levels = self.compiled.counts(index).map_or(&none, Sums::levels);
        if levels.values().sum::<usize>() < self.compiled.constraints[index].min_domains {
            return 0;
        }
        let mut touched = self.moved.iter().filter(|(of, ..)| *of == index).map(|(_, domain, _)| *domain);
        let least = match touched.next() {
            None => levels.keys().next().copied(),
            // A what-if run moves pods of one node: one domain.
            Some(first) if touched.all(|domain| domain == first) => {
                let before = self.compiled.count(index, first);
                let mut others = levels.iter().filter(|(count, domains)| **count != before || **domains > 1);
                let others = others.next().map(|(count, _)| *count);
                others.into_iter().chain([self.count(index, first)]).min()
            }
            Some(_) => {
                let all = self.compiled.counts(index).into_iter().flat_map(Sums::parts);
                all.map(|domain| self.count(index, domain)).min()
            }
        };
        least.unwrap_or(i64::from(i32::MAX))
    }

    fn shift(&mut self, pod: &PodInfo, moved: &PlacedPod, node: NodeView<'_>, by: i64) {
        if *moved.namespace != *pod.key.namespace || !self.compiled.has_all_domains(node.id()) {
            return;
        }
        for (index, constraint) in self.compiled.constraints.iter().enumerate() {
            if constraint.selector.matches(&moved.labels)
                && self.compiled.includes(index, node, pod)
                && let Some(domain) = self.compiled.domain(index, node.id())
            {
                self.moved.push((index, domain, by));
            }
        }
        self.find_fewest();
    }
}

impl Refuses for FilterState {
    fn refusal(&self, node: NodeId) -> Option<Status> {
        for (index, constraint) in self.compiled.constraints.iter().enumerate() {
            let Some(domain) = self.compiled.domain(index, node) else {
                return Some(Status::unresolvable(NO_LABEL));
            };
            let there = self.count(index, domain) + i64::from(self.counts_itself[index]);
            if there - self.fewest[index] > constraint.max_skew {
                return Some(Status::unschedulable(REFUSED));
            }
        }
        None
    }
}

/// What a node is to the hard constraints, if PreFilter has found any.
pub(super) fn facets(state: &CycleState) -> impl Iterator<Item = Facet> {
    state.read::<FilterState>().into_iter().flat_map(|state| state.compiled.facets())
}

impl PodTopologySpread {
    fn filter_state(&self, pod: &PodInfo, snapshot: &Snapshot) -> Option<FilterState> {
        let constraints = self.constraints(pod, HARD);
        let compiled = (!constraints.is_empty()).then(|| Compiled::new(constraints, true, pod, snapshot));
        compiled.map(|compiled| FilterState::new(compiled, pod))
    }
}

impl PreFilter for PodTopologySpread {
    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, snapshot: &Snapshot) -> PreFiltered {
        match self.filter_state(pod, snapshot) {
            Some(prepared) => state.write(prepared),
            None => return Status::skip().into(),
        }
        PreFiltered::default()
    }

    fn extensions(&self) -> Option<&dyn PreFilterExtensions> {
        Some(self)
    }
}

impl PreFilterExtensions for PodTopologySpread {
    fn shift(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        moved: &PlacedPod,
        node: NodeView<'_>,
        by: i64,
    ) -> Status {
        if let Some(state) = state.modify::<FilterState>() {
            state.shift(pod, moved, node, by);
        }
        Status::success()
    }
}

impl Filter for PodTopologySpread {
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: NodeView<'_>) -> Status {
        filter_by(state, node, || self.filter_state(pod, node.snapshot()))
    }

    fn filter_all(&self, state: &CycleState, pod: &PodInfo, nodes: &mut Candidates<'_>) {
        let snapshot = nodes.snapshot();
        filter_all_by(state, nodes, || self.filter_state(pod, snapshot));
    }
}
