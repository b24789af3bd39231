//! The decision, as a pure function: snapshot, profile, pod and a source of randomness in, a node out.
//!
//! Nothing here waits, locks or talks to anybody, so the same engine serves the driver, a what-if
//! question and a test.
//!
//! ```
//! use std::sync::Arc;
//! use rkube_api::context::Rng;
//! use rkube_sched::{engine::{Decision, Engine}, framework::Profiles, queue::Nominator};
//! use rkube_sched::snapshot::{PodInfo, Snapshot};
//!
//! let node = |name: &str| Arc::new(serde_json::from_value(serde_json::json!({
//!     "metadata": {"name": name}, "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}}
//! })).unwrap());
//! let mut snapshot = Snapshot::default();
//! snapshot.set_node(node("a"));
//! snapshot.set_node(node("b"));
//!
//! let profiles = Profiles::standard();
//! let pod = PodInfo::new(Arc::new(Default::default()));
//! let (nominator, rng) = (Nominator::default(), Rng::seeded(1));
//! let engine = Engine { snapshot: &snapshot, nominator: &nominator, rng: &rng };
//! let outcome = engine.decide(&pod, profiles.of(&pod).unwrap());
//! assert!(matches!(outcome.decision, Decision::Place(placement) if placement.feasible == 2));
//! ```

mod candidates;
mod classes;
mod diagnosis;
mod explain;
mod memory;
mod refusals;
mod what_if;

use std::{collections::BTreeSet, sync::Arc};

use rkube_api::context::Rng;

use self::memory::Memory;
use crate::{
    framework::{
        Code, CycleState, Filter, MAX_NODE_SCORE, Nomination, PostFiltered, PreFilterExtensions, Profile,
        Status, Weighted, contained,
    },
    queue::Nominator,
    snapshot::{NodeId, NodeSet, NodeView, PlacedPod, PodInfo, Snapshot},
};

pub use candidates::Candidates;
pub use classes::Classes;
pub(crate) use diagnosis::account;
pub use diagnosis::{Diagnosis, NO_NODES};
pub use explain::{Explained, PluginScore, Scored};
pub use refusals::Refusals;
pub use what_if::{Trial, WhatIf};

/// Everything a decision depends on beside the pod and its profile.
#[derive(Clone, Copy, Debug)]
pub struct Engine<'a> {
    /// The cluster.
    pub snapshot: &'a Snapshot,
    /// Room held for other pods.
    pub nominator: &'a Nominator,
    /// Breaks ties.
    pub rng: &'a Rng,
}

/// A node found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The node.
    pub node: NodeId,
    /// How many nodes fit.
    pub feasible: usize,
    /// The node's total score; 0 if it was the only one that fits, which is not scored.
    pub score: i64,
}

/// No node found.
#[derive(Clone, Debug, Default)]
pub struct Unfit {
    /// Why.
    pub diagnosis: Diagnosis,
    /// How room could be made.
    pub plan: PostFiltered,
}

/// What came of a pod's try.
#[derive(Clone, Debug)]
pub enum Decision {
    /// A node fits.
    Place(Placement),
    /// None does.
    Unfit(Box<Unfit>),
    /// A plugin failed.
    Fail(Status),
}

/// A decision with the state that the later points of the cycle go on with.
#[derive(Debug)]
pub struct Outcome {
    /// What was decided.
    pub decision: Decision,
    /// What the plugins noted.
    pub state: CycleState,
}

/// What PreFilter leaves to Filter.
struct Prepared<'p> {
    /// The nodes to look at, if not all.
    only: Option<BTreeSet<NodeId>>,
    /// The filters that have something to say.
    filters: Vec<&'p dyn Filter>,
    /// The plugins whose state follows pods that are moved in thought.
    extensions: Vec<(&'static str, &'p dyn PreFilterExtensions)>,
}

impl<'p> Prepared<'p> {
    /// What is left of a profile when some plugins have nothing to filter.
    fn new(profile: &'p Profile, only: Option<BTreeSet<NodeId>>, skipped: &[&'static str]) -> Self {
        let speaks = |name: &'static str| !skipped.contains(&name);
        let filters = profile.filter.iter().map(|filter| &**filter);
        let extended = profile.pre_filter.iter().filter(|plugin| speaks(plugin.name()));
        Self {
            only,
            filters: filters.filter(|filter| speaks(filter.name())).collect(),
            extensions: extended.filter_map(|plugin| Some((plugin.name(), plugin.extensions()?))).collect(),
        }
    }

    /// A pod is on a node in thought (`by` is 1), or no longer (-1).
    fn shift(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        moved: &PlacedPod,
        node: NodeView<'_>,
        by: i64,
    ) -> Status {
        let mut tell = |&(name, plugin): &(&'static str, &dyn PreFilterExtensions)| {
            let told = contained(name, "PreFilter", || plugin.shift(state, pod, moved, node, by));
            told.unwrap_or_else(|status| status).from_plugin(name)
        };
        self.extensions.iter().map(&mut tell).find(|status| !status.is_success()).unwrap_or_default()
    }
}

/// Hears what each plugin says of the nodes, in their order.
trait Scorebook {
    /// Before it is normalized.
    fn raw(&mut self, _scores: &[i64]) {}
    /// And after.
    fn normalized(&mut self, weighted: &Weighted, scores: &[i64]);
}

/// The total of each node.
struct Totals<'a>(&'a mut [i64]);

impl Scorebook for Totals<'_> {
    fn normalized(&mut self, weighted: &Weighted, scores: &[i64]) {
        for (sum, score) in self.0.iter_mut().zip(scores) {
            *sum = sum.saturating_add(score.saturating_mul(weighted.weight));
        }
    }
}

/// Why no node was found.
enum Stop<'p> {
    Unfit(Box<(Diagnosis, Prepared<'p>)>),
    Fail(Status),
}

impl<'a> Engine<'a> {
    /// Finds the best node for a pod.
    pub fn decide(&self, pod: &PodInfo, profile: &Profile) -> Outcome {
        let mut state = CycleState::default();
        let found = self.feasible(pod, profile, &mut state);
        let decision = match found.and_then(|nodes| {
            let total = self.score(pod, profile, &mut state, &nodes).map_err(Stop::Fail)?;
            Ok((nodes, total))
        }) {
            Ok((nodes, total)) => self.choose(&nodes, &total),
            Err(Stop::Fail(status)) => Decision::Fail(status),
            Err(Stop::Unfit(why)) => self.post_filter(pod, profile, &mut state, *why, None),
        };
        Outcome { decision, state }
    }

    /// The nodes that fit, with the total score of each; none if a plugin refuses or fails.
    pub fn totals(&self, pod: &PodInfo, profile: &Profile) -> Vec<(NodeId, i64)> {
        let mut state = CycleState::default();
        let found = self.feasible(pod, profile, &mut state).ok();
        let totals = found.and_then(|nodes| {
            let totals = self.score(pod, profile, &mut state, &nodes).ok()?;
            Some(nodes.into_iter().zip(totals).collect())
        });
        totals.unwrap_or_default()
    }

    /// The nodes that pass PreFilter and Filter.
    fn feasible<'p>(
        &self,
        pod: &PodInfo,
        profile: &'p Profile,
        state: &mut CycleState,
    ) -> Result<Vec<NodeId>, Stop<'p>> {
        let mut diagnosis = Diagnosis { all_nodes: self.snapshot.nodes().len(), ..Diagnosis::default() };
        if diagnosis.all_nodes == 0 {
            diagnosis.absent = Some(Status::unresolvable(NO_NODES));
            return Err(Stop::Unfit(Box::new((diagnosis, Prepared::new(profile, None, &[])))));
        }
        let prepared = self.pre_filter(pod, profile, state, &mut diagnosis)?;

        // Room is held for this pod: its node comes first, and if it still fits no other is looked at.
        if let Some(node) = self.nominator.node_of(&pod.uid)
            && let Some(id) = self.snapshot.find(node)
            && prepared.only.as_ref().is_none_or(|only| only.contains(&id))
        {
            let fits = self.filter(vec![id], pod, &prepared, state).map_err(Stop::Fail)?;
            if fits.rejected.is_empty() {
                return Ok(fits.ids);
            }
        }
        let ids = match &prepared.only {
            None => self.snapshot.nodes().to_vec(),
            Some(only) => only.iter().copied().collect(),
        };
        let nodes = self.filter(ids, pod, &prepared, state).map_err(Stop::Fail)?;
        if !nodes.ids.is_empty() {
            return Ok(nodes.ids);
        }
        diagnosis.take(Arc::new(nodes.rejected.into_iter().collect()));
        Err(Stop::Unfit(Box::new((diagnosis, prepared))))
    }

    /// Runs PreFilter.
    fn pre_filter<'p>(
        &self,
        pod: &PodInfo,
        profile: &'p Profile,
        state: &mut CycleState,
        diagnosis: &mut Diagnosis,
    ) -> Result<Prepared<'p>, Stop<'p>> {
        let mut only: Option<BTreeSet<NodeId>> = None;
        let mut skipped = Vec::new();
        let mut narrowed = BTreeSet::new();
        let refuse = |mut diagnosis: Diagnosis, status: Status| {
            diagnosis.blame(&status);
            diagnosis.pre_filter_message = status.message();
            diagnosis.absent = Some(status);
            Stop::Unfit(Box::new((diagnosis, Prepared::new(profile, None, &[]))))
        };
        for plugin in &profile.pre_filter {
            let name = plugin.name();
            let answer = contained(name, "PreFilter", || plugin.pre_filter(state, pod, self.snapshot));
            let answer = answer.map_err(Stop::Fail)?;
            let status = answer.status.from_plugin(name);
            if status.is_skip() {
                skipped.push(name);
            } else if status.is_rejected() {
                return Err(refuse(std::mem::take(diagnosis), status));
            } else if !status.is_success() {
                return Err(Stop::Fail(status));
            }
            let Some(nodes) = answer.nodes else { continue };
            narrowed.insert(name);
            diagnosis.unschedulable_plugins.insert(name);
            let both = match only.take() {
                None => nodes,
                Some(before) => before.intersection(&nodes).copied().collect(),
            };
            if both.is_empty() && narrowed.len() > 1 {
                let names = listed(&narrowed);
                let text = format!("node(s) didn't satisfy plugin(s) {names} simultaneously");
                return Err(refuse(std::mem::take(diagnosis), Status::unresolvable(text)));
            }
            only = Some(both);
        }
        if only.is_some() {
            let text = format!("node(s) didn't satisfy plugin(s) {}", listed(&narrowed));
            diagnosis.absent = Some(Status::unresolvable(text));
        }
        Ok(Prepared::new(profile, only, &skipped))
    }

    fn filter(
        &self,
        ids: Vec<NodeId>,
        pod: &PodInfo,
        prepared: &Prepared<'_>,
        state: &CycleState,
    ) -> Result<Candidates<'a>, Status> {
        let mut nodes = Candidates::new(self.snapshot, ids);
        for filter in &prepared.filters {
            if nodes.ids.is_empty() {
                break;
            }
            nodes.plugin = filter.name();
            contained(filter.name(), "Filter", || filter.filter_all(state, pod, &mut nodes))?;
            if let Some(error) = nodes.error.take() {
                return Err(error);
            }
        }
        if !self.nominator.is_empty() {
            nodes.retain(|node| self.filter_beside_nominated(node, pod, prepared, state));
        }
        match nodes.error.take() {
            Some(error) => Err(error),
            None => Ok(nodes),
        }
    }

    /// Whether the pod still fits once the pods are there for which room is held, if they come first.
    fn filter_beside_nominated(
        &self,
        node: NodeView<'_>,
        pod: &PodInfo,
        prepared: &Prepared<'_>,
        state: &CycleState,
    ) -> Status {
        let held = self.nominator.on(node.name());
        let held: Vec<_> = held.filter(|held| held.priority >= pod.priority && held.uid != pod.uid).collect();
        if held.is_empty() {
            return Status::success();
        }
        let (mut overlay, mut state) = (node.overlay().cloned().unwrap_or_default(), state.clone());
        for other in held {
            let added = PlacedPod::from(&**other);
            overlay.add(added.clone());
            let status = prepared.shift(&mut state, pod, &added, node.with(&overlay), 1);
            if !status.is_success() {
                return status;
            }
        }
        let node = node.with(&overlay);
        let ask = |filter: &&dyn Filter| {
            let said = contained(filter.name(), "Filter", || filter.filter(&state, pod, node));
            said.unwrap_or_else(|status| status).from_plugin(filter.name())
        };
        prepared.filters.iter().map(ask).find(|status| !status.is_success()).unwrap_or_default()
    }

    /// The total score of each node.
    fn score(
        &self,
        pod: &PodInfo,
        profile: &Profile,
        state: &mut CycleState,
        nodes: &[NodeId],
    ) -> Result<Vec<i64>, Status> {
        let mut totals = vec![0; nodes.len()];
        self.score_into(pod, profile, state, nodes, &mut Totals(&mut totals))?;
        Ok(totals)
    }

    /// Adds what one plugin says to the totals.
    fn add_score(
        &self,
        weighted: &Weighted,
        pod: &PodInfo,
        state: &CycleState,
        nodes: NodeSet<'_>,
        total: &mut [i64],
    ) -> Result<(), Status> {
        let mut scores = vec![0; total.len()];
        self.score_by(weighted, pod, state, nodes, &mut scores, &mut Totals(total))
    }

    /// Tells what each plugin says of each node; nothing of a node that is the only one.
    fn score_into(
        &self,
        pod: &PodInfo,
        profile: &Profile,
        state: &mut CycleState,
        nodes: &[NodeId],
        book: &mut impl Scorebook,
    ) -> Result<(), Status> {
        if nodes.len() < 2 {
            return Ok(());
        }
        let set = NodeSet::new(self.snapshot, nodes);
        let mut skipped = Vec::new();
        for plugin in &profile.pre_score {
            let status = contained(plugin.name(), "PreScore", || plugin.pre_score(state, pod, set))?;
            if status.is_skip() {
                skipped.push(plugin.name());
            } else if !status.is_success() {
                return Err(status.from_plugin(plugin.name()));
            }
        }
        let mut scores = vec![0; nodes.len()];
        for weighted in profile.score.iter().filter(|score| !skipped.contains(&score.plugin.name())) {
            scores.fill(0);
            self.score_by(weighted, pod, state, set, &mut scores, book)?;
        }
        Ok(())
    }

    /// Tells what one plugin says.
    fn score_by(
        &self,
        weighted: &Weighted,
        pod: &PodInfo,
        state: &CycleState,
        nodes: NodeSet<'_>,
        scores: &mut [i64],
        book: &mut impl Scorebook,
    ) -> Result<(), Status> {
        let plugin = &*weighted.plugin;
        let status = contained(plugin.name(), "Score", || {
            let status = plugin.score_all(state, pod, nodes, scores);
            if !status.is_success() {
                return status;
            }
            book.raw(scores);
            plugin.normalize(state, pod, scores)
        })?;
        if !status.is_success() {
            return Err(status.from_plugin(plugin.name()));
        }
        if let Some(score) = scores.iter().find(|score| !(0..=MAX_NODE_SCORE).contains(*score)) {
            let text = format!(
                "plugin {:?} returns an invalid score {score}, it should in the range of [0, 100] \
                 after normalizing",
                plugin.name()
            );
            return Err(Status::error(text).from_plugin(plugin.name()));
        }
        book.normalized(weighted, scores);
        Ok(())
    }

    /// One of the best nodes, each with the same chance.
    fn choose(&self, nodes: &[NodeId], total: &[i64]) -> Decision {
        let best = total.iter().copied().max().unwrap_or(0);
        let ties = total.iter().filter(|score| **score == best).count();
        let pick = if ties > 1 { self.rng.below(ties) } else { 0 };
        let mut winners = nodes.iter().zip(total).filter(|(_, score)| **score == best);
        match winners.nth(pick) {
            Some((&node, _)) => Decision::Place(Placement { node, feasible: nodes.len(), score: best }),
            None => Decision::Unfit(Box::default()),
        }
    }

    /// Asks for a way to make room.
    fn post_filter(
        &self,
        pod: &PodInfo,
        profile: &Profile,
        state: &mut CycleState,
        (mut diagnosis, prepared): (Diagnosis, Prepared<'_>),
        memory: Option<&Memory>,
    ) -> Decision {
        let mut plan = PostFiltered::default();
        let what_if = WhatIf { engine: *self, pod, prepared: &prepared, memory };
        let mut said = Vec::new();
        let asked = profile.post_filter.iter().take_while(|_| diagnosis.all_nodes > 0);
        for plugin in asked {
            let ask = || plugin.post_filter(state, pod, &what_if, &diagnosis);
            let answer = match contained(plugin.name(), "PostFilter", ask) {
                Ok(answer) => answer,
                Err(status) => return Decision::Fail(status),
            };
            let status = answer.status.clone();
            if !status.is_success() && !status.is_rejected() {
                return Decision::Fail(status.from_plugin(plugin.name()));
            }
            let last = status.is_success() || status.code() == Code::UnschedulableAndUnresolvable;
            // The last one speaks for itself; of the others, each may have something to say.
            if last {
                said.clear();
            }
            said.extend((!status.message().is_empty()).then(|| status.message()));
            if last || answer.nomination != Nomination::Keep {
                plan = answer;
            }
            if last {
                break;
            }
        }
        diagnosis.post_filter_message = said.join(", ");
        Decision::Unfit(Box::new(Unfit { diagnosis, plan }))
    }
}

/// Names as Go prints a list.
fn listed(names: &BTreeSet<&'static str>) -> String {
    let names: Vec<_> = names.iter().copied().collect();
    format!("[{}]", names.join(" "))
}

#[cfg(test)]
mod tests;
