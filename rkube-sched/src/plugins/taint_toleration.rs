//! Keeps pods off nodes whose taints they do not tolerate, and prefers nodes with few taints of the
//! gentle sort.

use k8s_openapi::api::core::v1::{Taint, Toleration};
use rkube_api::helpers::taints::{effect, keeps_pods_away, tolerated, untolerated};

use crate::{
    engine::Candidates,
    framework::{
        Actions, Args, ClusterEvent, ConfigError, CycleState, Filter, Handle, Hint, Interest, Locality,
        MAX_NODE_SCORE, Normalization, Plugin, PointSet, Points, PreScore, Resource, Score, Status, Subject,
        default_normalize, is_own_update,
    },
    snapshot::{NodeSet, NodeView, PodInfo, Snapshot},
};

/// The plugin's name.
pub const NAME: &str = "TaintToleration";

const REFUSED: &str = "node(s) had untolerated taint(s)";

/// Filters and scores by taints. See the module's documentation.
#[derive(Debug)]
pub struct TaintToleration;

/// Makes the plugin; it has no arguments.
pub fn make(_: &Args, _: &Handle) -> Result<PointSet, ConfigError> {
    Ok(Points::of(TaintToleration).filter().pre_score().score().done())
}

/// Whether the pod may go where these taints are.
fn admits(taints: &[Taint], pod: &PodInfo) -> bool {
    untolerated(taints, pod.tolerations(), keeps_pods_away).is_none()
}

/// How many gentle taints the pod does not tolerate.
fn dislikes(taints: &[Taint], tolerations: &[Toleration]) -> i64 {
    let gentle = taints.iter().filter(|taint| taint.effect == effect::PREFER_NO_SCHEDULE);
    gentle.filter(|taint| !tolerated(taint, tolerations)).count() as i64
}

/// The answer for each taint set: thousands of nodes share a handful.
fn per_set<T>(snapshot: &Snapshot, answer: impl Fn(&[Taint]) -> T) -> Vec<T> {
    (0..snapshot.taint_sets()).map(|set| answer(snapshot.taints(set as u32))).collect()
}

/// The tolerations that count for gentle taints.
#[derive(Clone)]
struct Gentle(Vec<Toleration>);

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> Vec<Interest> {
        vec![
            Interest::new(Resource::Node, Actions::ADD | Actions::UPDATE_NODE_TAINT),
            Interest::new(Resource::PendingPod, Actions::UPDATE_POD_TOLERATION),
        ]
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> Hint {
        match &event.subject {
            Subject::Node { new: Some(node), .. } => {
                let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
                admits(taints, pod).into()
            }
            Subject::Waiting { .. } => is_own_update(pod, event).into(),
            _ => Hint::Queue,
        }
    }

    fn locality(&self, _: &PodInfo, _: &Snapshot) -> Locality {
        Locality::Node
    }
}

impl Filter for TaintToleration {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: NodeView<'_>) -> Status {
        if admits(node.taints(), pod) { Status::success() } else { Status::unresolvable(REFUSED) }
    }

    fn filter_all(&self, _: &CycleState, pod: &PodInfo, nodes: &mut Candidates<'_>) {
        let admitted = per_set(nodes.snapshot(), |taints| admits(taints, pod));
        if admitted.iter().all(|&admitted| admitted) {
            return;
        }
        nodes.retain(|node| {
            let admitted = admitted[node.taint_set() as usize];
            if admitted { Status::success() } else { Status::unresolvable(REFUSED) }
        });
    }
}

impl PreScore for TaintToleration {
    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, _: NodeSet<'_>) -> Status {
        let counts = |toleration: &&Toleration| {
            matches!(toleration.effect.as_deref().unwrap_or_default(), "" | effect::PREFER_NO_SCHEDULE)
        };
        state.write(Gentle(pod.tolerations().iter().filter(counts).cloned().collect()));
        Status::success()
    }
}

impl Score for TaintToleration {
    fn score(&self, state: &CycleState, _: &PodInfo, node: NodeView<'_>) -> Result<i64, Status> {
        let tolerations = state.read::<Gentle>().map_or(&[][..], |gentle| &gentle.0);
        Ok(dislikes(node.taints(), tolerations))
    }

    fn score_all(&self, state: &CycleState, _: &PodInfo, nodes: NodeSet<'_>, scores: &mut [i64]) -> Status {
        let tolerations = state.read::<Gentle>().map_or(&[][..], |gentle| &gentle.0);
        let disliked = per_set(nodes.snapshot(), |taints| dislikes(taints, tolerations));
        if disliked.iter().all(|&count| count == 0) {
            scores.fill(0);
            return Status::success();
        }
        for (score, node) in scores.iter_mut().zip(nodes.iter()) {
            *score = disliked[node.taint_set() as usize];
        }
        Status::success()
    }

    fn normalize(&self, _: &CycleState, _: &PodInfo, scores: &mut [i64]) -> Status {
        default_normalize(MAX_NODE_SCORE, true, scores);
        Status::success()
    }

    fn normalization(&self) -> Normalization {
        Normalization::ByValue
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    fn taint(key: &str, effect: &str) -> serde_json::Value {
        json!({"key": key, "value": "v", "effect": effect})
    }

    #[test]
    fn hard_taints_filter() {
        let snapshot = testing::snapshot([
            json!({"metadata": {"name": "a"}, "spec": {"taints": [taint("x", "NoSchedule")]}}),
            json!({"metadata": {"name": "b"}, "spec": {"taints": [taint("x", "PreferNoSchedule")]}}),
            json!({"metadata": {"name": "c"}, "spec": {"taints": [taint("y", "NoExecute")]}}),
        ]);
        let pod = testing::pod("p", json!({"tolerations": [{"key": "y", "operator": "Exists"}]}));
        testing::assert_filter(&TaintToleration, &pod, &snapshot, &[REFUSED, "", ""]);
    }

    /// By hand: untolerated gentle taints 0, 1, 2 of a maximum of 2, turned round.
    #[test]
    fn fewer_gentle_taints_score_higher() {
        let node = |name, keys: &[&str]| {
            let taints: Vec<_> = keys.iter().map(|key| taint(key, "PreferNoSchedule")).collect();
            json!({"metadata": {"name": name}, "spec": {"taints": taints}})
        };
        let snapshot =
            testing::snapshot([node("a", &["x"]), node("b", &["x", "y"]), node("c", &["x", "y", "z"])]);
        let tolerations = json!([
            {"key": "x", "operator": "Exists", "effect": "PreferNoSchedule"},
            // Counts for hard taints only.
            {"key": "z", "operator": "Exists", "effect": "NoSchedule"}
        ]);
        let pod = testing::pod("p", json!({"tolerations": tolerations}));
        testing::assert_scores(&TaintToleration, Some(&TaintToleration), &pod, &snapshot, &[100, 50, 0]);
    }

    #[test]
    fn no_gentle_taints_score_full() {
        let snapshot = testing::snapshot(["a", "b"].map(|name| json!({"metadata": {"name": name}})));
        let pod = testing::pod("p", json!({}));
        testing::assert_scores(&TaintToleration, Some(&TaintToleration), &pod, &snapshot, &[100, 100]);
    }
}
