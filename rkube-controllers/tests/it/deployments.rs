//! Deployments from the first pod to the last.

use futures::StreamExt;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use rkube_api::client::{KindWatchEvent, WatchParams};
use rkube_controllers::workloads::deployment::REVISION;
use serde_json::json;

use crate::support::{World, condition, deployment, labels, template, until};

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.into(), reason.into())
}

#[tokio::test(start_paused = true)]
async fn from_nothing_to_ready_up_and_down() {
    let world = World::new().await;
    world.create(deployment("web", 3, "a:1")).await;
    let web = world.rolled_out("web").await;
    assert_eq!(condition(&web, "Available"), pair("True", "MinimumReplicasAvailable"));
    until("the rollout is told complete", async || {
        let web = world.get("web").await.unwrap();
        condition(&web, "Progressing") == pair("True", "NewReplicaSetAvailable")
    })
    .await;
    let web = world.get::<Deployment>("web").await.unwrap();
    assert_eq!(web.metadata.annotations.as_ref().unwrap()[REVISION], "1");
    assert_eq!(web.metadata.generation, Some(1), "the revision is no change of the user's");
    let [set] = &world.list::<ReplicaSet>().await[..] else { panic!() };
    let name = set.metadata.name.as_deref().unwrap();
    assert_eq!(set.status.as_ref().unwrap().fully_labeled_replicas, Some(3));
    let pods = world.list::<Pod>().await;
    assert!(pods.iter().all(|pod| pod.metadata.name.as_ref().unwrap().starts_with(&format!("{name}-"))));
    until("the events are written", async || world.events("SuccessfulCreate").await.len() == 3).await;
    assert_eq!(
        world.events("ScalingReplicaSet").await,
        [format!("Scaled up replica set {name} from 0 to 3")]
    );

    world.patch::<Deployment>("web", json!({"spec": {"replicas": 5}})).await;
    world.rolled_out("web").await;
    assert_eq!(world.list::<Pod>().await.len(), 5);
    world.patch::<Deployment>("web", json!({"spec": {"replicas": 0}})).await;
    world.rolled_out("web").await;
    until("the pods are gone", async || world.list::<Pod>().await.is_empty()).await;
    until("it is told", async || {
        world.events("ScalingReplicaSet").await.last()
            == Some(&format!("Scaled down replica set {name} from 5 to 0"))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_and_its_undo() {
    let world = World::new().await;
    world.create(deployment("web", 4, "a:1")).await;
    world.rolled_out("web").await;
    world.set_image("web", "a:2").await;
    world.rolled_out("web").await;
    assert_eq!(world.sizes().await, [("a:1".to_owned(), 0), ("a:2".to_owned(), 4)].into());
    let web = world.get::<Deployment>("web").await.unwrap();
    assert_eq!(web.metadata.annotations.as_ref().unwrap()[REVISION], "2");

    // What kubectl rollout undo does: the old set's template, without the hash label.
    world.set_image("web", "a:1").await;
    let web = world.rolled_out("web").await;
    assert_eq!(world.sizes().await, [("a:1".to_owned(), 4), ("a:2".to_owned(), 0)].into());
    assert_eq!(web.metadata.annotations.as_ref().unwrap()[REVISION], "3");
}

#[tokio::test(start_paused = true)]
async fn pods_are_never_fewer_or_more_than_allowed() {
    let world = World::new().await;
    world.create(deployment("web", 8, "a:1")).await;
    world.rolled_out("web").await;
    world.set_image("web", "a:2").await;
    // A quarter of eight: two more, two fewer.
    for _ in 0..200 {
        let pods = world.list::<Pod>().await;
        let alive = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let ready = alive.clone().filter(|pod| {
            let list = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
            list.unwrap_or_default().iter().any(|it| it.type_ == "Ready" && it.status == "True")
        });
        assert!(alive.count() <= 10);
        assert!(ready.count() >= 6);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    world.rolled_out("web").await;
}

/// Whoever goes by a set's status must not count on pods that the set has told to go.
#[tokio::test(start_paused = true)]
async fn a_set_that_shrinks_never_says_that_it_has_more_than_it_should() {
    let world = World::new().await;
    world.create(deployment("web", 5, "a:1")).await;
    world.rolled_out("web").await;
    let sets = world.api::<ReplicaSet>();
    let mut changes = sets.watch(&WatchParams::default()).await.unwrap();
    world.patch::<Deployment>("web", json!({"spec": {"replicas": 2}})).await;
    loop {
        let Some(Ok(KindWatchEvent::Modified(set))) = changes.next().await else { continue };
        let status = set.status.clone().unwrap();
        if set.spec.replicas == Some(2) && status.observed_generation == set.metadata.generation {
            assert_eq!((status.replicas, status.available_replicas), (2, Some(2)));
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_the_rollout() {
    let world = World::new().await;
    world.create(deployment("web", 2, "a:1")).await;
    world.rolled_out("web").await;
    world.patch::<Deployment>("web", json!({"spec": {"paused": true}})).await;
    world.set_image("web", "a:2").await;
    until("the pause is told", async || {
        let web = world.get("web").await.unwrap();
        condition(&web, "Progressing") == pair("Unknown", "DeploymentPaused")
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(world.sizes().await, [("a:1".to_owned(), 2)].into());
    world.patch::<Deployment>("web", json!({"spec": {"paused": false}})).await;
    world.rolled_out("web").await;
    assert_eq!(world.sizes().await, [("a:1".to_owned(), 0), ("a:2".to_owned(), 2)].into());
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_gets_stuck_is_told() {
    let world = World::new().await;
    world.create(deployment("web", 2, "a:1")).await;
    world.rolled_out("web").await;
    world.patch::<Deployment>("web", json!({"spec": {"progressDeadlineSeconds": 30}})).await;
    world.set_image("web", "a:bad").await;
    until("the deadline has passed", async || {
        let web = world.get("web").await.unwrap();
        condition(&web, "Progressing") == pair("False", "ProgressDeadlineExceeded")
    })
    .await;
    let web = world.get::<Deployment>("web").await.unwrap();
    assert_eq!(web.status.as_ref().unwrap().available_replicas, Some(2), "the old pods still serve");
    world.set_image("web", "a:3").await;
    world.rolled_out("web").await;
}

#[tokio::test(start_paused = true)]
async fn a_recreation_stops_before_it_starts() {
    let world = World::new().await;
    let mut web = deployment("web", 2, "a:1");
    web.spec.strategy.get_or_insert_default().type_ = Some("Recreate".into());
    world.create(web).await;
    world.rolled_out("web").await;
    world.set_image("web", "a:2").await;
    for _ in 0..100 {
        let pods = world.list::<Pod>().await;
        let images: std::collections::BTreeSet<_> =
            pods.iter().map(|pod| pod.spec.as_ref().unwrap().containers[0].image.clone()).collect();
        assert!(images.len() <= 1, "old and new run side by side");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    world.rolled_out("web").await;
}

#[tokio::test(start_paused = true)]
async fn orphans_that_match_are_adopted_and_strangers_let_go() {
    let world = World::new().await;
    let mut pod = Pod::default();
    pod.metadata.name = Some("early".into());
    pod.metadata.namespace = Some("default".into());
    pod.metadata.labels = Some(labels("web"));
    pod.spec = template("web", "a:1").spec;
    world.create(pod).await;
    let mut set = ReplicaSet::default();
    set.metadata.name = Some("web".into());
    set.metadata.namespace = Some("default".into());
    set.spec.replicas = Some(2);
    set.spec.selector.match_labels = Some(labels("web"));
    set.spec.template = Some(template("web", "a:1"));
    world.create(set).await;
    let owned = async || {
        let pods = world.list::<Pod>().await;
        pods.iter().filter(|pod| pod.metadata.owner_references.is_some()).count()
    };
    until("the orphan counts as one of two", async || owned().await == 2).await;
    assert_eq!(world.list::<Pod>().await.len(), 2);

    world.patch::<Pod>("early", json!({"metadata": {"labels": {"app": "else"}}})).await;
    until("another takes its place", async || owned().await == 2 && world.list::<Pod>().await.len() == 3)
        .await;
    let early = world.get::<Pod>("early").await.unwrap();
    assert_eq!(early.metadata.owner_references, None);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_when_nothing_changes() {
    let world = World::new().await;
    world.create(deployment("web", 3, "a:1")).await;
    world.rolled_out("web").await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let versions = async || {
        let (webs, sets) = (world.list::<Deployment>().await, world.list::<ReplicaSet>().await);
        let pods = world.list::<Pod>().await;
        let mut all: Vec<_> = pods.iter().map(|pod| pod.metadata.resource_version.clone()).collect();
        all.extend(webs.iter().map(|web| web.metadata.resource_version.clone()));
        all.extend(sets.iter().map(|set| set.metadata.resource_version.clone()));
        all
    };
    let before = versions().await;
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    assert_eq!(versions().await, before);
}
