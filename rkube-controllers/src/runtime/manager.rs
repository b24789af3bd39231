//! Starts controllers in order and stops them in order.

use std::sync::Arc;

use rkube_api::client::{
    Client, Informers,
    leader::{LeaderConfig, LeaderConfigError, LeaderElector, LeaderError},
};
use rkube_api::context::Task;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Component;

/// Why a manager ended other than by being stopped.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// Another process leads now; what ran under the lead has been stopped.
    #[error(transparent)]
    Leader(#[from] LeaderError),
    /// The election's configuration makes no sense.
    #[error(transparent)]
    Config(#[from] LeaderConfigError),
}

/// Runs components that share informers: prepares them, waits until the informers have seen their kinds,
/// starts them in the order in which they were added, and stops them in the reverse order, one after another:
/// each has ended, or its [`Component::drain`] has passed, before the next is asked to.
///
/// With an election, components added by [`Manager::controller`] are prepared and run only while this
/// process leads, so that a standby's queues stay empty however warm its informers are; those added by
/// [`Manager::always`] run in every process. When the lead is lost, what runs under it is aborted at its
/// next await point, calls in flight and all: another process may lead already.
///
/// ```no_run
/// # use rkube_api::client::{Client, leader::LeaderConfig};
/// # use rkube_controllers::runtime::{Controller, Manager, ManagerError};
/// # async fn example(client: Client, controller: Controller) -> Result<(), ManagerError> {
/// let stop = tokio_util::sync::CancellationToken::new();
/// Manager::new(client)
///     .elect(LeaderConfig::new("kube-system", "my-controllers", "process-1"))
///     .controller(controller)
///     .run(stop)
///     .await
/// # }
/// ```
pub struct Manager {
    informers: Informers,
    election: Option<LeaderConfig>,
    leading: Vec<Arc<dyn Component>>,
    always: Vec<Arc<dyn Component>>,
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = |list: &[Arc<dyn Component>]| -> Vec<String> {
            list.iter().map(|component| component.name().to_owned()).collect()
        };
        write!(f, "Manager(leading {:?}, always {:?})", names(&self.leading), names(&self.always))
    }
}

impl Manager {
    /// A manager with informers of its own.
    pub fn new(client: Client) -> Self {
        Self::with_informers(Informers::new(client))
    }

    /// A manager that shares informers with others.
    pub fn with_informers(informers: Informers) -> Self {
        Self { informers, election: None, leading: Vec::new(), always: Vec::new() }
    }

    /// The informers, for caches that reconcilers read.
    pub fn informers(&self) -> &Informers {
        &self.informers
    }

    /// Runs controllers only while this process leads.
    pub fn elect(mut self, config: LeaderConfig) -> Self {
        self.election = Some(config);
        self
    }

    /// Adds a component that runs while this process leads, or always if there is no election.
    pub fn controller(mut self, component: impl Component) -> Self {
        self.leading.push(Arc::new(component));
        self
    }

    /// Adds a component that is shared already; as [`Manager::controller`].
    pub fn shared(mut self, component: Arc<dyn Component>) -> Self {
        self.leading.push(component);
        self
    }

    /// Adds a component that runs whether this process leads or not.
    pub fn always(mut self, component: impl Component) -> Self {
        self.always.push(Arc::new(component));
        self
    }

    /// Adds a component that is shared already; as [`Manager::always`].
    pub fn always_shared(mut self, component: Arc<dyn Component>) -> Self {
        self.always.push(component);
        self
    }

    /// Runs until `token` is cancelled and everything has drained, or the lead is lost.
    pub async fn run(self, token: CancellationToken) -> Result<(), ManagerError> {
        let elector = match self.election {
            Some(config) => Some(LeaderElector::new(self.informers.client().clone(), config)?),
            None => None,
        };
        if !prepare(&self.always, &self.informers, &token).await {
            return Ok(());
        }
        // The components that always run outlive the others, which may rely on them.
        let always = Running::start(&self.always, &self.informers);
        let result = match elector {
            None => {
                run_all(&self.leading, &self.informers, token).await;
                Ok(())
            }
            Some(elector) => {
                let (leading, informers) = (self.leading, self.informers);
                let work = move |lead| async move { run_all(&leading, &informers, lead).await };
                elector.run(token, work).await
            }
        };
        always.stop().await;
        Ok(result?)
    }
}

/// Prepares components and waits for their informers. `false`: the token was cancelled before.
async fn prepare(
    components: &[Arc<dyn Component>],
    informers: &Informers,
    token: &CancellationToken,
) -> bool {
    components.iter().for_each(|component| component.prepare(informers));
    token.run_until_cancelled(informers.synced()).await.is_some()
}

async fn run_all(components: &[Arc<dyn Component>], informers: &Informers, token: CancellationToken) {
    if !prepare(components, informers, &token).await {
        return;
    }
    let running = Running::start(components, informers);
    token.cancelled().await;
    running.stop().await;
}

/// A started component, with its own token.
struct Started {
    component: Arc<dyn Component>,
    token: CancellationToken,
    task: Task,
}

/// Started components, in the order in which they started.
struct Running(Vec<Started>);

impl Running {
    fn start(components: &[Arc<dyn Component>], informers: &Informers) -> Self {
        let spawner = &informers.client().context().spawner;
        let start = |component: &Arc<dyn Component>| {
            tracing::debug!(component = component.name(), "starts");
            let (component, token) = (component.clone(), CancellationToken::new());
            let (own, its) = (component.clone(), token.clone());
            let task = spawner.spawn("component", async move { own.run(its).await });
            Started { component, token, task }
        };
        Self(components.iter().map(start).collect())
    }

    /// Stops the components one after another, the last first.
    async fn stop(mut self) {
        for Started { component, token, task } in self.0.iter_mut().rev() {
            token.cancel();
            if timeout(component.drain(), task.ended()).await.is_err() {
                tracing::warn!(component = component.name(), "did not end in time; it is dropped");
                task.abort();
            }
        }
    }
}

impl Drop for Running {
    /// A manager whose future is dropped, while stopping too, leaves nothing running.
    fn drop(&mut self) {
        self.0.iter().for_each(|started| started.task.abort());
    }
}
