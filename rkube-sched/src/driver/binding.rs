//! What happens to a pod between its decision and its node: Permit's wait, PreBind, Bind, PostBind.

use std::{sync::Arc, task::Poll, time::Duration};

use futures::{StreamExt, poll, stream::FuturesUnordered};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use super::inbox::{Inbox, News};
use crate::{
    framework::{CycleState, PreBind, Profile, Status, WaitingPods, contained, contained_async},
    queue::QueuedPod,
    snapshot::NodeView,
};

/// A pod on its way to its node.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) pod: QueuedPod,
    pub(super) node: String,
    pub(super) state: CycleState,
    pub(super) profile: Arc<Profile>,
    /// When its node was chosen.
    pub(super) since: Instant,
    /// Whether room was held for it there before.
    pub(super) nominated: bool,
    /// Whether it may wait long, for Permit's word or for what PreBind needs.
    pub(super) patient: bool,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) binding: Binding,
    pub(super) status: Status,
    /// What came of PostBind.
    pub(super) afterwards: Status,
}

/// What Permit holds a pod for.
#[derive(Debug)]
pub(super) struct Hold {
    verdict: oneshot::Receiver<Status>,
    since: Instant,
    /// How long each plugin waits, the least patient first.
    holders: Vec<(Duration, &'static str)>,
}

impl Binding {
    /// Runs Reserve.
    pub(super) fn reserve(&mut self, node: NodeView<'_>) -> Status {
        self.profile.reserve(&mut self.state, &self.pod.info, node)
    }

    /// Whether PreBind will wait for others. A plugin that panics here will again there.
    pub(super) fn will_wait(&self) -> bool {
        let waits = |plugin: &Arc<dyn PreBind>| {
            contained(plugin.name(), "PreBind", || plugin.waits(&self.state, &self.pod.info)).unwrap_or(false)
        };
        self.profile.pre_bind.iter().any(waits)
    }

    /// Gives back what Reserve took, last first.
    pub(super) fn unreserve(&mut self) {
        self.profile.unreserve(&mut self.state, &self.pod.info, &self.node);
    }

    /// Runs Permit. If plugins want to wait, the pod is known to `waiting` from now on.
    pub(super) fn permit(&mut self, waiting: &WaitingPods) -> Result<Option<Hold>, Status> {
        let holders = self.profile.permit(&mut self.state, &self.pod.info, &self.node)?;
        if holders.is_empty() {
            return Ok(None);
        }
        let verdict = waiting.hold(&self.pod.info.uid, holders.iter().map(|(_, plugin)| *plugin).collect());
        Ok(Some(Hold { verdict, since: Instant::now(), holders }))
    }

    /// Waits as long as Permit wants, then goes all the way and tells how it ended.
    pub(super) async fn run_held(self, hold: Hold, waiting: WaitingPods, inbox: Arc<Inbox>) {
        let uid = self.pod.info.uid.clone();
        let verdict = hold.wait(&uid, &waiting).await;
        waiting.release(&uid);
        let ended = if verdict.is_success() {
            self.run().await
        } else {
            Ended { binding: self, status: verdict, afterwards: Status::success() }
        };
        inbox.tell(News::Ended(vec![ended]));
    }

    async fn run(self) -> Ended {
        let status = self.bind().await;
        let afterwards = if status.is_success() { self.post_bind().await } else { Status::success() };
        Ended { binding: self, status, afterwards }
    }

    /// Tells the plugins that the pod is bound. It stays bound whatever they do.
    async fn post_bind(&self) -> Status {
        let mut outcome = Status::success();
        for plugin in &self.profile.post_bind {
            let work = plugin.post_bind(&self.state, &self.pod.info, &self.node);
            if let Err(status) = contained_async(plugin.name(), "PostBind", work).await {
                outcome = status;
            }
        }
        outcome
    }

    async fn bind(&self) -> Status {
        let pod = &self.pod.info;
        for plugin in &self.profile.pre_bind {
            let work = plugin.pre_bind(&self.state, pod, &self.node);
            let status = contained_async(plugin.name(), "PreBind", work).await.unwrap_or_else(|it| it);
            if !status.is_success() {
                return status.from_plugin(plugin.name());
            }
        }
        self.bind_by_first().await
    }

    async fn bind_by_first(&self) -> Status {
        for plugin in &self.profile.bind {
            let work = plugin.bind(&self.state, &self.pod.info, &self.node);
            let status = contained_async(plugin.name(), "Bind", work).await.unwrap_or_else(|it| it);
            if !status.is_skip() {
                return status.from_plugin(plugin.name());
            }
        }
        Status::error("all bind plugins skipped the pod")
    }
}

/// Binds many pods at once and tells how each ended. Each is a request of its own, with an outcome of its
/// own; all are under way in one task, so that an API server in this process, which answers at once, does so
/// without a task, a wake and a message a pod, and in the same memory one after the other. Those that a server
/// elsewhere answers late keep nobody waiting.
pub(super) async fn run_all(bindings: Vec<Binding>, inbox: Arc<Inbox>) {
    let most = bindings.len().max(1);
    let (late, mut ended) = (FuturesUnordered::new(), Vec::with_capacity(bindings.len()));
    for binding in bindings {
        let mut run = Box::pin(binding.run());
        match poll!(&mut run) {
            Poll::Ready(one) => ended.push(one),
            Poll::Pending => late.push(run),
        }
    }
    if !ended.is_empty() {
        inbox.tell(News::Ended(ended));
    }
    let mut late = late.ready_chunks(most);
    while let Some(ended) = late.next().await {
        inbox.tell(News::Ended(ended));
    }
}

impl Hold {
    async fn wait(mut self, uid: &str, waiting: &WaitingPods) -> Status {
        for (patience, plugin) in self.holders {
            tokio::select! {
                biased;
                verdict = &mut self.verdict => {
                    return verdict.unwrap_or_else(|_| Status::error("the wait was given up"));
                }
                () = sleep_until(self.since + patience) => {}
            }
            if waiting.pending(uid).contains(&plugin) {
                let text = format!("rejected due to timeout after waiting {patience:?} at plugin {plugin}");
                return Status::unschedulable(text).from_plugin(plugin);
            }
        }
        (&mut self.verdict).await.unwrap_or_else(|_| Status::error("the wait was given up"))
    }
}
