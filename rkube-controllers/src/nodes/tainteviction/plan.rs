//! When a pod must leave a tainted node.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Pod, Taint, Toleration},
    apimachinery::pkg::apis::meta::v1::Time,
};
use rkube_api::helpers::taints::{drives_pods_out, tolerates};

/// What to do about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It may stay.
    Keep,
    /// It may stay this long.
    Wait(Duration),
    /// It must go.
    Evict,
}

/// Decides for a pod on a node with these taints.
///
/// Kubernetes counts the seconds of a toleration from when its controller saw the taint; here they count
/// from the taint's own time, or the pod's if it is younger, so that a restart doesn't lengthen them.
pub fn plan(pod: &Pod, taints: &[Taint], now: &Time) -> Action {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let mut end: Option<Timestamp> = None;
    for taint in taints.iter().filter(|taint| drives_pods_out(taint)) {
        match tolerated_until(pod, taint, tolerations, now) {
            Tolerated::Never => return Action::Evict,
            Tolerated::Until(time) => end = Some(end.map_or(time, |end| end.min(time))),
            Tolerated::Always => {}
        }
    }
    match end {
        None => Action::Keep,
        Some(end) if end <= now.0 => Action::Evict,
        Some(end) => Action::Wait(Duration::try_from(end.duration_since(now.0)).unwrap_or_default()),
    }
}

enum Tolerated {
    Never,
    Until(Timestamp),
    Always,
}

/// The shortest of the tolerations that cover the taint counts.
fn tolerated_until(pod: &Pod, taint: &Taint, tolerations: &[Toleration], now: &Time) -> Tolerated {
    let mut fitting = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).peekable();
    if fitting.peek().is_none() {
        return Tolerated::Never;
    }
    let Some(seconds) = fitting.filter_map(|toleration| toleration.toleration_seconds).min() else {
        return Tolerated::Always;
    };
    let since = taint.time_added.as_ref().unwrap_or(now).0;
    let since = pod.metadata.creation_timestamp.as_ref().map_or(since, |made| since.max(made.0));
    Tolerated::Until(since.checked_add(SignedDuration::from_secs(seconds.max(0))).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;

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

    #[test]
    fn tolerations_decide() {
        let out = [taint("a", "NoExecute"), taint("b", "NoSchedule")];
        assert_eq!(plan(&pod(&[]), &out, &at(100)), Action::Evict);
        assert_eq!(plan(&pod(&[("a", None)]), &out, &at(100)), Action::Keep);
        assert_eq!(plan(&pod(&[]), &out[1..], &at(100)), Action::Keep);
        let patient = pod(&[("a", Some(300))]);
        assert_eq!(plan(&patient, &out, &at(150)), Action::Wait(Duration::from_secs(250)));
        assert_eq!(plan(&patient, &out, &at(400)), Action::Evict);
        let both = [taint("a", "NoExecute"), taint("c", "NoExecute")];
        assert_eq!(plan(&patient, &both, &at(150)), Action::Evict, "every taint must be tolerated");
        let twice = pod(&[("a", Some(300)), ("c", Some(30))]);
        assert_eq!(plan(&twice, &both, &at(110)), Action::Wait(Duration::from_secs(20)));
    }

    #[test]
    fn a_younger_pod_counts_from_its_own_start() {
        let mut young = pod(&[("a", Some(60))]);
        young.metadata.creation_timestamp = Some(at(190));
        assert_eq!(plan(&young, &[taint("a", "NoExecute")], &at(200)), Action::Wait(Duration::from_secs(50)));
    }
}
