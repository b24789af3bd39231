//! What would be nice.

use std::collections::BTreeMap;

use super::InterPodAffinity;
use crate::{
    framework::{CycleState, MAX_NODE_SCORE, Normalization, PreScore, Score, Status},
    matching::{PodTerm, PodTerms},
    snapshot::{Count, Facet, NodeId, NodeSet, NodeView, PlacedPod, PodInfo, Snapshot, Sums},
};

type Labels = BTreeMap<String, String>;

/// What pods there are worth to the pod to place: by its own terms, and by theirs.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Worth {
    /// Its terms, and what each is worth.
    wishes: Vec<(PodTerm, i64)>,
    /// What it is worth that a pod there demands its company.
    hard: i64,
    namespace: String,
    labels: Labels,
    namespace_labels: Option<Labels>,
}

/// What the terms of a pod there are worth to the pod to place.
fn offers(terms: &PodTerms, hard: i64) -> impl Iterator<Item = (&PodTerm, i64)> {
    let required = terms.required_affinity.iter().filter(move |_| hard > 0).map(move |term| (term, hard));
    required.chain(preferences(terms))
}

fn preferences(terms: &PodTerms) -> impl Iterator<Item = (&PodTerm, i64)> {
    let towards = terms.preferred_affinity.iter().map(|(term, weight)| (term, *weight));
    towards.chain(terms.preferred_anti_affinity.iter().map(|(term, weight)| (term, -*weight)))
}

impl Count for Worth {
    type Lens = ();

    fn lens(&self, _: &Snapshot) {}

    fn tell(&self, pod: &PlacedPod, tell: &mut dyn FnMut(&str, i64)) {
        let meant = self.wishes.iter().filter(|(term, _)| term.means(pod));
        meant.for_each(|(term, worth)| tell(term.topology_key(), *worth));
        let Some(terms) = &pod.terms else { return };
        for (term, worth) in offers(terms, self.hard) {
            if term.matches(&self.namespace, &self.labels, self.namespace_labels.as_ref()) {
                tell(term.topology_key(), worth);
            }
        }
    }

    fn only_with_terms(&self) -> bool {
        self.wishes.is_empty()
    }
}

/// How much each part of the cluster is liked.
#[derive(Clone)]
struct Liked(Vec<Sums>);

impl Liked {
    fn score(&self, node: NodeId) -> i64 {
        self.0.iter().filter_map(|sums| Some(sums.at(sums.topology.of(node)?))).sum()
    }
}

impl InterPodAffinity {
    fn worth(&self, pod: &PodInfo) -> Option<Worth> {
        let resolved = |(term, worth): (&PodTerm, i64)| (term.resolved(&self.namespaces), worth);
        let wishes: Vec<_> = pod.terms.iter().flat_map(|terms| preferences(terms)).map(resolved).collect();
        if wishes.is_empty() && self.args.ignore_preferred_terms_of_existing_pods {
            return None;
        }
        let namespace = self.namespaces.get("", &pod.key.namespace);
        Some(Worth {
            wishes,
            hard: self.args.hard_pod_affinity_weight,
            namespace: pod.key.namespace.clone(),
            labels: pod.labels().clone(),
            namespace_labels: namespace.and_then(|namespace| namespace.metadata.labels.clone()),
        })
    }
}

impl InterPodAffinity {
    /// How much each part of the cluster is liked; `None`: all the same.
    fn liked(&self, pod: &PodInfo, snapshot: &Snapshot) -> Option<Liked> {
        let worth = self.worth(pod)?;
        if worth.only_with_terms() && snapshot.nodes_with_terms().next().is_none() {
            return None;
        }
        let liked = snapshot.tally(&worth);
        (!liked.is_empty()).then_some(Liked(liked))
    }

    /// What a node is to the wishes.
    pub(super) fn liked_facets(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Vec<Facet> {
        let Some(liked) = self.liked(pod, snapshot) else { return Vec::new() };
        let facets = liked.0.iter().map(Facet::of).collect();
        state.write(liked);
        facets
    }
}

impl PreScore for InterPodAffinity {
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, nodes: NodeSet<'_>) -> Status {
        if state.read::<Liked>().is_some() {
            return Status::success();
        }
        let Some(liked) = self.liked(pod, nodes.snapshot()) else { return Status::skip() };
        state.write(liked);
        Status::success()
    }
}

impl Score for InterPodAffinity {
    fn score(&self, state: &CycleState, _: &PodInfo, node: NodeView<'_>) -> Result<i64, Status> {
        Ok(state.read::<Liked>().map_or(0, |liked| liked.score(node.id())))
    }

    fn score_all(&self, state: &CycleState, _: &PodInfo, nodes: NodeSet<'_>, scores: &mut [i64]) -> Status {
        if let Some(liked) = state.read::<Liked>() {
            for (score, id) in scores.iter_mut().zip(nodes.ids()) {
                *score = liked.score(*id);
            }
        }
        Status::success()
    }

    fn normalization(&self) -> Normalization {
        Normalization::ByValue
    }

    /// Stretches the scores from 0 to 100; if all are alike, that says nothing, and all get 0.
    fn normalize(&self, _: &CycleState, _: &PodInfo, scores: &mut [i64]) -> Status {
        let (Some(&least), Some(&most)) = (scores.iter().min(), scores.iter().max()) else {
            return Status::success();
        };
        let range = most - least;
        for score in scores {
            // In floating point and cut off, as kube-scheduler does it: exact division may differ by one.
            let share = if range > 0 { (*score - least) as f64 / range as f64 } else { 0.0 };
            *score = (MAX_NODE_SCORE as f64 * share) as i64;
        }
        Status::success()
    }
}
