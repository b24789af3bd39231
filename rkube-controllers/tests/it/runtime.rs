//! The runtime as users have it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::{
    api::{
        apps::v1::ReplicaSet,
        core::v1::{ConfigMap, Secret},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use parking_lot::Mutex;
use rkube_api::{
    client::{Api, Change, Client, DeleteParams, Informers, ObjectKey, PostParams, leader::LeaderConfig},
    error::ApiError,
    meta::owners,
};
use rkube_controllers::runtime::{
    Component, Controller, Manager, Outcome, ReconcileError, predicate, reconcile_fn,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{World, labels, template, until};

fn map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some("default".into()),
            ..Default::default()
        },
        ..Default::default()
    }
}

fn run(world: &World, manager: Manager) {
    let stop = world.stop.clone();
    world.client.context().spawner.spawn("manager", async move { manager.run(stop).await.unwrap() });
}

/// Keeps a Secret beside each ConfigMap.
async fn mirror(client: Client, key: ObjectKey) -> Result<Outcome, ReconcileError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &*key.namespace);
    let secrets: Api<Secret> = Api::namespaced(client, &*key.namespace);
    let Some(map) = maps.get_opt(&key.name).await? else { return Ok(Outcome::Done) };
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(key.name.clone()),
            owner_references: owners::controller_ref(&*map).map(|owner| vec![owner]),
            ..Default::default()
        },
        ..Default::default()
    };
    match secrets.create(&PostParams::default(), secret).await {
        Ok(_) | Err(ApiError::AlreadyExists { .. }) => Ok(Outcome::Done),
        Err(error) => Err(error.into()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_custom_controller_keeps_what_it_owns() {
    let world = World::without_agents().await;
    let client = world.client.clone();
    let controller = Controller::builder("mirror")
        .for_kind::<ConfigMap>()
        .owns::<Secret>()
        .workers(3)
        .build(reconcile_fn(move |key| mirror(client.clone(), key)));
    let metrics = controller.metrics();
    run(&world, Manager::new(world.client.clone()).controller(controller));
    world.create(map("a")).await;
    until("the secret is made", async || world.get::<Secret>("a").await.is_some()).await;
    world.api::<Secret>().delete("a", &DeleteParams::default()).await.unwrap();
    until("it is made again", async || world.get::<Secret>("a").await.is_some()).await;
    let counts = metrics.read();
    assert!(counts.reconciles >= 2 && counts.errors == 0 && counts.active == 0, "{counts:?}");
    world.api::<ConfigMap>().delete("a", &DeleteParams::default()).await.unwrap();
    until("the collector takes it along", async || world.get::<Secret>("a").await.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn one_worker_at_a_time_a_key_and_failures_come_again() {
    let world = World::without_agents().await;
    let busy: Arc<Mutex<BTreeMap<ObjectKey, usize>>> = Arc::default();
    let (tries, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (inner, counted, widest) = (busy.clone(), tries.clone(), most.clone());
    let controller = Controller::builder("slow").workers(4).for_kind::<ConfigMap>().build(reconcile_fn(
        move |key: ObjectKey| {
            let (busy, tries, most) = (inner.clone(), counted.clone(), widest.clone());
            async move {
                let together = {
                    let mut busy = busy.lock();
                    let count = busy.entry(key.clone()).or_default();
                    *count += 1;
                    assert_eq!(*count, 1, "two workers have {key}");
                    busy.values().sum::<usize>()
                };
                most.fetch_max(together, SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                *busy.lock().entry(key.clone()).or_default() -= 1;
                match tries.fetch_add(1, SeqCst) {
                    0 => Err(ApiError::internal("once").into()),
                    1 => panic!("twice"),
                    2 => Err(ReconcileError::Permanent("thrice".into())),
                    _ => Ok(Outcome::Done),
                }
            }
        },
    ));
    let metrics = controller.metrics();
    for name in ["a", "b", "c", "d", "e"] {
        world.create(map(name)).await;
    }
    run(&world, Manager::new(world.client.clone()).controller(controller));
    for round in 0..10 {
        for name in ["a", "b", "c", "d", "e"] {
            let round = round.to_string();
            world.patch::<ConfigMap>(name, json!({"data": {"round": round}})).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let counts = metrics.read();
    assert_eq!((counts.errors, counts.panics), (3, 1));
    assert!(counts.reconciles >= 7 && counts.active == 0, "{counts:?}");
    assert_eq!(most.load(SeqCst), 4, "four workers are busy at once");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_manager_finishes_what_it_began() {
    let world = World::without_agents().await;
    let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (first, last) = (begun.clone(), ended.clone());
    let controller = Controller::builder("slow")
        .for_kind_when::<ConfigMap>(predicate::generation_changed())
        .build(reconcile_fn(move |_| {
            let (begun, ended) = (first.clone(), last.clone());
            async move {
                begun.fetch_add(1, SeqCst);
                tokio::time::sleep(Duration::from_secs(2)).await;
                ended.fetch_add(1, SeqCst);
                Ok(Outcome::RequeueAfter(Duration::from_secs(1)))
            }
        }));
    let manager = Manager::new(world.client.clone())
        .elect(LeaderConfig::new("kube-system", "test", "me"))
        .controller(controller);
    let stop = world.stop.child_token();
    let token = stop.clone();
    let running = world.client.context().spawner.spawn("manager", async move {
        manager.run(token).await.unwrap();
    });
    world.create(map("a")).await;
    until("work has begun", async || begun.load(SeqCst) == 1).await;
    stop.cancel();
    running.join().await;
    assert_eq!((begun.load(SeqCst), ended.load(SeqCst)), (1, 1));
}

/// Writes down when it is asked to stop and when it has.
struct Recorder {
    name: &'static str,
    /// How long it takes to stop.
    takes: Duration,
    /// How long it may.
    drain: Duration,
    log: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Component for Recorder {
    fn name(&self) -> &str {
        self.name
    }

    fn prepare(&self, _: &Informers) {}

    fn drain(&self) -> Duration {
        self.drain
    }

    async fn run(&self, token: CancellationToken) {
        self.log.lock().push(format!("{} starts", self.name));
        token.cancelled().await;
        self.log.lock().push(format!("{} is asked", self.name));
        tokio::time::sleep(self.takes).await;
        self.log.lock().push(format!("{} ended", self.name));
    }
}

#[tokio::test(start_paused = true)]
async fn a_manager_stops_one_after_another_the_last_first() {
    let world = World::server_only();
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let recorder = |name, takes| {
        let (takes, drain) = (Duration::from_secs(takes), Duration::from_secs(60));
        Recorder { name, takes, drain, log: log.clone() }
    };
    let manager = Manager::new(world.client.clone())
        .always(recorder("base", 1))
        .controller(recorder("first", 1))
        // It never ends by itself, which must not keep the rest from ending in order.
        .controller(recorder("second", 1_000_000))
        .controller(recorder("third", 5));
    let token = world.stop.clone();
    let running =
        world.client.context().spawner.spawn("manager", async move { manager.run(token).await.unwrap() });
    until("all run", async || log.lock().len() == 4).await;
    let begun = tokio::time::Instant::now();
    world.stop.cancel();
    running.join().await;
    assert_eq!(
        *log.lock(),
        [
            "base starts",
            "first starts",
            "second starts",
            "third starts",
            "third is asked",
            "third ended",
            "second is asked",
            "first is asked",
            "first ended",
            "base is asked",
            "base ended",
        ]
    );
    assert_eq!(begun.elapsed().as_secs(), 5 + 60 + 1 + 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_fails_too_often_waits_for_a_change() {
    let world = World::server_only();
    world.namespace_only("default").await;
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let controller = Controller::builder("hopeless").for_kind::<ConfigMap>().max_retries(3).build(
        reconcile_fn(move |_| {
            counted.fetch_add(1, SeqCst);
            async { Err(ApiError::internal("never").into()) }
        }),
    );
    let metrics = controller.metrics();
    run(&world, Manager::new(world.client.clone()).controller(controller));
    world.create(map("a")).await;
    for round in 1..=3 {
        // Far longer than the longest pause between two tries.
        tokio::time::sleep(Duration::from_secs(10_000)).await;
        assert_eq!(tries.load(SeqCst), round * 4, "one try and three more");
        assert_eq!(metrics.read().errors, metrics.read().reconciles);
        world.patch::<ConfigMap>("a", json!({"data": {"round": round.to_string()}})).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_predicate_keeps_changes_out() {
    let world = World::server_only();
    world.namespace_only("default").await;
    let (seen, owners) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let note = |log: &Arc<Mutex<Vec<String>>>| {
        let log = log.clone();
        reconcile_fn(move |key: ObjectKey| {
            log.lock().push(key.name.clone());
            async { Ok(Outcome::Done) }
        })
    };
    let mine =
        |change: &Change<ConfigMap>| change.object().data.as_ref().is_some_and(|data| data["a"] == "1");
    let of_spec = Controller::builder("spec")
        .for_kind_when::<ReplicaSet>(predicate::generation_changed())
        .build(note(&seen));
    let of_maps = Controller::builder("maps")
        .watches_when(mine, |map: &ConfigMap| vec![ObjectKey::of(map)])
        .build(note(&owners));
    run(&world, Manager::new(world.client.clone()).controller(of_spec).controller(of_maps));
    let wait = async || tokio::time::sleep(Duration::from_secs(10)).await;

    let mut set = ReplicaSet { metadata: map("set").metadata, ..Default::default() };
    set.spec.selector.match_labels = Some(labels("a"));
    set.spec.template = Some(template("a", "a:1"));
    world.create(set).await;
    wait().await;
    assert_eq!(*seen.lock(), ["set"], "it is new");
    world.patch::<ReplicaSet>("set", json!({"metadata": {"labels": {"a": "b"}}})).await;
    wait().await;
    assert_eq!(*seen.lock(), ["set"], "nothing that was asked for has changed");
    world.patch::<ReplicaSet>("set", json!({"spec": {"replicas": 3}})).await;
    wait().await;
    assert_eq!(*seen.lock(), ["set", "set"]);

    world.create(map("other")).await;
    world.create(ConfigMap { data: Some([("a".into(), "1".into())].into()), ..map("mine") }).await;
    wait().await;
    assert_eq!(*owners.lock(), ["mine"]);
    world.patch::<ConfigMap>("mine", json!({"data": {"a": "2"}})).await;
    wait().await;
    assert_eq!(*owners.lock(), ["mine"]);
}
