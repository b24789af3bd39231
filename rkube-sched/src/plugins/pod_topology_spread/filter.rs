//! Hard constraints.

use std::sync::Arc;

use super::{
    HARD, NO_LABEL, PodTopologySpread, REFUSED,
    constraint::{ABSENT, Compiled},
};
use crate::{
    engine::Candidates,
    framework::{CycleState, Filter, PreFilter, PreFilterExtensions, PreFiltered, Status},
    plugins::{Refuses, filter_all_by, filter_by},
    snapshot::{NodeId, NodeView, PlacedPod, PodInfo, Snapshot},
};

/// How many pods count in each domain of a constraint.
#[derive(Clone, Debug, Default)]
struct Domains {
    /// By domain; [`ABSENT`] for one that no node counts for.
    counts: Vec<i64>,
    /// How many there are.
    number: usize,
    /// The two domains with the fewest pods, fewest first.
    least: [Option<(usize, i64)>; 2],
}

impl Domains {
    fn new(counts: Vec<i64>) -> Self {
        let mut least: [Option<(usize, i64)>; 2] = [None, None];
        let mut number = 0;
        for (domain, &count) in counts.iter().enumerate().filter(|(_, count)| **count != ABSENT) {
            number += 1;
            let fewer = |other: Option<(usize, i64)>| other.is_none_or(|(_, least)| count < least);
            if fewer(least[0]) {
                least = [Some((domain, count)), least[0]];
            } else if fewer(least[1]) {
                least[1] = Some((domain, count));
            }
        }
        Self { counts, number, least }
    }

    fn present(&self) -> impl Iterator<Item = usize> {
        self.counts.iter().enumerate().filter(|(_, count)| **count != ABSENT).map(|(domain, _)| domain)
    }
}

/// The counts before the cycle, and what a what-if run has moved since.
#[derive(Clone)]
struct FilterState {
    compiled: Arc<Compiled>,
    domains: Arc<[Domains]>,
    /// Whether the pod itself counts, by constraint.
    counts_itself: Arc<[bool]>,
    /// By constraint and domain.
    moved: Vec<(usize, usize, i64)>,
    /// The fewest pods in any domain, by constraint.
    fewest: Vec<i64>,
}

impl FilterState {
    fn new(compiled: Compiled, pod: &PodInfo, snapshot: &Snapshot) -> Self {
        let mut counts = compiled.no_domains();
        let nodes = snapshot.nodes().iter().filter(|id| compiled.has_all_domains(**id));
        for &id in nodes {
            for (index, counts) in counts.iter_mut().enumerate() {
                if compiled.includes(index, snapshot.view(id), pod)
                    && let Some(domain) = compiled.domain(index, id)
                {
                    counts[domain] = counts[domain].max(0) + compiled.peers(index, id);
                }
            }
        }
        let itself = compiled.constraints.iter().map(|constraint| constraint.selector.matches(pod.labels()));
        let mut state = Self {
            counts_itself: itself.collect(),
            domains: counts.into_iter().map(Domains::new).collect(),
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
        let before = self.domains[index].counts.get(domain).copied().unwrap_or(0).max(0);
        if self.moved.is_empty() { before } else { before + self.moved(index, domain) }
    }

    fn find_fewest(&mut self) {
        self.fewest = (0..self.domains.len()).map(|index| self.fewest_of(index)).collect();
    }

    /// The fewest pods in any domain; none if there are fewer domains than the constraint wants.
    fn fewest_of(&self, index: usize) -> i64 {
        let domains = &self.domains[index];
        if domains.number < self.compiled.constraints[index].min_domains {
            return 0;
        }
        let mut touched = self.moved.iter().filter(|(of, ..)| *of == index).map(|(_, domain, _)| *domain);
        let Some(first) = touched.next() else {
            return domains.least[0].map_or(i64::from(i32::MAX), |(_, count)| count);
        };
        if touched.all(|domain| domain == first) {
            // A what-if run moves pods of one node: one domain.
            let others = domains.least.iter().flatten().find(|(domain, _)| *domain != first);
            let there = self.count(index, first);
            return others.map_or(there, |(_, count)| there.min(*count));
        }
        let all = domains.present().map(|domain| self.count(index, domain));
        all.min().unwrap_or(i64::from(i32::MAX))
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

impl PodTopologySpread {
    fn filter_state(&self, pod: &PodInfo, snapshot: &Snapshot) -> Option<FilterState> {
        let constraints = self.constraints(pod, HARD);
        let compiled = (!constraints.is_empty()).then(|| Compiled::new(constraints, pod, snapshot));
        compiled.map(|compiled| FilterState::new(compiled, pod, snapshot))
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
