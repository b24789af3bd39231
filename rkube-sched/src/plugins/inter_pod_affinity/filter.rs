//! What must be, and what must not.

use std::sync::Arc;

use super::{
    InterPodAffinity, REFUSED_BY_AFFINITY, REFUSED_BY_ANTI_AFFINITY, REFUSED_BY_OTHERS,
    counts::{ByLabel, Counts, key_of, part_of},
};
use crate::{
    framework::{CycleState, Filter, PreFilter, PreFilterExtensions, PreFiltered, Status},
    matching::PodTerm,
    snapshot::{NodeView, PlacedPod, PodInfo, Snapshot},
};

type Labels = std::collections::BTreeMap<String, String>;

/// Required terms of the pod to place, with the numbers of their topology keys.
#[derive(Debug)]
struct Terms(Vec<(PodTerm, Option<u32>)>);

impl Terms {
    fn new(terms: Vec<PodTerm>, snapshot: &Snapshot) -> Self {
        let with_key = |term: PodTerm| {
            let key = key_of(snapshot, term.topology_key());
            (term, key)
        };
        Self(terms.into_iter().map(with_key).collect())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a pod is meant by all of them, and there are any.
    fn all_mean(&self, pod: &PlacedPod) -> bool {
        !self.is_empty() && self.0.iter().all(|(term, _)| term.means(pod))
    }
}

/// What a cycle knows of the pod to place.
#[derive(Debug)]
struct Incoming {
    affinity: Terms,
    anti_affinity: Terms,
    /// Whether it would be company for itself: the first of its kind may go anywhere.
    suits_itself: bool,
    namespace_labels: Option<Labels>,
}

#[derive(Clone)]
struct FilterState {
    incoming: Arc<Incoming>,
    /// Pods that all terms of affinity mean, once a term.
    company: Counts,
    /// Pods that a term of anti-affinity means.
    unwanted: Counts,
    /// Terms of anti-affinity of pods there that mean the pod to place.
    unwelcome: Counts,
}

/// Tells of each part of the cluster in which a pod on `node` counts.
fn company(
    terms: &Terms,
    pod: &PlacedPod,
    node: NodeView<'_>,
    mut tell: impl FnMut(crate::snapshot::LabelId),
) {
    if terms.all_mean(pod) {
        terms.0.iter().filter_map(|(_, key)| part_of(node, *key)).for_each(&mut tell);
    }
}

fn unwanted(
    terms: &Terms,
    pod: &PlacedPod,
    node: NodeView<'_>,
    mut tell: impl FnMut(crate::snapshot::LabelId),
) {
    let meant = terms.0.iter().filter(|(term, _)| term.means(pod));
    meant.filter_map(|(_, key)| part_of(node, *key)).for_each(&mut tell);
}

fn unwelcome(
    incoming: &Incoming,
    pod: &PodInfo,
    there: &PlacedPod,
    node: NodeView<'_>,
    mut tell: impl FnMut(crate::snapshot::LabelId),
) {
    let terms = there.terms.iter().flat_map(|terms| &terms.required_anti_affinity);
    let labels = incoming.namespace_labels.as_ref();
    let meant = terms.filter(|term| term.matches(&pod.key.namespace, pod.labels(), labels));
    let keys = meant.map(|term| key_of(node.snapshot(), term.topology_key()));
    keys.filter_map(|key| part_of(node, key)).for_each(&mut tell);
}

impl InterPodAffinity {
    fn filter_state(&self, pod: &PodInfo, snapshot: &Snapshot) -> Option<FilterState> {
        let namespace = self.namespaces.get("", &pod.key.namespace);
        let terms = pod.terms.as_deref();
        let of = |terms: Option<&Vec<PodTerm>>| {
            Terms::new(self.resolved(terms.map_or(&[][..], Vec::as_slice)), snapshot)
        };
        let mut incoming = Incoming {
            affinity: of(terms.map(|terms| &terms.required_affinity)),
            anti_affinity: of(terms.map(|terms| &terms.required_anti_affinity)),
            suits_itself: false,
            namespace_labels: namespace.and_then(|namespace| namespace.metadata.labels.clone()),
        };
        incoming.suits_itself =
            !incoming.affinity.is_empty() && incoming.affinity.all_mean(&PlacedPod::from(pod));

        let mut counts = [(); 3].map(|()| ByLabel::default());
        let add = |counts: &mut ByLabel, part| *counts.entry(part).or_default() += 1;
        for node in snapshot.nodes_with_anti_affinity() {
            for there in node.pods() {
                unwelcome(&incoming, pod, there, node, |part| add(&mut counts[2], part));
            }
        }
        let demands = !incoming.affinity.is_empty() || !incoming.anti_affinity.is_empty();
        if counts[2].is_empty() && !demands {
            return None;
        }
        if demands {
            for node in snapshot.nodes().iter().map(|&id| snapshot.view(id)) {
                for there in node.pods() {
                    company(&incoming.affinity, there, node, |part| add(&mut counts[0], part));
                    unwanted(&incoming.anti_affinity, there, node, |part| add(&mut counts[1], part));
                }
            }
        }
        let [company, unwanted, unwelcome] = counts.map(Counts::new);
        Some(FilterState { incoming: Arc::new(incoming), company, unwanted, unwelcome })
    }
}

impl FilterState {
    fn check(&self, node: NodeView<'_>) -> Status {
        if !self.has_company(node) {
            return Status::unresolvable(REFUSED_BY_AFFINITY);
        }
        let mut keys = self.incoming.anti_affinity.0.iter().filter_map(|(_, key)| part_of(node, *key));
        if keys.any(|part| self.unwanted.at(part) > 0) {
            return Status::unschedulable(REFUSED_BY_ANTI_AFFINITY);
        }
        if !self.unwelcome.is_empty() && node.label_ids().iter().any(|part| self.unwelcome.at(*part) > 0) {
            return Status::unschedulable(REFUSED_BY_OTHERS);
        }
        Status::success()
    }

    fn has_company(&self, node: NodeView<'_>) -> bool {
        let mut everywhere = true;
        for (_, key) in &self.incoming.affinity.0 {
            // Every topology label must be there.
            let Some(part) = part_of(node, *key) else { return false };
            everywhere &= self.company.at(part) > 0;
        }
        everywhere || (self.company.is_empty() && self.incoming.suits_itself)
    }

    fn shift(&mut self, pod: &PodInfo, moved: &PlacedPod, node: NodeView<'_>, by: i64) {
        let incoming = self.incoming.clone();
        company(&incoming.affinity, moved, node, |part| self.company.shift(part, by));
        unwanted(&incoming.anti_affinity, moved, node, |part| self.unwanted.shift(part, by));
        unwelcome(&incoming, pod, moved, node, |part| self.unwelcome.shift(part, by));
    }
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

impl Filter for InterPodAffinity {
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: NodeView<'_>) -> Status {
        let prepared = state.read_or(|| self.filter_state(pod, node.snapshot()));
        prepared.map_or_else(Status::success, |prepared| prepared.check(node))
    }
}
