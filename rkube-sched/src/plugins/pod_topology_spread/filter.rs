//! Hard constraints.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::FixedState;

use super::{HARD, NO_LABEL, PodTopologySpread, REFUSED, constraint::Compiled};
use crate::{
    framework::{CycleState, Filter, PreFilter, PreFilterExtensions, PreFiltered, Status},
    snapshot::{NodeView, PlacedPod, PodInfo, Snapshot},
};

/// How many pods count in each domain of a constraint.
#[derive(Clone, Debug, Default)]
struct Domains {
    counts: HashMap<u32, i64, FixedState>,
    /// The two domains with the fewest pods, fewest first.
    least: [Option<(u32, i64)>; 2],
}

impl Domains {
    fn new(counts: HashMap<u32, i64, FixedState>) -> Self {
        let mut least: [Option<(u32, i64)>; 2] = [None, None];
        for (&domain, &count) in &counts {
            // The number breaks ties, so that no order of the map shows.
            let before =
                |other: Option<(u32, i64)>| other.is_none_or(|other| (count, domain) < (other.1, other.0));
            if before(least[0]) {
                least = [Some((domain, count)), least[0]];
            } else if before(least[1]) {
                least[1] = Some((domain, count));
            }
        }
        Self { counts, least }
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
    moved: Vec<(usize, u32, i64)>,
}

impl FilterState {
    fn new(compiled: Compiled, pod: &PodInfo, snapshot: &Snapshot) -> Self {
        let mut counts = vec![HashMap::<u32, i64, FixedState>::default(); compiled.constraints.len()];
        let nodes = snapshot.nodes().iter().map(|&id| snapshot.view(id));
        for node in nodes.filter(|node| compiled.has_all_domains(*node)) {
            for (index, constraint) in compiled.constraints.iter().enumerate() {
                if compiled.includes(index, node, pod)
                    && let Some(domain) = compiled.domain(index, node)
                {
                    *counts[index].entry(domain).or_default() += constraint.count(node, &pod.key.namespace);
                }
            }
        }
        let itself = compiled.constraints.iter().map(|constraint| constraint.selector.matches(pod.labels()));
        Self {
            counts_itself: itself.collect(),
            domains: counts.into_iter().map(Domains::new).collect(),
            compiled: Arc::new(compiled),
            moved: Vec::new(),
        }
    }

    fn moved(&self, index: usize, domain: u32) -> i64 {
        let here = self.moved.iter().filter(|(of, at, _)| (*of, *at) == (index, domain));
        here.map(|(.., change)| change).sum()
    }

    fn count(&self, index: usize, domain: u32) -> i64 {
        self.domains[index].counts.get(&domain).copied().unwrap_or(0) + self.moved(index, domain)
    }

    /// The fewest pods in any domain; none if there are fewer domains than the constraint wants.
    fn fewest(&self, index: usize) -> i64 {
        let domains = &self.domains[index];
        if domains.counts.len() < self.compiled.constraints[index].min_domains {
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
        let all = domains.counts.keys().map(|&domain| self.count(index, domain));
        all.min().unwrap_or(i64::from(i32::MAX))
    }

    fn check(&self, node: NodeView<'_>) -> Status {
        for (index, constraint) in self.compiled.constraints.iter().enumerate() {
            let Some(domain) = self.compiled.domain(index, node) else {
                return Status::unresolvable(NO_LABEL);
            };
            let there = self.count(index, domain) + i64::from(self.counts_itself[index]);
            if there - self.fewest(index) > constraint.max_skew {
                return Status::unschedulable(REFUSED);
            }
        }
        Status::success()
    }

    fn shift(&mut self, pod: &PodInfo, moved: &PlacedPod, node: NodeView<'_>, by: i64) {
        if *moved.namespace != *pod.key.namespace || !self.compiled.has_all_domains(node) {
            return;
        }
        for (index, constraint) in self.compiled.constraints.iter().enumerate() {
            if constraint.selector.matches(&moved.labels)
                && self.compiled.includes(index, node, pod)
                && let Some(domain) = self.compiled.domain(index, node)
            {
                self.moved.push((index, domain, by));
            }
        }
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
        let prepared = state.read_or(|| self.filter_state(pod, node.snapshot()));
        prepared.map_or_else(Status::success, |prepared| prepared.check(node))
    }
}
