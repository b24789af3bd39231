//! Of several processes one works.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use k8s_openapi::api::coordination::v1::Lease;
use rkube_api::{
    client::{
        Api, Patch, PatchParams,
        leader::{LeaderConfig, LeaderConfigError, LeaderElector, LeaderError},
    },
    context::Task,
};
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

/// Starts a candidate; `working` counts those that work at the time.
fn candidate(world: &World, config: LeaderConfig, working: &Arc<AtomicUsize>) -> Candidate {
    let elector = LeaderElector::new(world.client.clone(), config).unwrap();
    let (stop, working) = (CancellationToken::new(), working.clone());
    let (sender, result) = oneshot::channel();
    let token = stop.clone();
    let task = world.client.context().spawner.spawn("candidate", async move {
        let work = |lead: CancellationToken| async move {
            assert_eq!(working.fetch_add(1, SeqCst), 0, "two lead at a time");
            lead.cancelled().await;
            working.fetch_sub(1, SeqCst);
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
    working.store(0, SeqCst);
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
