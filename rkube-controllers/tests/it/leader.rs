//! Of several processes one works.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use k8s_openapi::api::{coordination::v1::Lease, core::v1::ConfigMap};
use rkube_api::{
    client::{
        Api, DeleteParams, ObjectKey, Patch, PatchParams, WorkQueue,
        leader::{LeaderConfig, LeaderConfigError, LeaderElector, LeaderError},
    },
    context::Task,
};
use rkube_controllers::runtime::{Controller, Manager, ManagerError, Metrics, Outcome, reconcile_fn};
use serde_json::json;
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::support::{World, until};

fn config(identity: &str) -> LeaderConfig {
    LeaderConfig::new("kube-system", "test", identity)
}

struct Candidate {
    stop: CancellationToken,
    result: oneshot::Receiver<Result<(), LeaderError>>,
    task: Task,
}

/// Counts one that works, for as long as it does.
struct Works(Arc<AtomicUsize>);

impl Works {
    fn begin(count: Arc<AtomicUsize>) -> Self {
        assert_eq!(count.fetch_add(1, SeqCst), 0, "two lead at a time");
        Self(count)
    }
}

impl Drop for Works {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Starts a candidate; `working` counts those that work at the time.
fn candidate(world: &World, config: LeaderConfig, working: &Arc<AtomicUsize>) -> Candidate {
    let elector = LeaderElector::new(world.client.clone(), config).unwrap();
    let (stop, working) = (CancellationToken::new(), working.clone());
    let (sender, result) = oneshot::channel();
    let token = stop.clone();
    let task = world.client.context().spawner.spawn("candidate", async move {
        let work = |lead: CancellationToken| async move {
            let _works = Works::begin(working);
            lead.cancelled().await;
        };
        let _ = sender.send(elector.run(token, work).await);
    });
    Candidate { stop, result, task }
}

async fn lease(world: &World) -> Arc<Lease> {
    Api::<Lease>::namespaced(world.client.clone(), "kube-system").get("test").await.unwrap()
}

async fn leader(world: &World) -> Option<String> {
    let api: Api<Lease> = Api::namespaced(world.client.clone(), "kube-system");
    api.get_opt("test").await.unwrap()?.spec.clone()?.holder_identity
}

async fn world() -> World {
    let world = World::without_agents().await;
    world.stop.cancel();
    world
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_hands_over_at_once() {
    let (world, working) = (world().await, Arc::default());
    let first = candidate(&world, config("first"), &working);
    until("the first leads", async || leader(&world).await.as_deref() == Some("first")).await;
    let second = candidate(&world, config("second"), &working);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(leader(&world).await.as_deref(), Some("first"));
    first.stop.cancel();
    assert_eq!(first.result.await.unwrap(), Ok(()));
    let began = Instant::now();
    until("the second leads", async || leader(&world).await.as_deref() == Some("second")).await;
    assert!(began.elapsed() < Duration::from_secs(6));
    let spec = lease(&world).await.spec.clone().unwrap();
    assert_eq!(spec.lease_duration_seconds, Some(15));
    assert!(spec.lease_transitions >= Some(1));
    second.stop.cancel();
    assert_eq!(second.result.await.unwrap(), Ok(()));
    assert_eq!(leader(&world).await.as_deref(), Some(""));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_is_followed_after_its_lease() {
    let (world, working) = (world().await, Arc::new(AtomicUsize::new(0)));
    let first = candidate(&world, config("first"), &working);
    until("the first leads", async || leader(&world).await.as_deref() == Some("first")).await;
    let second = candidate(&world, config("second"), &working);
    tokio::time::sleep(Duration::from_secs(30)).await;
    first.task.abort();
    let began = Instant::now();
    until("the second leads", async || leader(&world).await.as_deref() == Some("second")).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(12) && took <= Duration::from_secs(22), "{took:?}");
    second.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_was_taken_stops() {
    let (world, working) = (world().await, Arc::new(AtomicUsize::new(0)));
    let first = candidate(&world, config("first"), &working);
    until("the first leads", async || leader(&world).await.as_deref() == Some("first")).await;
    let api: Api<Lease> = Api::namespaced(world.client.clone(), "kube-system");
    let steal = Patch::Merge(json!({"spec": {"holderIdentity": "thief"}}));
    api.patch("test", &PatchParams::default(), &steal).await.unwrap();
    let lost = LeaderError::Lost { identity: "first".into(), lease: "kube-system/test".into() };
    assert_eq!(first.result.await.unwrap(), Err(lost));
    assert_eq!(working.load(SeqCst), 0, "the work has ended");
    assert_eq!(leader(&world).await.as_deref(), Some("thief"));
}

/// A manager that reconciles config maps, each for a minute, then says so in a label.
fn slow_manager(world: &World, identity: &str) -> (Manager, WorkQueue<ObjectKey>, Metrics) {
    let client = world.client.clone();
    let slow = move |key: ObjectKey| {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &*key.namespace);
        async move {
            tokio::time::sleep(Duration::from_secs(60)).await;
            let done = Patch::Merge(json!({"metadata": {"labels": {"done": "yes"}}}));
            maps.patch(&key.name, &PatchParams::default(), &done).await?;
            Ok(Outcome::Done)
        }
    };
    let controller = Controller::builder("slow").for_kind::<ConfigMap>().build(reconcile_fn(slow));
    let (queue, metrics) = (controller.queue().clone(), controller.metrics());
    let manager = Manager::new(world.client.clone()).elect(config(identity)).controller(controller);
    // The informer is warm, as it is when others in the process use it too.
    manager.informers().get::<ConfigMap>();
    (manager, queue, metrics)
}

async fn a_map(world: &World, name: &str) {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.into());
    map.metadata.namespace = Some("default".into());
    world.create(map).await;
}

#[tokio::test(start_paused = true)]
async fn work_in_progress_ends_with_the_lead() {
    let world = world().await;
    let (manager, queue, metrics) = slow_manager(&world, "first");
    a_map(&world, "a").await;
    let (sender, mut result) = oneshot::channel();
    world.client.context().spawner.spawn("manager", async move {
        let _ = sender.send(manager.run(CancellationToken::new()).await);
    });
    until("work has begun", async || metrics.read().active == 1).await;
    let api: Api<Lease> = Api::namespaced(world.client.clone(), "kube-system");
    let steal = Patch::Merge(json!({"spec": {"holderIdentity": "thief"}}));
    api.patch("test", &PatchParams::default(), &steal).await.unwrap();
    // One try to renew later the loss is known, and there is no time to finish anything.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(matches!(result.try_recv(), Ok(Err(ManagerError::Leader(_)))));
    a_map(&world, "b").await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(queue.len(), 0, "nobody will ever take the keys");
    for map in world.list::<ConfigMap>().await {
        assert_eq!(map.metadata.labels, None, "it was written to without the lead");
    }
}

#[tokio::test(start_paused = true)]
async fn a_standby_s_queue_stays_empty() {
    let (world, working) = (world().await, Arc::default());
    let first = candidate(&world, config("first"), &working);
    until("the first leads", async || leader(&world).await.as_deref() == Some("first")).await;
    let (manager, queue, _) = slow_manager(&world, "second");
    let stop = world.client.context().spawner.token().child_token();
    world.client.context().spawner.spawn("manager", async move { manager.run(stop).await.unwrap() });
    for name in ["a", "b", "c"] {
        a_map(&world, name).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(queue.len(), 0);
    }
    world.api::<ConfigMap>().delete("b", &DeleteParams::default()).await.unwrap();
    first.stop.cancel();
    until("it knows all when it leads", async || {
        let maps = world.list::<ConfigMap>().await;
        maps.len() == 2 && maps.iter().all(|map| map.metadata.labels.is_some())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn times_that_cannot_work_are_refused() {
    let world = World::server_only();
    let refused = |change: fn(&mut LeaderConfig)| {
        let mut config = config("a");
        change(&mut config);
        LeaderElector::new(world.client.clone(), config).err()
    };
    assert_eq!(refused(|_| {}), None);
    assert_eq!(
        refused(|it| it.lease_duration = Duration::from_secs(10)),
        Some(LeaderConfigError::LeaseTooShort)
    );
    assert_eq!(
        refused(|it| it.renew_deadline = Duration::from_secs(2)),
        Some(LeaderConfigError::DeadlineTooShort)
    );
    assert_eq!(refused(|it| it.retry_period = Duration::ZERO), Some(LeaderConfigError::Zero));
    assert_eq!(refused(|it| it.identity.clear()), Some(LeaderConfigError::NoIdentity));
}
