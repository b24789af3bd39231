//! What plugins have reserved for the pods of a simulation.

use std::sync::Arc;

use crate::{
    framework::{CycleState, Profile, Status, contained},
    snapshot::{NodeView, PodInfo, Uid},
};

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

    fn reserve(&mut self, node: NodeView<'_>) -> Status {
        for plugin in &self.profile.reserve {
            let reserve = || plugin.reserve(&mut self.state, &self.pod, node);
            let status = contained(plugin.name(), "Reserve", reserve).unwrap_or_else(|status| status);
            if !status.is_success() {
                return status.from_plugin(plugin.name());
            }
        }
        Status::success()
    }

    fn unreserve(&mut self) {
        for plugin in self.profile.reserve.iter().rev() {
            let unreserve = || plugin.unreserve(&mut self.state, &self.pod, &self.node);
            let _ = contained(plugin.name(), "Unreserve", unreserve);
        }
    }
}

/// All that one simulator has reserved. What plugins reserve is theirs, and clones of a simulator share its
/// plugins: so each gives back at its end what it has taken itself.
#[derive(Debug, Default)]
pub(super) struct Reservations(Vec<Reservation>);

impl Clone for Reservations {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Reservations {
    /// Reserves. The error is a plugin's refusal or failure, which leaves nothing reserved.
    pub(super) fn take(&mut self, mut reservation: Reservation, node: NodeView<'_>) -> Result<(), Status> {
        if reservation.profile.reserve.is_empty() {
            return Ok(());
        }
        let status = reservation.reserve(node);
        if status.is_success() {
            self.0.push(reservation);
            return Ok(());
        }
        reservation.unreserve();
        Err(status)
    }

    /// A pod is not on its node any more.
    pub(super) fn give_back(&mut self, uid: &Uid) {
        if let Some(place) = self.0.iter().position(|reservation| reservation.pod.uid == *uid) {
            self.0.remove(place).unreserve();
        }
    }
}

impl Drop for Reservations {
    fn drop(&mut self) {
        while let Some(mut reservation) = self.0.pop() {
            reservation.unreserve();
        }
    }
}
