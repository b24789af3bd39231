//! Agents at work against a server in this process.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Node, Pod};
use rkube_api::{
    client::{Api, DeleteParams, ListParams, PostParams},
    error::ApiError,
};
use rkube_node::{
    agent::{PoolConfig, Pressure, SimNodes},
    pod::Eviction,
    runtime::{
        PodRuntime,
        sim::{Behaviour, ContainerBehaviour, Delay, Fail, Profiles, Pull, Stop},
    },
};
use serde_json::json;

use crate::world::{World, condition};

fn seconds(seconds: u64) -> Delay {
    Delay::of(Duration::from_secs(seconds))
}

#[tokio::test(start_paused = true)]
async fn a_node_registers_and_keeps_its_lease() {
    let world = World::new(1).await;
    let node = world.all::<Node>().get("node-0").await.unwrap();
    assert_eq!(node.metadata.labels.as_ref().unwrap()["kubernetes.io/hostname"], "node-0");
    let status = node.status.clone().unwrap();
    assert_eq!(status.capacity.unwrap()["pods"].0, "110");
    assert_eq!(status.addresses.unwrap()[0].address, "172.16.0.1");
    let lease = world.lease("node-0").await.unwrap();
    let owner = &lease.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), Some(&owner.uid)), ("Node", node.metadata.uid.as_ref()));
    let spec = lease.spec.clone().unwrap();
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_duration_seconds), (Some("node-0"), Some(40)));
    let mut last = spec.renew_time.unwrap();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(10_500)).await;
        let renewed = world.lease("node-0").await.unwrap().spec.clone().unwrap().renew_time.unwrap();
        assert!(renewed.0 > last.0);
        last = renewed;
    }
    // The status has no news: one report in five minutes, no more.
    let before = world.all::<Node>().get("node-0").await.unwrap().metadata.resource_version.clone();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(world.all::<Node>().get("node-0").await.unwrap().metadata.resource_version, before);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_ne!(world.all::<Node>().get("node-0").await.unwrap().metadata.resource_version, before);
}

#[tokio::test(start_paused = true)]
async fn a_pod_runs_and_is_ready_and_says_so_in_events() {
    let world = World::new(1).await;
    world.pod("a", "node-0", "default", json!({})).await;
    world.until_phase("a", "Running").await;
    let pod = world.get("a").await.unwrap();
    for kind in ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"] {
        assert_eq!(condition(&pod, kind), "True", "{kind}");
    }
    let status = pod.status.as_ref().unwrap();
    assert_eq!(status.pod_ip.as_deref(), Some("10.244.0.1"));
    assert_eq!(status.host_ip.as_deref(), Some("172.16.0.1"));
    assert!(status.start_time.is_some() && status.qos_class.as_deref() == Some("BestEffort"));
    assert!(world.container("a").await.container_id.unwrap().starts_with("sim://"));
    let events: Api<Event> = Api::namespaced(world.client.clone(), "default");
    let reasons = async || -> Vec<String> {
        let list = events.list(&ListParams::default()).await.unwrap();
        let mut reasons: Vec<_> = list.items.iter().filter_map(|event| event.reason.clone()).collect();
        reasons.sort();
        reasons
    };
    world.until("events", async || reasons().await.len() >= 4).await;
    assert_eq!(reasons().await, ["Created", "Pulled", "Pulling", "Started"]);
    // A pod that runs is written once, and not again.
    let version = pod.metadata.resource_version.clone();
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert_eq!(world.get("a").await.unwrap().metadata.resource_version, version);
}

#[tokio::test(start_paused = true)]
async fn delays_are_seen_as_kubernetes_shows_them() {
    let main = ContainerBehaviour { start: seconds(3), ready: seconds(5), ..ContainerBehaviour::default() };
    let behaviour =
        Behaviour { pull: Pull { time: seconds(2), ..Pull::default() }, main, ..Behaviour::default() };
    let world = World::with(1, PoolConfig::default(), Profiles::all(behaviour)).await;
    world.pod("a", "node-0", "default", json!({})).await;
    world.until("creating", async || world.waiting("a").await == "ContainerCreating").await;
    let start = tokio::time::Instant::now();
    world.until_phase("a", "Running").await;
    assert_eq!(start.elapsed().as_secs(), 5 - u64::from(start.elapsed().as_secs() < 5));
    assert_eq!(condition(&world.get("a").await.unwrap(), "Ready"), "False");
    world.until("ready", async || condition(&world.get("a").await.unwrap(), "Ready") == "True").await;
    assert_eq!(start.elapsed().as_secs(), 10 - u64::from(start.elapsed().as_secs() < 10));
}

#[tokio::test(start_paused = true)]
async fn crash_loops_back_off_and_jobs_complete() {
    let world = World::new(1).await;
    world.pod("crash", "node-0", "fail", json!({})).await;
    world.pod("job", "node-0", "complete", json!({"restartPolicy": "Never"})).await;
    world.pod("bad", "node-0", "fail", json!({"restartPolicy": "Never"})).await;
    world.until_phase("job", "Succeeded").await;
    world.until_phase("bad", "Failed").await;
    let ended = world.container("bad").await.state.unwrap().terminated.unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (1, Some("Error")));
    world.until("loop", async || world.waiting("crash").await == "CrashLoopBackOff").await;
    let start = tokio::time::Instant::now();
    world.until("five", async || world.container("crash").await.restart_count >= 5).await;
    // 10 + 20 + 40 + 80 seconds of waiting and a second of running each.
    assert!((140..170).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(world.phase("crash").await, "Running");
    assert_eq!(world.addresses.held(), 1, "what has ended gives its address back");
}

#[tokio::test(start_paused = true)]
async fn pulls_fail_and_come_right() {
    let pull = Pull { fail: Fail::First(2), ..Pull::default() };
    let profiles = Profiles::all(Behaviour { pull, ..Behaviour::default() });
    let world = World::with(1, PoolConfig::default(), profiles).await;
    world.pod("a", "node-0", "default", json!({})).await;
    world.until("ErrImagePull", async || world.waiting("a").await == "ErrImagePull").await;
    world.until("backoff", async || world.waiting("a").await == "ImagePullBackOff").await;
    world.until_phase("a", "Running").await;
}

#[tokio::test(start_paused = true)]
async fn deletion_is_graceful_by_default_and_can_be_forced() {
    let stop = Stop { after: seconds(7), code: 0 };
    let main = ContainerBehaviour { stop, ..ContainerBehaviour::default() };
    let profiles = Profiles::all(Behaviour { main, ..Behaviour::default() });
    let world = World::with(1, PoolConfig::default(), profiles).await;
    for name in ["a", "b", "c"] {
        world.pod(name, "node-0", "default", json!({})).await;
        world.until_phase(name, "Running").await;
    }
    let start = tokio::time::Instant::now();
    world.delete("a", &DeleteParams::default()).await;
    assert!(world.get("a").await.unwrap().metadata.deletion_timestamp.is_some());
    world.until_phase("a", "Gone").await;
    assert!((6..=8).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    // Not enough grace: killed.
    let start = tokio::time::Instant::now();
    world.delete("b", &DeleteParams { grace_period: Some(3), ..DeleteParams::default() }).await;
    world.until_phase("b", "Gone").await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // By force the object goes at once, the containers after it, and the name is free again.
    world.delete("c", &DeleteParams::now()).await;
    assert_eq!(world.phase("c").await, "Gone");
    let again = world.pod("c", "node-0", "default", json!({})).await;
    world.until_phase("c", "Running").await;
    world.until("cleaned", async || world.nodes[0].runtime.pods().await.unwrap().len() == 1).await;
    assert_eq!(
        world.nodes[0].runtime.pods().await.unwrap()[0].uid.as_ref(),
        again.metadata.uid.as_deref().unwrap()
    );
    assert_eq!((world.addresses.held(), world.pool.pods()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn finalizers_hold_a_pod_whose_containers_have_ended() {
    let world = World::new(1).await;
    world.pod("a", "node-0", "default", json!({})).await;
    world.until_phase("a", "Running").await;
    let finalizers = async |list: &[&str]| {
        let mut pod = Pod::clone(&*world.get("a").await.unwrap());
        pod.metadata.finalizers = Some(list.iter().map(ToString::to_string).collect());
        world.pods().update(&PostParams::default(), pod).await.unwrap();
    };
    finalizers(&["x.y/z"]).await;
    world.delete("a", &DeleteParams::default()).await;
    world.until_phase("a", "Succeeded").await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(world.phase("a").await, "Succeeded");
    finalizers(&[]).await;
    world.until_phase("a", "Gone").await;
    world.until("forgotten", async || world.pool.pods() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_stopped_node_falls_silent_and_comes_back() {
    let world = World::new(2).await;
    for (name, node) in [("a", "node-0"), ("b", "node-1"), ("job", "node-0")] {
        let policy = if name == "job" { "Never" } else { "Always" };
        world.pod(name, node, "default", json!({"restartPolicy": policy})).await;
        world.until_phase(name, "Running").await;
    }
    world.nodes[0].power_off();
    let lease = world.lease("node-0").await.unwrap();
    let other = world.lease("node-1").await.unwrap();
    world.delete("a", &DeleteParams::default()).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.lease("node-0").await.unwrap(), lease);
    assert_ne!(world.lease("node-1").await.unwrap(), other);
    assert_eq!(world.phase("a").await, "Running", "nobody is there to end it");
    world.nodes[0].power_on();
    world.until_phase("a", "Gone").await;
    // The machine was off: what was not to be restarted has failed.
    world.until_phase("job", "Failed").await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_ne!(world.lease("node-0").await.unwrap(), lease);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_restarts_finds_what_runs() {
    let world = World::new(1).await;
    let kept = world.pod("kept", "node-0", "default", json!({})).await;
    world.pod("lost", "node-0", "default", json!({})).await;
    for name in ["kept", "lost"] {
        world.until_phase(name, "Running").await;
    }
    let id = world.container("kept").await.container_id;
    world.nodes[0].node.stop();
    world.delete("lost", &DeleteParams::now()).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.nodes[0].runtime.pods().await.unwrap().len(), 2, "containers outlive the agent");
    world.nodes[0].node.start();
    world.until("cleaned", async || world.nodes[0].runtime.pods().await.unwrap().len() == 1).await;
    let now = world.get("kept").await.unwrap();
    assert_eq!(
        (now.metadata.uid.clone(), world.container("kept").await.container_id),
        (kept.metadata.uid.clone(), id)
    );
    assert_eq!(world.container("kept").await.restart_count, 0);
}

/// The process restarts: a new pool, new informers, the old machines.
#[tokio::test(start_paused = true)]
async fn a_new_pool_takes_over_and_removes_what_has_no_object() {
    let world = World::new(1).await;
    for name in ["kept", "lost"] {
        world.pod(name, "node-0", "default", json!({})).await;
        world.until_phase(name, "Running").await;
    }
    let id = world.container("kept").await.container_id;
    world.pool.stop().await;
    world.delete("lost", &DeleteParams::now()).await;
    let addresses = std::sync::Arc::new(crate::world::Addresses::default());
    let user = rkube_api::request::UserInfo::node("pool");
    let informers = rkube_api::client::Informers::new(world.server.client(user, "kubelet"));
    let pool = rkube_node::agent::NodePool::new(&informers, addresses.clone(), PoolConfig::default());
    pool.add([rkube_node::agent::NodeConfig {
        name: "node-0".into(),
        template: Default::default(),
        ips: vec!["172.16.0.1".parse().unwrap()],
        runtime: world.nodes[0].runtime.clone(),
    }]);
    world.until("cleaned", async || world.nodes[0].runtime.pods().await.unwrap().len() == 1).await;
    world.until("known", async || pool.pods() == 1 && addresses.held() == 1).await;
    assert_eq!(world.container("kept").await.container_id, id);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_node_registers_again() {
    let world = World::new(1).await;
    let old = world.all::<Node>().get("node-0").await.unwrap();
    world.all::<Node>().delete("node-0", &DeleteParams::default()).await.unwrap();
    world.until("registered again", async || world.ready("node-0").await).await;
    assert_ne!(world.all::<Node>().get("node-0").await.unwrap().metadata.uid, old.metadata.uid);
}

#[tokio::test(start_paused = true)]
async fn pressure_and_evictions_are_reported() {
    let world = World::new(1).await;
    let pod = world.pod("a", "node-0", "default", json!({})).await;
    world.until_phase("a", "Running").await;
    world.nodes[0].node.set_pressure(Pressure { memory: true, ..Pressure::default() });
    let reason = async || {
        let node = world.all::<Node>().get("node-0").await.unwrap();
        let conditions = node.status.clone().unwrap().conditions.unwrap();
        conditions.into_iter().find(|one| one.type_ == "MemoryPressure").unwrap().reason.unwrap()
    };
    world.until("pressure", async || reason().await == "KubeletHasInsufficientMemory").await;
    let eviction = Eviction {
        reason: "Evicted".into(),
        message: "low on memory".into(),
        grace: Some(Duration::from_secs(1)),
    };
    assert!(world.nodes[0].node.evict(pod.metadata.uid.as_deref().unwrap(), eviction));
    world.until_phase("a", "Failed").await;
    let status = world.get("a").await.unwrap().status.clone().unwrap();
    assert_eq!(
        (status.reason.as_deref(), status.message.as_deref()),
        (Some("Evicted"), Some("low on memory"))
    );
    world.until("released", async || world.addresses.held() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn someone_else_s_status_is_kept_and_the_node_s_set_right() {
    let world = World::new(1).await;
    let nodes = world.all::<Node>();
    let mut node = Node::clone(&*nodes.get("node-0").await.unwrap());
    for condition in node.status.as_mut().unwrap().conditions.as_mut().unwrap() {
        condition.status = "Unknown".into();
    }
    let network = serde_json::from_value(json!({"type": "NetworkUnavailable", "status": "False"}));
    node.status.as_mut().unwrap().conditions.as_mut().unwrap().push(network.unwrap());
    nodes.update_status(&PostParams::default(), node).await.unwrap();
    world.until("ready again", async || world.ready("node-0").await).await;
    let status = nodes.get("node-0").await.unwrap().status.clone().unwrap();
    assert_eq!(status.conditions.unwrap().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_pod_bound_before_its_node_is_there_starts_with_it() {
    let world = World::new(0).await;
    world.pod("early", "late-0", "default", json!({})).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.phase("early").await, "Pending");
    SimNodes { count: 1, prefix: "late-".into(), ..SimNodes::default() }.add_to(&world.pool, &world.sim);
    world.until_phase("early", "Running").await;
}

#[tokio::test(start_paused = true)]
async fn an_impossible_behaviour_is_told_and_harms_no_other() {
    let world = World::new(1).await;
    world.pod("bad", "node-0", "no-such-profile", json!({})).await;
    world.pod("good", "node-0", "default", json!({})).await;
    world.until_phase("good", "Running").await;
    let events: Api<Event> = Api::namespaced(world.client.clone(), "default");
    world
        .until("told", async || {
            let all = events.list(&ListParams::default()).await.unwrap().items;
            all.iter().any(|event| event.reason.as_deref() == Some("FailedCreatePodSandBox"))
        })
        .await;
    assert_eq!(world.waiting("bad").await, "ContainerCreating");
    world.delete("bad", &DeleteParams::default()).await;
    world.until_phase("bad", "Gone").await;
}

#[tokio::test(start_paused = true)]
async fn a_node_acts_as_itself() {
    let world = World::new(1).await;
    world.pod("a", "node-0", "default", json!({})).await;
    world.until_phase("a", "Running").await;
    world.delete("a", &DeleteParams::default()).await;
    world.until_phase("a", "Gone").await;
    for what in ["create nodes", "create leases", "update pods/status", "delete pods"] {
        let seen = world.writers.seen(what);
        assert!(seen.iter().any(|user| user == "system:node:node-0"), "{what}: {seen:?}");
        assert!(!seen.iter().any(|user| user == "system:node:pool"), "{what}: {seen:?}");
    }
    // Its rights are a node's: no more.
    let user = rkube_api::request::UserInfo::node("node-0");
    let secrets: Api<k8s_openapi::api::core::v1::Secret> =
        Api::namespaced(world.server.client(user, "kubelet"), "default");
    let refused = secrets.create(&PostParams::default(), Default::default()).await;
    assert!(matches!(refused, Err(ApiError::Forbidden { .. })), "{refused:?}");
}
