//! A watch that breaks off and cannot be resumed: what happened meanwhile is found out.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use rkube_api::{
    client::{Patch, PatchParams},
    error::ApiError,
    pipeline::Server,
    request::{ApiRequest, ApiResponse, Transport, Verb},
};
use rkube_sched::{Config, queue::QueueLength};
use serde_json::json;
use tokio::sync::watch;

use crate::support::{World, after};

/// While it is cut, watches of pods end, and what happens is forgotten.
struct Cuttable {
    server: Arc<Server>,
    cut: watch::Receiver<bool>,
}

#[async_trait]
impl Transport for Cuttable {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        if request.verb != Verb::Watch || request.target.resource != "pods" {
            return self.server.send(request).await;
        }
        let mut cut = self.cut.clone();
        if *cut.borrow() {
            let _ = cut.wait_for(|cut| !cut).await;
            return Err(ApiError::Expired { message: "too old".into(), continue_token: None });
        }
        Ok(match self.server.send(request).await? {
            ApiResponse::Watch(events) => {
                let until = async move { drop(cut.wait_for(|cut| *cut).await) };
                ApiResponse::Watch(events.take_until(Box::pin(until)).boxed())
            }
            other => other,
        })
    }
}

#[tokio::test(start_paused = true)]
async fn what_happened_in_a_gap_is_found_out() {
    let world = World::new(1).await;
    world.node("a", "2").await;
    let (cut, receiver) = watch::channel(false);
    let running = world.scheduler_over(Config::default(), |server| Cuttable { server, cut: receiver });
    world.pod("ends", "2").await;
    after(1).await;
    world.node("b", "1").await;
    world.pod("again", "1").await;
    world.group("g", 2).await;
    world.member("g", 0, "1").await;
    after(1).await;
    for name in ["waits", "left"] {
        world.pod(name, "2").await;
        after(1).await;
    }
    let placed = world.placed().await.into_iter().map(|(pod, node)| format!("{pod} {node}"));
    assert_eq!(placed.collect::<Vec<_>>(), ["again b", "ends a"]);

    cut.send_replace(true);
    after(2).await;
    let ended = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
    world.pods().patch_status("ends", &PatchParams::default(), &ended).await.unwrap();
    for name in ["left", "again", "g-0"] {
        world.delete_pod(name).await;
    }
    world.pod("again", "1").await;
    after(60).await;
    assert_eq!(world.node_of("again").await, None, "nobody has heard of it");

    cut.send_replace(false);
    after(60).await;
    assert_eq!(world.node_of("waits").await.as_deref(), Some("a"));
    assert_eq!(world.node_of("again").await.as_deref(), Some("b"));
    let seen = running.inspector.look().await.unwrap();
    assert_eq!((seen.queue, seen.snapshot.pod_count()), (QueueLength::default(), 2));

    world.node("c", "2").await;
    world.member("g", 1, "1").await;
    after(1).await;
    assert_eq!(world.placed_of("g").await, 0, "the first one is gone");
    world.member("g", 2, "1").await;
    after(1).await;
    assert_eq!(world.placed_of("g").await, 2);
}
