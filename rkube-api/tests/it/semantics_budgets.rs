//! Line 40: what disruption budgets do to evictions.

use k8s_openapi::{
    api::{
        core::v1::Pod,
        policy::v1::{Eviction, PodDisruptionBudget, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions, Status},
};
use rkube_api::{
    client::{DeleteParams, PostParams},
    error::ApiError,
};
use serde_json::{Value, json};

use super::{
    semantics_write::from_json,
    support::{World, pod, refused},
};

fn post() -> PostParams {
    PostParams::default()
}

/// A pod on a node, in a phase and ready or not.
async fn running(world: &World, name: &str, phase: &str, ready: bool) {
    let mut pod = pod(name);
    pod.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
    pod.spec.as_mut().unwrap().node_name = Some("n1".into());
    world.api::<Pod>().create(&post(), pod).await.unwrap();
    set(world, name, phase, ready).await;
}

async fn set(world: &World, name: &str, phase: &str, ready: bool) {
    let mut pod = (*world.api::<Pod>().get(name).await.unwrap()).clone();
    let ready = if ready { "True" } else { "False" };
    let status = json!({"phase": phase, "conditions": [{"type": "Ready", "status": ready}]});
    pod.status = Some(serde_json::from_value(status).unwrap());
    world.api::<Pod>().update_status(&post(), pod).await.unwrap();
}

/// A budget, with the status that its controller gives it.
async fn budget(world: &World, name: &str, spec: Value, healthy: i32, allowed: i32) {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    spec["minAvailable"] = json!(2);
    let budget: PodDisruptionBudget = from_json(json!({"metadata": {"name": name}, "spec": spec}));
    let made = world.api().create(&post(), budget).await.unwrap();
    seen(world, (*made).clone(), healthy, allowed).await;
}

async fn seen(world: &World, mut budget: PodDisruptionBudget, healthy: i32, allowed: i32) {
    budget.status = Some(PodDisruptionBudgetStatus {
        observed_generation: budget.metadata.generation,
        desired_healthy: Some(2),
        current_healthy: Some(healthy),
        expected_pods: Some(healthy),
        disruptions_allowed: Some(allowed),
        ..PodDisruptionBudgetStatus::default()
    });
    world.api().update_status(&post(), budget).await.unwrap();
}

async fn left(world: &World, name: &str) -> (i32, Vec<String>) {
    let status = world.api::<PodDisruptionBudget>().get(name).await.unwrap().status.clone().unwrap();
    let pods = status.disrupted_pods.unwrap_or_default().into_keys().collect();
    (status.disruptions_allowed.unwrap_or(0), pods)
}

async fn evict_with(world: &World, pod: &str, options: Option<DeleteOptions>) -> Result<(), ApiError> {
    let mut eviction = Eviction { delete_options: options, ..Eviction::default() };
    eviction.metadata.name = Some(pod.into());
    world.api::<Pod>().create_subresource(pod, "eviction", &post(), eviction).await.map(drop)
}

async fn evict(world: &World, pod: &str) -> Result<(), ApiError> {
    evict_with(world, pod, None).await
}

fn status(result: Result<(), ApiError>) -> Status {
    result.expect_err("it is refused").to_status()
}

#[tokio::test(start_paused = true)]
async fn line_40_a_budget_gives_what_it_has_and_no_more() {
    let world = World::new().await;
    for name in ["a", "b"] {
        running(&world, name, "Running", true).await;
    }
    budget(&world, "web", json!({}), 3, 1).await;
    let dry = DeleteOptions { dry_run: Some(vec!["All".into()]), ..DeleteOptions::default() };
    evict_with(&world, "a", Some(dry)).await.unwrap();
    let other = Preconditions { uid: Some("other".into()), ..Preconditions::default() };
    let other = DeleteOptions { preconditions: Some(other), ..DeleteOptions::default() };
    assert_eq!(refused(evict_with(&world, "a", Some(other)).await).0, 409);
    assert_eq!(left(&world, "web").await, (1, vec![]), "nothing is taken for nothing");

    evict(&world, "a").await.unwrap();
    assert_eq!(left(&world, "web").await, (0, vec!["a".to_owned()]));
    let going = world.api::<Pod>().get("a").await.unwrap();
    assert!(going.metadata.deletion_timestamp.is_some());
    let conditions = going.status.as_ref().unwrap().conditions.as_ref().unwrap();
    let why = conditions.iter().find(|condition| condition.type_ == "DisruptionTarget").unwrap();
    assert_eq!((&*why.status, why.reason.as_deref()), ("True", Some("EvictionByEvictionAPI")));

    let refusal = status(evict(&world, "b").await);
    assert_eq!((refusal.code, refusal.reason.as_deref()), (Some(429), Some("TooManyRequests")));
    let text = "Cannot evict pod as it would violate the pod's disruption budget.";
    assert_eq!(refusal.message.as_deref(), Some(text));
    let details = refusal.details.unwrap();
    let cause = &details.causes.unwrap()[0];
    assert_eq!(cause.reason.as_deref(), Some("DisruptionBudget"));
    let text = "The disruption budget web needs 2 healthy pods and has 3 currently";
    assert_eq!((cause.message.as_deref(), details.retry_after_seconds), (Some(text), None));
    assert!(world.api::<Pod>().get("b").await.unwrap().metadata.deletion_timestamp.is_none());

    evict(&world, "a").await.unwrap();
    assert_eq!(left(&world, "web").await.0, 0, "a pod that goes already takes nothing");
}

#[tokio::test(start_paused = true)]
async fn line_40_a_budget_that_nobody_has_looked_at_gives_nothing() {
    let world = World::new().await;
    running(&world, "a", "Running", true).await;
    let spec = json!({"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}});
    let web: PodDisruptionBudget = from_json(json!({"metadata": {"name": "web"}, "spec": spec}));
    world.api().create(&post(), web).await.unwrap();
    let details = status(evict(&world, "a").await).details.unwrap();
    let text = "The disruption budget web is still being processed by the server.";
    assert_eq!(details.causes.unwrap()[0].message.as_deref(), Some(text));
    assert_eq!(details.retry_after_seconds, Some(10));
}

#[tokio::test(start_paused = true)]
async fn line_40_two_budgets_are_one_too_many() {
    let world = World::new().await;
    running(&world, "a", "Running", true).await;
    budget(&world, "one", json!({}), 3, 1).await;
    budget(&world, "two", json!({}), 3, 1).await;
    let refusal = status(evict(&world, "a").await);
    let text =
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
    assert_eq!((refusal.code, refusal.message.as_deref(), refusal.reason), (Some(500), Some(text), None));
    assert_eq!(left(&world, "one").await.0 + left(&world, "two").await.0, 2);
    world.api::<PodDisruptionBudget>().delete("two", &DeleteParams::default()).await.unwrap();
    evict(&world, "a").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn line_40_pods_that_do_not_run_skip_budgets() {
    let world = World::new().await;
    budget(&world, "web", json!({}), 2, 0).await;
    for phase in ["Pending", "Succeeded", "Failed"] {
        running(&world, "a", phase, false).await;
        evict(&world, "a").await.unwrap();
        world.api::<Pod>().delete("a", &DeleteParams::now()).await.ok();
    }
    running(&world, "a", "Running", true).await;
    assert_eq!(refused(evict(&world, "a").await).0, 429);
}

#[tokio::test(start_paused = true)]
async fn line_40_the_unhealthy_go_where_a_budget_lets_them() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        running(&world, name, "Running", false).await;
    }
    // Enough are healthy, so that one that isn't makes no difference.
    budget(&world, "web", json!({}), 2, 0).await;
    evict(&world, "a").await.unwrap();
    let web = world.api::<PodDisruptionBudget>().get("web").await.unwrap();
    seen(&world, (*web).clone(), 1, 0).await;
    assert_eq!(refused(evict(&world, "b").await).0, 429);
    let mut web = (*world.api::<PodDisruptionBudget>().get("web").await.unwrap()).clone();
    web.spec.as_mut().unwrap().unhealthy_pod_eviction_policy = Some("AlwaysAllow".into());
    world.api().update(&post(), web).await.unwrap();
    evict(&world, "b").await.unwrap();
    set(&world, "c", "Running", true).await;
    assert_eq!(refused(evict(&world, "c").await).0, 429, "it is healthy");
    assert_eq!(left(&world, "web").await, (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn line_40_of_racing_evictions_as_many_win_as_are_allowed() {
    let world = World::new().await;
    let names: Vec<String> = (0..20).map(|at| format!("p{at}")).collect();
    for name in &names {
        running(&world, name, "Running", true).await;
    }
    budget(&world, "web", json!({}), 20, 7).await;
    let results = futures::future::join_all(names.iter().map(|name| evict(&world, name))).await;
    let gone: Vec<_> = names.iter().zip(&results).filter(|(_, result)| result.is_ok()).collect();
    assert_eq!(gone.len(), 7);
    let (allowed, listed) = left(&world, "web").await;
    assert_eq!((allowed, listed.len()), (0, 7));
    assert!(gone.iter().all(|(name, _)| listed.contains(name)));
    for refusal in results.into_iter().filter_map(Result::err) {
        assert_eq!(refusal.code(), 429, "{refusal}");
    }
}
