//! Containers that are added for debugging to a pod that runs.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, EphemeralContainer, Pod};
use rkube_api::client::PostParams;
use rkube_node::pod::Action;
use serde_json::json;

use crate::{model::Model, world::World};

fn add(pod: &mut Pod, name: &str) {
    let container = EphemeralContainer {
        name: name.into(),
        image: Some("busybox:1".into()),
        ..EphemeralContainer::default()
    };
    pod.spec.as_mut().unwrap().ephemeral_containers.get_or_insert_default().push(container);
}

fn debugger(pod: &Pod) -> ContainerStatus {
    let all = pod.status.as_ref().and_then(|status| status.ephemeral_container_statuses.clone());
    all.unwrap_or_default().pop().unwrap_or_default()
}

#[test]
fn it_starts_once_and_the_pod_is_what_it_was() {
    let mut model = Model::new(json!({"containers": [{"name": "c", "image": "nginx:1"}]}));
    model.settle();
    let before = model.status().clone();
    add(&mut model.pod, "debug");
    model.settle();
    assert_eq!(model.running(), ["c", "debug"]);
    let status = debugger(&model.pod);
    assert!(status.state.as_ref().unwrap().running.is_some());
    assert_eq!((status.ready, status.started, status.restart_count), (false, None, 0));
    assert_eq!(model.status().container_statuses, before.container_statuses);
    assert_eq!((model.phase(), model.condition("Ready").as_str()), ("Running", "True"));
    model.later(5).exit("debug", 1);
    model.later(500).settle();
    assert_eq!(model.running(), ["c"], "it is not started again");
    let ended = debugger(&model.pod).state.unwrap().terminated.unwrap();
    assert_eq!((ended.exit_code, model.condition("Ready").as_str()), (1, "True"));
    // Neither when the runtime has forgotten it.
    model.containers().retain(|one| &*one.name != "debug");
    model.settle();
    assert_eq!(model.running(), ["c"]);
    assert_eq!(debugger(&model.pod).state.unwrap().terminated, Some(ended));
}

#[test]
fn it_starts_before_the_pod_is_initialized_and_keeps_no_pod_alive() {
    let mut model = Model::new(json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "i", "image": "nginx:1"}],
        "containers": [{"name": "c", "image": "nginx:1"}],
    }));
    model.settle();
    add(&mut model.pod, "debug");
    model.settle();
    assert_eq!(model.running(), ["i", "debug"]);
    model.later(1).exit("i", 0);
    model.settle();
    model.later(1).exit("c", 0);
    model.settle();
    assert_eq!((model.running().len(), model.phase()), (0, "Succeeded"));
    let stopped = |action: &Action| matches!(action, Action::Stop { container, .. } if container == "debug");
    assert!(model.log.iter().any(stopped));
}

#[tokio::test(start_paused = true)]
async fn a_debugger_runs_in_a_simulated_pod() {
    let world = World::new(1).await;
    world.pod("a", "node-0", "default", json!({})).await;
    world.until_phase("a", "Running").await;
    let mut pod = Pod::clone(&*world.get("a").await.unwrap());
    add(&mut pod, "debug");
    let _: Pod = world
        .pods()
        .update_subresource("a", "ephemeralcontainers", &PostParams::default(), &pod)
        .await
        .unwrap();
    world
        .until("it runs", async || {
            let state = debugger(&world.get("a").await.unwrap()).state.unwrap_or_default();
            state.running.is_some()
        })
        .await;
    world.delete("a", &Default::default()).await;
    world.until_phase("a", "Gone").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.pool.pods(), 0);
}
