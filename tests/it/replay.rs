//! The same seed gives the same run, byte for byte.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use rkube::{
    api::object::Object,
    prelude::*,
    store::{Change as Written, Memory, Prefix, Revision, Store, WatchItem, WatchOptions},
};

/// Runs a cluster through a rollout, a node's failure and a deletion, and gives every event of its store.
async fn log(seed: u64) -> Vec<String> {
    let store = Arc::new(Memory::<Object>::builder().build());
    let prefix = Prefix::new("/registry");
    let mut events = store.watch(&prefix, WatchOptions::after(Revision(0))).await.unwrap();
    let cluster = Cluster::builder().simulated(seed).store(store.clone()).nodes(5).start().await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(cluster.client(), "default");
    deployments.create(&PostParams::default(), rkube::deployment("web", "nginx:1", 10)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let image = serde_json::json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "nginx:2"}]}}}});
    deployments.patch("web", &PatchParams::default(), &Patch::Strategic(image)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    deployments.delete("web", &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    cluster.stop().await;
    let last = store.revision().await.unwrap();
    let mut lines = Vec::new();
    let mut reached = Revision(0);
    while reached < last {
        let Some(WatchItem::Events(batch)) = events.next().await.transpose().unwrap() else { continue };
        for event in &batch.events {
            reached = event.revision;
            let what = match &event.change {
                Written::Put { entry, .. } => {
                    String::from_utf8(entry.value.encode().unwrap().to_vec()).unwrap()
                }
                Written::Delete { .. } => "deleted".into(),
            };
            lines.push(format!("{} {} {what}", event.revision, event.key));
        }
    }
    lines
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_event_log() {
    let (first, second, other) = (log(7).await, log(7).await, log(8).await);
    assert!(first.len() > 200, "a rollout of ten pods writes more than {} events", first.len());
    for (line, (a, b)) in first.iter().zip(&second).enumerate() {
        assert_eq!(a, b, "event {line} differs");
    }
    assert_eq!(first.len(), second.len());
    assert_ne!(first, other, "another seed gives other names and UIDs");
}
