//! A decision through a class.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use smallvec::SmallVec;

use super::{
    Classes,
    class::Class,
    groups::{Groups, Offer},
};
use crate::{
    engine::{
        Candidates, Decision, Diagnosis, Engine, Outcome, Placement, Prepared, Refusals, memory::Memory,
    },
    framework::{CycleState, Filter, Normalization, Part, Profile, Status, Weighted},
    snapshot::{NodeId, NodeSet, PodInfo},
};

/// Why a class does not settle a decision.
enum Pass {
    /// It is for the plain engine.
    Plain,
    /// And the class is of no use any more.
    Broken,
}

/// The names of plugins that have nothing to filter.
type Names = SmallVec<[&'static str; 8]>;

/// Where those filters stand in the profile that are not local and have something to say.
fn places_of_others<'c>(class: &'c Class, skipped: &'c Names) -> impl Iterator<Item = usize> + 'c {
    let is_other = |name: &str| class.plan.other_filters.iter().any(|part| part.name() == name);
    let filters = class.profile.filter.iter().enumerate();
    let others =
        filters.filter(move |(_, filter)| is_other(filter.name()) && !skipped.contains(&filter.name()));
    others.map(|(place, _)| place)
}

/// Whether what the local filters have against nodes comes before what any other filter could have.
fn speak_first(class: &Class, refusals: &Refusals, skipped: &Names) -> bool {
    let Some(first) = places_of_others(class, skipped).next() else { return true };
    let place = |name: &str| class.profile.filter.iter().position(|filter| filter.name() == name);
    let mut said = refusals.distinct();
    said.all(|(status, _)| status.plugin().and_then(place).is_some_and(|place| place < first))
}

impl Engine<'_> {
    /// As [`Engine::decide`], with the same outcome for the same seed, by way of the pod's class.
    /// `classes` is to be used with one snapshot only; given another, it begins anew.
    pub fn decide_in(&self, classes: &mut Classes, pod: &Arc<PodInfo>, profile: &Arc<Profile>) -> Outcome {
        // Where a plugin fails or panics, the plain engine asks again and says which.
        let quick = catch_unwind(AssertUnwindSafe(|| self.quick(classes, pod, profile)));
        match quick {
            Ok(Some(outcome)) => outcome,
            _ => self.decide(pod, profile),
        }
    }

    fn quick(&self, classes: &mut Classes, pod: &Arc<PodInfo>, profile: &Arc<Profile>) -> Option<Outcome> {
        // Out of the table while it is at work: a panic leaves nothing half done behind.
        let mut class = classes.take(self.snapshot, pod, profile)?;
        let outcome = self.by_class(&mut class, pod, classes);
        if !matches!(outcome, Err(Pass::Broken)) {
            classes.put_back(class, self.snapshot.rows());
        }
        classes.hits += u64::from(outcome.is_ok());
        outcome.ok()
    }

    fn by_class(&self, class: &mut Class, pod: &PodInfo, classes: &mut Classes) -> Result<Outcome, Pass> {
        let mut state = class.plan.state.clone();
        let skipped = self.pre_filter_others(class, pod, &mut state)?;
        let is_local = class.plan.other_filters.iter().all(|part| skipped.contains(&part.name()));
        let memory =
            (is_local && !self.nominator.is_empty()).then(|| classes.memory(class.number, pod, self));
        let mut crowded = self.crowded(class, pod, &state, &skipped, memory)?;
        if let Some(node) = self.nominator.node_of(&pod.uid) {
            if !is_local {
                return Err(Pass::Plain);
            }
            let own = self.snapshot.find(node).filter(|id| class.is_feasible(*id));
            if let Some(node) = own.filter(|own| crowded.iter().all(|(id, _)| id != own)) {
                let decision = Decision::Place(Placement { node, feasible: 1, score: 0 });
                return Ok(Outcome { decision, state });
            }
        }
        if crowded.len() == class.count() {
            if self.snapshot.nodes().is_empty() {
                return Err(Pass::Plain);
            }
            let mut rejected = class.refusals(self.snapshot);
            let is_known = is_local || (crowded.is_empty() && speak_first(class, &rejected, &skipped));
            if !is_known {
                return Err(Pass::Plain);
            }
            if !crowded.is_empty() {
                let all = Arc::make_mut(&mut rejected);
                crowded.into_iter().for_each(|(node, status)| all.set(node, Some(status)));
            }
            let memory = is_local.then(|| classes.memory(class.number, pod, self));
            let decision = self.unfit(class, pod, &mut state, (&skipped, rejected), memory);
            return Ok(Outcome { decision, state });
        }
        let few = self.few(class, pod, &state, &skipped);
        if crowded.is_empty()
            && few.is_none()
            && class.plan.asks_others()
            && let Some(decision) = self.among_groups(class, pod, &mut state, &skipped)?
        {
            classes.grouped += 1;
            return Ok(Outcome { decision, state });
        }
        crowded.sort_unstable_by_key(|(id, _)| *id);
        let crowded: Vec<NodeId> = crowded.into_iter().map(|(id, _)| id).collect();
        class.set_feasible(&crowded, false).ok_or(Pass::Broken)?;
        let decision = self.among_feasible(class, pod, &mut state, &skipped, few);
        class.set_feasible(&crowded, true).ok_or(Pass::Broken)?;
        Ok(Outcome { decision: decision?, state })
    }

    /// No node is feasible.
    fn unfit(
        &self,
        class: &Class,
        pod: &PodInfo,
        state: &mut CycleState,
        (skipped, rejected): (&Names, Arc<Refusals>),
        memory: Option<&Memory>,
    ) -> Decision {
        let mut diagnosis = Diagnosis { all_nodes: self.snapshot.nodes().len(), ..Diagnosis::default() };
        diagnosis.take(rejected);
        let prepared = Prepared::new(&class.profile, None, skipped);
        self.post_filter(pod, &class.profile, state, (diagnosis, prepared), memory)
    }

    /// No group of nodes is feasible: each node says what one of its group does.
    fn unfit_by_groups(
        &self,
        class: &mut Class,
        groups: &Groups,
        pod: &PodInfo,
        state: &mut CycleState,
        skipped: &Names,
    ) -> Result<Decision, Pass> {
        let mut rejected = class.refusals(self.snapshot);
        if !speak_first(class, &rejected, skipped) {
            return Err(Pass::Plain);
        }
        let mut said = vec![Status::success(); groups.bound()];
        for offer in groups.offers() {
            said[usize::from(offer.group)] = self.refusal(class, pod, state, skipped, offer.node)?;
        }
        let members = groups.members().map(|(node, group)| (node, usize::from(group)));
        Arc::make_mut(&mut rejected).set_all(said, members);
        Ok(self.unfit(class, pod, state, (skipped, rejected), None))
    }

    /// What the plugins that are not local have against a node, the first of them that has anything.
    fn refusal(
        &self,
        class: &Class,
        pod: &PodInfo,
        state: &CycleState,
        skipped: &Names,
        node: NodeId,
    ) -> Result<Status, Pass> {
        let places = places_of_others(class, skipped);
        for filter in places.map(|place| &class.profile.filter[place]) {
            let status = filter.filter(state, pod, self.snapshot.view(node));
            if !status.is_success() {
                let valid = status.is_rejected().then(|| status.from_plugin(filter.name()));
                return valid.ok_or(Pass::Plain);
            }
        }
        Err(Pass::Plain)
    }

    /// Runs PreFilter of the plugins that are not local; gives all that skip.
    fn pre_filter_others(&self, class: &Class, pod: &PodInfo, state: &mut CycleState) -> Result<Names, Pass> {
        let mut skipped = class.plan.skipped.clone();
        for part in &class.plan.other_filters {
            let Some(plugin) = &part.pre_filter else { continue };
            let answer = plugin.pre_filter(state, pod, self.snapshot);
            if answer.status.is_skip() {
                skipped.push(part.name());
            } else if !answer.status.is_success() || answer.nodes.is_some() {
                return Err(Pass::Plain);
            }
        }
        Ok(skipped)
    }

    /// The feasible nodes where room is held for others without which the pod would fit, and what is in the
    /// way there.
    fn crowded(
        &self,
        class: &Class,
        pod: &PodInfo,
        state: &CycleState,
        skipped: &Names,
        memory: Option<&Memory>,
    ) -> Result<Vec<(NodeId, Status)>, Pass> {
        let mut crowded = Vec::new();
        if self.nominator.is_empty() {
            return Ok(crowded);
        }
        let prepared = Prepared::new(&class.profile, None, skipped);
        let mut ask = |id: NodeId| {
            let look = || self.filter_beside_nominated(self.snapshot.view(id), pod, &prepared, state);
            let status = match memory {
                Some(memory) => memory.recall(&memory.beside, self, pod, (id, 0), look),
                None => look(),
            };
            let valid = status.is_success() || status.is_rejected();
            crowded.extend((!status.is_success()).then_some((id, status)));
            valid.then_some(()).ok_or(Pass::Plain)
        };
        if class.count() < self.nominator.len() {
            class.ids().into_iter().try_for_each(ask)?;
        } else {
            let held = self.nominator.nodes().filter_map(|name| self.snapshot.find(name));
            held.filter(|id| class.is_feasible(*id)).try_for_each(&mut ask)?;
        }
        Ok(crowded)
    }

    /// The nodes outside of which one of the plugins that are not local refuses each, if they are few.
    fn few(&self, class: &Class, pod: &PodInfo, state: &CycleState, skipped: &Names) -> Option<Vec<NodeId>> {
        let speaks = |part: &&Part| part.filter.is_some() && !skipped.contains(&part.name());
        let parts = class.plan.other_filters.iter().filter(speaks);
        let fewest = parts.filter_map(|part| part.plugin.confines(state, pod, self.snapshot));
        let mut few = fewest.min_by_key(Vec::len)?;
        few.sort_unstable();
        few.dedup();
        Some(few)
    }

    /// The choice by asking about each feasible node, of those `few` if there are such.
    fn among_feasible(
        &self,
        class: &Class,
        pod: &PodInfo,
        state: &mut CycleState,
        skipped: &Names,
        few: Option<Vec<NodeId>>,
    ) -> Result<Decision, Pass> {
        let speaks = |filter: &&Arc<dyn Filter>| !skipped.contains(&filter.name());
        let filters = class.plan.other_filters.iter().filter_map(|part| part.filter.as_ref());
        let filters: SmallVec<[_; 4]> = filters.filter(speaks).collect();
        if filters.is_empty() && class.plan.other_scores.is_empty() {
            return self.best_of(class);
        }
        let ids = match few {
            Some(few) => few.into_iter().filter(|id| class.is_feasible(*id)).collect(),
            None => class.ids(),
        };
        let mut nodes = Candidates::new(self.snapshot, ids);
        for filter in filters {
            nodes.plugin = filter.name();
            filter.filter_all(state, pod, &mut nodes);
        }
        if nodes.is_empty() || nodes.error.is_some() {
            return Err(Pass::Plain);
        }
        let ids = nodes.ids;
        let scores = match ids.len() {
            // The only one is not scored.
            1 => SmallVec::new(),
            _ => self.pre_score_others(class, pod, state, NodeSet::new(self.snapshot, &ids))?,
        };
        if scores.is_empty() && ids.len() == class.count() {
            return self.best_of(class);
        }
        let mut totals = if ids.len() == 1 { Some(vec![0]) } else { class.totals_among(&ids) };
        let totals = totals.as_mut().ok_or(Pass::Plain)?;
        let set = NodeSet::new(self.snapshot, &ids);
        for score in scores {
            self.add_score(score, pod, state, set, totals).map_err(|_| Pass::Plain)?;
        }
        Ok(self.choose(&ids, totals))
    }

    /// The choice by groups of nodes that the plugins which are not local cannot tell apart. `None`: one of
    /// them may tell any node from any other, or they tell too many apart.
    fn among_groups(
        &self,
        class: &mut Class,
        pod: &PodInfo,
        state: &mut CycleState,
        skipped: &Names,
    ) -> Result<Option<Decision>, Pass> {
        let free = |part: &Part| {
            part.score.as_ref().is_some_and(|score| score.plugin.normalization() == Normalization::Free)
        };
        // What a filter asks of other pods it tells only of what its own PreFilter has found out.
        let unprepared = |part: &Part| part.filter.is_some() && part.pre_filter.is_none();
        if class.plan.other_scores.iter().any(free) || class.plan.other_filters.iter().any(unprepared) {
            return Ok(None);
        }
        let mut facets = Vec::new();
        for plugin in class.plan.others() {
            let Some(more) = plugin.facets(state, pod, self.snapshot) else { return Ok(None) };
            facets.extend(more);
        }
        let Some(groups) = class.take_groups(&facets, self.snapshot) else { return Ok(None) };
        let decision = self.best_offer(class, &groups, pod, state, skipped);
        class.put_back(groups);
        decision
    }

    fn best_offer(
        &self,
        class: &mut Class,
        groups: &Groups,
        pod: &PodInfo,
        state: &mut CycleState,
        skipped: &Names,
    ) -> Result<Option<Decision>, Pass> {
        let mut offers: Vec<Offer> = groups.offers().collect();
        let speaks = |filter: &&Arc<dyn Filter>| !skipped.contains(&filter.name());
        let filters = class.plan.other_filters.iter().filter_map(|part| part.filter.as_ref());
        for filter in filters.filter(speaks) {
            let mut failed = false;
            offers.retain(|offer| {
                let status = filter.filter(state, pod, self.snapshot.view(offer.node));
                failed |= !status.is_success() && !status.is_rejected();
                status.is_success()
            });
            if failed {
                return Err(Pass::Plain);
            }
        }
        let feasible = offers.iter().map(|offer| offer.members).sum();
        match feasible {
            0 => return self.unfit_by_groups(class, groups, pod, state, skipped).map(Some),
            // The only one is not scored.
            1 => return Ok(Some(Decision::Place(Placement { node: offers[0].node, feasible, score: 0 }))),
            _ if feasible < class.count() && !class.is_even() => return Ok(None),
            _ => {}
        }
        let ids: Vec<NodeId> = offers.iter().map(|offer| offer.node).collect();
        let counts: Vec<usize> = offers.iter().map(|offer| offer.members).collect();
        let set = NodeSet::standing(self.snapshot, &ids, &counts);
        let mut totals: Vec<i64> = offers.iter().map(|offer| offer.best.into()).collect();
        for score in self.pre_score_others(class, pod, state, set)? {
            self.add_score(score, pod, state, set, &mut totals).map_err(|_| Pass::Plain)?;
        }
        let best = totals.iter().copied().max().unwrap_or(0);
        let mut places = totals.iter();
        offers.retain(|_| places.next() == Some(&best));
        let ties = groups.ties(&offers);
        let place = if ties > 1 { self.rng.below(ties as usize) as u32 } else { 0 };
        let node = groups.pick(&offers, place, class).ok_or(Pass::Broken)?;
        Ok(Some(Decision::Place(Placement { node, feasible, score: best })))
    }

    /// Runs PreScore of the plugins that are not local; gives those that do not skip.
    fn pre_score_others<'c>(
        &self,
        class: &'c Class,
        pod: &PodInfo,
        state: &mut CycleState,
        nodes: NodeSet<'_>,
    ) -> Result<SmallVec<[&'c Weighted; 4]>, Pass> {
        let mut scores = SmallVec::new();
        for part in &class.plan.other_scores {
            if let Some(plugin) = &part.pre_score {
                let status = plugin.pre_score(state, pod, nodes);
                if status.is_skip() {
                    continue;
                }
                if !status.is_success() {
                    return Err(Pass::Plain);
                }
            }
            scores.extend(&part.score);
        }
        Ok(scores)
    }

    /// The choice among all feasible nodes, when no plugin has more to say.
    fn best_of(&self, class: &Class) -> Result<Decision, Pass> {
        let best = class.best();
        let place = if best.ties > 1 { self.rng.below(best.ties as usize) as u32 } else { 0 };
        let node = class.pick(place).ok_or(Pass::Broken)?;
        let score = if class.count() > 1 { best.score.into() } else { 0 };
        Ok(Decision::Place(Placement { node, feasible: class.count(), score }))
    }
}
