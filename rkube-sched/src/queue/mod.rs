//! The pods that wait: active, backing off, unschedulable, gated.
//!
//! The queue is a value that never waits itself: every call is told the time, and
//! [`SchedulingQueue::next_deadline`] says when the next one is due. Semantics: kube-scheduler's priority
//! queue with queueing hints (KEP-4247) and scheduling gates (KEP-3521).
//!
//! ```
//! use std::sync::Arc;
//! use rkube_sched::{framework::Profiles, queue::{QueueConfig, SchedulingQueue}, snapshot::PodInfo};
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//!
//! let mut queue = SchedulingQueue::new(Arc::new(Profiles::standard()), QueueConfig::default());
//! let now = tokio::time::Instant::now();
//! queue.add(Arc::new(PodInfo::new(Default::default())), now);
//! let pod = queue.pop(now).unwrap();
//! assert_eq!(pod.attempts, 1);
//! # });
//! ```

mod heap;
mod in_flight;
mod nominator;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};
use tokio::time::Instant;

use self::{heap::Heap, in_flight::InFlight};
use crate::{
    framework::{ClusterEvent, Hint, Profiles, Status, contained},
    snapshot::{PodInfo, Uid},
};

pub use nominator::Nominator;

/// The queue's times, with kube-scheduler's defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueConfig {
    /// The first backoff: 1 s. It doubles with every failed try.
    pub initial_backoff: Duration,
    /// The longest backoff: 10 s.
    pub max_backoff: Duration,
    /// A pod that no event helped is tried again after so long: 5 min.
    pub max_unschedulable: Duration,
    /// Whether a scheduler with nothing else to do takes pods before their backoff ends (those whose
    /// last try failed by an error, and those of a group, never): yes.
    pub pop_from_backoff: bool,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(10),
            max_unschedulable: Duration::from_secs(300),
            pop_from_backoff: true,
        }
    }
}

/// A pod on its way through the queue.
#[derive(Clone, Debug)]
pub struct QueuedPod {
    /// The pod.
    pub info: Arc<PodInfo>,
    /// When it came into the queue, or came back.
    pub timestamp: Instant,
    /// When it came into the queue first.
    pub added: Instant,
    /// How often it was tried.
    pub attempts: u32,
    /// The plugins that refused it in the last try.
    pub unschedulable_plugins: BTreeSet<&'static str>,
    /// The plugins that made it wait for something outside in the last try.
    pub pending_plugins: BTreeSet<&'static str>,
    /// The plugin that keeps it out of the active queue.
    pub gated_by: Option<&'static str>,
    /// Its place among pods that came at the same time.
    sequence: u64,
    refusals: u32,
    errors: u32,
}

impl QueuedPod {
    /// A pod that has just come, as the `sequence`th.
    pub(crate) fn new(info: Arc<PodInfo>, now: Instant, sequence: u64) -> Self {
        Self {
            info,
            timestamp: now,
            added: now,
            attempts: 0,
            unschedulable_plugins: BTreeSet::new(),
            pending_plugins: BTreeSet::new(),
            gated_by: None,
            sequence,
            refusals: 0,
            errors: 0,
        }
    }

    fn rejected_by(&self) -> impl Iterator<Item = &'static str> {
        let plugins = self.unschedulable_plugins.iter().chain(&self.pending_plugins).copied();
        plugins.chain(self.gated_by)
    }
}

/// What an event means for a waiting pod.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wake {
    Skip,
    AfterBackoff,
    Immediately,
}

/// Where pods wait. See the module's documentation.
#[derive(Debug)]
pub struct SchedulingQueue {
    profiles: Arc<Profiles>,
    config: QueueConfig,
    active: Heap,
    backoff: Heap,
    /// Those that wait their backoff out however idle the scheduler is.
    long_backoff: Heap,
    unschedulable: IndexMap<Uid, QueuedPod, FixedState>,
    /// Those by each plugin that keeps them; an empty name for those that none does. An event that a plugin
    /// does not ask for costs the pods that only it keeps nothing.
    kept_by: BTreeMap<&'static str, IndexSet<Uid, FixedState>>,
    /// When each unschedulable pod is tried again whatever happens.
    leftovers: BTreeSet<(Instant, Uid)>,
    in_flight: InFlight,
    nominator: Nominator,
    /// Pods for which others are being sent away, and how many events there had been when that began.
    held: HashMap<Uid, u64, FixedState>,
    events: u64,
    faults: Vec<(Arc<PodInfo>, Status)>,
    kept_out: Vec<Arc<PodInfo>>,
    sequence: u64,
}

/// Instead of a plugin's name: others are being sent away for the pod.
const PREEMPTING: &str = "DefaultPreemption";

/// How many pods wait where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueLength {
    /// Ready to be tried.
    pub active: usize,
    /// Wait for their backoff.
    pub backoff: usize,
    /// Wait for an event.
    pub unschedulable: usize,
    /// Of those, kept out by PreEnqueue.
    pub gated: usize,
    /// Being scheduled or bound.
    pub in_flight: usize,
}

impl SchedulingQueue {
    /// An empty queue.
    pub fn new(profiles: Arc<Profiles>, config: QueueConfig) -> Self {
        Self {
            profiles,
            config,
            active: Heap::default(),
            backoff: Heap::default(),
            long_backoff: Heap::default(),
            unschedulable: IndexMap::default(),
            kept_by: BTreeMap::new(),
            leftovers: BTreeSet::new(),
            in_flight: InFlight::default(),
            nominator: Nominator::default(),
            held: HashMap::default(),
            events: 0,
            faults: Vec::new(),
            kept_out: Vec::new(),
            sequence: 0,
        }
    }

    /// The pods for which room is held.
    pub fn nominator(&self) -> &Nominator {
        &self.nominator
    }

    /// The pods for which room is held, to change.
    pub fn nominator_mut(&mut self) -> &mut Nominator {
        &mut self.nominator
    }

    /// How many pods wait where.
    pub fn len(&self) -> QueueLength {
        QueueLength {
            active: self.active.len(),
            backoff: self.backoff.len() + self.long_backoff.len(),
            unschedulable: self.unschedulable.len(),
            gated: self.unschedulable.values().filter(|pod| pod.gated_by.is_some()).count(),
            in_flight: self.in_flight.len(),
        }
    }

    /// Whether no pod waits or is being scheduled.
    pub fn is_empty(&self) -> bool {
        self.len() == QueueLength::default()
    }

    /// Whether the pod waits somewhere.
    pub fn contains(&self, uid: &str) -> bool {
        [&self.active, &self.backoff, &self.long_backoff].iter().any(|heap| heap.get(uid).is_some())
            || self.unschedulable.contains_key(uid)
    }

    /// How long a pod backs off after so many failed tries.
    fn backoff_after(&self, failures: u32) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        let doubled = 2_u32.saturating_pow(failures - 1);
        self.config.initial_backoff.saturating_mul(doubled).min(self.config.max_backoff)
    }

    fn backoff_ends(&self, pod: &QueuedPod) -> Instant {
        let failures = if pod.errors > 0 { pod.errors } else { pod.refusals };
        pod.timestamp + self.backoff_after(failures)
    }

    fn push_active(&mut self, pod: QueuedPod) {
        let profiles = self.profiles.clone();
        self.active.push(pod, &|a, b| by_sort(&profiles, a, b));
    }

    fn pop_active(&mut self) -> Option<QueuedPod> {
        let profiles = self.profiles.clone();
        self.active.pop(&|a, b| by_sort(&profiles, a, b))
    }

    /// Runs an operation on a backoff heap under its order.
    fn with_backoff<T>(&mut self, long: bool, run: impl FnOnce(&mut Heap, heap::Order<'_>) -> T) -> T {
        let heap = if long { &mut self.long_backoff } else { &mut self.backoff };
        let mut heap = std::mem::take(heap);
        let result = run(&mut heap, &|a, b| {
            let ends = self.backoff_ends(a).cmp(&self.backoff_ends(b));
            ends.then_with(|| by_sort(&self.profiles, a, b))
        });
        *(if long { &mut self.long_backoff } else { &mut self.backoff }) = heap;
        result
    }

    /// A new pod.
    pub fn add(&mut self, info: Arc<PodInfo>, now: Instant) {
        if let Some(node) = info.nominated_node() {
            self.nominator.nominate(info.clone(), node);
        }
        self.sequence += 1;
        self.enqueue(QueuedPod::new(info, now, self.sequence), Wake::Immediately, now);
    }

    /// Puts a pod where it belongs; PreEnqueue may keep it out of both queues.
    fn enqueue(&mut self, mut pod: QueuedPod, wake: Wake, now: Instant) {
        self.remove_waiting(&pod.info.uid.clone());
        if self.held.contains_key(&pod.info.uid) {
            pod.gated_by = Some(PREEMPTING);
            return self.park(pod);
        }
        if wake == Wake::Skip {
            pod.gated_by = pod.gated_by.filter(|gate| *gate != PREEMPTING);
            return self.park(pod);
        }
        pod.gated_by = self.gate(&pod.info);
        if pod.gated_by.is_some() {
            if pod.info.nominated_node().is_some() || self.nominator.node_of(&pod.info.uid).is_some() {
                self.kept_out.push(pod.info.clone());
            }
            self.park(pod);
        } else if wake == Wake::AfterBackoff && self.backoff_ends(&pod) > now {
            self.with_backoff(waits_it_out(&pod), |heap, order| heap.push(pod, order));
        } else {
            self.push_active(pod);
        }
    }

    /// The plugin that keeps a pod out. One that fails keeps it out too, until an event that it asked for, if no
    /// other has a reason: of a pod that waits for its gates no failure is told before they are gone.
    fn gate(&mut self, pod: &Arc<PodInfo>) -> Option<&'static str> {
        let profile = self.profiles.of(pod)?.clone();
        let mut failed = None;
        for plugin in &profile.pre_enqueue {
            let name = plugin.name();
            let status = contained(name, "PreEnqueue", || plugin.pre_enqueue(pod)).unwrap_or_else(|it| it);
            if status.is_rejected() {
                return Some(name);
            }
            if !status.is_success() {
                failed = failed.or(Some((name, status)));
            }
        }
        let (name, status) = failed?;
        self.faults.push((pod.clone(), status.from_plugin(name)));
        Some(name)
    }

    /// The pods that a plugin failed to let in since the last call, and how it failed.
    pub fn take_faults(&mut self) -> Vec<(Arc<PodInfo>, Status)> {
        std::mem::take(&mut self.faults)
    }

    /// The pods for which room is held, or was, and that were kept out of the queue since the last call: they
    /// cannot use it.
    pub fn take_kept_out(&mut self) -> Vec<Arc<PodInfo>> {
        std::mem::take(&mut self.kept_out)
    }

    fn park(&mut self, pod: QueuedPod) {
        let uid = pod.info.uid.clone();
        // A gated pod waits for its gate, however long.
        if pod.gated_by.is_none_or(|gate| gate == PREEMPTING) {
            self.leftovers.insert((pod.timestamp + self.config.max_unschedulable, uid.clone()));
        }
        for plugin in keepers(&pod) {
            self.kept_by.entry(plugin).or_default().insert(uid.clone());
        }
        self.unschedulable.insert(uid, pod);
    }

    /// Takes a parked pod out, but for its place among the leftovers.
    fn release(&mut self, uid: &str) -> Option<QueuedPod> {
        let pod = self.unschedulable.swap_remove(uid)?;
        for plugin in keepers(&pod) {
            if let Some(kept) = self.kept_by.get_mut(plugin) {
                kept.swap_remove(uid);
                if kept.is_empty() {
                    self.kept_by.remove(plugin);
                }
            }
        }
        Some(pod)
    }

    fn unpark(&mut self, uid: &str) -> Option<QueuedPod> {
        let pod = self.release(uid)?;
        self.leftovers.remove(&(pod.timestamp + self.config.max_unschedulable, pod.info.uid.clone()));
        Some(pod)
    }

    fn remove_waiting(&mut self, uid: &str) -> Option<QueuedPod> {
        let profiles = self.profiles.clone();
        self.active
            .remove(uid, &|a, b| by_sort(&profiles, a, b))
            .or_else(|| self.with_backoff(false, |heap, order| heap.remove(uid, order)))
            .or_else(|| self.with_backoff(true, |heap, order| heap.remove(uid, order)))
            .or_else(|| self.unpark(uid))
    }

    /// The next pod to try. It is in flight until [`SchedulingQueue::requeue`] or
    /// [`SchedulingQueue::done`].
    pub fn pop(&mut self, now: Instant) -> Option<QueuedPod> {
        self.flush(now);
        let mut pod = match self.pop_active() {
            None if self.config.pop_from_backoff => {
                self.with_backoff(false, |heap, order| heap.pop(order))?
            }
            other => other?,
        };
        pod.attempts += 1;
        pod.unschedulable_plugins.clear();
        pod.pending_plugins.clear();
        self.in_flight.start(pod.info.clone());
        Some(pod)
    }

    /// The pod's try has ended, and it does not come back.
    pub fn done(&mut self, uid: &str) {
        self.in_flight.finish(uid);
    }

    /// The pod's try failed, by the plugins noted in it; by none means by an error. It waits for an
    /// event, unless one came meanwhile that helps, or for its backoff. False: the pod is gone.
    pub fn requeue(&mut self, mut pod: QueuedPod, now: Instant) -> bool {
        let uid = pod.info.uid.clone();
        if let Some(flight) = self.in_flight.get_mut(&uid) {
            pod.info = flight.info.clone();
            if flight.deleted {
                self.in_flight.finish(&uid);
                return false;
            }
        }
        pod.timestamp = now;
        let failed = pod.unschedulable_plugins.is_empty() && pod.pending_plugins.is_empty();
        let wake = if failed {
            pod.errors += 1;
            Wake::AfterBackoff
        } else {
            pod.errors = 0;
            pod.refusals += 1;
            let events = self.in_flight.events_since_start(&uid);
            events.map(|event| self.wake(&pod, event)).max().unwrap_or(Wake::Skip)
        };
        self.in_flight.finish(&uid);
        self.enqueue(pod, wake, now);
        true
    }

    /// What an event means for a pod, by the hints of the plugins that refused it.
    fn wake(&self, pod: &QueuedPod, event: &ClusterEvent) -> Wake {
        let Some(profile) = self.profiles.of(&pod.info) else { return Wake::Skip };
        // Nobody has waited for this one in particular.
        if event.is_wildcard() {
            return Wake::AfterBackoff;
        }
        let meaning = |plugin: &'static str| match profile.hint(plugin, &pod.info, event) {
            Hint::Skip => Wake::Skip,
            Hint::Queue if pod.pending_plugins.contains(plugin) => Wake::Immediately,
            Hint::Queue => Wake::AfterBackoff,
        };
        pod.rejected_by().map(meaning).max().unwrap_or(Wake::AfterBackoff)
    }

    /// Whether the pod is being scheduled or bound.
    pub fn is_in_flight(&self, uid: &str) -> bool {
        self.in_flight.get(uid).is_some()
    }

    /// A pod that waits or is in flight, as it is known.
    fn known(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        let heaps = [&self.active, &self.backoff, &self.long_backoff];
        let waiting = heaps.into_iter().find_map(|heap| heap.get(uid));
        let waiting = waiting.or_else(|| self.unschedulable.get(uid)).map(|pod| &pod.info);
        waiting.or_else(|| self.in_flight.get(uid).map(|flight| &flight.info))
    }

    /// The pods that wait or are in flight.
    pub(crate) fn uids(&self) -> impl Iterator<Item = &Uid> {
        let heaps = [&self.active, &self.backoff, &self.long_backoff].into_iter().flat_map(Heap::uids);
        heaps.chain(self.unschedulable.keys()).chain(self.in_flight.uids())
    }

    /// A waiting pod has changed. One that is not known is [added](SchedulingQueue::add).
    pub fn update(&mut self, new: Arc<PodInfo>, now: Instant) {
        let uid = new.uid.clone();
        let Some(old) = self.known(&uid).cloned() else { return self.add(new, now) };
        let held_before = old.nominated_node();
        match new.nominated_node() {
            Some(node) if held_before != Some(node) => self.nominator.nominate(new.clone(), node),
            None if held_before.is_some() => {
                self.nominator.clear(&uid);
            }
            _ => {}
        }
        let event = ClusterEvent::waiting_pod_updated(&old, &new);
        if let Some(flight) = self.in_flight.get_mut(&uid) {
            flight.info = new;
            if let Some(event) = &event {
                self.in_flight.record(event);
            }
            return;
        }
        let was_active = self.active.get(&uid).is_some();
        let was_parked = self.unschedulable.contains_key(&uid);
        let Some(mut pod) = self.remove_waiting(&uid) else {
            return self.add(new, now);
        };
        pod.info = new;
        let wake = match &event {
            _ if was_active => Wake::Immediately,
            _ if !was_parked => Wake::AfterBackoff,
            Some(event) => self.wake(&pod, event),
            None => Wake::Skip,
        };
        self.enqueue(pod, wake, now);
    }

    /// A pod is gone, or has got a node elsewhere.
    pub fn delete(&mut self, uid: &str) {
        self.nominator.clear(uid);
        self.held.remove(uid);
        if let Some(flight) = self.in_flight.get_mut(uid) {
            flight.deleted = true;
        }
        self.remove_waiting(uid);
    }

    /// Something has changed in the cluster: wakes the pods that it may help, and only those.
    pub fn on_event(&mut self, event: &ClusterEvent, now: Instant) {
        self.on_event_except(event, &|_| false, now);
    }

    /// As [`SchedulingQueue::on_event`], but not for some pods: the event is their own doing.
    pub fn on_event_except(
        &mut self,
        event: &ClusterEvent,
        except: &dyn Fn(&QueuedPod) -> bool,
        now: Instant,
    ) {
        if !self.profiles.iter().any(|profile| profile.is_of_interest(event)) {
            return;
        }
        self.events += 1;
        self.in_flight.record(event);
        let asks = |plugin: &str| {
            plugin.is_empty() || self.profiles.iter().any(|profile| profile.asks_for(plugin, event))
        };
        let kept = self.kept_by.iter().filter(|(plugin, _)| asks(plugin)).flat_map(|(_, kept)| kept);
        let concerned: IndexSet<&Uid, FixedState> = kept.collect();
        let helped: Vec<(Uid, Wake)> = (concerned.into_iter())
            .filter_map(|uid| self.unschedulable.get_key_value(uid))
            .filter(|(_, pod)| !except(pod))
            .map(|(uid, pod)| (uid.clone(), self.wake(pod, event)))
            .filter(|(_, wake)| *wake != Wake::Skip)
            .collect();
        for (uid, wake) in helped {
            if let Some(pod) = self.unpark(&uid) {
                self.enqueue(pod, wake, now);
            }
        }
    }

    /// Others are being sent away to make room for a pod: it waits, whatever happens, until
    /// [`SchedulingQueue::let_go`], as kube-scheduler keeps pods out of its queue while it preempts for them.
    pub fn hold(&mut self, uid: &Uid) {
        self.held.insert(uid.clone(), self.events);
    }

    /// A pod that was held may be tried again, and is if there is `room` now or anything has happened
    /// meanwhile.
    pub fn let_go(&mut self, uid: &str, room: bool, now: Instant) {
        let Some(since) = self.held.remove(uid) else { return };
        let wake = if room || since != self.events { Wake::AfterBackoff } else { Wake::Skip };
        if let Some(pod) = self.unpark(uid) {
            self.enqueue(pod, wake, now);
        }
    }

    /// Puts a waiting pod into the active queue whatever kept it (a plugin knows better).
    pub fn activate(&mut self, uid: &str, now: Instant) {
        self.held.remove(uid);
        match self.remove_waiting(uid) {
            Some(pod) => self.enqueue(pod, Wake::Immediately, now),
            None if self.in_flight.get_mut(uid).is_some() => {
                self.in_flight.record(&ClusterEvent::wildcard());
            }
            None => {}
        }
    }

    /// Tries a waiting pod again after a backoff, whatever kept it: what its last try led to failed.
    pub fn retry(&mut self, uid: &str, now: Instant) {
        self.held.remove(uid);
        match self.remove_waiting(uid) {
            Some(mut pod) => {
                // A try that ended well so far has forgotten the errors before it.
                pod.errors = pod.refusals.max(pod.errors + 1);
                pod.timestamp = now;
                self.enqueue(pod, Wake::AfterBackoff, now);
            }
            None => self.activate(uid, now),
        }
    }

    /// Moves what is due: ended backoffs, and pods that no event has helped for long.
    pub fn flush(&mut self, now: Instant) {
        for long in [false, true] {
            let heap = if long { &self.long_backoff } else { &self.backoff };
            let mut due = heap.peek().is_some_and(|pod| self.backoff_ends(pod) <= now);
            while due {
                if let Some(pod) = self.with_backoff(long, |heap, order| heap.pop(order)) {
                    self.enqueue(pod, Wake::Immediately, now);
                }
                let heap = if long { &self.long_backoff } else { &self.backoff };
                due = heap.peek().is_some_and(|pod| self.backoff_ends(pod) <= now);
            }
        }
        while let Some((due, uid)) = self.leftovers.first().cloned()
            && due <= now
        {
            self.leftovers.pop_first();
            self.held.remove(&uid);
            if let Some(pod) = self.release(&uid) {
                self.enqueue(pod, Wake::AfterBackoff, now);
            }
        }
    }

    /// Whether [`SchedulingQueue::pop`] would give a pod now.
    pub fn is_ready(&self) -> bool {
        self.active.len() > 0 || (self.config.pop_from_backoff && self.backoff.len() > 0)
    }

    /// When the queue has something to move, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        let backoffs = [&self.backoff, &self.long_backoff];
        let ends = backoffs.into_iter().filter_map(|heap| heap.peek()).map(|pod| self.backoff_ends(pod));
        ends.chain(self.leftovers.first().map(|(due, _)| *due)).min()
    }
}

/// Whether a pod's backoff is not cut short: after an error, and for pods of a group, since what a gang gives
/// back may wake another that does not fit either, and so on for ever.
fn waits_it_out(pod: &QueuedPod) -> bool {
    pod.errors > 0 || pod.info.spec().is_some_and(|spec| spec.scheduling_group.is_some())
}

/// The plugins that keep a parked pod; an empty name if none does.
fn keepers(pod: &QueuedPod) -> impl Iterator<Item = &'static str> {
    // What other plugins wait for helps no pod that is kept out of the queue.
    let gate = pod.gated_by;
    let mut plugins =
        pod.rejected_by().filter(move |plugin| gate.is_none_or(|gate| *plugin == gate)).peekable();
    let none = plugins.peek().is_none().then_some("");
    plugins.chain(none)
}

/// The profile's order, then that of arrival.
pub(crate) fn by_sort(profiles: &Profiles, a: &QueuedPod, b: &QueuedPod) -> Ordering {
    profiles.sort(a, b).then(a.sequence.cmp(&b.sequence))
}

#[cfg(test)]
mod tests;
