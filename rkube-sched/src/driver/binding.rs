//! What happens to a pod between its decision and its node: Permit's wait, PreBind, Bind, PostBind.

use std::{collections::BTreeSet, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use super::inbox::{Inbox, News};
use crate::{
    framework::{CycleState, Permission, Profile, Status, WaitingPods},
    queue::QueuedPod,
};

/// A pod on its way to its node.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) pod: QueuedPod,
    pub(super) node: String,
    pub(super) state: CycleState,
    pub(super) profile: Arc<Profile>,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) binding: Binding,
    pub(super) status: Status,
}

/// What Permit holds a pod for.
#[derive(Debug)]
pub(super) struct Hold {
    verdict: oneshot::Receiver<Status>,
    /// When each plugin's patience ends, soonest first.
    deadlines: Vec<(Instant, &'static str, Duration)>,
}

impl Binding {
    /// Runs Reserve. A failure leaves nothing reserved.
    pub(super) fn reserve(&mut self) -> Status {
        for plugin in &self.profile.reserve {
            let status = plugin.reserve(&mut self.state, &self.pod.info, &self.node);
            if !status.is_success() {
                return status.from_plugin(plugin.name());
            }
        }
        Status::success()
    }

    /// Gives back what Reserve took, last first.
    pub(super) fn unreserve(&mut self) {
        for plugin in self.profile.reserve.iter().rev() {
            plugin.unreserve(&mut self.state, &self.pod.info, &self.node);
        }
    }

    /// Runs Permit. If plugins want to wait, the pod is known to `waiting` from now on.
    pub(super) fn permit(&mut self, waiting: &WaitingPods) -> Result<Option<Hold>, Status> {
        let mut deadlines = Vec::new();
        for plugin in &self.profile.permit {
            match plugin.permit(&mut self.state, &self.pod.info, &self.node) {
                Permission::Allow => {}
                Permission::Deny(status) => return Err(status.from_plugin(plugin.name())),
                Permission::Wait(patience) => {
                    deadlines.push((Instant::now() + patience, plugin.name(), patience));
                }
            }
        }
        if deadlines.is_empty() {
            return Ok(None);
        }
        deadlines.sort_unstable();
        let plugins: BTreeSet<_> = deadlines.iter().map(|(_, plugin, _)| *plugin).collect();
        let verdict = waiting.hold(&self.pod.info.uid, plugins);
        Ok(Some(Hold { verdict, deadlines }))
    }

    /// Goes all the way and tells how it ended.
    pub(super) async fn run(self, hold: Option<Hold>, waiting: WaitingPods, inbox: Arc<Inbox>) {
        let done = AssertUnwindSafe(self.bind(hold, &waiting)).catch_unwind().await;
        let status = done.unwrap_or_else(|_| Status::error("a plugin panicked while the pod was bound"));
        inbox.tell(News::Ended(Box::new(Ended { binding: self, status })));
    }

    async fn bind(&self, hold: Option<Hold>, waiting: &WaitingPods) -> Status {
        let pod = &self.pod.info;
        if let Some(hold) = hold {
            let status = hold.wait(&pod.uid, waiting).await;
            waiting.release(&pod.uid);
            if !status.is_success() {
                return status;
            }
        }
        for plugin in &self.profile.pre_bind {
            let status = plugin.pre_bind(&self.state, pod, &self.node).await;
            if !status.is_success() {
                return status.from_plugin(plugin.name());
            }
        }
        let status = self.bind_by_first().await;
        if status.is_success() {
            for plugin in &self.profile.post_bind {
                plugin.post_bind(&self.state, pod, &self.node).await;
            }
        }
        status
    }

    async fn bind_by_first(&self) -> Status {
        for plugin in &self.profile.bind {
            let status = plugin.bind(&self.state, &self.pod.info, &self.node).await;
            if !status.is_skip() {
                return status.from_plugin(plugin.name());
            }
        }
        Status::error("all bind plugins skipped the pod")
    }
}

impl Hold {
    async fn wait(mut self, uid: &str, waiting: &WaitingPods) -> Status {
        for (deadline, plugin, patience) in self.deadlines {
            tokio::select! {
                biased;
                verdict = &mut self.verdict => {
                    return verdict.unwrap_or_else(|_| Status::error("the wait was given up"));
                }
                () = sleep_until(deadline) => {}
            }
            if waiting.pending(uid).contains(&plugin) {
                let text = format!("rejected due to timeout after waiting {patience:?} at plugin {plugin}");
                return Status::unschedulable(text).from_plugin(plugin);
            }
        }
        (&mut self.verdict).await.unwrap_or_else(|_| Status::error("the wait was given up"))
    }
}
