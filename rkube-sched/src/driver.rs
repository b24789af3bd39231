//! The only loop that waits: informers in, bindings out.
//!
//! One task owns the snapshot and the queue, so nothing is locked and decisions follow one another: it
//! takes in what has changed, decides for a batch of the pods that wait, assumes each decision, and starts a
//! task that binds them. Many bindings are under way at once, a bounded number.
//!
//! ```no_run
//! use rkube_api::client::{Client, Informers};
//! use rkube_sched::{Config, Scheduler};
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn example(client: Client, token: CancellationToken) -> Result<(), Box<dyn std::error::Error>> {
//! let informers = Informers::new(client.clone());
//! let scheduler = Scheduler::new(client, informers, Config::default())?;
//! scheduler.run(token).await;
//! # Ok(())
//! # }
//! ```

mod announce;
mod binding;
mod inbox;
mod inspect;
mod observe;
mod preempt;
mod report;

use std::{
    collections::BTreeSet,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use foldhash::fast::FixedState;
use indexmap::IndexMap;
use k8s_openapi::api::core::v1::{Node, Pod};
use rkube_api::{
    client::{Change, Client, Informers, Scope, Seen, follow},
    context::Rng,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{
    announce::Announcer,
    binding::{Binding, Ended},
    inbox::{Inbox, News},
    preempt::Departures,
    report::{Report, Reporter},
};
use crate::{
    engine::{Classes, Decision, Engine, Outcome, Unfit},
    framework::{
        ClusterEvent, Code, ConfigError, Handle, Listers, Nomination, PluginRegistry, PostFiltered, Profile,
        ProfileConfig, Profiles, Status, WaitingPods,
    },
    queue::{QueueConfig, QueuedPod, SchedulingQueue},
    snapshot::{NodeId, PlacedPod, PodInfo, Snapshot, Uid},
};

pub use announce::EventRate;
pub use inspect::{Inspection, Inspector};

/// How many pods are decided before the loop looks at the news again.
const BATCH: usize = 64;
/// How long bindings under way are waited for at the end.
const DRAIN: Duration = Duration::from_secs(5);

/// A scheduler's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its profiles, by default the standard one.
    pub profiles: Vec<ProfileConfig>,
    /// The plugins that they can name.
    pub plugins: PluginRegistry,
    /// The queue's times.
    pub queue: QueueConfig,
    /// How many bindings may be under way at once, not counting those that wait for others.
    pub max_bindings: usize,
    /// How many `Scheduled` events are written.
    pub scheduled_events: EventRate,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            profiles: vec![ProfileConfig::standard()],
            plugins: crate::plugins::all(),
            queue: QueueConfig::default(),
            max_bindings: 256,
            scheduled_events: EventRate::default(),
        }
    }
}

/// What a scheduler has done so far.
#[derive(Debug, Default)]
pub struct Stats {
    decisions: AtomicU64,
    bound: AtomicU64,
    unschedulable: AtomicU64,
    errors: AtomicU64,
}

impl Stats {
    /// How often a node was looked for.
    pub fn decisions(&self) -> u64 {
        self.decisions.load(Ordering::Relaxed)
    }

    /// How many pods were bound.
    pub fn bound(&self) -> u64 {
        self.bound.load(Ordering::Relaxed)
    }

    /// How often no node was found, or a plugin refused later.
    pub fn unschedulable(&self) -> u64 {
        self.unschedulable.load(Ordering::Relaxed)
    }

    /// How often something failed.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}

/// Gives other tasks their turn. tokio's `yield_now` would put this one off until its worker has nothing else to
/// do, so that decisions and the bindings just begun never ran side by side; woken at once, it is a task that
/// another worker may take.
async fn let_others_run() {
    let mut woken = false;
    poll_fn(|context| {
        if std::mem::replace(&mut woken, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A scheduler, ready to run.
#[derive(Debug)]
pub struct Scheduler {
    informers: Informers,
    driver: Driver,
}

/// What the loop owns.
#[derive(Debug)]
struct Driver {
    profiles: Arc<Profiles>,
    handle: Handle,
    snapshot: Snapshot,
    classes: Classes,
    queue: SchedulingQueue,
    rng: Rng,
    inbox: Arc<Inbox>,
    reporter: Arc<Reporter>,
    announcer: Announcer,
    departures: Departures,
    /// While all pods are being listed: those that were known before and have not come yet.
    missing: BTreeSet<Uid>,
    /// Those that wait until all is known that plugins look up for them.
    early: IndexMap<Uid, Arc<PodInfo>, FixedState>,
    /// Bindings under way.
    bindings: usize,
    /// Of those, the ones that may wait long: they keep nobody from being bound.
    patient: usize,
    /// Of those, the ones that begin together.
    batch: Vec<Binding>,
    max_bindings: usize,
    client: Client,
    stats: Arc<Stats>,
}

impl Scheduler {
    /// Makes the profiles. `client` binds and writes; `informers` may be shared with others. Time,
    /// randomness and tasks come from the client's context, so the same seed gives the same decisions.
    pub fn new(client: Client, informers: Informers, config: Config) -> Result<Self, ConfigError> {
        let context = client.context().child("scheduler");
        let rng = context.rng.fork("ties");
        let handle = Handle {
            client: Some(client.clone()),
            context: Some(context),
            listers: Listers::over(informers.clone()),
            ..Handle::default()
        };
        let profiles = Arc::new(Profiles::build(&config.profiles, &config.plugins, &handle)?);
        let inbox = Arc::<Inbox>::default();
        let driver = Driver {
            snapshot: Snapshot::default(),
            classes: Classes::default(),
            queue: SchedulingQueue::new(profiles.clone(), config.queue),
            rng,
            reporter: Arc::new(Reporter::new(client.clone(), inbox.clone())),
            inbox,
            announcer: Announcer::new(config.scheduled_events),
            departures: Departures::default(),
            missing: BTreeSet::new(),
            early: IndexMap::default(),
            bindings: 0,
            patient: 0,
            batch: Vec::new(),
            max_bindings: config.max_bindings.max(1),
            client,
            stats: Arc::default(),
            profiles,
            handle,
        };
        Ok(Self { informers, driver })
    }

    /// What it has done so far, to look at while it runs.
    pub fn stats(&self) -> Arc<Stats> {
        self.driver.stats.clone()
    }

    /// The pods that Permit holds, for a host that decides about them.
    pub fn waiting(&self) -> WaitingPods {
        self.driver.handle.waiting.clone()
    }

    /// To look into it while it runs.
    pub fn inspector(&self) -> Inspector {
        Inspector::new(&self.driver.inbox)
    }

    /// Schedules until `token` is cancelled; then no pod is begun, and bindings under way are waited for,
    /// a few seconds at most.
    pub async fn run(self, token: CancellationToken) {
        let Self { informers, mut driver } = self;
        let Some(context) = driver.handle.context.clone() else { return };
        let (nodes, tell) = (informers.get::<Node>(), driver.inbox.teller(News::Node));
        nodes.on_change(move |change: &Change<Node>| tell(change.clone()));
        let mut pods = driver.follow_pods();
        let listers = driver.handle.listers.clone();
        for source in listers.sources() {
            source.follow(Box::new(driver.inbox.teller(News::Other)));
        }
        let synced = async {
            nodes.synced().await;
            // It ends with the scheduler only.
            let _ = pods.wait_for(|listed| *listed).await;
            listers.ready().await;
        };
        if token.run_until_cancelled(synced).await.is_none() {
            return context.spawner.stop().await;
        }
        driver.announcer.start(&driver.client, &driver.profiles);
        context.spawner.spawn("scheduler-reports", driver.reporter.clone().run());
        driver.schedule(&token).await;
        // What does not end in time is dropped: a binding that reached the server stands, the others are
        // made anew by the next scheduler.
        let _ = timeout(DRAIN, driver.drain()).await;
        context.spawner.stop().await;
    }
}

impl Driver {
    /// Has the loop told of all pods from now on; and whether the first list is complete. No informer, which
    /// would keep every pod whole: the loop keeps what it needs of each.
    fn follow_pods(&self) -> watch::Receiver<bool> {
        let (listed, receiver) = watch::channel(false);
        let (client, tell) = (self.client.clone(), self.inbox.teller(News::Pod));
        let pods = async move {
            let tell = |seen| {
                let all = matches!(seen, Seen::Listed);
                tell(seen);
                if all {
                    listed.send_replace(true);
                }
            };
            follow::<Pod>(&client, Scope::default(), tell).await;
        };
        self.client_spawner().spawn("scheduler-pods", pods);
        receiver
    }

    async fn schedule(&mut self, token: &CancellationToken) {
        while !token.is_cancelled() {
            self.take_news();
            self.activate_asked();
            for (pod, status) in self.queue.take_faults() {
                count(&self.stats.errors);
                self.report(pod, "SchedulerError", status.message(), PostFiltered::default());
            }
            for pod in self.queue.take_kept_out() {
                self.forgo_room(&pod);
                self.clear_nomination(pod);
            }
            let mut tried = 0;
            while tried < BATCH
                && self.bindings - self.patient < self.max_bindings
                && let Some(pod) = self.queue.pop(Instant::now())
            {
                self.try_pod(pod);
                tried += 1;
            }
            self.bind_batch();
            if tried > 0 {
                // Bindings and informers get their turn on a runtime of one thread too.
                let_others_run().await;
                continue;
            }
            let deadline = self.queue.next_deadline();
            let due = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = token.cancelled() => {}
                () = self.inbox.arrived() => {}
                () = due => self.queue.flush(Instant::now()),
            }
        }
    }

    async fn drain(&mut self) {
        for uid in self.handle.waiting.uids() {
            self.handle.waiting.reject(&uid, "", "the scheduler stops");
        }
        while self.bindings > 0 {
            self.inbox.arrived().await;
            self.take_news();
        }
    }

    fn take_news(&mut self) {
        for news in self.inbox.take() {
            match news {
                News::Pod(seen) => self.pod_seen(&seen),
                News::Node(change) => self.node_changed(&change),
                News::Other(event) => self.queue.on_event(&event, Instant::now()),
                News::Known => self.early_pods_wait(),
                News::Ended(ended) => ended.into_iter().for_each(|ended| self.binding_ended(ended)),
                News::Spared { victim, preemptor } => self.spared(&victim, &preemptor),
                News::Look(to) => self.show(to),
            }
        }
    }

    /// One pod's way from the queue to the start of its binding.
    fn try_pod(&mut self, pod: QueuedPod) {
        let uid = pod.info.uid.clone();
        let profile = self.profiles.of(&pod.info).cloned();
        let Some(profile) = profile.filter(|_| pod.info.pod.metadata.deletion_timestamp.is_none()) else {
            return self.queue.done(&uid);
        };
        if self.snapshot.pod(&uid).is_some() {
            return self.queue.done(&uid);
        }
        count(&self.stats.decisions);
        let Outcome { decision, state } = self.decide(&pod, &profile);
        match decision {
            Decision::Place(placement) => {
                let node = self.snapshot.view(placement.node).name().to_owned();
                self.snapshot.assume(PlacedPod::from(&*pod.info), &node);
                let nominated = self.queue.nominator().node_of(&uid) == Some(&*node);
                if nominated {
                    self.queue.nominator_mut().clear(&uid);
                } else {
                    self.forgo_room(&pod.info);
                }
                let since = Instant::now();
                let binding = Binding { pod, node, state, profile, since, nominated, patient: false };
                self.start_binding(binding, placement.node);
                // At once: who is tried after this one is not to be tried again for it.
                self.activate_asked();
            }
            Decision::Unfit(unfit) => self.unfit(pod, *unfit),
            Decision::Fail(status) => self.failed(pod, &status, false),
        }
    }

    /// Does what plugins have asked for.
    fn activate_asked(&mut self) {
        for uid in self.handle.activations.take() {
            self.queue.activate(&uid, Instant::now());
        }
    }

    fn decide(&mut self, pod: &QueuedPod, profile: &Arc<Profile>) -> Outcome {
        let engine = Engine { snapshot: &self.snapshot, nominator: self.queue.nominator(), rng: &self.rng };
        engine.decide_in(&mut self.classes, &pod.info, profile)
    }

    fn start_binding(&mut self, mut binding: Binding, node: NodeId) {
        let reserved = binding.reserve(self.snapshot.view(node));
        if !reserved.is_success() {
            return self.give_up(binding, &reserved);
        }
        match binding.permit(&self.handle.waiting) {
            Err(status) => self.give_up(binding, &status),
            Ok(None) => {
                self.bindings += 1;
                binding.patient = binding.will_wait();
                self.patient += usize::from(binding.patient);
                self.batch.push(binding);
            }
            Ok(Some(hold)) => {
                (self.bindings, self.patient) = (self.bindings + 1, self.patient + 1);
                binding.patient = true;
                let task = binding.run_held(hold, self.handle.waiting.clone(), self.inbox.clone());
                self.client_spawner().spawn("binding", task);
            }
        }
    }

    /// Begins the bindings that were decided since the last call.
    fn bind_batch(&mut self) {
        if !self.batch.is_empty() {
            let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
            let task = binding::run_all(batch, self.inbox.clone());
            self.client_spawner().spawn("bindings", task);
        }
    }

    fn client_spawner(&self) -> &rkube_api::context::Spawner {
        let context = self.handle.context.as_ref().unwrap_or_else(|| self.client.context());
        &context.spawner
    }

    fn binding_ended(&mut self, ended: Ended) {
        self.bindings -= 1;
        self.patient -= usize::from(ended.binding.patient);
        if !ended.status.is_success() {
            return self.give_up(ended.binding, &ended.status);
        }
        count(&self.stats.bound);
        self.queue.done(&ended.binding.pod.info.uid);
        self.announcer.bound(&ended, Instant::now());
    }

    /// The pod does not get to its node after all: everything taken for it is given back.
    fn give_up(&mut self, mut binding: Binding, status: &Status) {
        binding.unreserve();
        let Binding { pod, since, nominated, .. } = binding;
        if let Some(placed) = self.snapshot.forget(&pod.info.uid) {
            let info = pod.info.clone();
            self.failed(pod, status, nominated);
            // Who was refused before the room was taken was refused with it free.
            self.freed(&info, placed, Some(since).filter(|_| !nominated));
            self.departed(&info.uid, true, Instant::now());
        } else {
            self.failed(pod, status, nominated);
        }
    }

    /// Room on a node is there for others again: for all, or for those who were refused `since` it was taken. It
    /// helps others, not the pod that gives it back: that is in its own queue by now. Nor its group: the pods of a
    /// gang would send each other away and call each other back for ever.
    fn freed(&mut self, pod: &PodInfo, placed: Arc<PlacedPod>, since: Option<Instant>) {
        let freed = ClusterEvent::assigned_pod_deleted(placed);
        let group = pod.scheduling_group();
        let except = |other: &QueuedPod| {
            other.info.uid == pod.uid
                || (group.is_some() && other.info.scheduling_group() == group)
                || since.is_some_and(|since| other.timestamp < since)
        };
        self.queue.on_event_except(&freed, &except, Instant::now());
    }

    /// No room is held for a pod any more. False: none was.
    fn forgo_room(&mut self, pod: &PodInfo) -> bool {
        let held = self.queue.nominator_mut().clear(&pod.uid);
        if held {
            self.freed(pod, Arc::new(PlacedPod::from(pod)), None);
        }
        held
    }

    /// A plugin refused or failed after a node was found, or failed while one was looked for. Room that is held
    /// for the pod, or was until it had a node (`nominated`), is there for others again.
    fn failed(&mut self, mut pod: QueuedPod, status: &Status, nominated: bool) {
        if status.is_rejected() {
            let plugins = match status.code() {
                Code::Pending => &mut pod.pending_plugins,
                _ => &mut pod.unschedulable_plugins,
            };
            plugins.extend(status.plugin());
        }
        let reason = if status.is_rejected() { "Unschedulable" } else { "SchedulerError" };
        let plan = PostFiltered { nomination: Nomination::Clear, ..PostFiltered::default() };
        self.back_to_queue(pod, reason, status.message(), plan, nominated);
    }

    fn unfit(&mut self, mut pod: QueuedPod, unfit: Unfit) {
        let Unfit { diagnosis, plan } = unfit;
        let message = diagnosis.message();
        pod.unschedulable_plugins = diagnosis.unschedulable_plugins;
        pod.unschedulable_plugins.extend(&plan.refused_by);
        pod.pending_plugins = diagnosis.pending_plugins;
        if diagnosis.all_nodes == 0 {
            // No plugin refused; what helps is a node.
            pod.unschedulable_plugins.extend(
                self.profiles
                    .of(&pod.info)
                    .into_iter()
                    .flat_map(|profile| profile.filter.iter().map(|filter| filter.name())),
            );
        }
        self.back_to_queue(pod, "Unschedulable", message, plan, false);
    }

    fn back_to_queue(
        &mut self,
        pod: QueuedPod,
        reason: &'static str,
        message: String,
        mut plan: PostFiltered,
        nominated: bool,
    ) {
        count(if reason == "Unschedulable" { &self.stats.unschedulable } else { &self.stats.errors });
        let info = pod.info.clone();
        match &plan.nomination {
            Nomination::Node(node) => self.queue.nominator_mut().nominate(info.clone(), node),
            Nomination::Clear => {
                let held = self.forgo_room(&info) || nominated;
                if !held && info.nominated_node().is_none() {
                    plan.nomination = Nomination::Keep;
                }
            }
            Nomination::Keep => {}
        }
        if self.sends_away(&plan) {
            self.queue.hold(&info.uid);
        }
        if !self.queue.requeue(pod, Instant::now()) {
            // It is gone, or somebody else has bound it.
            self.queue.nominator_mut().clear(&info.uid);
            return;
        }
        self.make_room(&info, &mut plan);
        self.report(info, reason, message, plan);
    }

    /// Tells the world that no room is held for a pod any more.
    fn clear_nomination(&self, pod: Arc<PodInfo>) {
        let nomination = Nomination::Clear;
        self.reporter.tell(Report { pod, condition: None, nomination, victims: Vec::new() });
    }

    /// Tells the world why a pod has no node.
    fn report(&self, pod: Arc<PodInfo>, reason: &'static str, message: String, plan: PostFiltered) {
        self.announcer.failed(&pod, &message);
        let PostFiltered { nomination, victims, .. } = plan;
        self.reporter.tell(Report { pod, condition: Some((reason, message)), nomination, victims });
    }
}
