//! The same seed gives the same run.

use futures::StreamExt;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use rkube_api::{
    client::DeleteParams,
    request::{ApiResponse, Body, Options, Target, Verb, WatchEvent},
};

use crate::support::{World, deployment, until};

/// Every change of every kind during a rollout and a delete, as JSON.
fn run() -> Vec<String> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new().await;
        world.create(deployment("web", 4, "a:1")).await;
        world.rolled_out("web").await;
        world.set_image("web", "a:2").await;
        world.rolled_out("web").await;
        let delete = DeleteParams::default().propagation("Foreground");
        world.api::<Deployment>().delete("web", &delete).await.unwrap();
        until("all is gone", async || world.list::<Pod>().await.is_empty()).await;
        history(&world).await
    })
}

async fn history(world: &World) -> Vec<String> {
    let mut lines = Vec::new();
    for (group, version, resource) in [
        ("apps", "v1", "deployments"),
        ("apps", "v1", "replicasets"),
        ("", "v1", "pods"),
        ("", "v1", "events"),
    ] {
        let target = Target {
            group: group.into(),
            version: version.into(),
            resource: resource.into(),
            ..Target::default()
        };
        let options = Options { resource_version: Some("1".into()), ..Options::default() };
        let response = world.client.request(Verb::Watch, target, options, Body::Empty).await.unwrap();
        let ApiResponse::Watch(mut events) = response else { panic!("{response:?}") };
        while let Ok(Some(event)) =
            tokio::time::timeout(std::time::Duration::from_millis(10), events.next()).await
        {
            let (kind, object) = match event {
                WatchEvent::Added(object) => ("ADDED", object),
                WatchEvent::Modified(object) => ("MODIFIED", object),
                WatchEvent::Deleted(object) => ("DELETED", object),
                other => panic!("{other:?}"),
            };
            lines.push(format!("{kind} {}", object.to_value().unwrap()));
        }
    }
    lines
}

#[test]
fn twice_the_same_to_the_byte() {
    let (first, second) = (run(), run());
    assert!(first.len() > 50, "{} changes", first.len());
    for (first, second) in first.iter().zip(&second) {
        assert_eq!(first, second);
    }
    assert_eq!(first.len(), second.len());
}
