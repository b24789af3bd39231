//! What the loop believes at a moment, for who wants to look: kube-scheduler prints the same at SIGUSR2.

use std::sync::{Arc, Weak};

use tokio::sync::oneshot;

use super::{
    Driver,
    inbox::{Inbox, News},
};
use crate::{
    queue::{Nominator, QueueLength},
    snapshot::Snapshot,
};

/// What a scheduler believes: a copy, which costs as much as the cluster is large.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The nodes and the pods on them, assumed ones included.
    pub snapshot: Snapshot,
    /// The pods for which room is held.
    pub nominator: Nominator,
    /// How many pods wait where.
    pub queue: QueueLength,
}

/// Looks into a running scheduler.
///
/// ```no_run
/// # async fn example(scheduler: rkube_sched::Scheduler) {
/// let inspector = scheduler.inspector();
/// // ... the scheduler runs ...
/// if let Some(seen) = inspector.look().await {
///     println!("{} pods have a node, {:?}", seen.snapshot.pod_count(), seen.queue);
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Inspector {
    inbox: Weak<Inbox>,
}

impl Inspector {
    pub(super) fn new(inbox: &Arc<Inbox>) -> Self {
        Self { inbox: Arc::downgrade(inbox) }
    }

    /// What the scheduler believes once it has taken in what it was told before this call. `None` if it has
    /// ended.
    pub async fn look(&self) -> Option<Inspection> {
        let (sender, receiver) = oneshot::channel();
        self.inbox.upgrade()?.tell(News::Look(sender));
        receiver.await.ok()
    }
}

impl Driver {
    pub(super) fn show(&self, to: oneshot::Sender<Inspection>) {
        let inspection = Inspection {
            snapshot: self.snapshot.clone(),
            nominator: self.queue.nominator().clone(),
            queue: self.queue.len(),
        };
        // Who asked may have gone.
        let _ = to.send(inspection);
    }
}
