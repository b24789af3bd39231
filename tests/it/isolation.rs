//! Many clusters in one process do not see each other.

use futures::future::join_all;
use rkube::prelude::*;

async fn one(seed: u64) -> Result<(), rkube::Error> {
    let cluster = Cluster::builder().seed(seed).nodes(1).start().await?;
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    let mut mine = Namespace::default();
    mine.metadata.name = Some(format!("mine-{seed}"));
    namespaces.create(&PostParams::default(), mine).await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "default");
    pods.create(&PostParams::default(), rkube::pod("web", "nginx")).await?;
    let pod = cluster.wait_for(&pods, "web", |pod| pod.is_some_and(rkube::is_ready)).await?;
    assert_eq!(rkube::node_of(&pod), Some("node-1"));
    let seen = namespaces.list(&ListParams::default()).await?.items;
    let names: Vec<_> = seen.iter().filter_map(|found| found.metadata.name.clone()).collect();
    let mine: Vec<_> = names.iter().filter(|name| name.starts_with("mine-")).collect();
    assert_eq!(mine, [&format!("mine-{seed}")]);
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_clusters_run_side_by_side() {
    for result in join_all((0..100).map(one)).await {
        result.unwrap();
    }
}
