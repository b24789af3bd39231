//! A runtime that panics or never answers harms its own node or pod only.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Event, Node};
use parking_lot::Mutex;
use rkube_api::client::{Api, ListParams};
use rkube_node::{
    agent::NodeConfig,
    runtime::{
        ContainerRequest, EventSink, ImageState, PodRuntime, PullRequest, RuntimeError, RuntimeInfo,
        RuntimePod, SandboxRequest,
    },
};
use serde_json::json;

use crate::world::World;

/// What the runtime's health check does.
#[derive(Clone, Copy, Default)]
enum Health {
    #[default]
    Answers,
    Panics,
    Hangs,
}

/// A simulated runtime with bugs.
struct Buggy {
    inner: Arc<dyn PodRuntime>,
    health: Mutex<Health>,
    /// Work on the pod of this UID panics.
    panics_on: Mutex<Option<String>>,
    /// Sandboxes are asked for and never come.
    hangs: Mutex<bool>,
    /// How long a sandbox takes.
    takes: Mutex<Duration>,
    /// Sandboxes that were asked for, and those that were made.
    sandboxes: Mutex<(usize, usize)>,
}

#[async_trait]
impl PodRuntime for Buggy {
    fn info(&self) -> RuntimeInfo {
        self.inner.info()
    }

    fn subscribe(&self, sink: EventSink) {
        self.inner.subscribe(sink);
    }

    async fn health(&self) -> Result<(), RuntimeError> {
        let health = *self.health.lock();
        match health {
            Health::Answers => self.inner.health().await,
            Health::Panics => panic!("a bug in the health check"),
            Health::Hangs => std::future::pending().await,
        }
    }

    async fn pods(&self) -> Result<Vec<RuntimePod>, RuntimeError> {
        self.inner.pods().await
    }

    async fn pod(&self, uid: &str) -> Result<Option<RuntimePod>, RuntimeError> {
        assert!(self.panics_on.lock().as_deref() != Some(uid), "a bug in the work on a pod");
        self.inner.pod(uid).await
    }

    async fn run_sandbox(&self, request: SandboxRequest<'_>) -> Result<(), RuntimeError> {
        let hangs = *self.hangs.lock();
        if hangs {
            std::future::pending::<()>().await;
        }
        self.sandboxes.lock().0 += 1;
        let takes = *self.takes.lock();
        tokio::time::sleep(takes).await;
        self.inner.run_sandbox(request).await?;
        self.sandboxes.lock().1 += 1;
        Ok(())
    }

    async fn stop_sandbox(&self, uid: &str) -> Result<(), RuntimeError> {
        self.inner.stop_sandbox(uid).await
    }

    async fn remove_pod(&self, uid: &str) -> Result<(), RuntimeError> {
        self.inner.remove_pod(uid).await
    }

    async fn image(&self, uid: &str, image: &str) -> Result<ImageState, RuntimeError> {
        self.inner.image(uid, image).await
    }

    async fn pull_image(&self, request: PullRequest<'_>) -> Result<(), RuntimeError> {
        self.inner.pull_image(request).await
    }

    async fn start_container(&self, request: ContainerRequest<'_>) -> Result<(), RuntimeError> {
        self.inner.start_container(request).await
    }

    async fn stop_container(&self, uid: &str, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        self.inner.stop_container(uid, id, grace).await
    }

    async fn remove_container(&self, uid: &str, id: &str) -> Result<(), RuntimeError> {
        self.inner.remove_container(uid, id).await
    }
}

/// A world of one sound node and one, `buggy`, whose runtime can be told to fail.
async fn world() -> (World, Arc<Buggy>) {
    let world = World::new(1).await;
    let runtime = buggy(&world, "buggy");
    world.until("ready", async || world.ready("buggy").await).await;
    (world, runtime)
}

fn buggy(world: &World, name: &str) -> Arc<Buggy> {
    let runtime = Arc::new(Buggy {
        inner: world.sim.node(name),
        health: Mutex::default(),
        panics_on: Mutex::default(),
        hangs: Mutex::default(),
        takes: Mutex::default(),
        sandboxes: Mutex::default(),
    });
    world.pool.add([NodeConfig {
        name: name.into(),
        template: Default::default(),
        ips: vec!["172.16.1.1".parse().unwrap()],
        runtime: runtime.clone(),
    }]);
    runtime
}

async fn why_not_ready(world: &World) -> String {
    let node = world.all::<Node>().get("buggy").await.unwrap();
    let status = node.status.clone().unwrap_or_default();
    let ready = status.conditions.into_iter().flatten().find(|one| one.type_ == "Ready").unwrap();
    assert_eq!((&*ready.status, ready.reason.as_deref()), ("False", Some("KubeletNotReady")));
    ready.message.unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_health_check_that_fails_to_answer_stops_no_heartbeats() {
    let (world, runtime) = world().await;
    for (health, why) in [
        (Health::Panics, "container runtime is down: it panicked when asked"),
        (Health::Hangs, "container runtime is down: no answer within 10 s"),
    ] {
        *runtime.health.lock() = health;
        world.until("not ready", async || !world.ready("buggy").await).await;
        assert_eq!(why_not_ready(&world).await, why);
        for node in ["buggy", "node-0"] {
            let before = world.lease(node).await;
            tokio::time::sleep(Duration::from_secs(25)).await;
            assert_ne!(world.lease(node).await, before, "{node} is alive, whatever its runtime is");
        }
        *runtime.health.lock() = Health::Answers;
        world.until("ready again", async || world.ready("buggy").await).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_work_on_a_pod_harms_that_pod_only() {
    let (world, runtime) = world().await;
    let bad = world.pod("bad", "buggy", "default", json!({})).await;
    world.until_phase("bad", "Running").await;
    *runtime.panics_on.lock() = bad.metadata.uid.clone();
    world.delete("bad", &Default::default()).await;
    // Each try would end one of the workers, of which there are eight.
    tokio::time::sleep(Duration::from_secs(1000)).await;
    for (name, node) in [("a", "buggy"), ("b", "node-0")] {
        world.pod(name, node, "default", json!({})).await;
        world.until_phase(name, "Running").await;
    }
    *runtime.panics_on.lock() = None;
    world.until_phase("bad", "Gone").await;
}

#[tokio::test(start_paused = true)]
async fn calls_that_hang_hold_no_other_pod_and_are_given_up() {
    let (world, runtime) = world().await;
    *runtime.hangs.lock() = true;
    // More than there are workers.
    for number in 0..30 {
        world.pod(&format!("stuck-{number}"), "buggy", "default", json!({})).await;
    }
    let start = tokio::time::Instant::now();
    world.pod("sound", "node-0", "default", json!({})).await;
    world.until_phase("sound", "Running").await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    tokio::time::sleep(Duration::from_secs(130)).await;
    let events: Api<Event> = Api::namespaced(world.client.clone(), "default");
    let all =
        events.list(&ListParams::default().fields("reason=FailedCreatePodSandBox")).await.unwrap().items;
    let stuck: std::collections::BTreeSet<_> = all.iter().map(|one| &one.involved_object.name).collect();
    assert_eq!(stuck.len(), 30);
    let text =
        "Failed to create pod sandbox: rpc error: code = DeadlineExceeded desc = context deadline exceeded";
    assert!(all.iter().all(|event| event.message.as_deref() == Some(text)), "{all:?}");
    *runtime.hangs.lock() = false;
    for number in 0..30 {
        world.until_phase(&format!("stuck-{number}"), "Running").await;
    }
}

#[tokio::test(start_paused = true)]
async fn any_number_of_hung_health_checks_stops_no_other_node() {
    let world = World::new(1).await;
    let runtimes: Vec<_> = (0..200).map(|number| buggy(&world, &format!("buggy-{number}"))).collect();
    world.until("ready", async || world.ready("buggy-199").await).await;
    runtimes.iter().for_each(|runtime| *runtime.health.lock() = Health::Hangs);
    tokio::time::sleep(Duration::from_secs(60)).await;
    for name in ["node-0", "buggy-0", "buggy-199"] {
        for _ in 0..4 {
            let before = world.lease(name).await;
            tokio::time::sleep(Duration::from_secs(25)).await;
            assert_ne!(world.lease(name).await, before, "{name} renews its lease");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_stops_ends_what_it_began_and_begins_nothing() {
    let (world, runtime) = world().await;
    *runtime.takes.lock() = Duration::from_secs(3);
    // More than there are workers: some hold no place any more, some have yet to get one.
    for number in 0..20 {
        world.pod(&format!("slow-{number}"), "buggy", "default", json!({})).await;
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let (asked, made) = *runtime.sandboxes.lock();
    assert!(asked > 8 && asked < 20 && made == 0, "{asked}, {made}");
    let start = tokio::time::Instant::now();
    world.pool.stop().await;
    assert_eq!(*runtime.sandboxes.lock(), (asked, asked));
    assert!(start.elapsed() <= Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_pool_does_not_wait_for_ever_for_a_runtime_that_hangs() {
    let (world, runtime) = world().await;
    *runtime.hangs.lock() = true;
    world.pod("stuck", "buggy", "default", json!({})).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = tokio::time::Instant::now();
    world.pool.stop().await;
    assert_eq!(start.elapsed(), Duration::from_secs(5));
}
