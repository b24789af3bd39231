use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    framework::{
        Actions, Handle, Interest, Plugin, Points, PreEnqueue, ProfileConfig, Resource, Status, Subject,
    },
    testing,
};

const ADDED: &str = "WantsAdd";
const DELETED: &str = "WantsDelete";
const GATE: &str = "Gate";

/// A plugin that refused a pod wants to hear of one thing that happens to nodes.
struct Wants(&'static str, Actions);
impl Plugin for Wants {
    fn name(&self) -> &'static str {
        self.0
    }
    fn events(&self) -> Vec<Interest> {
        vec![Interest::new(Resource::Node, self.1)]
    }
}
/// Keeps pods out whose label says so.
struct Gate;
impl Plugin for Gate {
    fn name(&self) -> &'static str {
        GATE
    }
    fn events(&self) -> Vec<Interest> {
        vec![Interest::new(Resource::PendingPod, Actions::UPDATE_POD_LABEL)]
    }
}
impl PreEnqueue for Gate {
    fn pre_enqueue(&self, pod: &PodInfo) -> Status {
        let labels = pod.pod.metadata.labels.as_ref();
        match labels.and_then(|labels| labels.get("gate")) {
            Some(_) => Status::unresolvable("gated"),
            None => Status::success(),
        }
    }
}

fn queue(pop_from_backoff: bool) -> SchedulingQueue {
    let mut registry = crate::plugins::all();
    registry.add(ADDED, |_, _| Ok(Points::of(Wants(ADDED, Actions::ADD)).done())).unwrap();
    registry.add(DELETED, |_, _| Ok(Points::of(Wants(DELETED, Actions::DELETE)).done())).unwrap();
    registry.add(GATE, |_, _| Ok(Points::of(Gate).pre_enqueue().done())).unwrap();
    let config = ProfileConfig::standard().with(ADDED, 1).with(DELETED, 1).with(GATE, 1);
    let profiles = Profiles::build(&[config], &registry, &Handle::default()).unwrap();
    let config = QueueConfig { pop_from_backoff, ..QueueConfig::default() };
    SchedulingQueue::new(Arc::new(profiles), config)
}

fn pod(name: &str, priority: i32, gated: bool) -> Arc<PodInfo> {
    let mut pod = (*testing::pod(name, json!({"priority": priority})).pod).clone();
    pod.metadata.labels = Some(gated.then(|| ("gate".into(), "".into())).into_iter().collect());
    Arc::new(PodInfo::new(Arc::new(pod)))
}

fn event(actions: Actions) -> ClusterEvent {
    ClusterEvent { resource: Resource::Node, actions, subject: Subject::Unknown }
}

fn name(pod: &QueuedPod) -> String {
    pod.info.key.name.clone()
}

fn refused(mut pod: QueuedPod, plugin: &'static str) -> QueuedPod {
    pod.unschedulable_plugins.insert(plugin);
    pod
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_while_others_are_sent_away_for_it() {
    for room in [true, false] {
        let mut queue = queue(true);
        let now = Instant::now();
        queue.add(pod("a", 0, false), now);
        let popped = queue.pop(now).unwrap();
        let uid = popped.info.uid.clone();
        queue.hold(&uid);
        assert!(queue.requeue(refused(popped, ADDED), now));
        queue.on_event(&event(Actions::ADD), now);
        check_keepers(&queue);
        assert!(!queue.is_ready() && queue.len().gated == 1);
        queue.let_go(&uid, room, now);
        check_keepers(&queue);
        assert!(queue.is_ready(), "{room}: something has happened meanwhile");
    }
    let mut queue = queue(true);
    let now = Instant::now();
    queue.add(pod("a", 0, false), now);
    let popped = queue.pop(now).unwrap();
    let uid = popped.info.uid.clone();
    queue.hold(&uid);
    assert!(queue.requeue(refused(popped, ADDED), now));
    queue.let_go(&uid, false, now);
    assert!(!queue.is_ready() && queue.len().gated == 0, "nothing has happened");
    queue.on_event(&event(Actions::ADD), now);
    assert!(queue.is_ready());
    // Nobody is forgotten, were the end of it never told.
    let popped = queue.pop(now).unwrap();
    queue.hold(&uid);
    assert!(queue.requeue(refused(popped, ADDED), now));
    queue.flush(now + secs(301));
    assert!(queue.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_refused_pod_waits_for_an_event_of_its_plugin_and_its_backoff() {
    let (mut queue, start) = (queue(false), Instant::now());
    queue.add(pod("a", 0, false), start);
    let first = queue.pop(start).unwrap();
    assert!(queue.requeue(refused(first, ADDED), start));
    assert_eq!(queue.len().unschedulable, 1);
    queue.on_event(&event(Actions::DELETE), start);
    assert_eq!(queue.len().unschedulable, 1);
    queue.on_event(&event(Actions::ADD), start);
    assert_eq!(queue.len().backoff, 1);
    assert_eq!(queue.next_deadline(), Some(start + secs(1)));
    assert!(queue.pop(start).is_none());
    assert_eq!(queue.pop(start + secs(1)).unwrap().attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn backoff_doubles_up_to_its_bound_and_errors_back_off_too() {
    for fail_by_error in [false, true] {
        let (mut queue, mut now) = (queue(false), Instant::now());
        queue.add(pod("a", 0, false), now);
        for expected in [1, 2, 4, 8, 10, 10] {
            let tried = queue.pop(now).unwrap();
            if fail_by_error {
                queue.requeue(tried, now);
            } else {
                queue.requeue(refused(tried, ADDED), now);
                queue.on_event(&event(Actions::ADD), now);
            }
            assert!(queue.pop(now + secs(expected) - Duration::from_millis(1)).is_none());
            now += secs(expected);
        }
        assert!(queue.pop(now).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_scheduler_does_not_wait_for_backoffs_but_for_those_of_errors() {
    let (mut queue, start) = (queue(true), Instant::now());
    queue.add(pod("a", 0, false), start);
    queue.add(pod("b", 0, false), start);
    let (a, b) = (queue.pop(start).unwrap(), queue.pop(start).unwrap());
    queue.requeue(refused(a, ADDED), start);
    queue.requeue(b, start);
    queue.on_event(&event(Actions::ADD), start);
    assert!(queue.is_ready());
    assert_eq!(name(&queue.pop(start).unwrap()), "a");
    assert!(queue.pop(start).is_none());
    assert_eq!(name(&queue.pop(start + secs(1)).unwrap()), "b");
}

#[tokio::test(start_paused = true)]
async fn an_event_during_the_try_is_not_lost() {
    let (mut queue, start) = (queue(false), Instant::now());
    queue.add(pod("a", 0, false), start);
    let tried = queue.pop(start).unwrap();
    queue.on_event(&event(Actions::ADD), start);
    queue.requeue(refused(tried, ADDED), start);
    assert_eq!(queue.len().backoff, 1);
    assert_eq!(queue.in_flight.recorded(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pending_plugin_skips_the_backoff() {
    let (mut queue, start) = (queue(false), Instant::now());
    queue.add(pod("a", 0, false), start);
    let mut tried = queue.pop(start).unwrap();
    tried.pending_plugins.insert(ADDED);
    queue.requeue(tried, start);
    queue.on_event(&event(Actions::ADD), start);
    assert_eq!(queue.len().active, 1);
}

/// But it counts: the next refusal by another one costs twice as much.
#[tokio::test(start_paused = true)]
async fn every_refusal_makes_the_backoff_longer_whoever_refused() {
    let (mut queue, start) = (queue(false), Instant::now());
    queue.add(pod("a", 0, false), start);
    let mut tried = queue.pop(start).unwrap();
    tried.pending_plugins.insert(ADDED);
    queue.requeue(tried, start);
    queue.on_event(&event(Actions::ADD), start);
    let tried = queue.pop(start).unwrap();
    queue.requeue(refused(tried, DELETED), start);
    queue.on_event(&event(Actions::DELETE), start);
    assert_eq!(queue.next_deadline(), Some(start + secs(2)));
}

#[tokio::test(start_paused = true)]
async fn who_is_asked_for_while_being_tried_backs_off_though_a_plugin_waits() {
    let (mut queue, start) = (queue(false), Instant::now());
    queue.add(pod("a", 0, false), start);
    let mut tried = queue.pop(start).unwrap();
    tried.pending_plugins.insert(ADDED);
    queue.activate("uid-a", start);
    queue.requeue(tried, start);
    assert_eq!(queue.len().backoff, 1);
}

/// It is let in again by what its gate waits for, not by what others did that refused it before.
#[tokio::test(start_paused = true)]
async fn an_event_that_the_gate_does_not_ask_for_costs_a_gated_pod_nothing() {
    let (mut queue, start) = (queue(false), Instant::now());
    queue.add(pod("a", 0, false), start);
    let tried = queue.pop(start).unwrap();
    queue.update(pod("a", 0, true), start);
    queue.on_event(&event(Actions::ADD), start);
    queue.requeue(refused(tried, ADDED), start);
    assert_eq!(queue.len().gated, 1);
    assert_eq!(queue.kept_by.keys().copied().collect::<Vec<_>>(), [GATE]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_kept_out_needs_no_room() {
    let (mut queue, start) = (queue(false), Instant::now());
    let gated = pod("a", 0, true);
    queue.nominator_mut().nominate(gated.clone(), "n");
    queue.add(gated, start);
    queue.add(pod("b", 0, true), start);
    let kept_out: Vec<String> = queue.take_kept_out().iter().map(|pod| pod.key.name.clone()).collect();
    assert_eq!(kept_out, ["a"]);
    assert!(queue.take_kept_out().is_empty());
}

#[tokio::test(start_paused = true)]
async fn leftovers_are_tried_again_after_five_minutes() {
    let (mut queue, start) = (queue(false), Instant::now());
    queue.add(pod("a", 0, false), start);
    let tried = queue.pop(start).unwrap();
    queue.requeue(refused(tried, ADDED), start);
    assert!(queue.pop(start + secs(299)).is_none());
    assert_eq!(queue.next_deadline(), Some(start + secs(300)));
    assert!(queue.pop(start + secs(300)).is_some());
}

#[tokio::test(start_paused = true)]
async fn what_is_retried_backs_off_even_if_nothing_else_is_to_do() {
    let (mut queue, start) = (queue(true), Instant::now());
    queue.add(pod("a", 0, false), start);
    let mut at = start;
    for wait in [1, 2, 4, 8, 10, 10] {
        queue.retry("uid-a", at);
        assert!(queue.pop(at).is_none());
        at += secs(wait);
        assert_eq!(queue.next_deadline(), Some(at));
        queue.flush(at);
        assert_eq!(queue.len().active, 1);
    }
    // Being tried just now, it is tried once more.
    let tried = queue.pop(at).unwrap();
    queue.retry("uid-a", at);
    queue.requeue(refused(tried, ADDED), at);
    assert_eq!(queue.len().unschedulable, 0);
    queue.retry("uid-of-none", at);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_no_plugin_of_its_profile_rejected_is_helped_by_any_event() {
    let (mut queue, start) = (queue(false), Instant::now());
    queue.add(pod("a", 0, false), start);
    let tried = queue.pop(start).unwrap();
    queue.requeue(refused(tried, ""), start);
    assert_eq!(queue.len().unschedulable, 1);
    queue.on_event(&event(Actions::DELETE), start);
    assert_eq!(queue.len().backoff, 1);
}

#[tokio::test(start_paused = true)]
async fn gated_pods_wait_without_end_until_they_change() {
    let (mut queue, start) = (queue(true), Instant::now());
    let gated = pod("a", 0, true);
    queue.add(gated.clone(), start);
    assert_eq!((queue.len().gated, queue.next_deadline()), (1, None));
    queue.on_event(&event(Actions::ADD), start);
    queue.on_event(&ClusterEvent::wildcard(), start);
    assert!(queue.pop(start + secs(1000)).is_none());
    queue.update(pod("a", 0, false), start);
    assert!(queue.pop(start).is_some());
}

#[tokio::test(start_paused = true)]
async fn deleted_and_changed_pods_are_told_apart_while_in_flight() {
    let (mut queue, start) = (queue(false), Instant::now());
    queue.add(pod("a", 0, false), start);
    queue.add(pod("b", 0, false), start);
    let (a, b) = (queue.pop(start).unwrap(), queue.pop(start).unwrap());
    queue.delete(&a.info.uid);
    let changed = pod("b", 7, false);
    queue.update(changed, start);
    assert!(!queue.requeue(refused(a, ADDED), start));
    assert!(queue.requeue(refused(b, ADDED), start));
    queue.on_event(&ClusterEvent::wildcard(), start);
    let back = queue.pop(start + secs(1)).unwrap();
    assert_eq!((name(&back), back.info.priority), ("b".into(), 7));
    queue.done(&back.info.uid);
    assert!(queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn activate_overrides_whatever_kept_a_pod() {
    let (mut queue, start) = (queue(false), Instant::now());
    queue.add(pod("a", 0, false), start);
    let tried = queue.pop(start).unwrap();
    let uid = tried.info.uid.clone();
    queue.activate(&uid, start);
    queue.requeue(refused(tried, ADDED), start);
    assert_eq!(queue.len().backoff, 1);
    queue.activate(&uid, start);
    assert!(queue.pop(start).is_some());
}

#[derive(Clone, Debug)]
enum Step {
    Add(u8, i32),
    Pop,
    Refuse(u8, bool),
    Fail(u8),
    Done(u8),
    Delete(u8),
    Added,
    Deleted,
    Wait(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..6u8, 0..3i32).prop_map(|(pod, priority)| Step::Add(pod, priority)),
        6 => Just(Step::Pop),
        4 => (0..6u8, any::<bool>()).prop_map(|(pod, added)| Step::Refuse(pod, added)),
        1 => (0..6u8).prop_map(Step::Fail),
        1 => (0..6u8).prop_map(Step::Done),
        1 => (0..6u8).prop_map(Step::Delete),
        2 => Just(Step::Added),
        1 => Just(Step::Deleted),
        3 => (0..12_000u16).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..80)
}

/// Where the slow model has a pod.
#[derive(Clone, Debug, PartialEq)]
enum Place {
    Active,
    Backoff { until: u64, error: bool },
    Parked { until: u64, plugin: &'static str },
    Flying { events: Vec<&'static str>, deleted: bool },
}

/// The slow model: a list that is searched at every step, times in milliseconds.
struct Model {
    pods: BTreeMap<String, ModelPod>,
    now: u64,
    sequence: u64,
    pop_from_backoff: bool,
}

#[derive(Clone, Debug)]
struct ModelPod {
    priority: i32,
    since: u64,
    sequence: u64,
    refusals: u32,
    errors: u32,
    place: Place,
}

impl Model {
    fn backoff(failures: u32) -> u64 {
        [0, 1000, 2000, 4000, 8000].get(failures as usize).copied().unwrap_or(10_000)
    }

    fn add(&mut self, key: String, priority: i32) {
        self.sequence += 1;
        let (since, sequence) = (self.now, self.sequence);
        let fresh = ModelPod { priority, since, sequence, refusals: 0, errors: 0, place: Place::Active };
        self.pods.insert(key, fresh);
    }

    fn len(&self) -> QueueLength {
        let count = |wanted: fn(&Place) -> bool| self.pods.values().filter(|pod| wanted(&pod.place)).count();
        QueueLength {
            active: count(|place| matches!(place, Place::Active)),
            backoff: count(|place| matches!(place, Place::Backoff { .. })),
            unschedulable: count(|place| matches!(place, Place::Parked { .. })),
            gated: 0,
            in_flight: count(|place| matches!(place, Place::Flying { .. })),
        }
    }

    fn flush(&mut self) {
        for pod in self.pods.values_mut() {
            match &pod.place {
                Place::Backoff { until, .. } if *until <= self.now => pod.place = Place::Active,
                Place::Parked { until, .. } if *until <= self.now => pod.place = Place::Active,
                _ => {}
            }
        }
    }

    fn pop(&mut self) -> Option<String> {
        self.flush();
        let order = |(_, pod): &(&String, &ModelPod)| (-pod.priority, pod.since, pod.sequence);
        let active = self.pods.iter().filter(|(_, pod)| pod.place == Place::Active).min_by_key(order);
        let early = |(_, pod): &(&String, &ModelPod)| match pod.place {
            Place::Backoff { until, error: false } => Some((until, -pod.priority, pod.since, pod.sequence)),
            _ => None,
        };
        let backing = self.pods.iter().filter(|entry| early(entry).is_some()).min_by_key(early);
        let backing = backing.filter(|_| self.pop_from_backoff);
        let name = active.or(backing)?.0.clone();
        self.pods.get_mut(&name)?.place = Place::Flying { events: vec![], deleted: false };
        Some(name)
    }

    fn return_pod(&mut self, name: &str, plugin: Option<&'static str>) {
        let now = self.now;
        let Some(pod) = self.pods.get_mut(name) else { return };
        let Place::Flying { events, deleted } = pod.place.clone() else { return };
        if deleted {
            self.pods.remove(name);
            return;
        }
        pod.since = now;
        match plugin {
            None => {
                pod.errors += 1;
                pod.place = Place::Backoff { until: now + Self::backoff(pod.errors), error: true };
            }
            Some(plugin) => {
                pod.errors = 0;
                pod.refusals += 1;
                pod.place = if events.contains(&plugin) {
                    Place::Backoff { until: now + Self::backoff(pod.refusals), error: false }
                } else {
                    Place::Parked { until: now + 300_000, plugin }
                };
            }
        }
    }

    fn happens(&mut self, wanted_by: &'static str) {
        let now = self.now;
        for pod in self.pods.values_mut() {
            match &mut pod.place {
                Place::Parked { plugin, .. } if *plugin == wanted_by => {
                    let until = pod.since + Self::backoff(pod.refusals);
                    let waits = Place::Backoff { until, error: false };
                    pod.place = if until > now { waits } else { Place::Active };
                }
                Place::Flying { events, .. } => events.push(wanted_by),
                _ => {}
            }
        }
    }
}

/// The queue, its model, and the pods that are out of both.
struct Pair {
    queue: SchedulingQueue,
    model: Model,
    flying: BTreeMap<String, QueuedPod>,
}

impl Pair {
    fn apply(&mut self, step: &Step, start: Instant) {
        let Self { queue, model, flying } = self;
        let now = start + Duration::from_millis(model.now);
        let key = |index: &u8| format!("p{index}");
        match step {
            Step::Add(index, priority) => {
                if !model.pods.contains_key(&key(index)) {
                    queue.add(pod(&key(index), *priority, false), now);
                    model.add(key(index), *priority);
                }
            }
            Step::Pop => {
                let popped = queue.pop(now);
                assert_eq!(popped.as_ref().map(name), model.pop());
                flying.extend(popped.map(|pod| (name(&pod), pod)));
            }
            Step::Refuse(index, added) => {
                let plugin = if *added { ADDED } else { DELETED };
                if let Some(pod) = flying.remove(&key(index)) {
                    queue.requeue(refused(pod, plugin), now);
                    model.return_pod(&key(index), Some(plugin));
                }
            }
            Step::Fail(index) => {
                if let Some(pod) = flying.remove(&key(index)) {
                    queue.requeue(pod, now);
                    model.return_pod(&key(index), None);
                }
            }
            Step::Done(index) => {
                if let Some(pod) = flying.remove(&key(index)) {
                    queue.done(&pod.info.uid);
                    model.pods.remove(&key(index));
                }
            }
            Step::Delete(index) => {
                queue.delete(&format!("uid-{}", key(index)));
                match model.pods.get_mut(&key(index)).map(|pod| &mut pod.place) {
                    Some(Place::Flying { deleted, .. }) => *deleted = true,
                    _ => drop(model.pods.remove(&key(index))),
                }
            }
            Step::Added => {
                queue.on_event(&event(Actions::ADD), now);
                model.happens(ADDED);
            }
            Step::Deleted => {
                queue.on_event(&event(Actions::DELETE), now);
                model.happens(DELETED);
            }
            Step::Wait(millis) => model.now += u64::from(*millis),
        }
    }
}

/// The pods that each plugin keeps, and those that none does, are those that wait for an event.
fn check_keepers(queue: &SchedulingQueue) {
    let mut kept = BTreeMap::<&str, BTreeSet<&Uid>>::new();
    for (uid, pod) in &queue.unschedulable {
        for plugin in keepers(pod).filter(|plugin| !plugin.is_empty()) {
            kept.entry(plugin).or_default().insert(uid);
        }
        if pod.rejected_by().next().is_none() {
            kept.entry("").or_default().insert(uid);
        }
    }
    let said = queue.kept_by.iter().map(|(plugin, uids)| (*plugin, uids.iter().collect()));
    assert_eq!(said.collect::<BTreeMap<_, _>>(), kept);
}

fn run(steps: &[Step], pop_from_backoff: bool) {
    let start = Instant::now();
    let model = Model { pods: BTreeMap::new(), now: 0, sequence: 0, pop_from_backoff };
    let mut pair = Pair { queue: queue(pop_from_backoff), model, flying: BTreeMap::new() };
    for step in steps {
        pair.apply(step, start);
        pair.queue.flush(start + Duration::from_millis(pair.model.now));
        pair.model.flush();
        assert_eq!(pair.queue.len(), pair.model.len(), "after {step:?}");
        check_keepers(&pair.queue);
    }
}

proptest! {
    #[test]
    fn the_queue_agrees_with_a_slow_model(steps in steps(), pop_from_backoff in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async { run(&steps, pop_from_backoff) });
    }
}
