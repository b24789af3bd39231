//! Carries out a plan to make room.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::FixedState;
use k8s_openapi::api::core::v1::ObjectReference;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::Driver;
use crate::{
    framework::{Nomination, PostFiltered, Victim},
    snapshot::{PodInfo, Uid},
};

/// Who waits for whom to be sent away: a pod is not tried again before all its victims are on their way.
#[derive(Debug, Default)]
pub(super) struct Departures {
    waiting: HashMap<Uid, SmallVec<[Uid; 1]>, FixedState>,
    /// How many victims each pod still waits for.
    left: HashMap<Uid, usize, FixedState>,
}

impl Departures {
    fn expect(&mut self, victim: &str, preemptor: &Uid) {
        self.waiting.entry(victim.into()).or_default().push(preemptor.clone());
        *self.left.entry(preemptor.clone()).or_default() += 1;
    }

    /// A victim is on its way, or stays. Gives the pods that wait for nobody any more.
    fn over(&mut self, victim: &str) -> SmallVec<[Uid; 1]> {
        let mut free = self.waiting.remove(victim).unwrap_or_default();
        free.retain(|preemptor| {
            let Some(left) = self.left.get_mut(preemptor) else { return false };
            *left -= 1;
            let last = *left == 0;
            if last {
                self.left.remove(preemptor);
            }
            last
        });
        free
    }
}

impl Driver {
    /// Marks who has to go, and takes room back that was held for lesser pods. What the API server is to
    /// do about it goes with the pod's report.
    pub(super) fn make_room(&mut self, pod: &Arc<PodInfo>, plan: &mut PostFiltered) {
        let Nomination::Node(node) = &plan.nomination else { return };
        for victim in &plan.victims {
            self.snapshot.doom(&victim.uid, true);
            self.tell_victim(pod, victim, node);
            if self.stays(&victim.uid) {
                self.departures.expect(&victim.uid, &pod.uid);
            }
        }
        // One that Permit still holds is not on its node yet: it is stopped, not deleted.
        plan.victims.retain(|victim| !self.handle.waiting.reject(&victim.uid, "", "preempted"));
        for lesser in std::mem::take(&mut plan.displaced) {
            self.queue.nominator_mut().clear(&lesser.uid);
            self.queue.activate(&lesser.uid, Instant::now());
            self.clear_nomination(lesser);
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

    /// Whether a plan sends pods away that are not on their way yet.
    pub(super) fn sends_away(&self, plan: &PostFiltered) -> bool {
        matches!(plan.nomination, Nomination::Node(_)) && plan.victims.iter().any(|it| self.stays(&it.uid))
    }

    fn stays(&self, uid: &str) -> bool {
        self.snapshot.pod(uid).is_some_and(|(pod, _)| !pod.terminating)
    }

    /// A pod is on its way out, or `gone` already: whoever waited for that, and for nobody else, may be tried.
    pub(super) fn departed(&mut self, uid: &str, gone: bool, now: Instant) {
        for preemptor in self.departures.over(uid) {
            self.queue.let_go(&preemptor, gone, now);
        }
    }

    /// A victim was not sent away: whom it was to make room for looks again, after its backoff, because what
    /// was tried is tried again then.
    pub(super) fn spared(&mut self, victim: &str, preemptor: &str) {
        self.snapshot.doom(victim, false);
        self.departed(victim, false, Instant::now());
        self.queue.retry(preemptor, Instant::now());
    }
}
