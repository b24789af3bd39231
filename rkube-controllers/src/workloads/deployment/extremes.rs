//! Numbers as large as clients may make them, on objects that anyone can write.

use k8s_openapi::{
    api::apps::v1::{ReplicaSet, ReplicaSetStatus},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use proptest::prelude::*;

use super::{
    DESIRED_REPLICAS, MAX_REPLICAS,
    revision::REVISION,
    tests::{World, template},
};

/// A replica set that the deployment has adopted, with what somebody wrote on it.
#[derive(Clone, Debug)]
struct Adopted {
    size: i32,
    status: i32,
    desired: Option<i32>,
    max: Option<i32>,
    revision: Option<i64>,
    /// Whether it is the one of the deployment's template.
    new: bool,
}

impl Adopted {
    fn set(&self, at: usize) -> ReplicaSet {
        let annotation = |key: &str, value: Option<String>| Some((key.to_owned(), value?));
        let annotations = [
            annotation(DESIRED_REPLICAS, self.desired.map(|number| number.to_string())),
            annotation(MAX_REPLICAS, self.max.map(|number| number.to_string())),
            annotation(REVISION, self.revision.map(|number| number.to_string())),
        ];
        let mut set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("adopted-{at}")),
                uid: Some(format!("adopted-{at}")),
                generation: Some(1),
                annotations: Some(annotations.into_iter().flatten().collect()),
                ..Default::default()
            },
            status: Some(ReplicaSetStatus {
                replicas: self.status,
                ready_replicas: Some(self.status),
                available_replicas: Some(self.status),
                terminating_replicas: Some(self.status),
                observed_generation: Some(1),
                ..Default::default()
            }),
            ..Default::default()
        };
        set.spec.replicas = Some(self.size);
        set.spec.template = Some(template(if self.new { "a:1" } else { "a:0" }));
        set
    }
}

fn count() -> impl Strategy<Value = i32> {
    prop_oneof![0..6_i32, Just(i32::MAX), Just(i32::MAX - 1), 0..=i32::MAX]
}

fn annotation() -> impl Strategy<Value = Option<i32>> {
    prop::option::of(prop_oneof![Just(-1), Just(i32::MIN), any::<i32>(), count()])
}

fn adopted() -> impl Strategy<Value = Adopted> {
    let revision = prop::option::of(prop_oneof![Just(i64::MAX), any::<i64>()]);
    (count(), count(), annotation(), annotation(), revision, any::<bool>()).prop_map(
        |(size, status, desired, max, revision, new)| Adopted { size, status, desired, max, revision, new },
    )
}

fn part() -> impl Strategy<Value = IntOrString> {
    prop_oneof![count().prop_map(IntOrString::Int), Just(IntOrString::String("25%".into()))]
}

proptest! {
    /// Whatever sizes, statuses and annotations say: there is a plan, and no size in it is negative.
    #[test]
    fn no_number_is_too_large(
        replicas in count(),
        surge in part(),
        unavailable in part(),
        sets in prop::collection::vec(adopted(), 0..4),
        paused in any::<bool>(),
        recreate in any::<bool>(),
    ) {
        let mut world = World::new(replicas, surge, unavailable);
        world.deployment.spec.paused = Some(paused);
        if recreate {
            world.deployment.spec.strategy.as_mut().unwrap().type_ = Some("Recreate".into());
        }
        world.sets = sets.iter().enumerate().map(|(at, set)| set.set(at)).collect();
        for _ in 0..4 {
            world.deployment_turn();
            prop_assert!(world.sizes().iter().all(|size| *size >= 0), "{:?}", world.sizes());
            for set in &mut world.sets {
                set.status.get_or_insert_default().observed_generation = set.metadata.generation;
            }
        }
    }
}

#[test]
fn two_adopted_sets_of_the_largest_size_are_counted_and_shrunk() {
    let largest = |desired, max| Adopted {
        size: i32::MAX,
        status: i32::MAX,
        desired,
        max,
        revision: Some(i64::MAX),
        new: false,
    };
    for (desired, max) in [(None, None), (Some(7), Some(-1)), (Some(7), Some(i32::MIN))] {
        let mut world = World::new(3, IntOrString::Int(1), IntOrString::Int(1));
        world.sets = vec![largest(desired, max).set(0), largest(desired, max).set(1)];
        world.deployment_turn();
        let status = world.deployment.status.clone().unwrap();
        assert_eq!((status.replicas, status.available_replicas), (Some(i32::MAX), Some(i32::MAX)));
        for _ in 0..6 {
            for set in &mut world.sets {
                let size = set.spec.replicas.unwrap();
                let status = set.status.get_or_insert_default();
                (status.replicas, status.available_replicas) = (size, Some(size));
                status.observed_generation = set.metadata.generation;
            }
            world.deployment_turn();
        }
        let old: i64 = world.sizes()[..2].iter().map(|size| i64::from(*size)).sum();
        assert!(old <= 4, "{:?}", world.sizes());
    }
}
