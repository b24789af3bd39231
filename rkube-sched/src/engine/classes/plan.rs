//! Which of a profile's plugins a class asks once, and which it asks for every pod.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::{
    framework::{
        CycleState, Filter, Locality, MAX_NODE_SCORE, Normalization, Part, Plugin, Profile, Weighted,
    },
    snapshot::{NodeSet, PodInfo, Snapshot},
};

/// What the plugins of a profile say they depend on, in their order.
pub(super) type Localities = SmallVec<[Locality; 24]>;

pub(super) fn localities(profile: &Profile, pod: &PodInfo, snapshot: &Snapshot) -> Localities {
    profile.parts.iter().map(|part| part.plugin.locality(pod, snapshot)).collect()
}

/// The plugins of a profile as one class asks them.
#[derive(Default)]
pub(super) struct Plan {
    /// Filters that read the node's object only.
    pub(super) object_filters: Vec<Arc<dyn Filter>>,
    /// Filters that read the node's pods too.
    pub(super) load_filters: Vec<Arc<dyn Filter>>,
    /// Both, in the profile's order: the first one that refuses a node has the say.
    pub(super) filters: Vec<Arc<dyn Filter>>,
    /// Final scores that read the node's object only.
    pub(super) object_scores: Vec<Weighted>,
    /// Final scores that read the node's pods too.
    pub(super) load_scores: Vec<Weighted>,
    /// Scores to be normalized, and whether they read the node's pods.
    pub(super) scaled: Vec<(Weighted, bool)>,
    /// Plugins whose PreFilter and Filter are asked for every pod.
    pub(super) other_filters: Vec<Part>,
    /// Plugins whose PreScore and Score are asked for every pod.
    pub(super) other_scores: Vec<Part>,
    /// Plugins that have nothing to filter.
    pub(super) skipped: SmallVec<[&'static str; 8]>,
    /// The plugins for which a change of one node may change the answers for others.
    read_all_nodes: SmallVec<[Arc<dyn Plugin>; 2]>,
    /// What PreFilter and PreScore prepared.
    pub(super) state: CycleState,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plan(skipped {:?})", self.skipped)
    }
}

impl Plan {
    /// Runs PreFilter and PreScore of the local plugins. `None`: the pod is not for a class, because a
    /// plugin refuses it, narrows the nodes down, or fails.
    pub(super) fn new(
        profile: &Profile,
        localities: &[Locality],
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Option<Self> {
        let weights = profile.score.iter().map(|score| score.weight);
        let most = weights.fold(0, i64::saturating_add).saturating_mul(MAX_NODE_SCORE);
        // Totals are kept in 32 bits.
        if most > i64::from(i32::MAX) {
            return None;
        }
        let reads_all = profile.parts.iter().zip(localities).filter(|(_, it)| **it == Locality::Nodes);
        let read_all_nodes = reads_all.map(|(part, _)| part.plugin.clone()).collect();
        let mut plan = Self { read_all_nodes, ..Self::default() };
        let mut parts = profile.parts.iter().zip(localities);
        parts.clone().try_for_each(|(part, locality)| plan.add_filter(part, *locality, pod, snapshot))?;
        // PreScore may read what any PreFilter has kept: it comes after all of them.
        parts.try_for_each(|(part, locality)| plan.add_score(part, *locality, pod, snapshot))?;
        Some(plan)
    }

    fn add_filter(
        &mut self,
        part: &Part,
        locality: Locality,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Option<()> {
        if part.pre_filter.is_none() && part.filter.is_none() {
            return Some(());
        }
        if locality == Locality::Cluster {
            self.other_filters.push(part.clone());
            return Some(());
        }
        if let Some(plugin) = &part.pre_filter {
            let answer = plugin.pre_filter(&mut self.state, pod, snapshot);
            if answer.status.is_skip() {
                self.skipped.push(part.name());
                return Some(());
            }
            if !answer.status.is_success() || answer.nodes.is_some() {
                return None;
            }
        }
        let filters = match locality {
            Locality::NodeAndPods => &mut self.load_filters,
            _ => &mut self.object_filters,
        };
        filters.extend(part.filter.clone());
        self.filters.extend(part.filter.clone());
        Some(())
    }

    fn add_score(
        &mut self,
        part: &Part,
        locality: Locality,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Option<()> {
        if part.pre_score.is_none() && part.score.is_none() {
            return Some(());
        }
        let normalization =
            part.score.as_ref().map_or(Normalization::None, |score| score.plugin.normalization());
        if locality == Locality::Cluster || normalization == Normalization::Free {
            self.other_scores.push(part.clone());
            return Some(());
        }
        if let Some(plugin) = &part.pre_score {
            let status = plugin.pre_score(&mut self.state, pod, NodeSet::new(snapshot, snapshot.nodes()));
            if status.is_skip() {
                return Some(());
            }
            if !status.is_success() {
                return None;
            }
        }
        let loaded = locality == Locality::NodeAndPods;
        let score = part.score.clone();
        match normalization {
            Normalization::None if loaded => self.load_scores.extend(score),
            Normalization::None => self.object_scores.extend(score),
            _ => self.scaled.extend(score.map(|score| (score, loaded))),
        }
        Some(())
    }

    /// Whether any plugin is asked for every pod.
    pub(super) fn asks_others(&self) -> bool {
        !self.other_filters.is_empty() || !self.other_scores.is_empty()
    }

    /// The plugins that are asked for every pod, each once.
    pub(super) fn others(&self) -> impl Iterator<Item = &Arc<dyn Plugin>> {
        let filtering = |part: &&Part| self.other_filters.iter().any(|other| other.name() == part.name());
        let scores = self.other_scores.iter().filter(move |part| !filtering(part));
        self.other_filters.iter().chain(scores).map(|part| &part.plugin)
    }

    /// Whether an earlier plan says the same of nodes that have not changed since.
    pub(super) fn follows(&self, before: &Self) -> bool {
        let same = |plugin: &Arc<dyn Plugin>| plugin.same_state(&before.state, &self.state);
        self.asks_as(before) && self.read_all_nodes.iter().all(same)
    }

    /// Whether both ask the same plugins.
    fn asks_as(&self, other: &Self) -> bool {
        let sizes = |plan: &Self| {
            (plan.load_scores.len(), plan.object_scores.len(), plan.scaled.len(), plan.other_scores.len())
        };
        let names = |plan: &Self| {
            plan.scaled.iter().map(|(score, _)| score.plugin.name()).collect::<SmallVec<[_; 8]>>()
        };
        self.skipped == other.skipped && sizes(self) == sizes(other) && names(self) == names(other)
    }
}
