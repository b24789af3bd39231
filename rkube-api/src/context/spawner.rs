//! Tasks.

use std::{future::Future, panic::AssertUnwindSafe};

use futures::FutureExt;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Starts tasks, counts them, and ends them: dropping a task's future at the next await point when the
/// spawner is stopped. A panic in a task is logged and ends that task only.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let spawner = rkube_api::context::Spawner::new();
/// spawner.spawn("forever", std::future::pending::<()>());
/// spawner.stop().await;
/// assert_eq!(spawner.running(), 0);
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct Spawner {
    tracker: TaskTracker,
    token: CancellationToken,
}

/// A started task. Dropping the handle leaves the task running.
#[derive(Debug)]
pub struct Task(JoinHandle<()>);

impl Task {
    /// Ends the task at its next await point.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// A handle that can end the task from elsewhere.
    pub fn abort_handle(&self) -> AbortHandle {
        self.0.abort_handle()
    }

    /// Waits until the task has ended, whichever way.
    pub async fn join(mut self) {
        self.ended().await;
    }

    /// As [`Task::join`], for who keeps the handle to end the task otherwise.
    pub async fn ended(&mut self) {
        if !self.0.is_finished() {
            // An aborted task has ended too, which is all the caller asks.
            let _ = (&mut self.0).await;
        }
    }
}

impl Default for Spawner {
    fn default() -> Self {
        Self::new()
    }
}

impl Spawner {
    /// A spawner with no tasks. It needs a tokio runtime only when a task is started.
    pub fn new() -> Self {
        Self { tracker: TaskTracker::new(), token: CancellationToken::new() }
    }

    /// A spawner whose tasks end when this one is stopped, and which can be stopped alone before that.
    pub fn child(&self) -> Self {
        Self { tracker: TaskTracker::new(), token: self.token.child_token() }
    }

    /// Starts a task on the current tokio runtime.
    #[expect(clippy::disallowed_methods, reason = "the one place that starts tasks")]
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) -> Task {
        let token = self.token.clone();
        let guarded = AssertUnwindSafe(future).catch_unwind();
        Task(tokio::spawn(self.tracker.track_future(async move {
            let ended = token.run_until_cancelled(guarded).await;
            if let Some(Err(panic)) = ended {
                let reason = panic
                    .downcast_ref::<&str>()
                    .map(|text| (*text).to_owned())
                    .or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_default();
                tracing::error!(task = name, %reason, "task panicked");
            }
        })))
    }

    /// The token that is cancelled when the spawner is stopped, for a task that wants to end in order.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// How many tasks of this spawner (not of its children) are running.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Ends the tasks of this spawner and of its children, and waits for its own to be gone.
    pub async fn stop(&self) {
        self.token.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}
