//! Stopping in order: the parts that started last stop first, each with time to finish what it has begun.

use std::{future::Future, time::Duration};

use rkube_api::context::{Context, Spawner, Task};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A running part of the cluster.
#[derive(Debug)]
pub(crate) struct Part {
    name: &'static str,
    stop: CancellationToken,
    main: Task,
    spawner: Spawner,
}

impl Part {
    /// Starts a part in a context of its own, which ends with it: `run` gets the token that asks it to
    /// stop.
    pub(crate) fn start<F>(
        name: &'static str,
        context: Context,
        run: impl FnOnce(CancellationToken) -> F,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let spawner = context.spawner;
        let main = spawner.spawn(name, run(stop.clone()));
        Self { name, stop, main, spawner }
    }

    /// Ends the part at once, in the middle of whatever it does.
    #[cfg(test)]
    pub(crate) fn end(&self) {
        self.spawner.token().cancel();
    }

    /// Asks the part to stop, waits until it has or the bound has passed, then ends its tasks.
    async fn stop(self, bound: Duration) {
        self.stop.cancel();
        if timeout(bound, self.main.join()).await.is_err() {
            tracing::warn!(part = self.name, "did not stop in time; its tasks are ended");
        }
        self.spawner.stop().await;
    }
}

/// Stops the parts, the last first.
pub(crate) async fn stop(parts: Vec<Part>, bound: Duration) {
    for part in parts.into_iter().rev() {
        part.stop(bound).await;
    }
}
