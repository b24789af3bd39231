//! Tells the world what became of a pod that got no node.

use std::sync::Arc;

use foldhash::fast::FixedState;
use futures::{StreamExt, stream};
use indexmap::IndexMap;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use parking_lot::Mutex;
use rkube_api::{
    client::{Api, Client, DeleteParams, Patch, PatchParams},
    error::ApiError,
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::inbox::{Inbox, News};
use crate::{
    framework::{Nomination, Victim},
    snapshot::{PodInfo, Uid, node_of, nominated_node},
};

/// How many reports are written at once.
const CONCURRENCY: usize = 16;
/// How often a report is tried when the pod changes under it.
const TRIES: usize = 4;

/// What is to be written about one pod.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) pod: Arc<PodInfo>,
    /// Why it has no node, if that is news: `Unschedulable` or `SchedulerError`, and the sentence.
    pub(super) condition: Option<(&'static str, String)>,
    pub(super) nomination: Nomination,
    pub(super) victims: Vec<Victim>,
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
            report.victims.extend(older.victims);
            report.condition = report.condition.or(older.condition);
            if report.nomination == Nomination::Keep {
                report.nomination = older.nomination;
            }
        }
        waiting.insert(report.pod.uid.clone(), report);
        self.arrived.notify_one();
    }

    /// Writes reports until the task is ended.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            self.arrived.notified().await;
            let batch = std::mem::take(&mut *self.waiting.lock());
            // No two reports of one pod are under way at once: the batch is finished first.
            let reporter = &self;
            stream::iter(batch.into_values())
                .for_each_concurrent(CONCURRENCY, |report| async move {
                    if let Err(error) = reporter.write(&report).await {
                        tracing::warn!(pod = %report.pod.key, %error, "the pod's condition was not written");
                    }
                    reporter.evict(&report).await;
                })
                .await;
        }
    }

    async fn write(&self, report: &Report) -> Result<(), ApiError> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &report.pod.key.namespace);
        let mut pod = report.pod.pod.clone();
        for _ in 0..TRIES {
            let Some(change) = self.change(report, &pod) else { return Ok(()) };
            let params = PatchParams::default();
            match pods.patch_status(&report.pod.key.name, &params, &Patch::Strategic(change)).await {
                Ok(_) | Err(ApiError::NotFound { .. }) => return Ok(()),
                Err(ApiError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
            let Some(newest) = pods.get_opt(&report.pod.key.name).await? else { return Ok(()) };
            pod = newest;
        }
        Ok(())
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
        };
        if before.is_some_and(same) {
            return None;
        }
        let unchanged = before.filter(|condition| condition.status == "False");
        let since = unchanged.and_then(|condition| condition.last_transition_time.clone());
        Some(json!({
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
            "lastTransitionTime": since.unwrap_or_else(|| self.client.context().clock.now()),
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
                Ok(()) | Err(ApiError::NotFound { .. } | ApiError::Conflict { .. }) => {}
                Err(error) => {
                    tracing::warn!(pod = %victim.name, %error, "a victim of preemption was not sent away");
                    let (victim, preemptor) = (victim.uid.as_str().into(), report.pod.uid.clone());
                    self.inbox.tell(News::Spared { victim, preemptor });
                }
            }
        }
    }
}
