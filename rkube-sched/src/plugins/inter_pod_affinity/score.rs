//! What would be nice.

use std::sync::Arc;

use super::{
    InterPodAffinity,
    counts::{ByLabel, key_of, part_of},
};
use crate::{
    framework::{CycleState, MAX_NODE_SCORE, PreScore, Score, Status},
    matching::{PodTerm, PodTerms},
    snapshot::{NodeSet, NodeView, PlacedPod, PodInfo, Snapshot},
};

/// How much each part of the cluster is liked.
#[derive(Clone)]
struct Liked(Arc<ByLabel>);

/// A term of the pod to place: its topology key's number, and what it is worth.
struct Wish {
    term: PodTerm,
    key: Option<u32>,
    worth: i64,
}

impl InterPodAffinity {
    fn wishes(&self, terms: Option<&PodTerms>, snapshot: &Snapshot) -> Vec<Wish> {
        let Some(terms) = terms else { return Vec::new() };
        let towards = terms.preferred_affinity.iter().map(|(term, weight)| (term, *weight));
        let away = terms.preferred_anti_affinity.iter().map(|(term, weight)| (term, -*weight));
        let wish = |(term, worth): (&PodTerm, i64)| Wish {
            term: term.resolved(&self.namespaces),
            key: key_of(snapshot, term.topology_key()),
            worth,
        };
        towards.chain(away).map(wish).collect()
    }

    /// What the terms of a pod there are worth to the pod to place: term and worth.
    fn offers<'t>(&self, there: &'t PlacedPod) -> impl Iterator<Item = (&'t PodTerm, i64)> + use<'t> {
        let hard = self.args.hard_pod_affinity_weight;
        let terms = there.terms.iter().map(|terms| &**terms);
        terms.flat_map(move |terms: &'t PodTerms| {
            let required =
                terms.required_affinity.iter().filter(move |_| hard > 0).map(move |term| (term, hard));
            let preferred = terms.preferred_affinity.iter().map(|(term, weight)| (term, *weight));
            let against = terms.preferred_anti_affinity.iter().map(|(term, weight)| (term, -*weight));
            required.chain(preferred).chain(against)
        })
    }

    fn liked(&self, pod: &PodInfo, wishes: &[Wish], snapshot: &Snapshot) -> ByLabel {
        let namespace = self.namespaces.get("", &pod.key.namespace);
        let namespace_labels = namespace.as_ref().and_then(|namespace| namespace.metadata.labels.as_ref());
        let mut liked = ByLabel::default();
        let mut visit = |node: NodeView<'_>| {
            for there in node.pods() {
                for wish in wishes.iter().filter(|wish| wish.term.means(there)) {
                    if let Some(part) = part_of(node, wish.key) {
                        *liked.entry(part).or_default() += wish.worth;
                    }
                }
                for (term, worth) in self.offers(there) {
                    if term.matches(&pod.key.namespace, pod.labels(), namespace_labels)
                        && let Some(part) = part_of(node, key_of(snapshot, term.topology_key()))
                    {
                        *liked.entry(part).or_default() += worth;
                    }
                }
            }
        };
        if wishes.is_empty() {
            snapshot.nodes_with_terms().for_each(&mut visit);
        } else {
            snapshot.nodes().iter().map(|&id| snapshot.view(id)).for_each(&mut visit);
        }
        liked
    }
}

impl PreScore for InterPodAffinity {
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, nodes: NodeSet<'_>) -> Status {
        let snapshot = nodes.snapshot();
        let wishes = self.wishes(pod.terms.as_deref(), snapshot);
        if wishes.is_empty() && self.args.ignore_preferred_terms_of_existing_pods {
            return Status::skip();
        }
        let liked = self.liked(pod, &wishes, snapshot);
        if liked.is_empty() {
            return Status::skip();
        }
        state.write(Liked(Arc::new(liked)));
        Status::success()
    }
}

impl Score for InterPodAffinity {
    fn score(&self, state: &CycleState, _: &PodInfo, node: NodeView<'_>) -> Result<i64, Status> {
        let Some(Liked(liked)) = state.read::<Liked>() else { return Ok(0) };
        Ok(node.label_ids().iter().filter_map(|part| liked.get(part)).sum())
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
