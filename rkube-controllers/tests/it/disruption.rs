//! Budgets, from their status to the evictions that they let through.

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::Pod,
    policy::v1::{Eviction, PodDisruptionBudget},
};
use rkube_api::{
    client::{DeleteParams, PostParams},
    error::ApiError,
};
use serde_json::{Value, json};

use crate::support::{World, deployment, template, until};

fn budget(spec: Value) -> PodDisruptionBudget {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    let metadata = json!({"name": "web", "namespace": "default"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

/// Expected, desired, healthy, allowed; of a status that is of this spec.
async fn counts(world: &World) -> Option<[i32; 4]> {
    let budget = world.get::<PodDisruptionBudget>("web").await?;
    let status = budget.status.as_ref()?;
    status.observed_generation.filter(|seen| Some(*seen) == budget.metadata.generation)?;
    Some([
        status.expected_pods.unwrap(),
        status.desired_healthy.unwrap(),
        status.current_healthy.unwrap(),
        status.disruptions_allowed.unwrap(),
    ])
}

async fn settles(world: &World, wanted: [i32; 4]) {
    until(&format!("the budget says {wanted:?}"), async || counts(world).await == Some(wanted)).await;
}

async fn reason(world: &World) -> String {
    let budget = world.get::<PodDisruptionBudget>("web").await.unwrap();
    budget.status.as_ref().unwrap().conditions.as_ref().unwrap()[0].reason.clone()
}

async fn evict(world: &World, name: &str) -> Result<(), ApiError> {
    let api = world.api::<Pod>();
    api.create_subresource(name, "eviction", &PostParams::default(), Eviction::default()).await.map(drop)
}

async fn names(world: &World) -> Vec<String> {
    world.list::<Pod>().await.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect()
}

async fn healthy(world: &World) -> usize {
    let pods = world.list::<Pod>().await;
    let staying = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    staying.filter(|pod| rkube_api::helpers::pod::is_ready(pod)).count()
}

#[tokio::test(start_paused = true)]
async fn a_budget_follows_its_pods_and_those_who_want_them() {
    let world = World::new().await;
    world.create(budget(json!({"maxUnavailable": 1}))).await;
    settles(&world, [0, 0, 0, 0]).await;
    assert_eq!(reason(&world).await, "InsufficientPods");
    until("it is told", async || world.events("NoPods").await == ["No matching pods found"]).await;
    world.create(deployment("web", 3, "a:1")).await;
    settles(&world, [3, 2, 3, 1]).await;
    assert_eq!(reason(&world).await, "SufficientPods");
    let live = world.get::<PodDisruptionBudget>("web").await.unwrap();
    let read: PodDisruptionBudget = serde_json::from_value(json!(*live)).unwrap();
    assert_eq!(*live, read, "times are whole seconds");
    world.patch::<Deployment>("web", json!({"spec": {"replicas": 5}})).await;
    settles(&world, [5, 4, 5, 1]).await;
    // Pods of the old and of the new set are those of one deployment.
    world.set_image("web", "a:2").await;
    world.rolled_out("web").await;
    settles(&world, [5, 4, 5, 1]).await;
    let spec = json!({"spec": {"maxUnavailable": null, "minAvailable": "50%"}});
    world.patch::<PodDisruptionBudget>("web", spec).await;
    settles(&world, [5, 3, 5, 2]).await;
    world.set_image("web", "bad:1").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let [expected, _, healthy, _] = counts(&world).await.unwrap();
    assert!(expected == 5 && healthy < 5, "pods that never get ready do not count: {healthy}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_takes_all_pods_and_never_too_many_at_once() {
    let world = World::new().await;
    world.create(budget(json!({"minAvailable": 3}))).await;
    world.create(deployment("web", 4, "a:1")).await;
    settles(&world, [4, 3, 4, 1]).await;
    let mut left = names(&world).await;
    let mut refusals = 0;
    while !left.is_empty() {
        let mut next = Vec::new();
        for name in left {
            match evict(&world, &name).await {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error.code(), 429, "{error}");
                    next.push(name);
                    refusals += 1;
                }
            }
            assert!(healthy(&world).await >= 3);
        }
        left = next;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(refusals > 0, "four at once were never allowed");
    settles(&world, [4, 3, 4, 1]).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_to_go_and_stays_counts_again() {
    let world = World::new().await;
    world.create(budget(json!({"minAvailable": 2}))).await;
    world.create(deployment("web", 3, "a:1")).await;
    settles(&world, [3, 2, 3, 1]).await;
    // An eviction that took its disruption, and whose server was killed then.
    let name = names(&world).await.remove(0);
    let mut budget = (*world.get::<PodDisruptionBudget>("web").await.unwrap()).clone();
    let status = budget.status.as_mut().unwrap();
    status.disruptions_allowed = Some(0);
    let now = world.client.context().clock.now();
    status.disrupted_pods = Some([(name.clone(), now)].into());
    world.api().update_status(&PostParams::default(), budget).await.unwrap();
    settles(&world, [3, 2, 2, 0]).await;
    let began = tokio::time::Instant::now();
    settles(&world, [3, 2, 3, 1]).await;
    let took = began.elapsed().as_secs();
    assert!((119..=121).contains(&took), "it took {took} s");
    let told = "Pod was expected by PDB default/web to be deleted but it wasn't";
    until("it is told", async || world.events("NotDeleted").await == [told]).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_marked_and_lives_on_loses_its_mark() {
    let world = World::new().await;
    world.create(deployment("web", 1, "a:1")).await;
    world.rolled_out("web").await;
    let name = names(&world).await.remove(0);
    let mut pod = (*world.get::<Pod>(&name).await.unwrap()).clone();
    let mark = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "lastTransitionTime": world.client.context().clock.now(),
    });
    let conditions = pod.status.as_mut().unwrap().conditions.as_mut().unwrap();
    conditions.push(serde_json::from_value(mark).unwrap());
    world.api().update_status(&PostParams::default(), pod).await.unwrap();
    let began = tokio::time::Instant::now();
    until("the mark is off", async || {
        let pod = world.get::<Pod>(&name).await.unwrap();
        let list = pod.status.as_ref().unwrap().conditions.as_ref().unwrap();
        list.iter().any(|it| it.type_ == "DisruptionTarget" && it.status == "False" && it.reason.is_none())
    })
    .await;
    let took = began.elapsed().as_secs();
    assert!((119..=121).contains(&took), "it took {took} s");
    assert!(rkube_api::helpers::pod::is_ready(&world.get::<Pod>(&name).await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn pods_that_nothing_wants_allow_nothing() {
    let world = World::new().await;
    let pod = |name: &str, owner: Value| -> Pod {
        let template = template("web", "a:1");
        let mut pod = Pod { metadata: template.metadata.unwrap(), spec: template.spec, status: None };
        pod.metadata.name = Some(name.into());
        pod.metadata.namespace = Some("default".into());
        pod.metadata.owner_references = serde_json::from_value(owner).unwrap();
        pod
    };
    world.create(budget(json!({"maxUnavailable": "50%"}))).await;
    world.create(pod("bare", Value::Null)).await;
    settles(&world, [0, 0, 1, 0]).await;
    until("it is told", async || world.events("UnmanagedPods").await.len() == 1).await;
    assert_eq!(evict(&world, "bare").await.unwrap_err().code(), 429);
    world
        .patch::<PodDisruptionBudget>("web", json!({"spec": {"maxUnavailable": null, "minAvailable": 0}}))
        .await;
    settles(&world, [1, 0, 1, 1]).await;

    world
        .patch::<PodDisruptionBudget>("web", json!({"spec": {"maxUnavailable": 1, "minAvailable": null}}))
        .await;
    settles(&world, [0, 0, 1, 0]).await;
    // What manages this one cannot be scaled.
    let account = world.get::<k8s_openapi::api::core::v1::ServiceAccount>("default").await.unwrap();
    let owner = json!([{
        "apiVersion": "v1", "kind": "ServiceAccount", "name": "default",
        "uid": account.metadata.uid, "controller": true
    }]);
    world.create(pod("odd", owner)).await;
    until("it is not known", async || reason(&world).await == "SyncFailed").await;
    let why = "Failed to calculate the number of expected pods: serviceaccounts does not implement the scale \
               subresource";
    until("it is told", async || world.events("CalculateExpectedPodCountFailed").await == [why]).await;
    world.api::<Pod>().delete("odd", &DeleteParams::now()).await.unwrap();
    until("it is known again", async || reason(&world).await == "InsufficientPods").await;
}
