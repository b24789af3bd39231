//! Tells the world what became of a pod that got no node.

use std::{sync::Arc, time::Duration};

use foldhash::fast::FixedState;
use futures::{StreamExt, future::ready, stream};
use indexmap::IndexMap;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use parking_lot::Mutex;
use rkube_api::{
    client::{Api, Client, DeleteParams, Patch, PatchParams},
    error::ApiError,
};
use serde_json::{Value, json};
use tokio::{sync::Notify, time::sleep};

use super::inbox::{Inbox, News};
use crate::{
    framework::{Nomination, Victim},
    snapshot::{PodInfo, Uid, node_of, nominated_node},
};

/// How many reports are written at once.
const CONCURRENCY: usize = 16;
/// How often a report is tried when the pod changes under it.
const TRIES: usize = 4;
/// How long until a report is written again that the API server did not take.
const PAUSE: Duration = Duration::from_secs(1);

/// What is to be written about one pod.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) pod: Arc<PodInfo>,
    /// Why it has no node, if that is news: `Unschedulable` or `SchedulerError`, and the sentence.
    pub(super) condition: Option<(&'static str, String)>,
    pub(super) nomination: Nomination,
    pub(super) victims: Vec<Victim>,
}

impl Report {
    /// Takes over from an older report of the same pod what this one says nothing about.
    fn complete(&mut self, older: Self) {
        self.victims.extend(older.victims);
        self.condition = self.condition.take().or(older.condition);
        if self.nomination == Nomination::Keep {
            self.nomination = older.nomination;
        }
    }
}

/// Writes the newest report of each pod, in the background.
#[derive(Debug)]
pub(super) struct Reporter {
    client: Client,
    inbox: Arc<Inbox>,
    waiting: Mutex<IndexMap<Uid, Report, FixedState>>,
    arrived: Notify,
}

impl Reporter {
    pub(super) fn new(client: Client, inbox: Arc<Inbox>) -> Self {
        Self { client, inbox, waiting: Mutex::default(), arrived: Notify::new() }
    }

    /// Takes a report; it replaces one of the same pod that was not written yet, but for what it says nothing
    /// about.
    pub(super) fn tell(&self, mut report: Report) {
        let mut waiting = self.waiting.lock();
        if let Some(older) = waiting.swap_remove(&report.pod.uid) {
            report.complete(older);
        }
        waiting.insert(report.pod.uid.clone(), report);
        self.arrived.notify_one();
    }

    /// One that could not be written waits for the next try, unless a newer one says it all.
    fn tell_again(&self, report: Report) {
        let mut waiting = self.waiting.lock();
        match waiting.get_mut(&report.pod.uid) {
            Some(newer) => newer.complete(report),
            None => drop(waiting.insert(report.pod.uid.clone(), report)),
        }
        self.arrived.notify_one();
    }

    /// Writes reports until the task is ended.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            self.arrived.notified().await;
            let batch = std::mem::take(&mut *self.waiting.lock());
            // No two reports of one pod are under way at once: the batch is finished first.
            let reporter = &self;
            let failed: Vec<Report> = stream::iter(batch.into_values())
                .map(|report| reporter.carry_out(report))
                .buffer_unordered(CONCURRENCY)
                .filter_map(ready)
                .collect()
                .await;
            if !failed.is_empty() {
                sleep(PAUSE).await;
                failed.into_iter().for_each(|report| self.tell_again(report));
            }
        }
    }

    /// Writes a report and sends the victims away; gives it back if it is to be written again.
    async fn carry_out(&self, mut report: Report) -> Option<Report> {
        let written = self.write(&report).await;
        self.evict(&report).await;
        report.victims.clear();
        let error = written.err()?;
        tracing::warn!(pod = %report.pod.key, %error, "the pod's condition was not written");
        let passes = error.code() >= 500
            || matches!(error, ApiError::TooManyRequests { .. } | ApiError::Conflict { .. });
        passes.then_some(report)
    }

    async fn write(&self, report: &Report) -> Result<(), ApiError> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &report.pod.key.namespace);
        let mut pod = report.pod.pod.clone();
        // What is to be taken back may have been written just now, so that this pod does not show it yet.
        if report.nomination == Nomination::Clear && nominated_node(&pod).is_none() {
            let Some(newest) = pods.get_opt(&report.pod.key.name).await? else { return Ok(()) };
            pod = newest;
        }
        let mut tries = 0;
        loop {
            let Some(change) = self.change(report, &pod) else { return Ok(()) };
            let params = PatchParams::default();
            tries += 1;
            match pods.patch_status(&report.pod.key.name, &params, &Patch::Strategic(change)).await {
                Ok(_) | Err(ApiError::NotFound { .. }) => return Ok(()),
                Err(ApiError::Conflict { .. }) if tries < TRIES => {}
                Err(error) => return Err(error),
            }
            let Some(newest) = pods.get_opt(&report.pod.key.name).await? else { return Ok(()) };
            pod = newest;
        }
    }

    /// The change to the pod's status; `None` if it says so already, has a node, or is another pod.
    fn change(&self, report: &Report, pod: &Pod) -> Option<Value> {
        if node_of(pod).is_some() || pod.metadata.uid != report.pod.pod.metadata.uid {
            return None;
        }
        let condition = self.condition(report, pod);
        let nominated = match &report.nomination {
            Nomination::Node(node) if nominated_node(pod) != Some(node) => Some(node.as_str()),
            Nomination::Clear if nominated_node(pod).is_some() => Some(""),
            _ => None,
        };
        if condition.is_none() && nominated.is_none() {
            return None;
        }
        let mut status = json!({});
        if let Some(condition) = condition {
            status["conditions"] = json!([condition]);
        }
        if let Some(node) = nominated {
            status["nominatedNodeName"] = if node.is_empty() { Value::Null } else { json!(node) };
        }
        // The version makes sure that nothing is written over a binding that this process has not seen.
        let meta = json!({"resourceVersion": pod.metadata.resource_version});
        Some(json!({"metadata": meta, "status": status}))
    }

    /// The condition to write; `None` if the pod says so already.
    fn condition(&self, report: &Report, pod: &Pod) -> Option<Value> {
        let (reason, message) = report.condition.as_ref()?;
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
        let before =
            conditions.unwrap_or_default().iter().find(|condition| condition.type_ == "PodScheduled");
        let same = |condition: &PodCondition| {
            condition.status == "False"
                && condition.reason.as_deref() == Some(reason)
                && condition.message.as_deref() == Some(message)
                && condition.observed_generation == pod.metadata.generation
        };
        if before.is_some_and(same) {
            return None;
        }
        let unchanged = before.filter(|condition| condition.status == "False");
        let since = unchanged.and_then(|condition| condition.last_transition_time.clone());
        Some(json!({
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
            "lastTransitionTime": since.unwrap_or_else(|| self.client.context().clock.now()),
            "observedGeneration": pod.metadata.generation,
        }))
    }

    /// Removes the pods that have to make room.
    async fn evict(&self, report: &Report) {
        for victim in &report.victims {
            let pods = Api::<Pod>::namespaced(self.client.clone(), &victim.namespace);
            let condition = json!({"metadata": {"uid": victim.uid}, "status": {"conditions": [{
                "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                "message": format!(
                    "{}: preempting to accommodate a higher priority pod", report.pod.scheduler_name()
                ),
                "lastTransitionTime": self.client.context().clock.now(),
            }]}});
            let marked =
                pods.patch_status(&victim.name, &PatchParams::default(), &Patch::Strategic(condition)).await;
            let sent = match marked {
                // Without the mark nobody could tell why it goes: it is tried again as a whole.
                Ok(_) => pods.delete(&victim.name, &DeleteParams::default().uid(&victim.uid)).await.map(drop),
                Err(error) => Err(error),
            };
            match sent {
                Ok(()) | Err(ApiError::NotFound { .. }) => {}
                Err(error) => {
                    tracing::warn!(pod = %victim.name, %error, "a victim of preemption was not sent away");
                    let (victim, preemptor) = (victim.uid.as_str().into(), report.pod.uid.clone());
                    self.inbox.tell(News::Spared { victim, preemptor });
                }
            }
        }
    }
}
