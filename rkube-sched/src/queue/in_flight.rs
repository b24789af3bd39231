//! What happens while pods are being scheduled.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use foldhash::fast::FixedState;

use crate::{
    framework::ClusterEvent,
    snapshot::{PodInfo, Uid},
};

/// A pod out of the queue.
#[derive(Debug)]
pub(super) struct Flight {
    start: u64,
    /// The pod as it is now.
    pub(super) info: Arc<PodInfo>,
    /// Whether it is gone.
    pub(super) deleted: bool,
}

/// The pods being scheduled and the events since the first of them left the queue: a pod that comes back
/// may have been helped by one of those.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    pods: HashMap<Uid, Flight, FixedState>,
    starts: BTreeSet<(u64, Uid)>,
    events: VecDeque<(u64, ClusterEvent)>,
    next: u64,
}

impl InFlight {
    pub(super) fn start(&mut self, info: Arc<PodInfo>) {
        let uid = info.uid.clone();
        self.starts.insert((self.next, uid.clone()));
        self.pods.insert(uid, Flight { start: self.next, info, deleted: false });
    }

    pub(super) fn get(&self, uid: &str) -> Option<&Flight> {
        self.pods.get(uid)
    }

    pub(super) fn uids(&self) -> impl Iterator<Item = &Uid> {
        self.pods.keys()
    }

    pub(super) fn get_mut(&mut self, uid: &str) -> Option<&mut Flight> {
        self.pods.get_mut(uid)
    }

    pub(super) fn len(&self) -> usize {
        self.pods.len()
    }

    pub(super) fn record(&mut self, event: &ClusterEvent) {
        if !self.pods.is_empty() {
            self.events.push_back((self.next, event.clone()));
            self.next += 1;
        }
    }

    /// The events since the pod left the queue.
    pub(super) fn events_since_start(&self, uid: &str) -> impl Iterator<Item = &ClusterEvent> {
        let start = self.pods.get(uid).map_or(self.next, |flight| flight.start);
        let from = self.events.partition_point(|(at, _)| *at < start);
        self.events.range(from..).map(|(_, event)| event)
    }

    pub(super) fn finish(&mut self, uid: &str) -> Option<Flight> {
        let (uid, flight) = self.pods.remove_entry(uid)?;
        self.starts.remove(&(flight.start, uid));
        let oldest = self.starts.first().map_or(self.next, |(start, _)| *start);
        while self.events.front().is_some_and(|(at, _)| *at < oldest) {
            self.events.pop_front();
        }
        Some(flight)
    }

    #[cfg(test)]
    pub(super) fn recorded(&self) -> usize {
        self.events.len()
    }
}
