//! Tells users by events what became of their pods.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::ObjectReference;
use rkube_api::client::{Client, EventKind, EventRecorder};
use tokio::time::Instant;

use super::binding::Ended;
use crate::{framework::Profiles, snapshot::PodInfo};

/// How many `Scheduled` events are written. An event is a write like a pod's creation: where thousands of
/// pods a second get their nodes, an event for each would take the time of half of them.
///
/// kube-scheduler's events go through a client of 50 requests a second, 100 at once, and what more than 1,000
/// of them wait for is dropped; the defaults here are more generous. Pods that get no node, victims and
/// failures are not limited so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRate {
    /// How many at once: by default 500, half of what a recorder lets wait.
    pub burst: u32,
    /// How many a second after that, at least one: by default 100.
    pub per_second: u32,
}

impl Default for EventRate {
    fn default() -> Self {
        Self { burst: 500, per_second: 100 }
    }
}

/// What is left of a rate.
#[derive(Debug, Default)]
struct Budget {
    rate: EventRate,
    /// When all of it is there again.
    whole: Option<Instant>,
}

impl Budget {
    fn take(&mut self, now: Instant) -> bool {
        let each = Duration::from_secs(1) / self.rate.per_second.max(1);
        let whole = self.whole.map_or(now, |whole| whole.max(now));
        let enough = whole.duration_since(now) + each <= each * self.rate.burst;
        if enough {
            self.whole = Some(whole + each);
        }
        enough
    }
}

/// One recorder a profile.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    recorders: BTreeMap<String, EventRecorder>,
    scheduled: Budget,
}

impl Announcer {
    pub(super) fn new(rate: EventRate) -> Self {
        Self { recorders: BTreeMap::new(), scheduled: Budget { rate, whole: None } }
    }

    /// Starts to write.
    pub(super) fn start(&mut self, client: &Client, profiles: &Profiles) {
        let names = profiles.iter().map(|profile| profile.scheduler_name().to_owned());
        let recorder = |name: String| EventRecorder::new(client, name.clone()).new_form(name);
        self.recorders = names.map(|name| (name.clone(), recorder(name))).collect();
    }

    /// A pod is bound.
    pub(super) fn bound(&mut self, ended: &Ended, now: Instant) {
        let Ended { binding, afterwards, .. } = ended;
        let pod = &binding.pod.info;
        let Some(recorder) = self.recorders.get(binding.profile.scheduler_name()) else { return };
        if self.scheduled.take(now) {
            let note = format!("Successfully assigned {} to {}", pod.key, binding.node);
            recorder.record(&*pod.pod, EventKind::Normal, "Scheduled", "Binding", note);
        }
        if !afterwards.is_success() {
            let note = cut(&afterwards.message());
            recorder.record(&*pod.pod, EventKind::Warning, "PluginFailed", "Binding", note);
        }
    }

    /// A pod got no node.
    pub(super) fn failed(&self, pod: &PodInfo, message: &str) {
        if let Some(recorder) = self.recorders.get(pod.scheduler_name()) {
            let note = cut(message);
            recorder.record(&*pod.pod, EventKind::Warning, "FailedScheduling", "Scheduling", note);
        }
    }

    /// A pod has to make room for another one.
    pub(super) fn preempted(&self, victim: ObjectReference, by: &PodInfo, node: &str) {
        if let Some(recorder) = self.recorders.get(by.scheduler_name()) {
            let note = format!("Preempted by pod {} on node {node}", by.uid);
            recorder.record_reference(victim, EventKind::Normal, "Preempted", "Preempting", note);
        }
    }
}

/// An event's note has 1024 bytes at most.
fn cut(message: &str) -> String {
    const MOST: usize = 1024;
    const MARK: &str = " ...";
    if message.len() <= MOST {
        return message.to_owned();
    }
    let end = (0..=MOST - MARK.len()).rev().find(|&end| message.is_char_boundary(end));
    format!("{}{MARK}", &message[..end.unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let long = cut(&"a\u{e9}".repeat(600));
        assert!(long.len() <= 1024 && long.len() > 1020 && long.ends_with(" ..."));
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_is_used_up_and_comes_back() {
        let mut budget = Budget { rate: EventRate { burst: 3, per_second: 2 }, whole: None };
        let taken = |budget: &mut Budget| (0..10).filter(|_| budget.take(Instant::now())).count();
        assert_eq!(taken(&mut budget), 3);
        tokio::time::advance(Duration::from_millis(499)).await;
        assert_eq!(taken(&mut budget), 0);
        tokio::time::advance(Duration::from_millis(501)).await;
        assert_eq!(taken(&mut budget), 2);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(taken(&mut budget), 3, "no more than a burst gathers");
        assert!(!Budget { rate: EventRate { burst: 0, per_second: 0 }, whole: None }.take(Instant::now()));
    }
}
