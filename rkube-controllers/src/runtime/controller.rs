//! From changes to keys to calls of the reconciler.

use std::{marker::PhantomData, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{FutureExt, future::join_all};
use parking_lot::Mutex;
use rkube_api::{
    client::{Backoff, Change, Informers, ObjectKey, WorkQueue},
    context::Spawner,
    meta::{GroupVersion, owners},
    object::Kind,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Component, Metrics, Outcome, Reconcile, ReconcileError, component::DRAIN, metrics::End};

/// A builder that doesn't know yet for which kind.
#[derive(Debug)]
pub struct NoKind;

type Attach = Box<dyn Fn(&Informers, &WorkQueue<ObjectKey>) + Send + Sync>;

/// Puts a controller together; begin with [`Controller::builder`].
///
/// ```no_run
/// # use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
/// # use rkube_controllers::runtime::{Controller, Outcome, reconcile_fn};
/// let controller = Controller::builder("example")
///     .for_kind::<ReplicaSet>()
///     .owns::<Pod>()
///     .build(reconcile_fn(|_| async { Ok(Outcome::Done) }));
/// ```
pub struct ControllerBuilder<K> {
    name: String,
    workers: usize,
    backoff: Backoff,
    max_retries: Option<u32>,
    drain: Duration,
    sources: Vec<Attach>,
    kind: PhantomData<fn() -> K>,
}

impl<K> std::fmt::Debug for ControllerBuilder<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ControllerBuilder({}, {} sources)", self.name, self.sources.len())
    }
}

impl<K> ControllerBuilder<K> {
    /// How many keys are worked on at a time; one unless said otherwise. One key never has two workers.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// How long a key that failed waits; 5 ms doubled up to 1000 s unless said otherwise.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Gives a key up, until its object changes, after so many failures in a row; never unless said.
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.max_retries = Some(retries);
        self
    }

    /// How long calls in progress and keys that wait may take when the controller is stopped in order; 10 s
    /// unless said otherwise. A controller whose lead is lost gets no time at all.
    pub fn drain(mut self, time: Duration) -> Self {
        self.drain = time;
        self
    }

    /// Takes keys from objects of another kind: of an updated object, as it was and as it is.
    pub fn watches<W: Kind>(
        self,
        keys: impl Fn(&W) -> Vec<ObjectKey> + Send + Sync + Clone + 'static,
    ) -> Self {
        self.watches_when(|_: &Change<W>| true, keys)
    }

    /// As [`Self::watches`], of changes for which `predicate` holds.
    pub fn watches_when<W: Kind>(
        self,
        predicate: impl Fn(&Change<W>) -> bool + Send + Sync + Clone + 'static,
        keys: impl Fn(&W) -> Vec<ObjectKey> + Send + Sync + Clone + 'static,
    ) -> Self {
        self.source(move |informers, queue| {
            let (predicate, keys, queue) = (predicate.clone(), keys.clone(), queue.clone());
            informers.get::<W>().on_change(move |change| {
                if !predicate(change) {
                    return;
                }
                if let Change::Updated { old, .. } = change {
                    keys(old).into_iter().for_each(|key| queue.add(key));
                }
                keys(change.object()).into_iter().for_each(|key| queue.add(key));
            });
        })
    }

    /// Any other source of keys: `attach` is called once, before the controller runs, and keeps the queue.
    pub fn source(
        mut self,
        attach: impl Fn(&Informers, &WorkQueue<ObjectKey>) + Send + Sync + 'static,
    ) -> Self {
        self.sources.push(Box::new(attach));
        self
    }

    /// The controller.
    pub fn build(self, reconciler: impl Reconcile) -> Controller {
        Controller {
            name: self.name.into(),
            workers: self.workers,
            max_retries: self.max_retries,
            drain: self.drain,
            sources: self.sources,
            queue: WorkQueue::new(self.backoff),
            reconciler: Arc::new(reconciler),
            metrics: Metrics::default(),
            spawner: Mutex::default(),
        }
    }
}

impl ControllerBuilder<NoKind> {
    /// The kind whose objects are reconciled.
    pub fn for_kind<K: Kind>(self) -> ControllerBuilder<K> {
        self.for_kind_when(|_: &Change<K>| true)
    }

    /// As [`Self::for_kind`], at changes for which `predicate` holds.
    pub fn for_kind_when<K: Kind>(
        self,
        predicate: impl Fn(&Change<K>) -> bool + Send + Sync + Clone + 'static,
    ) -> ControllerBuilder<K> {
        let builder = ControllerBuilder {
            name: self.name,
            workers: self.workers,
            backoff: self.backoff,
            max_retries: self.max_retries,
            drain: self.drain,
            sources: self.sources,
            kind: PhantomData,
        };
        builder.watches_when(predicate, |object: &K| vec![ObjectKey::of(object)])
    }
}

impl<K: Kind> ControllerBuilder<K> {
    /// A kind whose objects are managed by those reconciled, as their owner references tell: a change of
    /// one reconciles its owner.
    pub fn owns<C: Kind>(self) -> Self {
        self.owns_when(|_: &Change<C>| true)
    }

    /// As [`Self::owns`], at changes for which `predicate` holds.
    pub fn owns_when<C: Kind>(
        self,
        predicate: impl Fn(&Change<C>) -> bool + Send + Sync + Clone + 'static,
    ) -> Self {
        self.watches_when(predicate, |child: &C| owner_key::<K>(child).into_iter().collect())
    }
}

/// The key of the object of kind `K` that manages `child`, if there is one.
///
/// ```
/// use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
/// assert_eq!(rkube_controllers::runtime::owner_key::<ReplicaSet>(&Pod::default()), None);
/// ```
pub fn owner_key<K: Kind>(child: &impl Kind) -> Option<ObjectKey> {
    let owner = owners::controller_of(child.metadata())?;
    let group = GroupVersion::parse(&owner.api_version).ok()?.group;
    let namespace = child.metadata().namespace.clone().unwrap_or_default();
    (owner.kind == K::KIND && group == K::GROUP).then(|| ObjectKey::new(namespace, owner.name.clone()))
}

/// A reconciler with its sources, queue and workers.
pub struct Controller {
    name: Arc<str>,
    workers: usize,
    max_retries: Option<u32>,
    drain: Duration,
    sources: Vec<Attach>,
    queue: WorkQueue<ObjectKey>,
    reconciler: Arc<dyn Reconcile>,
    metrics: Metrics,
    spawner: Mutex<Option<Spawner>>,
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Controller({}, {} waiting, {:?})", self.name, self.queue.len(), self.metrics.read())
    }
}

impl Controller {
    /// Begins a controller; the name appears in logs.
    pub fn builder(name: impl Into<String>) -> ControllerBuilder<NoKind> {
        ControllerBuilder {
            name: name.into(),
            workers: 1,
            backoff: Backoff::default(),
            max_retries: None,
            drain: DRAIN,
            sources: Vec::new(),
            kind: PhantomData,
        }
    }

    /// The counters; they live on after the controller is handed to a manager.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// The queue, to put keys into from elsewhere.
    pub fn queue(&self) -> &WorkQueue<ObjectKey> {
        &self.queue
    }

    fn worker(&self) -> Worker {
        Worker {
            name: self.name.clone(),
            max_retries: self.max_retries,
            queue: self.queue.clone(),
            reconciler: self.reconciler.clone(),
            metrics: self.metrics.clone(),
        }
    }
}

#[async_trait]
impl Component for Controller {
    fn name(&self) -> &str {
        &self.name
    }

    fn prepare(&self, informers: &Informers) {
        *self.spawner.lock() = Some(informers.client().context().spawner.clone());
        self.sources.iter().for_each(|attach| attach(informers, &self.queue));
    }

    fn drain(&self) -> Duration {
        self.drain
    }

    async fn run(&self, token: CancellationToken) {
        let spawner = self.spawner.lock().clone().unwrap_or_default();
        let workers: Vec<_> =
            (0..self.workers).map(|_| spawner.spawn("controller", self.worker().run())).collect();
        // Also if this future is dropped instead of being stopped in order: then no key may wait for ever.
        let _ended = EndOnDrop {
            workers: workers.iter().map(|worker| worker.abort_handle()).collect(),
            queue: self.queue.clone(),
        };
        token.cancelled().await;
        self.queue.shut_down();
        let ended = join_all(workers.into_iter().map(|worker| worker.join()));
        if tokio::time::timeout(self.drain, ended).await.is_err() {
            tracing::warn!(controller = &*self.name, "stopped before all work was done");
        }
    }
}

struct EndOnDrop {
    workers: Vec<tokio::task::AbortHandle>,
    queue: WorkQueue<ObjectKey>,
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.workers.iter().for_each(|task| task.abort());
        self.queue.shut_down();
    }
}

struct Worker {
    name: Arc<str>,
    max_retries: Option<u32>,
    queue: WorkQueue<ObjectKey>,
    reconciler: Arc<dyn Reconcile>,
    metrics: Metrics,
}

impl Worker {
    async fn run(self) {
        while let Some(key) = self.queue.next().await {
            self.metrics.begin();
            let began = Instant::now();
            let result = AssertUnwindSafe(self.reconciler.reconcile(&key)).catch_unwind().await;
            let end = match &result {
                Ok(Ok(_)) => End::Done,
                Ok(Err(error)) if error.is_conflict() => End::Conflict,
                Ok(Err(_)) => End::Error,
                Err(_) => End::Panic,
            };
            self.metrics.end(began.elapsed(), end);
            match result {
                Ok(Ok(outcome)) => self.succeeded(&key, outcome),
                Ok(Err(error)) => self.failed(&key, &error),
                Err(_) => {
                    tracing::error!(controller = &*self.name, %key, "the reconciler panicked");
                    self.retry(&key);
                }
            }
            self.queue.done(&key);
        }
    }

    fn succeeded(&self, key: &ObjectKey, outcome: Outcome) {
        self.queue.forget(key);
        if let Outcome::RequeueAfter(wait) = outcome {
            self.queue.add_after(key.clone(), wait);
        }
    }

    fn failed(&self, key: &ObjectKey, error: &ReconcileError) {
        let controller = &*self.name;
        if !error.is_retried() {
            tracing::warn!(controller, %key, %error, "given up until the object changes");
            self.queue.forget(key);
            return;
        }
        if error.is_conflict() {
            tracing::debug!(controller, %key, %error, "tried again");
        } else {
            tracing::warn!(controller, %key, %error, "tried again");
        }
        self.retry(key);
    }

    fn retry(&self, key: &ObjectKey) {
        if self.max_retries.is_some_and(|most| self.queue.requeues(key) >= most) {
            tracing::warn!(controller = &*self.name, %key, "failed too often");
            self.queue.forget(key);
        } else {
            self.queue.add_rate_limited(key.clone());
        }
    }
}
