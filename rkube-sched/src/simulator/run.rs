//! Gives nodes to the pods that wait.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use indexmap::IndexMap;
use rkube_api::{client::ObjectKey, context::Rng, meta::owners::controller_of};
use tokio::time::Instant;

use super::{
    Simulator,
    report::{Cause, Move, Pending, Report},
    reservations::{Hold, Reservation},
    world::World,
};
use crate::{
    engine::{Classes, Decision, Engine, Outcome, Placement, Unfit},
    framework::{CycleState, Nomination, PreEnqueue, Profile, Status, contained},
    queue::{QueuedPod, by_sort},
    snapshot::{PodInfo, Uid},
};

/// A pod that waits for a node.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) info: Arc<PodInfo>,
    from: Option<String>,
    cause: Cause,
    /// Its place among pods of equal rank.
    pub(super) sequence: u64,
}

impl Waiting {
    /// A pod that has had no node so far.
    pub(super) fn new(info: Arc<PodInfo>) -> Self {
        Self { info, from: None, cause: Cause::Waited, sequence: 0 }
    }

    /// What comes in the place of a pod that has lost its node.
    pub(super) fn again(info: &PodInfo, from: Option<String>, cause: Cause) -> Self {
        let mut pod = (*info.pod).clone();
        pod.status = None;
        if let Some(spec) = &mut pod.spec {
            spec.node_name = None;
        }
        Self { info: Arc::new(PodInfo::new(Arc::new(pod))), from, cause, sequence: 0 }
    }

    fn is_controlled(&self) -> bool {
        controller_of(&self.info.pod.metadata).is_some()
    }

    /// It has got a node.
    fn moved(&self, to: String, victims: Vec<ObjectKey>) -> Move {
        let (pod, from, cause) = (self.info.key.clone(), self.from.clone(), self.cause.clone());
        Move { pod, from, to, cause, is_controlled: self.is_controlled(), victims }
    }

    /// It has none.
    fn pending(&self, message: String, plugins: BTreeSet<&'static str>) -> Pending {
        let (pod, from, cause) = (self.info.key.clone(), self.from.clone(), self.cause.clone());
        Pending { pod, from, cause, is_controlled: self.is_controlled(), message, plugins }
    }
}

/// What came of one try.
pub(super) enum Tried {
    /// The pod has a node.
    Placed {
        node: String,
        /// Who had to go for it, and from where.
        victims: Vec<(Arc<PodInfo>, String)>,
        /// What Permit holds it for: it is not bound yet.
        hold: Option<Hold>,
    },
    /// It has none.
    Unfit { message: String, plugins: BTreeSet<&'static str> },
    /// PreEnqueue holds it.
    Held(Status),
    /// No profile is for it.
    Foreign(String),
    /// A plugin failed.
    Failed(Status),
}

impl Tried {
    /// Why the pod has no node.
    fn refusal(self) -> Option<(String, BTreeSet<&'static str>)> {
        match self {
            Self::Placed { .. } => None,
            Self::Unfit { message, plugins } => Some((message, plugins)),
            Self::Held(status) | Self::Failed(status) => {
                Some((status.message(), status.plugin().into_iter().collect()))
            }
            Self::Foreign(name) => Some((format!("it waits for the scheduler {name:?}"), BTreeSet::new())),
        }
    }
}

impl Simulator {
    /// Looks for nodes for all pods that wait, in the order of the queue. Pods that find none are tried again
    /// as long as others find one; pods that had to make room wait with the rest.
    ///
    /// ```
    /// use rkube_sched::simulator::Simulator;
    ///
    /// let mut simulator = Simulator::builder().load("
    /// {apiVersion: v1, kind: Node, metadata: {name: a}, status: {allocatable: {cpu: 2, memory: 4Gi, pods: 9}}}
    /// ---
    /// {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c}]}}
    /// ")?.build()?;
    /// let report = simulator.schedule();
    /// assert_eq!((&*report.moves[0].pod.name, &*report.moves[0].to), ("p", "a"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn schedule(&mut self) -> Report {
        let before = self.usage();
        let mut run = Run::new(std::mem::take(&mut self.world.waiting));
        run.sort(self);
        loop {
            let Some(waiting) = run.queue.pop() else {
                if !run.has_progress && !run.lose_patience(self) || run.refused.is_empty() {
                    break;
                }
                run.has_progress = false;
                run.queue = run.refused.drain(..).map(|(waiting, _)| waiting).collect();
                run.sort(self);
                continue;
            };
            run.try_one(self, waiting);
        }
        let mut refused: Vec<_> = run.refused.into_iter().chain(run.given_up).collect();
        refused.sort_by(|(a, _), (b, _)| self.compare(run.now, b, a));
        let (pending, waiting) = refused.into_iter().map(|(waiting, why)| (why, waiting)).unzip();
        self.world.waiting = waiting;
        Report {
            moves: run.moves.into_values().collect(),
            pending,
            before,
            after: self.usage(),
            ..Report::default()
        }
    }

    /// The order of the queue, the first last.
    fn compare(&self, now: Instant, a: &Waiting, b: &Waiting) -> std::cmp::Ordering {
        let queued = |waiting: &Waiting| QueuedPod::new(waiting.info.clone(), now, waiting.sequence);
        by_sort(&self.profiles, &queued(b), &queued(a))
    }

    /// One pod's try, with all that follows from it.
    pub(super) fn attempt(&mut self, classes: &mut Classes, info: &Arc<PodInfo>) -> Tried {
        let Some(profile) = self.profiles.of(info).cloned() else {
            return Tried::Foreign(info.scheduler_name().to_owned());
        };
        if let Some(status) = held(&profile, info) {
            return Tried::Held(status);
        }
        let Outcome { decision, state } = decide(&self.world, &self.rng, classes, info, &profile);
        match decision {
            Decision::Place(placement) => self.land(info, profile, state, &placement),
            Decision::Unfit(unfit) => self.preempt(classes, info, profile, *unfit),
            Decision::Fail(status) => Tried::Failed(status),
        }
    }

    /// Puts a pod where it was decided.
    fn land(
        &mut self,
        info: &Arc<PodInfo>,
        profile: Arc<Profile>,
        state: CycleState,
        placement: &Placement,
    ) -> Tried {
        let node = self.world.snapshot.view(placement.node).name().to_owned();
        let reservation = Reservation::new(profile, state, info.clone(), node.clone());
        let at = self.world.snapshot.view(placement.node);
        let hold = match self.reserved.take(reservation, at, &self.handle.waiting) {
            Ok(hold) => hold,
            Err(status) => return refused_or_failed(status),
        };
        self.world.nominator.clear(&info.uid);
        self.world.place(&on_node(info, &node), &node);
        Tried::Placed { node, victims: Vec::new(), hold }
    }

    /// Makes room as the plan says, and puts the pod there; if that does not help after all, nothing has
    /// happened.
    fn preempt(
        &mut self,
        classes: &mut Classes,
        info: &Arc<PodInfo>,
        profile: Arc<Profile>,
        unfit: Unfit,
    ) -> Tried {
        let Unfit { diagnosis, plan } = unfit;
        let message = diagnosis.message();
        let mut plugins = diagnosis.unschedulable_plugins;
        plugins.extend(diagnosis.pending_plugins);
        let unfit = Tried::Unfit { message, plugins };
        let Nomination::Node(node) = &plan.nomination else { return unfit };
        let victims: Vec<_> =
            plan.victims.iter().filter_map(|victim| self.world.remove(&victim.uid)).collect();
        if victims.is_empty() {
            return unfit;
        }
        let before = self.world.nominator.clone();
        for lesser in &plan.displaced {
            self.world.nominator.clear(&lesser.uid);
        }
        self.world.nominator.nominate(info.clone(), node);
        let Outcome { decision, state } = decide(&self.world, &self.rng, classes, info, &profile);
        if let Decision::Place(placement) = decision
            && let Tried::Placed { node, hold, .. } = self.land(info, profile, state, &placement)
        {
            victims.iter().for_each(|(victim, _)| self.reserved.give_back(&victim.uid));
            return Tried::Placed { node, victims, hold };
        }
        self.world.nominator = before;
        for (victim, node) in &victims {
            self.world.place(victim, node);
            self.world.bind(&victim.uid);
        }
        unfit
    }

    /// A pod is gone from its node, with what was reserved for it.
    pub(super) fn displace(&mut self, uid: &Uid) {
        self.handle.waiting.release(uid);
        self.reserved.give_back(uid);
        self.world.remove(uid);
    }
}

/// What runs until no pod gets anywhere.
struct Run {
    now: Instant,
    /// The next one last.
    queue: Vec<Waiting>,
    refused: Vec<(Waiting, Pending)>,
    moves: IndexMap<Uid, Move>,
    classes: Classes,
    /// Whether a pod got a node for good since the queue was filled.
    has_progress: bool,
    /// The pods that have a node but are held there.
    held: Vec<(Waiting, Hold)>,
    /// How often pods were sent away that were held.
    sent_away: BTreeMap<Uid, u32>,
    /// Pods that are not tried again: they would be held for nothing.
    given_up: Vec<(Waiting, Pending)>,
}

/// So often is a pod tried that was held for nothing.
const HOLDS: u32 = 2;

impl Run {
    fn new(queue: Vec<Waiting>) -> Self {
        Self {
            now: Instant::now(),
            queue,
            refused: Vec::new(),
            moves: IndexMap::new(),
            classes: Classes::default(),
            has_progress: false,
            held: Vec::new(),
            sent_away: BTreeMap::new(),
            given_up: Vec::new(),
        }
    }

    fn sort(&mut self, simulator: &Simulator) {
        let now = self.now;
        self.queue.sort_by(|a, b| simulator.compare(now, a, b));
    }

    fn try_one(&mut self, simulator: &mut Simulator, waiting: Waiting) {
        let info = waiting.info.clone();
        match simulator.attempt(&mut self.classes, &info) {
            Tried::Placed { node, victims, hold } => {
                let keys = victims.iter().map(|(victim, _)| victim.key.clone()).collect();
                victims.iter().for_each(|victim| self.wait_again(simulator, victim, &info.key));
                self.moves.insert(info.uid.clone(), waiting.moved(node, keys));
                match hold {
                    Some(hold) => self.held.push((waiting, hold)),
                    None => self.bound(simulator, &info.uid),
                }
            }
            tried => {
                let (message, plugins) = tried.refusal().unwrap_or_default();
                let why = waiting.pending(message, plugins);
                self.refused.push((waiting, why));
            }
        }
        self.settle(simulator);
    }

    fn bound(&mut self, simulator: &mut Simulator, uid: &Uid) {
        simulator.world.bind(uid);
        self.has_progress = true;
    }

    /// Does with the pods that were held what was decided about them meanwhile.
    fn settle(&mut self, simulator: &mut Simulator) {
        loop {
            let mut verdicts = self.held.iter_mut().map(|(_, hold)| hold.verdict.try_recv().ok());
            let Some((place, verdict)) =
                verdicts.by_ref().enumerate().find_map(|(place, verdict)| Some((place, verdict?)))
            else {
                return;
            };
            let (waiting, hold) = self.held.remove(place);
            if verdict.is_success() {
                self.bound(simulator, &waiting.info.uid);
            } else {
                let plugin = verdict.plugin().unwrap_or(hold.plugin);
                self.send_away(simulator, waiting, plugin, verdict.message());
            }
        }
    }

    /// A pod that was held gives its node back.
    fn send_away(
        &mut self,
        simulator: &mut Simulator,
        waiting: Waiting,
        plugin: &'static str,
        message: String,
    ) {
        let uid = waiting.info.uid.clone();
        simulator.displace(&uid);
        simulator.world.show(&waiting.info);
        self.moves.shift_remove(&uid);
        let times = self.sent_away.entry(uid).or_default();
        *times += 1;
        let list = if *times < HOLDS { &mut self.refused } else { &mut self.given_up };
        let why = waiting.pending(message, [plugin].into());
        list.push((waiting, why));
    }

    /// Nothing moves any more: whoever is held waits in vain. Whether anybody was.
    fn lose_patience(&mut self, simulator: &mut Simulator) -> bool {
        let was_held = !self.held.is_empty();
        while let Some((waiting, Hold { plugin, patience, .. })) = self.held.pop() {
            let message = format!("rejected due to timeout after waiting {patience:?} at plugin {plugin}");
            self.send_away(simulator, waiting, plugin, message);
            self.settle(simulator);
        }
        was_held
    }

    /// A pod that had to go takes its place in the queue. Where it was first is where it came from.
    fn wait_again(
        &mut self,
        simulator: &mut Simulator,
        (victim, node): &(Arc<PodInfo>, String),
        by: &ObjectKey,
    ) {
        let from = match self.moves.shift_remove(&victim.uid) {
            Some(moved) => moved.from,
            None => Some(node.clone()),
        };
        if victim.pod.metadata.deletion_timestamp.is_some() {
            // It was on its way out: what comes in its place is there already.
            return;
        }
        let cause = Cause::Preempted { by: by.clone() };
        let waiting = simulator.world.enlist(Waiting::again(victim, from, cause));
        let place = self.queue.partition_point(|other| simulator.compare(self.now, other, &waiting).is_lt());
        self.queue.insert(place, waiting);
    }
}

/// What PreEnqueue has against a pod.
pub(super) fn held(profile: &Profile, info: &PodInfo) -> Option<Status> {
    let ask = |plugin: &Arc<dyn PreEnqueue>| {
        let said = contained(plugin.name(), "PreEnqueue", || plugin.pre_enqueue(info));
        said.unwrap_or_else(|status| status).from_plugin(plugin.name())
    };
    profile.pre_enqueue.iter().map(ask).find(|status| !status.is_success())
}

/// A decision. Each pod has a source of randomness of its own, so that what is asked beside changes nothing.
pub(super) fn decide(
    world: &World,
    rng: &Rng,
    classes: &mut Classes,
    info: &Arc<PodInfo>,
    profile: &Arc<Profile>,
) -> Outcome {
    let rng = rng.fork(&info.uid);
    let engine = Engine { snapshot: &world.snapshot, nominator: &world.nominator, rng: &rng };
    engine.decide_in(classes, info, profile)
}

fn refused_or_failed(status: Status) -> Tried {
    if !status.is_rejected() {
        return Tried::Failed(status);
    }
    Tried::Unfit { message: status.message(), plugins: status.plugin().into_iter().collect() }
}

/// The pod as it is once it has its node.
fn on_node(info: &PodInfo, node: &str) -> Arc<PodInfo> {
    let mut pod = (*info.pod).clone();
    pod.spec.get_or_insert_default().node_name = Some(node.to_owned());
    Arc::new(PodInfo::new(Arc::new(pod)))
}
