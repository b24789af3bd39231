//! Carries out a plan to make room.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use tokio::time::Instant;

use super::{Driver, report::Report};
use crate::{
    framework::{Nomination, PostFiltered, Victim},
    snapshot::PodInfo,
};

impl Driver {
    /// Marks who has to go, and takes room back that was held for lesser pods. What the API server is to
    /// do about it goes with the pod's report.
    pub(super) fn make_room(&mut self, pod: &Arc<PodInfo>, plan: &mut PostFiltered) {
        let Nomination::Node(node) = &plan.nomination else { return };
        for victim in &plan.victims {
            self.snapshot.doom(&victim.uid, true);
            self.tell_victim(pod, victim, node);
        }
        // One that Permit still holds is not on its node yet: it is stopped, not deleted.
        plan.victims.retain(|victim| !self.handle.waiting.reject(&victim.uid, "", "preempted"));
        for lesser in std::mem::take(&mut plan.displaced) {
            self.queue.nominator_mut().clear(&lesser.uid);
            self.queue.activate(&lesser.uid, Instant::now());
            let nomination = Nomination::Clear;
            self.reporter.tell(Report { pod: lesser, condition: None, nomination, victims: Vec::new() });
        }
    }

    fn tell_victim(&self, pod: &PodInfo, victim: &Victim, node: &str) {
        let victim = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(victim.namespace.clone()),
            name: Some(victim.name.clone()),
            uid: Some(victim.uid.clone()),
            ..ObjectReference::default()
        };
        self.announcer.preempted(victim, pod, node);
    }

    /// A victim was not sent away: whom it was to make room for looks again, after its backoff, because what
    /// was tried is tried again then.
    pub(super) fn spared(&mut self, victim: &str, preemptor: &str) {
        self.snapshot.doom(victim, false);
        self.queue.retry(preemptor, Instant::now());
    }
}
