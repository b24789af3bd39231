//! Pods that Permit holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Status;
use crate::snapshot::Uid;

/// The pods whose binding waits for somebody's word, shared by the driver and the plugins.
#[derive(Clone, Default)]
pub struct WaitingPods {
    inner: Arc<Mutex<BTreeMap<Uid, Waiting>>>,
}

struct Waiting {
    pending: BTreeSet<&'static str>,
    verdict: oneshot::Sender<Status>,
}

impl std::fmt::Debug for WaitingPods {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.uids()).finish()
    }
}

impl WaitingPods {
    /// The UIDs of the waiting pods.
    pub fn uids(&self) -> Vec<Uid> {
        self.inner.lock().keys().cloned().collect()
    }

    /// The plugins that a pod waits for.
    pub fn pending(&self, uid: &str) -> Vec<&'static str> {
        self.inner.lock().get(uid).map(|pod| pod.pending.iter().copied().collect()).unwrap_or_default()
    }

    /// A plugin lets a pod through; when all have, the pod is bound. False if it does not wait.
    pub fn allow(&self, uid: &str, plugin: &'static str) -> bool {
        let mut pods = self.inner.lock();
        let Some(pod) = pods.get_mut(uid) else { return false };
        pod.pending.remove(plugin);
        if pod.pending.is_empty()
            && let Some(pod) = pods.remove(uid)
        {
            // The binding may have been given up in the meantime.
            let _ = pod.verdict.send(Status::success());
        }
        true
    }

    /// A plugin stops a pod. False if it does not wait.
    pub fn reject(&self, uid: &str, plugin: &'static str, reason: impl Into<String>) -> bool {
        let Some(pod) = self.inner.lock().remove(uid) else { return false };
        let _ = pod.verdict.send(Status::unschedulable(reason.into()).from_plugin(plugin));
        true
    }

    /// Starts to wait; the receiver gets the verdict.
    pub(crate) fn hold(&self, uid: &Uid, plugins: BTreeSet<&'static str>) -> oneshot::Receiver<Status> {
        let (verdict, receiver) = oneshot::channel();
        self.inner.lock().insert(uid.clone(), Waiting { pending: plugins, verdict });
        receiver
    }

    /// Ends the wait without a verdict.
    pub(crate) fn release(&self, uid: &str) {
        self.inner.lock().remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_goes_when_all_let_it_and_stops_when_one_rejects() {
        let waiting = WaitingPods::default();
        let (a, b) = (Uid::from("a"), Uid::from("b"));
        let mut first = waiting.hold(&a, BTreeSet::from(["X", "Y"]));
        let mut second = waiting.hold(&b, BTreeSet::from(["X"]));
        assert!(waiting.allow("a", "X"));
        assert!(first.try_recv().is_err());
        assert!(waiting.allow("a", "Y"));
        assert!(first.try_recv().unwrap().is_success());
        assert!(waiting.reject("b", "X", "no"));
        assert_eq!(second.try_recv().unwrap().message(), "no");
        assert!(!waiting.allow("a", "X"));
    }
}
