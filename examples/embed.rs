//! A cluster inside a program: create, watch, wait, stop.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a person")]

use std::process::ExitCode;

use futures::StreamExt;
use rkube::{
    api::client::{KindWatchEvent, WatchParams},
    prelude::*,
};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), rkube::Error> {
    let cluster = Cluster::builder().nodes(3).start().await?;
    let deployments: Api<Deployment> = Api::namespaced(cluster.client(), "default");
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "default");

    let mut changes = pods.watch(&WatchParams::default()).await?;
    let watcher = cluster.context().spawner.spawn("printer", async move {
        while let Some(Ok(change)) = changes.next().await {
            if let KindWatchEvent::Modified(pod) = change {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let phase =
                    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
                println!("{name} is {phase} on {}", rkube::node_of(&pod).unwrap_or("no node"));
            }
        }
    });

    deployments.create(&PostParams::default(), rkube::deployment("web", "nginx", 3)).await?;
    let ready = |web: Option<&Deployment>| {
        web.and_then(|web| web.status.as_ref()).and_then(|status| status.ready_replicas) == Some(3)
    };
    cluster.wait_for(&deployments, "web", ready).await?;
    println!("web is ready");

    watcher.abort();
    cluster.stop().await;
    Ok(())
}
