//! What must be, and what must not.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    InterPodAffinity, REFUSED_BY_AFFINITY, REFUSED_BY_ANTI_AFFINITY, REFUSED_BY_OTHERS, counts::Counts,
};
use crate::{
    engine::Candidates,
    framework::{CycleState, Filter, PreFilter, PreFilterExtensions, PreFiltered, Status},
    matching::PodTerm,
    plugins::{Refuses, filter_all_by, filter_by},
    snapshot::{Count, Facet, NodeId, NodeView, PlacedPod, PodInfo, Snapshot},
};

type Labels = BTreeMap<String, String>;

/// Pods that all terms of affinity mean, once a term.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Company(Vec<PodTerm>);

impl Company {
    /// Whether a pod is meant by all of them, and there are any.
    fn means(&self, pod: &PlacedPod) -> bool {
        !self.0.is_empty() && self.0.iter().all(|term| term.means(pod))
    }
}

impl Count for Company {
    type Lens = ();

    fn lens(&self, _: &Snapshot) {}

    fn tell(&self, pod: &PlacedPod, tell: &mut dyn FnMut(&str, i64)) {
        if self.means(pod) {
            self.0.iter().for_each(|term| tell(term.topology_key(), 1));
        }
    }
}

/// Pods that a term of anti-affinity means.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Unwanted(Vec<PodTerm>);

impl Count for Unwanted {
    type Lens = ();

    fn lens(&self, _: &Snapshot) {}

    fn tell(&self, pod: &PlacedPod, tell: &mut dyn FnMut(&str, i64)) {
        let meant = self.0.iter().filter(|term| term.means(pod));
        meant.for_each(|term| tell(term.topology_key(), 1));
    }
}

/// Terms of anti-affinity of pods there that mean the pod to place.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Unwelcome {
    namespace: String,
    labels: Labels,
    namespace_labels: Option<Labels>,
}

impl Count for Unwelcome {
    type Lens = ();

    fn lens(&self, _: &Snapshot) {}

    fn tell(&self, pod: &PlacedPod, tell: &mut dyn FnMut(&str, i64)) {
        let terms = pod.terms.iter().flat_map(|terms| &terms.required_anti_affinity);
        let means =
            |term: &&PodTerm| term.matches(&self.namespace, &self.labels, self.namespace_labels.as_ref());
        terms.filter(means).for_each(|term| tell(term.topology_key(), 1));
    }

    fn only_with_terms(&self) -> bool {
        true
    }
}

/// What a cycle knows of the pod to place.
struct Incoming {
    company: Company,
    unwanted: Unwanted,
    unwelcome: Unwelcome,
    /// Where the counts are of each term of affinity.
    places: Vec<usize>,
    /// Whether it would be company for itself: the first of its kind may go anywhere.
    suits_itself: bool,
}

#[derive(Clone)]
struct FilterState {
    incoming: Arc<Incoming>,
    company: Counts,
    unwanted: Counts,
    unwelcome: Counts,
}

impl InterPodAffinity {
    fn filter_state(&self, pod: &PodInfo, snapshot: &Snapshot) -> Option<FilterState> {
        let namespace = self.namespaces.get("", &pod.key.namespace);
        let unwelcome = Unwelcome {
            namespace: pod.key.namespace.clone(),
            labels: pod.labels().clone(),
            namespace_labels: namespace.and_then(|namespace| namespace.metadata.labels.clone()),
        };
        let none = || Some(Counts::default());
        let kept_away = snapshot.nodes_with_anti_affinity().next().map(|_| Counts::new(&unwelcome, snapshot));
        let kept_away = kept_away.or_else(none)?;
        let terms = pod.terms.as_deref();
        let of = |terms: Option<&Vec<PodTerm>>| self.resolved(terms.map_or(&[][..], Vec::as_slice));
        let company = Company(of(terms.map(|terms| &terms.required_affinity)));
        let unwanted = Unwanted(of(terms.map(|terms| &terms.required_anti_affinity)));
        if kept_away.is_empty() && company.0.is_empty() && unwanted.0.is_empty() {
            return None;
        }
        let mut there = if company.0.is_empty() { none()? } else { Counts::new(&company, snapshot) };
        let incoming = Incoming {
            places: company.0.iter().map(|term| there.place(term.topology_key(), snapshot)).collect(),
            suits_itself: company.means(&PlacedPod::from(pod)),
            company,
            unwelcome,
            unwanted,
        };
        let apart =
            if incoming.unwanted.0.is_empty() { none()? } else { Counts::new(&incoming.unwanted, snapshot) };
        Some(FilterState {
            incoming: Arc::new(incoming),
            company: there,
            unwanted: apart,
            unwelcome: kept_away,
        })
    }
}

impl Refuses for FilterState {
    fn refusal(&self, node: NodeId) -> Option<Status> {
        if !self.has_company(node) {
            return Some(Status::unresolvable(REFUSED_BY_AFFINITY));
        }
        if self.unwanted.any_at(node) {
            return Some(Status::unschedulable(REFUSED_BY_ANTI_AFFINITY));
        }
        self.unwelcome.any_at(node).then(|| Status::unschedulable(REFUSED_BY_OTHERS))
    }
}

impl FilterState {
    fn has_company(&self, node: NodeId) -> bool {
        let mut everywhere = true;
        for &place in &self.incoming.places {
            // Every topology label must be there.
            let Some(count) = self.company.at(place, node) else { return false };
            everywhere &= count > 0;
        }
        everywhere || (self.incoming.suits_itself && self.company.is_empty())
    }

    fn shift(&mut self, moved: &PlacedPod, node: NodeView<'_>, by: i64) {
        let incoming = self.incoming.clone();
        incoming.company.tell(moved, &mut |key, count| self.company.shift(key, node, by * count));
        incoming.unwanted.tell(moved, &mut |key, count| self.unwanted.shift(key, node, by * count));
        incoming.unwelcome.tell(moved, &mut |key, count| self.unwelcome.shift(key, node, by * count));
    }
}

/// What a node is to the demands that PreFilter has found.
pub(super) fn facets(state: &CycleState) -> impl Iterator<Item = Facet> {
    let state = state.read::<FilterState>().into_iter();
    state.flat_map(|state| [&state.company, &state.unwanted, &state.unwelcome]).flat_map(Counts::facets)
}

impl PreFilter for InterPodAffinity {
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

impl PreFilterExtensions for InterPodAffinity {
    fn shift(
        &self,
        state: &mut CycleState,
        _: &PodInfo,
        moved: &PlacedPod,
        node: NodeView<'_>,
        by: i64,
    ) -> Status {
        if let Some(state) = state.modify::<FilterState>() {
            state.shift(moved, node, by);
        }
        Status::success()
    }
}

impl Filter for InterPodAffinity {
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: NodeView<'_>) -> Status {
        filter_by(state, node, || self.filter_state(pod, node.snapshot()))
    }

    fn filter_all(&self, state: &CycleState, pod: &PodInfo, nodes: &mut Candidates<'_>) {
        let snapshot = nodes.snapshot();
        filter_all_by(state, nodes, || self.filter_state(pod, snapshot));
    }
}
