//! Images: containers whose image changes, and images that cannot be had.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use rkube_api::client::{Api, ListParams, PostParams};
use rkube_node::pod::Action;
use serde_json::json;

use crate::{model::Model, world::World};

fn one(policy: &str) -> Model {
    Model::new(json!({"restartPolicy": policy, "containers": [{"name": "c", "image": "nginx:1"}]}))
}

fn set_image(pod: &mut Pod, image: &str) {
    pod.spec.as_mut().unwrap().containers[0].image = Some(image.into());
}

#[test]
fn a_changed_image_restarts_the_container_whatever_the_policy() {
    for policy in ["Always", "OnFailure", "Never"] {
        let mut model = one(policy);
        model.settle();
        set_image(&mut model.pod, "nginx:2");
        let plan = model.later(5).plan();
        let [Action::Stop { reason, restart: true, .. }] = &plan.actions[..] else { panic!("{plan:?}") };
        assert_eq!(reason, "Container c definition changed, will be restarted");
        model.settle();
        let status = model.container("c");
        assert_eq!(
            (&*status.image, status.restart_count, model.phase()),
            ("nginx:2", 1, "Running"),
            "{policy}"
        );
        assert_eq!(model.state("c"), "running");
        assert!(status.last_state.clone().unwrap().terminated.is_some());
    }
}

#[test]
fn a_container_that_has_ended_for_good_is_not_started_for_a_new_image() {
    let mut model = one("Never");
    model.settle();
    model.later(1).exit("c", 0);
    set_image(&mut model.pod, "nginx:2");
    model.settle();
    assert_eq!((model.phase(), model.container("c").restart_count), ("Succeeded", 0));
}

#[test]
fn a_new_image_forgets_the_waits_of_the_old_one() {
    let mut model = one("Always");
    model.settle();
    for _ in 0..3 {
        model.later(1).exit("c", 1);
        model.settle();
        model.later(0);
    }
    assert_eq!(model.state("c"), "waiting:CrashLoopBackOff");
    set_image(&mut model.pod, "nginx:2");
    model.settle();
    assert_eq!(model.state("c"), "running");
    // So do failed pulls.
    model.pulls = Err("not found".into());
    set_image(&mut model.pod, "bad:1");
    model.settle();
    model.later(5).settle();
    assert_eq!(model.state("c"), "waiting:ImagePullBackOff");
    model.pulls = Ok(());
    set_image(&mut model.pod, "nginx:3");
    model.settle();
    assert_eq!((model.state("c").as_str(), &*model.container("c").image), ("running", "nginx:3"));
}

#[test]
fn sidecars_change_too_and_running_init_containers_do_not() {
    let mut model = Model::new(json!({
        "initContainers": [
            {"name": "side", "image": "nginx:1", "restartPolicy": "Always"},
            {"name": "init", "image": "nginx:1"},
        ],
        "containers": [{"name": "c", "image": "nginx:1"}],
    }));
    model.settle();
    for container in model.pod.spec.as_mut().unwrap().init_containers.as_mut().unwrap() {
        container.image = Some("nginx:2".into());
    }
    let plan = model.plan();
    let [Action::Stop { container, reason, .. }] = &plan.actions[..] else { panic!("{plan:?}") };
    assert_eq!((container.as_str(), reason.as_str()), ("side", "Init container side definition changed"));
    model.settle();
    assert_eq!((model.container("side").restart_count, model.container("init").restart_count), (1, 0));
}

#[test]
fn a_failed_liveness_probe_says_whether_the_container_starts_again() {
    use rkube_node::runtime::Probe;
    for (policy, text, phase) in [
        ("Always", "Container c failed liveness probe, will be restarted", "Running"),
        ("OnFailure", "Container c failed liveness probe, will be restarted", "Running"),
        ("Never", "Container c failed liveness probe", "Succeeded"),
    ] {
        let mut model = one(policy);
        model.settle();
        model.probe("c", Probe { alive: false, ..Probe::PASSED });
        let plan = model.plan();
        let [Action::Stop { reason, .. }] = &plan.actions[..] else { panic!("{plan:?}") };
        assert_eq!(reason, text);
        model.apply(&plan.actions[0].clone());
        model.probe("c", Probe::PASSED);
        model.settle();
        assert_eq!(model.phase(), phase, "{policy}");
    }
}

async fn events(world: &World) -> Vec<std::sync::Arc<Event>> {
    let api: Api<Event> = Api::namespaced(world.client.clone(), "default");
    api.list(&ListParams::default()).await.unwrap().items
}

#[tokio::test(start_paused = true)]
async fn a_running_pod_takes_a_new_image_and_its_events_say_so() {
    let world = World::new(1).await;
    world.pod("a", "node-0", "default", json!({})).await;
    world.until_phase("a", "Running").await;
    let mut pod = Pod::clone(&*world.get("a").await.unwrap());
    set_image(&mut pod, "nginx:1.28");
    world.pods().update(&PostParams::default(), pod).await.unwrap();
    world
        .until("the new image runs", async || {
            let status = world.container("a").await;
            status.image == "nginx:1.28" && status.restart_count == 1 && status.ready
        })
        .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let all = events(&world).await;
    let killing = all.iter().find(|event| event.reason.as_deref() == Some("Killing")).unwrap();
    assert_eq!(killing.message.as_deref(), Some("Container c definition changed, will be restarted"));
    for event in &all {
        assert_eq!(event.involved_object.field_path.as_deref(), Some("spec.containers{c}"), "{event:?}");
        let source = event.source.clone().unwrap();
        assert_eq!((source.component.as_deref(), source.host.as_deref()), (Some("kubelet"), Some("node-0")));
        assert_eq!(event.reporting_instance.as_deref(), Some("node-0"));
    }
    let reasons: Vec<&str> = all.iter().filter_map(|event| event.reason.as_deref()).collect();
    let started = ["Pulling", "Pulled", "Created", "Started"];
    // What is told again in the same words is counted.
    let again = ["Killing", "Pulling", "Pulled"];
    assert_eq!(reasons, [&started[..], &again[..]].concat(), "listed in the order of time");
    let pulled = all.iter().filter(|event| event.reason.as_deref() == Some("Pulled")).count();
    assert_eq!(pulled, 2, "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn an_image_error_holds_as_long_as_it_is_set() {
    let world = World::new(1).await;
    world.pod("good", "node-0", "default", json!({})).await;
    world.until_phase("good", "Running").await;
    // The node has the image, by another pod's pull.
    world.pod("bad", "node-0", "image-error", json!({})).await;
    world.until("ErrImagePull", async || world.waiting("bad").await == "ErrImagePull").await;
    world.until("back-off", async || world.waiting("bad").await == "ImagePullBackOff").await;
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert!(["ErrImagePull", "ImagePullBackOff"].contains(&&*world.waiting("bad").await));
    let all = events(&world).await;
    let tries: i32 = all
        .iter()
        .filter(|one| one.reason.as_deref() == Some("Pulling"))
        .filter(|one| one.involved_object.name.as_deref() == Some("bad"))
        .filter_map(|one| one.count)
        .sum();
    assert_eq!(tries, 8, "after 0, 10, 30, 70, 150, 310, 610 and 910 seconds");
    let mut pod = Pod::clone(&*world.get("bad").await.unwrap());
    pod.metadata.annotations = None;
    world.pods().update(&PostParams::default(), pod).await.unwrap();
    world.until_phase("bad", "Running").await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_can_be_had_ends_an_image_error() {
    let world = World::new(1).await;
    let behaviour = json!({"pull": {"fail": "always", "images": ["bad:"]}}).to_string();
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "a", "annotations": {"sim.rkube.dev/behaviour": behaviour}},
        "spec": {"nodeName": "node-0", "containers": [{"name": "c", "image": "bad:1"}]},
    }));
    world.pods().create(&PostParams::default(), pod.unwrap()).await.unwrap();
    world.until("back-off", async || world.waiting("a").await == "ImagePullBackOff").await;
    tokio::time::sleep(Duration::from_secs(500)).await;
    let mut pod = Pod::clone(&*world.get("a").await.unwrap());
    set_image(&mut pod, "good:1");
    world.pods().update(&PostParams::default(), pod).await.unwrap();
    let start = tokio::time::Instant::now();
    world.until_phase("a", "Running").await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(world.container("a").await.restart_count, 0);
}
