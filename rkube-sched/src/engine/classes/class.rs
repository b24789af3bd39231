//! One class: what its pods find on every node, kept up to date node by node.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    bits::Bits,
    groups::Groups,
    plan::{Localities, Plan},
    scale::{Scale, weighted},
    tournament::{Best, OUT, Tournament},
};
use crate::{
    engine::{Candidates, Refusals},
    framework::{Filter, Profile, Score, Status, Weighted},
    snapshot::{Dirty, Facet, NodeId, NodeSet, NodeView, Origin, PodInfo, Snapshot},
};

/// How many questions a class remembers the groups of.
const MOST_GROUPINGS: usize = 4;

/// Pods of one profile with equal content, and what the local plugins say of each node for them.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) profile: Arc<Profile>,
    /// One of its pods: it stands for all.
    pub(super) pod: Arc<PodInfo>,
    pub(super) localities: Localities,
    pub(super) plan: Arc<Plan>,
    /// When it was last asked for.
    pub(super) used: u64,
    /// No other class has this number.
    pub(super) number: u64,
    /// How much of the snapshot's log it knows.
    seen: u64,
    /// Nodes that pass the filters that read objects only.
    passing: Bits,
    /// Nodes that pass all local filters.
    feasible: Bits,
    count: usize,
    /// The sum of final scores that read objects only.
    fixed: Vec<i32>,
    /// The sum of all final scores, of feasible nodes.
    finals: Vec<i32>,
    scales: Vec<Scale>,
    /// The totals of feasible nodes.
    totals: Tournament,
    /// How often all totals were counted.
    counted: u64,
    /// The feasible nodes by what they are to the questions asked lately, the last one first.
    groupings: Vec<Groups>,
    /// Why the other nodes are not feasible, once that was asked; and how many nodes were looked at for it since
    /// it was asked last.
    refusals: Option<Arc<Refusals>>,
    unasked: usize,
}

/// Whether all filters let a node pass; `None` if one fails.
fn passes(filters: &[Arc<dyn Filter>], plan: &Plan, pod: &PodInfo, node: NodeView<'_>) -> Option<bool> {
    for filter in filters {
        let status = filter.filter(&plan.state, pod, node);
        if !status.is_success() {
            return status.is_rejected().then_some(false);
        }
    }
    Some(true)
}

/// What the first filter that refuses has against a node.
fn refusal(plan: &Plan, pod: &PodInfo, node: NodeView<'_>) -> Option<Status> {
    let mut said = plan.filters.iter().map(|filter| (filter.filter(&plan.state, pod, node), filter.name()));
    said.find(|(status, _)| !status.is_success()).map(|(status, name)| status.from_plugin(name))
}

fn sum(scores: &[Weighted], plan: &Plan, pod: &PodInfo, node: NodeView<'_>) -> Option<i32> {
    let one = |score: &Weighted| weighted(score.plugin.score(&plan.state, pod, node).ok()?, score.weight);
    scores.iter().map(one).sum()
}

/// The nodes that all filters let pass; `None` if one fails.
fn scan(
    filters: &[Arc<dyn Filter>],
    plan: &Plan,
    pod: &PodInfo,
    snapshot: &Snapshot,
    ids: Vec<NodeId>,
) -> Option<Vec<NodeId>> {
    let mut nodes = Candidates::new(snapshot, ids);
    for filter in filters {
        filter.filter_all(&plan.state, pod, &mut nodes);
    }
    nodes.error.is_none().then_some(nodes.ids)
}

/// The raw scores of some nodes, in their order.
fn raw_scores(plugin: &dyn Score, plan: &Plan, pod: &PodInfo, nodes: NodeSet<'_>) -> Option<Vec<i64>> {
    let mut scores = vec![0; nodes.ids().len()];
    plugin.score_all(&plan.state, pod, nodes, &mut scores).is_success().then_some(scores)
}

fn add_scores(
    sums: &mut [i32],
    scores: &[Weighted],
    plan: &Plan,
    pod: &PodInfo,
    nodes: NodeSet<'_>,
) -> Option<()> {
    for score in scores {
        for (id, raw) in nodes.ids().iter().zip(raw_scores(&*score.plugin, plan, pod, nodes)?) {
            sums[id.row()] += weighted(raw, score.weight)?;
        }
    }
    Some(())
}

impl Class {
    /// Looks at every node. `None`: the pod is not for a class, or a plugin fails.
    pub(super) fn new(
        profile: &Arc<Profile>,
        localities: Localities,
        pod: &Arc<PodInfo>,
        snapshot: &Snapshot,
    ) -> Option<Self> {
        let plan = Plan::new(profile, &localities, pod, snapshot)?;
        let rows = snapshot.rows();
        let passing = scan(&plan.object_filters, &plan, pod, snapshot, snapshot.nodes().to_vec())?;
        let feasible = scan(&plan.load_filters, &plan, pod, snapshot, passing.clone())?;
        let (all, some) = (NodeSet::new(snapshot, &passing), NodeSet::new(snapshot, &feasible));

        let mut fixed = vec![0; rows];
        add_scores(&mut fixed, &plan.object_scores, &plan, pod, all)?;
        let mut finals = fixed.clone();
        add_scores(&mut finals, &plan.load_scores, &plan, pod, some)?;
        let mut scales = Vec::new();
        for (score, loaded) in &plan.scaled {
            let mut scale = Scale::new(rows);
            let nodes = if *loaded { some } else { all };
            for (id, raw) in nodes.ids().iter().zip(raw_scores(&*score.plugin, &plan, pod, nodes)?) {
                scale.note(id.row(), raw)?;
            }
            feasible.iter().for_each(|id| scale.enter(id.row()));
            scale.refresh(score, &plan.state, pod)?;
            scales.push(scale);
        }
        let mut class = Self {
            profile: profile.clone(),
            pod: pod.clone(),
            localities,
            used: 0,
            number: 0,
            seen: snapshot.log().generation(),
            passing: Bits::of(rows, &passing),
            feasible: Bits::of(rows, &feasible),
            count: feasible.len(),
            fixed,
            finals,
            scales,
            totals: Tournament::default(),
            counted: 0,
            groupings: Vec::new(),
            refusals: None,
            unasked: 0,
            plan: Arc::new(plan),
        };
        class.count_anew();
        Some(class)
    }

    fn count_anew(&mut self) {
        self.counted += 1;
        let mut totals = vec![OUT; self.finals.len()];
        for id in self.feasible.ids() {
            totals[id.row()] = self.total(id.row());
        }
        self.totals = Tournament::new(totals);
    }

    fn total(&self, row: usize) -> i32 {
        self.scales.iter().fold(self.finals[row], |sum, scale| sum + scale.worth(row))
    }

    /// Takes in what has changed since it was last asked. `None`: it must be made anew.
    pub(super) fn catch_up(&mut self, snapshot: &Snapshot) -> Option<()> {
        let log = snapshot.log();
        if log.generation() == self.seen {
            return Some(());
        }
        let mut changes: SmallVec<[(NodeId, Dirty); 16]> = SmallVec::new();
        // Above this, looking at all nodes at once is quicker.
        let most = snapshot.rows() / 2 + 16;
        for change in log.since(self.seen)? {
            if changes.len() == most {
                return None;
            }
            changes.push(change);
        }
        self.grow(snapshot.rows());
        // What a node is comes before what is on it: it counts for both.
        changes.sort_unstable_by_key(|&(id, dirty)| (id, dirty == Dirty::Load));
        changes.dedup_by_key(|(id, _)| *id);
        if changes.iter().any(|(_, dirty)| *dirty == Dirty::Node) {
            let plan = Plan::new(&self.profile, &self.localities, &self.pod, snapshot)?;
            if !plan.follows(&self.plan) {
                return None;
            }
            self.plan = Arc::new(plan);
        }
        for &(id, dirty) in &changes {
            self.look(snapshot.view(id), dirty)?;
        }
        self.note_refusals(snapshot, changes.iter().map(|(id, _)| *id));
        self.settle(changes.iter().map(|(id, _)| *id))?;
        self.seen = log.generation();
        Some(())
    }

    /// Makes room for nodes that have come; the log tells of them.
    fn grow(&mut self, rows: usize) {
        if rows == self.finals.len() {
            return;
        }
        self.passing.grow(rows);
        self.feasible.grow(rows);
        self.fixed.resize(rows, 0);
        self.finals.resize(rows, 0);
        self.scales.iter_mut().for_each(|scale| scale.grow(rows));
        self.totals.grow(rows);
    }

    /// Asks about one node again.
    fn look(&mut self, node: NodeView<'_>, dirty: Dirty) -> Option<()> {
        let (row, whole) = (node.id().row(), dirty == Dirty::Node);
        if !whole && !self.passing.get(row) {
            return Some(());
        }
        let (plan, pod) = (self.plan.clone(), self.pod.clone());
        // A raw score changes only while nobody counts it.
        if whole || plan.scaled.iter().any(|(_, loaded)| *loaded) {
            self.show(row, false);
        }
        if whole {
            let passing = node.node().is_some() && passes(&plan.object_filters, &plan, &pod, node)?;
            self.passing.set(row, passing);
            self.fixed[row] = if passing { sum(&plan.object_scores, &plan, &pod, node)? } else { 0 };
        }
        let passing = self.passing.get(row);
        let feasible = passing && passes(&plan.load_filters, &plan, &pod, node)?;
        if feasible {
            self.finals[row] = self.fixed[row] + sum(&plan.load_scores, &plan, &pod, node)?;
        }
        for ((score, loaded), scale) in plan.scaled.iter().zip(&mut self.scales) {
            if if *loaded { feasible } else { whole && passing } {
                scale.note(row, score.plugin.score(&plan.state, &pod, node).ok()?)?;
            }
        }
        self.show(row, feasible);
        Some(())
    }

    /// Keeps up what nodes have against the pods, as long as somebody asks for it now and then.
    fn note_refusals(&mut self, snapshot: &Snapshot, changed: impl ExactSizeIterator<Item = NodeId>) {
        let Some(mut refusals) = self.refusals.take() else { return };
        self.unasked += changed.len();
        if self.unasked > snapshot.rows() || refusals.is_sparse() {
            return;
        }
        let kept = Arc::make_mut(&mut refusals);
        for id in changed {
            let node = snapshot.view(id);
            let there = node.node().is_some() && !self.feasible.get(id.row());
            kept.set(id, there.then(|| refusal(&self.plan, &self.pod, node)).flatten());
        }
        self.refusals = Some(refusals);
    }

    /// What the nodes that are not feasible have against the pods.
    pub(super) fn refusals(&mut self, snapshot: &Snapshot) -> Arc<Refusals> {
        self.unasked = 0;
        let (plan, pod) = (&self.plan, &self.pod);
        let all = || {
            let mut nodes = Candidates::new(snapshot, snapshot.nodes().to_vec());
            for filter in &plan.filters {
                nodes.plugin = filter.name();
                filter.filter_all(&plan.state, pod, &mut nodes);
            }
            Arc::new(nodes.rejected.into_iter().collect())
        };
        self.refusals.get_or_insert_with(all).clone()
    }

    /// Makes a node feasible or not.
    fn show(&mut self, row: usize, feasible: bool) {
        if self.feasible.get(row) == feasible {
            return;
        }
        self.feasible.set(row, feasible);
        if feasible {
            self.count += 1;
            self.scales.iter_mut().for_each(|scale| scale.enter(row));
        } else {
            self.count -= 1;
            self.scales.iter_mut().for_each(|scale| scale.leave(row));
        }
    }

    /// Brings the totals up to date after some nodes have changed.
    fn settle(&mut self, changed: impl Iterator<Item = NodeId>) -> Option<()> {
        let mut all = false;
        for ((score, _), scale) in self.plan.scaled.iter().zip(&mut self.scales) {
            all |= scale.refresh(score, &self.plan.state, &self.pod)?;
        }
        if all {
            self.count_anew();
            return Some(());
        }
        for id in changed {
            let row = id.row();
            let total = if self.feasible.get(row) { self.total(row) } else { OUT };
            self.totals.set(row, total);
        }
        Some(())
    }

    /// Takes feasible nodes out for one decision, or puts them back. `None`: the class is of no use any
    /// more.
    pub(super) fn set_feasible(&mut self, nodes: &[NodeId], feasible: bool) -> Option<()> {
        if nodes.is_empty() {
            return Some(());
        }
        nodes.iter().for_each(|id| self.show(id.row(), feasible));
        self.settle(nodes.iter().copied())
    }

    /// A number that grows whenever all totals are counted anew.
    pub(super) fn counted(&self) -> u64 {
        self.counted
    }

    /// The totals of all nodes, by row.
    pub(super) fn scores(&self) -> &[i32] {
        self.totals.scores()
    }

    /// Whether the totals of some feasible nodes stay what they are if the others are not feasible.
    pub(super) fn is_even(&self) -> bool {
        self.scales.iter().all(Scale::is_even)
    }

    /// Takes out the groups of a question, up to date; `None`: there are too many.
    pub(super) fn take_groups(&mut self, facets: &[Facet], snapshot: &Snapshot) -> Option<Groups> {
        let origins: Vec<Origin> = facets.iter().map(Facet::origin).collect();
        let place = self.groupings.iter().position(|groups| groups.is_of(&origins));
        let mut groups = match place {
            Some(place) => self.groupings.remove(place),
            None => Groups::new(origins, facets, self, snapshot),
        };
        if groups.catch_up(facets, self, snapshot).is_none() {
            self.put_back(groups);
            return None;
        }
        Some(groups)
    }

    pub(super) fn put_back(&mut self, groups: Groups) {
        self.groupings.insert(0, groups);
        self.groupings.truncate(MOST_GROUPINGS);
    }

    /// How many nodes are feasible.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn is_feasible(&self, id: NodeId) -> bool {
        self.feasible.get(id.row())
    }

    /// The feasible nodes.
    pub(super) fn ids(&self) -> Vec<NodeId> {
        let mut ids = Vec::with_capacity(self.count);
        ids.extend(self.feasible.ids());
        ids
    }

    /// The best total, and how many feasible nodes have it.
    pub(super) fn best(&self) -> Best {
        self.totals.best()
    }

    /// One of the nodes with the best total.
    pub(super) fn pick(&self, place: u32) -> Option<NodeId> {
        self.totals.pick(place).map(|row| NodeId(row as u32))
    }

    /// The totals of some of the feasible nodes, as if the others were not feasible.
    pub(super) fn totals_among(&self, ids: &[NodeId]) -> Option<Vec<i64>> {
        if ids.len() == self.count {
            return Some(ids.iter().map(|id| self.totals.get(id.row()).into()).collect());
        }
        let mut totals: Vec<i64> = ids.iter().map(|id| self.finals[id.row()].into()).collect();
        for ((score, _), scale) in self.plan.scaled.iter().zip(&self.scales) {
            scale.add_among(ids, &mut totals, score, &self.plan.state, &self.pod)?;
        }
        Some(totals)
    }
}
