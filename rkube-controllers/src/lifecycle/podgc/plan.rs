//! Pods that nobody will finish.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time};

use crate::facts;

/// How long a node must be gone before its pods are: it may only be registering anew.
pub const QUARANTINE: Duration = Duration::from_secs(40);

/// What to do about the pods of a node that isn't there.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Look again after this time.
    Wait(Duration),
    /// Say why the pod ends.
    Fail(Box<Pod>),
    /// Delete the pod at once: no agent will ever confirm.
    Delete(Arc<Pod>),
}

/// Decides; `missing` is for how long the node has been gone.
pub fn plan(pods: &[Arc<Pod>], missing: Duration, now: &Time) -> Vec<Action> {
    if pods.is_empty() {
        return Vec::new();
    }
    if missing < QUARANTINE {
        return vec![Action::Wait(QUARANTINE - missing)];
    }
    pods.iter().flat_map(|pod| failed(pod, now).into_iter().chain([Action::Delete(pod.clone())])).collect()
}

fn failed(pod: &Pod, now: &Time) -> Option<Action> {
    if facts::is_finished(pod) {
        return None;
    }
    let told = facts::disrupted(pod, "DeletionByPodGC", "PodGC: node no longer exists", now);
    let mut pod = told.unwrap_or_else(|| pod.clone());
    pod.status.get_or_insert_default().phase = Some("Failed".into());
    Some(Action::Fail(Box::new(pod)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_go_after_the_quarantine() {
        let now = Time(Default::default());
        let mut done = Pod::default();
        done.status.get_or_insert_default().phase = Some("Succeeded".into());
        let pods = [Arc::new(Pod::default()), Arc::new(done)];
        assert_eq!(plan(&[], QUARANTINE, &now), []);
        assert_eq!(plan(&pods, Duration::from_secs(30), &now), [Action::Wait(Duration::from_secs(10))]);
        let actions = plan(&pods, QUARANTINE, &now);
        let [Action::Fail(failed), Action::Delete(_), Action::Delete(last)] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert_eq!(facts::phase(failed), "Failed");
        assert_eq!(*last, pods[1], "what has ended keeps its phase");
    }
}
