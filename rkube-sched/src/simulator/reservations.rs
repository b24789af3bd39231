//! What plugins have reserved for the pods of a simulation.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use crate::{
    framework::{CycleState, Profile, Profiles, Status, WaitingPods},
    snapshot::{NodeView, PodInfo, Snapshot, Uid},
};

/// What Permit holds a pod for.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) verdict: oneshot::Receiver<Status>,
    /// Whose patience ends first, and when.
    pub(super) plugin: &'static str,
    pub(super) patience: Duration,
}

/// What Reserve took for one pod.
#[derive(Debug)]
pub(super) struct Reservation {
    profile: Arc<Profile>,
    state: CycleState,
    pod: Arc<PodInfo>,
    node: String,
}

impl Reservation {
    pub(super) fn new(profile: Arc<Profile>, state: CycleState, pod: Arc<PodInfo>, node: String) -> Self {
        Self { profile, state, pod, node }
    }

    /// Asks Permit. If plugins want to wait, the pod is known to `waiting` from now on.
    fn permit(&mut self, waiting: &WaitingPods) -> Result<Option<Hold>, Status> {
        let holders = self.profile.permit(&mut self.state, &self.pod, &self.node)?;
        let Some(&(patience, plugin)) = holders.first() else { return Ok(None) };
        let verdict = waiting.hold(&self.pod.uid, holders.iter().map(|(_, plugin)| *plugin).collect());
        Ok(Some(Hold { verdict, plugin, patience }))
    }

    fn unreserve(&mut self) {
        self.profile.unreserve(&mut self.state, &self.pod, &self.node);
    }
}

/// All that one simulator has reserved, in that order.
#[derive(Debug, Default)]
pub(super) struct Reservations(Vec<Reservation>);

impl Reservations {
    /// Reserves, and asks Permit, which may hold the pod. The error is a plugin's refusal or failure, which
    /// leaves nothing reserved.
    pub(super) fn take(
        &mut self,
        mut reservation: Reservation,
        node: NodeView<'_>,
        waiting: &WaitingPods,
    ) -> Result<Option<Hold>, Status> {
        let status = reservation.profile.reserve(&mut reservation.state, &reservation.pod, node);
        let permitted = if status.is_success() { reservation.permit(waiting) } else { Err(status) };
        match permitted {
            Ok(hold) => {
                if !reservation.profile.reserve.is_empty() {
                    self.0.push(reservation);
                }
                Ok(hold)
            }
            Err(status) => {
                reservation.unreserve();
                Err(status)
            }
        }
    }

    /// A pod is not on its node any more.
    pub(super) fn give_back(&mut self, uid: &Uid) {
        if let Some(place) = self.0.iter().rposition(|reservation| reservation.pod.uid == *uid) {
            self.0.remove(place).unreserve();
        }
    }

    /// The same reservations with plugins of their own, which have nothing reserved so far.
    pub(super) fn again(&self, profiles: &Profiles, snapshot: &Snapshot, waiting: &WaitingPods) -> Self {
        let mut again = Self::default();
        for Reservation { profile, state, pod, node } in &self.0 {
            let at = snapshot.find(node).map(|id| snapshot.view(id));
            let Some((profile, at)) = profiles.named(profile.scheduler_name()).zip(at) else { continue };
            let reservation = Reservation::new(profile.clone(), state.clone(), pod.clone(), node.clone());
            // It went well before, and what Permit held then was let through.
            let _ = again.take(reservation, at, waiting);
            waiting.release(&pod.uid);
        }
        again
    }
}
