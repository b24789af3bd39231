//! Leader election: of several processes one works, the others stand by.
//!
//! The lead is a `coordination.k8s.io/v1` Lease that the leader renews. Who sees it unrenewed for its whole
//! duration, on their own clock, takes it. As with client-go's `leaderelection` there is no fencing: a
//! leader that can't renew stops its work by itself, before others may take over.
//!
//! ```no_run
//! use rkube_api::client::{Client, leader::{LeaderConfig, LeaderElector}};
//! # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
//! let stop = tokio_util::sync::CancellationToken::new();
//! let config = LeaderConfig::new("kube-system", "my-controller", "process-1");
//! LeaderElector::new(client, config)?
//!     .run(stop, |lead| async move {
//!         println!("leading");
//!         lead.cancelled().await;
//!     })
//!     .await?;
//! # Ok(())
//! # }
//! ```

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Api, Client, PostParams};
use crate::error::ApiError;

/// How far above the retry period a candidate's pause may go, as a factor: client-go's.
const JITTER: f64 = 1.2;

/// Where the lead is kept, who wants it, and how fast it changes hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderConfig {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name: one for each group of processes of which one is to work.
    pub name: String,
    /// This process, different from all others of the group.
    pub identity: String,
    /// How long others wait for a leader that doesn't renew.
    pub lease_duration: Duration,
    /// How long a leader tries to renew before it stops.
    pub renew_deadline: Duration,
    /// The pause between tries.
    pub retry_period: Duration,
    /// Whether to give the lead up at the end, so that others need not wait.
    pub release_on_stop: bool,
}

/// Times that can't work together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaderConfigError {
    /// Others would take over while the leader still works.
    #[error("lease_duration must be greater than renew_deadline")]
    LeaseTooShort,
    /// The leader might not get to try twice.
    #[error("renew_deadline must be greater than retry_period times {JITTER}")]
    DeadlineTooShort,
    /// A Lease counts whole seconds, at least one, and tries need a pause.
    #[error("lease_duration must be a second or more, retry_period more than zero")]
    Zero,
    /// An empty identity stands for nobody.
    #[error("identity must not be empty")]
    NoIdentity,
}

/// Why an election ended other than by being stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaderError {
    /// The lead could not be renewed in time, or another process has it.
    #[error("{identity} lost the lease {lease}")]
    Lost {
        /// Who lost it.
        identity: String,
        /// Which, `namespace/name`.
        lease: String,
    },
}

impl LeaderConfig {
    /// The usual times: a lease of 15 s, a deadline of 10 s, tries every 2 s; given up at the end.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
            release_on_stop: true,
        }
    }

    fn check(&self) -> Result<(), LeaderConfigError> {
        if self.identity.is_empty() {
            return Err(LeaderConfigError::NoIdentity);
        }
        if self.lease_duration < Duration::from_secs(1) || self.retry_period.is_zero() {
            return Err(LeaderConfigError::Zero);
        }
        if self.lease_duration <= self.renew_deadline {
            return Err(LeaderConfigError::LeaseTooShort);
        }
        if self.renew_deadline <= self.retry_period.mul_f64(JITTER) {
            return Err(LeaderConfigError::DeadlineTooShort);
        }
        Ok(())
    }
}

/// Takes part in one election. Clones are the same candidate.
#[derive(Clone, Debug)]
pub struct LeaderElector {
    leases: Api<Lease>,
    config: LeaderConfig,
    leading: Arc<watch::Sender<bool>>,
}

/// The Lease as last seen, and since when on our clock it has looked like that.
struct Seen {
    lease: Arc<Lease>,
    since: Instant,
}

impl LeaderElector {
    /// A candidate. Fails if the configured times can't work.
    pub fn new(client: Client, config: LeaderConfig) -> Result<Self, LeaderConfigError> {
        config.check()?;
        let leases = Api::namespaced(client, &*config.namespace);
        Ok(Self { leases, config, leading: Arc::new(watch::Sender::new(false)) })
    }

    /// Tells whether this process leads, now and as it changes.
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.subscribe()
    }

    /// Waits for the lead, then runs `work` once while keeping it.
    ///
    /// When `token` is cancelled, so is the one that `work` gets; the lead is kept until the work has ended,
    /// and then given up. When the lead is lost, another process may lead already: `work` is dropped at once,
    /// whatever it waits for, where a process of client-go's would exit. Tasks that it has started must end
    /// with it; its token is cancelled then too.
    pub async fn run<F>(
        &self,
        token: CancellationToken,
        work: impl FnOnce(CancellationToken) -> F,
    ) -> Result<(), LeaderError>
    where
        F: Future<Output = ()>,
    {
        let mut seen = None;
        if token.run_until_cancelled(self.acquire(&mut seen)).await.is_none() {
            return Ok(());
        }
        tracing::info!(identity = self.config.identity, lease = self.config.name, "became leader");
        let kept = {
            let lead = token.child_token();
            let _lead = (Leads::begin(&self.leading), lead.drop_guard_ref());
            tokio::select! {
                biased;
                () = self.renew(&mut seen) => false,
                () = work(lead.clone()) => true,
            }
        };
        if kept {
            self.release(seen).await;
            return Ok(());
        }
        let lease = format!("{}/{}", self.config.namespace, self.config.name);
        Err(LeaderError::Lost { identity: self.config.identity.clone(), lease })
    }

    /// Tries until this process leads.
    async fn acquire(&self, seen: &mut Option<Seen>) {
        let rng = self.leases.client().context().rng.fork(&self.config.identity);
        loop {
            match timeout(self.config.renew_deadline, self.take(seen)).await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(error)) => tracing::debug!(%error, lease = self.config.name, "cannot take the lease"),
            }
            sleep(self.config.retry_period.mul_f64(1.0 + JITTER * rng.fraction())).await;
        }
    }

    /// Keeps the lead; returns when it is lost.
    async fn renew(&self, seen: &mut Option<Seen>) {
        loop {
            let deadline = timeout(self.config.renew_deadline, async {
                loop {
                    match self.take(seen).await {
                        Ok(true) => return true,
                        Ok(false) => return false,
                        Err(error) => {
                            tracing::debug!(%error, lease = self.config.name, "cannot renew the lease");
                        }
                    }
                    sleep(self.config.retry_period).await;
                }
            });
            if !matches!(deadline.await, Ok(true)) {
                return;
            }
            sleep(self.config.retry_period).await;
        }
    }

    /// Takes or renews the lease if it is free or ours. `false`: another process has it.
    async fn take(&self, seen: &mut Option<Seen>) -> Result<bool, ApiError> {
        // The leader knows what the lease looks like; only if that is wrong must it look.
        if let Some(known) = seen.as_ref().filter(|seen| self.is_held(seen) && self.is_ours(&seen.lease)) {
            let lease = self.claimed(Some(&known.lease));
            match self.leases.update(&PostParams::default(), lease).await {
                Ok(lease) => {
                    *seen = Some(Seen { lease, since: Instant::now() });
                    return Ok(true);
                }
                Err(ApiError::Conflict { .. } | ApiError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let Some(lease) = self.leases.get_opt(&self.config.name).await? else {
            let lease = self.leases.create(&PostParams::default(), self.claimed(None)).await?;
            *seen = Some(Seen { lease, since: Instant::now() });
            return Ok(true);
        };
        if seen.as_ref().is_none_or(|seen| seen.lease.spec != lease.spec) {
            *seen = Some(Seen { lease: lease.clone(), since: Instant::now() });
        }
        let held = seen.as_ref().is_some_and(|seen| self.is_held(seen));
        if held && !self.is_ours(&lease) {
            return Ok(false);
        }
        let lease = self.leases.update(&PostParams::default(), self.claimed(Some(&lease))).await?;
        *seen = Some(Seen { lease, since: Instant::now() });
        Ok(true)
    }

    fn is_ours(&self, lease: &Lease) -> bool {
        holder(lease) == self.config.identity
    }

    /// Whether somebody has the lease and has shown it recently enough.
    fn is_held(&self, seen: &Seen) -> bool {
        let seconds = seen.lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        let duration = seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(self.config.lease_duration, Duration::from_secs);
        !holder(&seen.lease).is_empty() && seen.since.elapsed() < duration
    }

    /// The lease as it is when this process has it from now on.
    fn claimed(&self, before: Option<&Lease>) -> Lease {
        let now = self.leases.client().context().clock.now_micro();
        let mut lease = before.cloned().unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(self.config.name.clone()),
                namespace: Some(self.config.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        let ours = self.is_ours(&lease);
        let fresh = lease.spec.is_none();
        let spec = lease.spec.get_or_insert_default();
        if !ours {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |n| n.saturating_add(1)));
        }
        if fresh {
            spec.lease_transitions = Some(0);
        }
        spec.holder_identity = Some(self.config.identity.clone());
        spec.lease_duration_seconds = i32::try_from(self.config.lease_duration.as_secs()).ok();
        spec.renew_time = Some(now);
        lease
    }

    /// Gives the lead up, if it is still ours.
    async fn release(&self, seen: Option<Seen>) {
        let Some(seen) = seen.filter(|seen| self.config.release_on_stop && self.is_ours(&seen.lease)) else {
            return;
        };
        let now = self.leases.client().context().clock.now_micro();
        let mut lease = (*seen.lease).clone();
        let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: transitions,
            ..LeaseSpec::default()
        });
        let params = PostParams::default();
        let update = self.leases.update(&params, lease);
        if let Ok(Err(error)) = timeout(self.config.renew_deadline, update).await {
            tracing::debug!(%error, lease = self.config.name, "cannot release the lease");
        }
    }
}

/// Tells that this process leads, until it is dropped.
struct Leads<'a>(&'a watch::Sender<bool>);

impl<'a> Leads<'a> {
    fn begin(leading: &'a watch::Sender<bool>) -> Self {
        leading.send_replace(true);
        Self(leading)
    }
}

impl Drop for Leads<'_> {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}
