//! Work that one process does where several run one cluster.

use std::{future::Future, time::Duration};

use rkube_api::{
    client::{
        Client,
        leader::{LeaderConfig, LeaderElector},
    },
    context::Context,
};
use tokio_util::sync::CancellationToken;

use crate::{Error, config::Election};

/// What of several processes only the one that leads does.
pub(crate) struct Duty {
    context: Context,
    elector: Option<LeaderElector>,
    /// Before it begins anew.
    pause: Duration,
}

impl Duty {
    /// A duty that is done in this context, and only while `client` holds the Lease of this name, if there
    /// is an election.
    pub(crate) fn new(
        name: &str,
        election: Option<&Election>,
        client: impl FnOnce(&Context) -> Client,
        context: &Context,
    ) -> Result<Self, Error> {
        let elector = match election {
            None => None,
            Some(election) => {
                let config = LeaderConfig {
                    lease_duration: election.lease_duration,
                    renew_deadline: election.renew_deadline,
                    retry_period: election.retry_period,
                    ..LeaderConfig::new("kube-system", name, &*election.identity)
                };
                Some(LeaderElector::new(client(context), config)?)
            }
        };
        let pause = election.map(|election| election.retry_period).unwrap_or_default();
        Ok(Self { context: context.clone(), elector, pause })
    }

    /// Does the work until it is told to stop. Each time the lead is gained it begins anew, with a context
    /// of its own that ends when the lead is lost, and all its tasks with it.
    pub(crate) async fn run<F>(&self, stop: CancellationToken, work: impl Fn(Context, CancellationToken) -> F)
    where
        F: Future<Output = ()>,
    {
        let Some(elector) = &self.elector else { return work(self.context.clone(), stop).await };
        while !stop.is_cancelled() {
            let term = self.context.child("term");
            let ended = elector.run(stop.clone(), |lead| work(term.clone(), lead)).await;
            term.spawner.stop().await;
            match ended {
                Err(lost) => tracing::warn!(%lost, "stands by again"),
                // It is done with its work by itself: nothing here would go better at once.
                Ok(_) => drop(stop.run_until_cancelled(tokio::time::sleep(self.pause)).await),
            }
        }
    }
}
