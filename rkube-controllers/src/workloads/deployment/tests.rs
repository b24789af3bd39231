//! The plan by examples, and driven against a small world of replica sets and pods.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{
            Deployment, DeploymentSpec, DeploymentStrategy, ReplicaSet, ReplicaSetStatus,
            RollingUpdateDeployment,
        },
        core::v1::{Container, Pod, PodSpec, PodTemplateSpec},
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta, Time},
        util::intstr::IntOrString,
    },
};
use proptest::prelude::*;

use super::{
    plan::{Action, Observed, Plan, plan},
    revision::{REVISION, same_template},
    size::{max_surge, max_unavailable},
    status::{PROGRESSING, get, is_complete},
};
use crate::{facts, workloads::replicaset::plan as sets};

/// Replica sets and pods, without an API: the plans' actions are applied at once.
pub(super) struct World {
    pub(super) deployment: Deployment,
    pub(super) sets: Vec<ReplicaSet>,
    pods: Vec<Pod>,
    second: i64,
    made: usize,
}

pub(super) fn template(image: &str) -> PodTemplateSpec {
    let container = Container { name: "a".into(), image: Some(image.into()), ..Default::default() };
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some([("app".to_owned(), "web".to_owned())].into()),
            ..Default::default()
        }),
        spec: Some(PodSpec { containers: vec![container], ..Default::default() }),
    }
}

impl World {
    pub(super) fn new(replicas: i32, surge: IntOrString, unavailable: IntOrString) -> Self {
        let deployment = Deployment {
            metadata: ObjectMeta {
                name: Some("web".into()),
                namespace: Some("default".into()),
                uid: Some("d".into()),
                generation: Some(1),
                ..Default::default()
            },
            spec: DeploymentSpec {
                replicas: Some(replicas),
                revision_history_limit: Some(2),
                progress_deadline_seconds: Some(600),
                selector: LabelSelector {
                    match_labels: Some([("app".to_owned(), "web".to_owned())].into()),
                    match_expressions: None,
                },
                strategy: Some(DeploymentStrategy {
                    type_: Some("RollingUpdate".into()),
                    rolling_update: Some(RollingUpdateDeployment {
                        max_surge: Some(surge),
                        max_unavailable: Some(unavailable),
                    }),
                }),
                template: template("a:1"),
                ..Default::default()
            },
            status: None,
        };
        Self { deployment, sets: vec![], pods: vec![], second: 0, made: 0 }
    }

    fn now(&self) -> Time {
        Time(Timestamp::from_second(self.second).unwrap())
    }

    fn plan(&self) -> Plan {
        let sets: Vec<_> = self.sets.iter().cloned().map(Arc::new).collect();
        let pods: Vec<_> = self.pods.iter().cloned().map(Arc::new).collect();
        plan(&Observed { deployment: &self.deployment, replica_sets: &sets, pods: &pods, now: self.now() })
    }

    fn change(&mut self, change: impl FnOnce(&mut DeploymentSpec)) {
        change(&mut self.deployment.spec);
        *self.deployment.metadata.generation.as_mut().unwrap() += 1;
    }

    fn set_image(&mut self, image: &str) {
        self.change(|spec| spec.template = template(image));
    }

    fn uid(&mut self) -> Option<String> {
        self.made += 1;
        Some(format!("{:04}", self.made))
    }

    fn apply(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Create(set) => {
                    let mut set = *set;
                    set.metadata.uid = self.uid();
                    set.metadata.creation_timestamp = Some(self.now());
                    set.metadata.generation = Some(1);
                    assert!(self.sets.iter().all(|old| old.metadata.name != set.metadata.name));
                    self.sets.push(set);
                }
                Action::Update { set, .. } => {
                    let old = self.sets.iter_mut().find(|old| old.metadata.uid == set.metadata.uid).unwrap();
                    let generation = old.metadata.generation.unwrap() + i64::from(old.spec != set.spec);
                    *old = *set;
                    old.metadata.generation = Some(generation);
                }
                Action::Delete(set) => {
                    assert_eq!(set.spec.replicas, Some(0));
                    self.sets.retain(|old| old.metadata.uid != set.metadata.uid);
                }
                Action::UpdateStatus(changed) => self.deployment = *changed,
                Action::SelectsAll => panic!("the selector is not empty"),
            }
        }
    }

    /// The deployment controller's turn. Says whether it did anything.
    pub(super) fn deployment_turn(&mut self) -> bool {
        self.second += 1;
        let actions = self.plan().actions;
        let busy = !actions.is_empty();
        self.apply(actions);
        busy
    }

    /// One replica set's turn: pods, and its status unless that lags behind.
    fn set_turn(&mut self, at: usize, with_status: bool) -> bool {
        let set = self.sets[at].clone();
        let own = |pod: &&Pod| {
            rkube_api::meta::owners::is_controlled_by(&pod.metadata, set.metadata.uid.as_ref().unwrap())
        };
        let pods: Vec<_> = self.pods.iter().filter(own).cloned().map(Arc::new).collect();
        let observed = sets::Observed { set: &set, pods: &pods, related: &pods, now: self.now() };
        let mut busy = false;
        for action in sets::plan(&observed) {
            busy = true;
            match action {
                sets::Action::Create(count) => {
                    for _ in 0..count {
                        let mut pod = sets::new_pod(&set).unwrap();
                        pod.metadata.uid = self.uid();
                        pod.metadata.name = pod.metadata.uid.clone();
                        pod.metadata.creation_timestamp = Some(self.now());
                        self.pods.push(pod);
                    }
                }
                sets::Action::Delete(gone) => {
                    let gone: Vec<_> = gone.iter().map(|pod| pod.metadata.uid.clone()).collect();
                    self.pods.retain(|pod| !gone.contains(&pod.metadata.uid));
                }
            }
        }
        if with_status {
            let pods: Vec<_> = self.pods.iter().filter(own).cloned().map(Arc::new).collect();
            let observed = sets::Observed { set: &set, pods: &pods, related: &pods, now: self.now() };
            let status: ReplicaSetStatus = sets::status(&observed, None);
            busy |= self.sets[at].status.as_ref() != Some(&status);
            self.sets[at].status = Some(status);
        }
        busy
    }

    fn sets_turn(&mut self) {
        for at in 0..self.sets.len() {
            self.set_turn(at, true);
        }
    }

    fn make_ready(&mut self, at: usize) {
        let now = self.now();
        let status = self.pods[at].status.get_or_insert_default();
        status.phase = Some("Running".into());
        status.conditions = Some(vec![k8s_openapi::api::core::v1::PodCondition {
            type_: "Ready".into(),
            status: "True".into(),
            last_transition_time: Some(now),
            ..Default::default()
        }]);
    }

    fn unready(&self) -> Vec<usize> {
        (0..self.pods.len()).filter(|at| !facts::is_ready(&self.pods[*at])).collect()
    }

    fn ready(&self) -> i32 {
        facts::count(self.pods.iter().filter(|pod| facts::is_ready(pod)).count())
    }

    /// Lets everybody do what they want until nobody wants anything. Fails if that never comes.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let mut busy = self.deployment_turn();
            for at in 0..self.sets.len() {
                busy |= self.set_turn(at, true);
            }
            for at in self.unready() {
                busy = true;
                self.make_ready(at);
            }
            if !busy {
                return;
            }
        }
        panic!("the world never rests: {:?}", self.plan());
    }

    fn status(&self) -> &k8s_openapi::api::apps::v1::DeploymentStatus {
        self.deployment.status.as_ref().unwrap()
    }

    fn reason(&self, kind: &str) -> &str {
        get(self.status(), kind).unwrap().reason.as_deref().unwrap()
    }

    pub(super) fn sizes(&self) -> Vec<i32> {
        self.sets.iter().map(super::size::size).collect()
    }

    fn current(&self) -> &ReplicaSet {
        let template = Some(&self.deployment.spec.template);
        self.sets.iter().find(|set| same_template(set.spec.template.as_ref(), template)).unwrap()
    }
}

fn web() -> World {
    World::new(3, IntOrString::String("25%".into()), IntOrString::String("25%".into()))
}

#[test]
fn a_new_deployment_becomes_available() {
    let mut world = web();
    world.deployment_turn();
    assert_eq!(world.sizes(), [3]);
    let set = &world.sets[0];
    let hash = &set.metadata.labels.as_ref().unwrap()["pod-template-hash"];
    assert_eq!(set.metadata.name.as_deref(), Some(&*format!("web-{hash}")));
    assert_eq!(set.metadata.annotations.as_ref().unwrap()[super::DESIRED_REPLICAS], "3");
    assert_eq!(set.metadata.annotations.as_ref().unwrap()[super::MAX_REPLICAS], "4");
    assert_eq!(world.reason(PROGRESSING), "NewReplicaSetCreated");
    assert_eq!(world.reason("Available"), "MinimumReplicasUnavailable");
    world.settle();
    assert_eq!(world.reason(PROGRESSING), "NewReplicaSetAvailable");
    assert_eq!(world.reason("Available"), "MinimumReplicasAvailable");
    let status = world.status();
    assert_eq!(
        (status.replicas, status.updated_replicas, status.available_replicas),
        (Some(3), Some(3), Some(3))
    );
    assert_eq!((status.unavailable_replicas, status.observed_generation), (None, Some(1)));
    assert_eq!(world.deployment.metadata.annotations.as_ref().unwrap()[REVISION], "1");
}

#[test]
fn undo_goes_back_to_the_old_set_with_a_new_revision() {
    let mut world = web();
    world.settle();
    world.set_image("a:2");
    world.settle();
    assert_eq!(world.sizes(), [0, 3]);
    world.set_image("a:1");
    world.settle();
    assert_eq!(world.sizes(), [3, 0]);
    let annotations = world.sets[0].metadata.annotations.as_ref().unwrap();
    assert_eq!((&*annotations[REVISION], &*annotations[super::REVISION_HISTORY]), ("3", "1"));
    assert_eq!(world.deployment.metadata.annotations.as_ref().unwrap()[REVISION], "3");
}

#[test]
fn the_history_keeps_its_limit() {
    let mut world = web();
    for version in 1..=5 {
        world.set_image(&format!("a:{version}"));
        world.settle();
    }
    assert_eq!(world.sets.len(), 3, "the current set and two old ones");
    assert_eq!(world.deployment.metadata.annotations.as_ref().unwrap()[REVISION], "5");
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = web();
    world.settle();
    world.change(|spec| spec.paused = Some(true));
    world.set_image("a:2");
    world.change(|spec| spec.replicas = Some(5));
    world.settle();
    assert_eq!(world.sizes(), [5]);
    assert_eq!(world.reason(PROGRESSING), "DeploymentPaused");
    world.change(|spec| spec.paused = Some(false));
    world.deployment_turn();
    world.settle();
    assert_eq!(world.sizes(), [0, 5]);
    assert_eq!(world.reason(PROGRESSING), "NewReplicaSetAvailable");
}

#[test]
fn a_stuck_rollout_is_told_after_the_deadline() {
    let mut world = web();
    world.settle();
    world.set_image("a:bad");
    for _ in 0..5 {
        world.deployment_turn();
        world.sets_turn();
    }
    assert_eq!(world.sizes(), [3, 1], "no old pod goes before a new one is ready");
    assert_eq!(world.reason(PROGRESSING), "ReplicaSetUpdated");
    let wait = world.plan().look_again.unwrap();
    world.second += i64::try_from(wait.as_secs()).unwrap();
    world.deployment_turn();
    assert_eq!(world.reason(PROGRESSING), "ProgressDeadlineExceeded");
    assert_eq!(get(world.status(), PROGRESSING).unwrap().status.as_deref(), Some("False"));
    assert_eq!(world.plan().look_again, None);
    world.settle();
    assert_eq!(world.reason(PROGRESSING), "NewReplicaSetAvailable");
}

#[test]
fn a_status_that_lags_behind_costs_no_pod_too_much() {
    let mut world = World::new(8, IntOrString::Int(2), IntOrString::Int(2));
    world.settle();
    world.set_image("a:2");
    let round = |world: &mut World| {
        world.deployment_turn();
        world.deployment_turn();
        // The old set acts, and nobody is told.
        world.set_turn(0, false);
        world.set_turn(1, true);
    };
    round(&mut world);
    let fresh = world.unready();
    fresh.into_iter().for_each(|at| world.make_ready(at));
    world.set_turn(1, true);
    round(&mut world);
    // Now the old set is wanted again, which has fewer pods than its status says.
    world.set_image("a:1");
    for _ in 0..4 {
        round(&mut world);
        assert!(world.ready() >= 6, "{} are ready, of sizes {:?}", world.ready(), world.sizes());
    }
    world.settle();
    assert_eq!(world.sizes(), [8, 0]);
}

#[test]
fn a_recreation_starts_nothing_before_all_is_stopped() {
    let mut world = web();
    world.deployment.spec.strategy =
        Some(DeploymentStrategy { type_: Some("Recreate".into()), rolling_update: None });
    world.settle();
    world.set_image("a:2");
    world.deployment_turn();
    assert_eq!(world.sizes(), [0]);
    world.deployment_turn();
    assert_eq!(world.sizes(), [0], "old pods still run");
    world.set_turn(0, true);
    world.deployment_turn();
    assert_eq!(world.sizes(), [0, 3]);
    world.settle();
    assert!(is_complete(&world.deployment, world.status()));
}

#[test]
fn scaling_amid_a_rollout_keeps_the_proportion() {
    let mut world = World::new(10, IntOrString::Int(3), IntOrString::Int(2));
    world.settle();
    world.set_image("a:2");
    world.deployment_turn();
    world.sets_turn();
    world.deployment_turn();
    world.deployment_turn();
    assert_eq!(world.sizes(), [8, 5]);
    // The example of the documentation page: the larger old set gets the larger share.
    world.change(|spec| spec.replicas = Some(15));
    world.deployment_turn();
    assert_eq!(world.sizes(), [11, 7]);
    world.settle();
    assert_eq!(world.sizes(), [0, 15]);
}

#[test]
fn a_size_that_a_set_has_by_chance_is_noted() {
    let mut world = World::new(5, IntOrString::Int(2), IntOrString::Int(1));
    world.settle();
    world.set_image("a:2");
    world.deployment_turn();
    world.set_image("a:3");
    world.deployment_turn();
    world.sets_turn();
    world.deployment_turn();
    assert_eq!(world.sizes(), [4, 0, 0]);
    world.change(|spec| spec.replicas = Some(4));
    world.settle();
    assert_eq!(world.sizes(), [0, 0, 4]);
}

#[test]
fn minimum_seconds_reach_the_set_and_a_failure_shows() {
    let mut world = web();
    world.settle();
    world.change(|spec| spec.min_ready_seconds = Some(7));
    world.deployment_turn();
    assert_eq!(world.sets[0].spec.min_ready_seconds, Some(7));
    let status = world.sets[0].status.as_mut().unwrap();
    status.conditions = Some(vec![k8s_openapi::api::apps::v1::ReplicaSetCondition {
        type_: Some("ReplicaFailure".into()),
        status: Some("True".into()),
        reason: Some("FailedCreate".into()),
        message: Some("quota".into()),
        last_transition_time: None,
    }]);
    world.deployment_turn();
    assert_eq!(world.reason("ReplicaFailure"), "FailedCreate");
}

#[test]
fn an_empty_selector_is_refused() {
    let mut world = web();
    world.deployment.spec.selector = LabelSelector::default();
    assert_eq!(world.plan().actions[0], Action::SelectsAll);
    assert_eq!(world.plan().actions.len(), 2);
}

fn part() -> impl Strategy<Value = IntOrString> {
    prop_oneof![
        (0..6).prop_map(IntOrString::Int),
        (0..=100).prop_map(|percent: i32| IntOrString::String(format!("{percent}%"))),
    ]
}

/// What may happen next: somebody gets a turn.
#[derive(Clone, Debug)]
enum Turn {
    Deployment,
    Set { at: usize, status: bool },
    Ready(usize),
    Image(u8),
}

/// What may be asked for between turns.
#[derive(Clone, Debug)]
enum Wish {
    Size(i32),
    Recreate,
    Roll,
    Pause,
    Resume,
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        4 => (0..15_i32).prop_map(Wish::Size),
        1 => Just(Wish::Recreate),
        1 => Just(Wish::Roll),
        1 => Just(Wish::Pause),
        1 => Just(Wish::Resume),
    ]
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        4 => Just(Turn::Deployment),
        6 => (0..4_usize, prop::bool::weighted(0.7)).prop_map(|(at, status)| Turn::Set { at, status }),
        4 => (0..40_usize).prop_map(Turn::Ready),
        1 => (0..4_u8).prop_map(Turn::Image),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whoever gets a turn when, and however late statuses are: never more pods are asked for than the
    /// surge allows, never fewer are available than may be missing, and it ends.
    ///
    /// Also if an image comes back, so that a set which shrank grows again within the delay of its status.
    #[test]
    fn a_rolling_update_keeps_its_bounds_and_ends(
        replicas in 0..12_i32,
        surge in part(),
        unavailable in part(),
        turns in prop::collection::vec(turn(), 0..120),
    ) {
        let mut world = World::new(replicas, surge, unavailable);
        world.settle();
        let most = replicas + max_surge(&world.deployment);
        let least = replicas - max_unavailable(&world.deployment);
        for turn in turns {
            match turn {
                Turn::Deployment => _ = world.deployment_turn(),
                Turn::Set { at, status } if at < world.sets.len() => _ = world.set_turn(at, status),
                Turn::Ready(at) if at < world.pods.len() => world.make_ready(at),
                Turn::Image(version) => world.set_image(&format!("a:{version}")),
                _ => {}
            }
            let asked: i32 = world.sizes().iter().sum();
            prop_assert!(asked <= most, "{asked} pods asked for, {most} allowed");
            prop_assert!(world.ready() >= least, "{} pods available, {least} needed", world.ready());
        }
        world.settle();
        prop_assert!(is_complete(&world.deployment, world.status()));
        let current = world.current().metadata.uid.clone();
        for set in &world.sets {
            let wanted = if set.metadata.uid == current { replicas } else { 0 };
            prop_assert_eq!(set.spec.replicas, Some(wanted));
        }
        prop_assert_eq!(world.plan().actions, []);
    }

    /// Sizes that change in mid-rollout are dealt out to the last pod, and it ends too; also if the
    /// strategy changes meanwhile, or the rollout pauses.
    #[test]
    fn scaling_at_any_moment_ends(
        wishes in prop::collection::vec(wish(), 1..6),
        turns in prop::collection::vec(turn(), 0..40),
    ) {
        let mut world = World::new(5, IntOrString::Int(2), IntOrString::Int(1));
        world.settle();
        let rolling = world.deployment.spec.strategy.clone();
        for wish in wishes {
            for turn in &turns {
                match turn {
                    Turn::Deployment => _ = world.deployment_turn(),
                    Turn::Set { at, .. } if *at < world.sets.len() => _ = world.set_turn(*at, true),
                    Turn::Ready(at) if *at < world.pods.len() => world.make_ready(*at),
                    Turn::Image(version) => world.set_image(&format!("a:{version}")),
                    _ => {}
                }
            }
            world.change(|spec| match wish {
                Wish::Size(size) => spec.replicas = Some(size),
                Wish::Recreate => {
                    spec.strategy =
                        Some(DeploymentStrategy { type_: Some("Recreate".into()), rolling_update: None });
                }
                Wish::Roll => spec.strategy.clone_from(&rolling),
                Wish::Pause => spec.paused = Some(true),
                Wish::Resume => spec.paused = None,
            });
        }
        world.change(|spec| spec.paused = None);
        let wanted = world.deployment.spec.replicas;
        world.settle();
        prop_assert!(is_complete(&world.deployment, world.status()));
        prop_assert_eq!(world.current().spec.replicas, wanted);
    }
}
