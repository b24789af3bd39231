//! `/metrics` of a cluster whose store is not always there.

use std::{sync::Arc, time::Duration};

use rkube::{
    api::object::Object,
    prelude::*,
    store::{Memory, testing::faults::Faulty},
};

async fn figures(cluster: &Cluster) -> Vec<String> {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let text = cluster.kube_client().request_text(request).await.unwrap();
    let names = ["{resource=\"configmaps\"}", "rkube_store_counted ", "rkube_store_count_failures_total "];
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.filter(|line| names.iter().any(|name| line.contains(name)));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn figures_outlive_the_store_and_cost_little() {
    let store = Arc::new(Faulty::new(Arc::new(Memory::<Object>::builder().build())));
    let builder = Cluster::builder().simulated(1).store(store.clone());
    let cluster = builder.without_scheduler().retain_controllers(|_| false).start().await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "default");
    let add = async |name: &str| {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(name.into());
        maps.create(&PostParams::default(), map).await.unwrap();
    };
    let later = || tokio::time::sleep(Duration::from_secs(5));
    add("a").await;
    // Objects, failures, whether the count is new.
    assert_eq!(figures(&cluster).await, ["1", "0", "1"]);
    add("b").await;
    assert_eq!(figures(&cluster).await, ["1", "0", "1"], "not counted for each that asks");
    later().await;
    assert_eq!(figures(&cluster).await, ["2", "0", "1"]);
    store.refuse_reads(true);
    later().await;
    assert_eq!(figures(&cluster).await, ["2", "1", "0"]);
    assert_eq!(figures(&cluster).await, ["2", "1", "0"]);
    later().await;
    assert_eq!(figures(&cluster).await, ["2", "2", "0"]);
    store.refuse_reads(false);
    later().await;
    assert_eq!(figures(&cluster).await, ["2", "2", "1"]);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_store_does_not_answer_says_that_it_is_not_ready() {
    let store = Arc::new(Faulty::new(Arc::new(Memory::<Object>::builder().build())));
    let cluster = Cluster::builder().simulated(1).store(store.clone()).start().await.unwrap();
    let ask = async || {
        tokio::time::sleep(Duration::from_secs(6)).await;
        let request = http::Request::get("/readyz?verbose").body(Vec::new()).unwrap();
        cluster.kube_client().request_text(request).await
    };
    assert!(ask().await.unwrap().contains("[+]etcd ok"));
    store.refuse_reads(true);
    let refused = ask().await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 500), "{refused:?}");
    store.refuse_reads(false);
    assert!(ask().await.unwrap().contains("readyz check passed"));
    cluster.stop().await;
}
