//! When a pod must leave a tainted node.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, Taint, Toleration};
use rkube_api::{
    helpers::{
        pod as pods,
        taints::{drives_pods_out, tolerates},
    },
    meta::conditions,
};

/// What to do about a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// It may stay.
    Keep,
    /// It may stay this long; what was seen is to be handed in at the next look.
    Wait {
        /// How long.
        left: Duration,
        /// When its taints were first seen.
        seen: Seen,
    },
    /// It must go.
    Evict,
}

/// When the taints that a pod tolerates for a while were first seen while it did. Most taints say nothing
/// of when they came: `kubectl taint` and the API server leave `timeAdded` alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen(Vec<(Taint, Timestamp)>);

impl Seen {
    fn of(&self, taint: &Taint) -> Option<Timestamp> {
        self.0.iter().find(|(seen, _)| seen == taint).map(|(_, time)| *time)
    }
}

/// Decides for a pod on a node with these taints, of which `seen` is what the last look told.
///
/// As in Kubernetes, the seconds of a toleration count from when the taint was first seen by the controller
/// ([`Seen`]), and a look in between changes nothing. Where the taint tells its own time they count from
/// then, or from when the pod came to the node if that is later, so that a restart doesn't lengthen them.
pub fn plan(pod: &Pod, taints: &[Taint], seen: &Seen, now: Timestamp) -> Action {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let mut end: Option<Timestamp> = None;
    let mut next = Seen::default();
    for taint in taints.iter().filter(|taint| drives_pods_out(taint)) {
        let patience = match patience(taint, tolerations) {
            Patience::None => return Action::Evict,
            Patience::Endless => continue,
            Patience::Of(time) => time,
        };
        let since = match &taint.time_added {
            Some(time) => came(pod).map_or(time.0, |came| came.max(time.0)),
            None => {
                let first = seen.of(taint).unwrap_or(now);
                next.0.push((taint.clone(), first));
                first
            }
        };
        let time = since.checked_add(patience).unwrap_or(Timestamp::MAX);
        end = Some(end.map_or(time, |end| end.min(time)));
    }
    match end {
        None => Action::Keep,
        Some(end) if end <= now => Action::Evict,
        Some(end) => {
            let left = Duration::try_from(end.duration_since(now)).unwrap_or_default();
            Action::Wait { left, seen: next }
        }
    }
}

enum Patience {
    None,
    Of(SignedDuration),
    Endless,
}

/// The shortest of the tolerations that cover the taint counts.
fn patience(taint: &Taint, tolerations: &[Toleration]) -> Patience {
    let mut fitting = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).peekable();
    if fitting.peek().is_none() {
        return Patience::None;
    }
    let seconds = fitting.filter_map(|toleration| toleration.toleration_seconds).min();
    seconds.map_or(Patience::Endless, |seconds| Patience::Of(SignedDuration::from_secs(seconds.max(0))))
}

/// When the pod came to its node, as far as it tells.
fn came(pod: &Pod) -> Option<Timestamp> {
    let bound = conditions::get(pods::conditions_of(pod), "PodScheduled");
    let bound = bound.filter(|condition| condition.status == "True");
    let bound = bound.and_then(|condition| condition.last_transition_time.as_ref());
    bound.or(pod.metadata.creation_timestamp.as_ref()).map(|time| time.0)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::core::v1::{PodCondition, PodSpec, PodStatus},
        apimachinery::pkg::apis::meta::v1::Time,
    };

    use super::*;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    fn taint(key: &str, effect: &str) -> Taint {
        Taint { key: key.into(), effect: effect.into(), value: None, time_added: Some(at(100)) }
    }

    fn pod(tolerations: &[(&str, Option<i64>)]) -> Pod {
        let toleration = |(key, seconds): &(&str, Option<i64>)| Toleration {
            key: Some((*key).into()),
            operator: Some("Exists".into()),
            toleration_seconds: *seconds,
            ..Default::default()
        };
        let tolerations = Some(tolerations.iter().map(toleration).collect());
        Pod { spec: Some(PodSpec { tolerations, ..Default::default() }), ..Default::default() }
    }

    /// The first look at a pod.
    fn look(pod: &Pod, taints: &[Taint], now: i64) -> Action {
        plan(pod, taints, &Seen::default(), at(now).0)
    }

    fn left(action: &Action) -> Option<u64> {
        if let Action::Wait { left, .. } = action { Some(left.as_secs()) } else { None }
    }

    #[test]
    fn tolerations_decide() {
        let out = [taint("a", "NoExecute"), taint("b", "NoSchedule")];
        assert_eq!(look(&pod(&[]), &out, 100), Action::Evict);
        assert_eq!(look(&pod(&[("a", None)]), &out, 100), Action::Keep);
        assert_eq!(look(&pod(&[]), &out[1..], 100), Action::Keep);
        let patient = pod(&[("a", Some(300))]);
        assert_eq!(left(&look(&patient, &out, 150)), Some(250));
        assert_eq!(look(&patient, &out, 400), Action::Evict);
        let both = [taint("a", "NoExecute"), taint("c", "NoExecute")];
        assert_eq!(look(&patient, &both, 150), Action::Evict, "every taint must be tolerated");
        let twice = pod(&[("a", Some(300)), ("c", Some(30))]);
        assert_eq!(left(&look(&twice, &both, 110)), Some(20));
    }

    #[test]
    fn a_pod_that_came_later_counts_from_then() {
        let mut young = pod(&[("a", Some(60))]);
        young.metadata.creation_timestamp = Some(at(190));
        assert_eq!(left(&look(&young, &[taint("a", "NoExecute")], 200)), Some(50));
        let bound = PodCondition {
            type_: "PodScheduled".into(),
            status: "True".into(),
            last_transition_time: Some(at(195)),
            ..Default::default()
        };
        young.status = Some(PodStatus { conditions: Some(vec![bound]), ..Default::default() });
        assert_eq!(left(&look(&young, &[taint("a", "NoExecute")], 200)), Some(55));
    }

    #[test]
    fn a_taint_without_a_time_counts_from_the_first_look() {
        let timeless = |key: &str| Taint { time_added: None, ..taint(key, "NoExecute") };
        let patient = pod(&[("a", Some(300)), ("b", Some(10))]);
        let Action::Wait { left, seen } = look(&patient, &[timeless("a")], 100) else { panic!("it waits") };
        assert_eq!(left.as_secs(), 300);
        let again = plan(&patient, &[timeless("a")], &seen, at(150).0);
        assert_eq!(again, Action::Wait { left: Duration::from_secs(250), seen: seen.clone() });
        assert_eq!(plan(&patient, &[timeless("a")], &seen, at(400).0), Action::Evict);

        let second = plan(&patient, &[timeless("a"), timeless("b")], &seen, at(200).0);
        assert_eq!(self::left(&second), Some(10), "each taint counts from when it came");
        let other = Taint { value: Some("v".into()), ..timeless("a") };
        assert_eq!(self::left(&plan(&patient, &[other], &seen, at(200).0)), Some(300), "it is another taint");
    }
}
