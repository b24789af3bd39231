//! Several processes' worth of clusters on one store: one of them leads.

use std::{sync::Arc, time::Duration};

use rkube::{
    config::Election,
    k8s_openapi::api::coordination::v1::Lease,
    prelude::*,
    store::{Memory, Store},
};

use crate::workloads::ready;

async fn server(store: &Arc<Memory<rkube::api::object::Object>>, seed: u64, nodes: u32) -> Cluster {
    let store: Arc<dyn Store<_>> = store.clone();
    let election = Election::new(format!("server-{seed}"));
    let builder = Cluster::builder().simulated(seed).store(store).elect(election);
    builder.node_group(rkube::config::NodeGroup::new(&format!("of-{seed}"), nodes)).start().await.unwrap()
}

async fn holder(cluster: &Cluster, lease: &str) -> Option<String> {
    let leases: Api<Lease> = Api::namespaced(cluster.client(), "kube-system");
    let lease = leases.get_opt(lease).await.unwrap()?;
    lease.spec.as_ref()?.holder_identity.clone()
}

const DUTIES: [&str; 3] = ["kube-scheduler", "kube-controller-manager", "node-ipam"];

async fn led_by(cluster: &Cluster, identity: &str) {
    for lease in DUTIES {
        while holder(cluster, lease).await.as_deref() != Some(identity) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The nodes of a server that is gone run nothing any more.
async fn forget_nodes(cluster: &Cluster, prefix: &str) {
    let nodes: Api<Node> = Api::all(cluster.client());
    for number in 1..=2 {
        nodes.delete(&format!("{prefix}-{number}"), &DeleteParams::default()).await.unwrap();
    }
}

async fn deploys(cluster: &Cluster, name: &str) {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client(), "default");
    deployments.create(&PostParams::default(), rkube::deployment(name, "nginx", 4)).await.unwrap();
    cluster.wait_for(&deployments, name, ready(4)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_server_takes_over_when_one_stops_or_vanishes() {
    let store = Arc::new(Memory::builder().build());
    let one = server(&store, 1, 2).await;
    led_by(&one, "server-1").await;
    let two = server(&store, 2, 2).await;
    deploys(&two, "under-one").await;
    let ranges = |node: &Node| node.spec.as_ref().and_then(|spec| spec.pod_cidr.clone());
    let nodes: Api<Node> = Api::all(two.client());
    for name in ["of-1-1", "of-1-2", "of-2-1", "of-2-2"] {
        two.wait_for(&nodes, name, |node| node.and_then(ranges).is_some()).await.unwrap();
    }
    let listed = nodes.list(&ListParams::default()).await.unwrap().items;
    let given: std::collections::BTreeSet<_> = listed.iter().filter_map(|node| ranges(node)).collect();
    assert_eq!(given.len(), 4, "a range for each node: {given:?}");

    one.stop().await;
    led_by(&two, "server-2").await;
    forget_nodes(&two, "of-1").await;
    deploys(&two, "under-two").await;

    let three = server(&store, 3, 2).await;
    // It vanishes without a word, so its lead has to run out.
    drop(two);
    led_by(&three, "server-3").await;
    forget_nodes(&three, "of-2").await;
    deploys(&three, "under-three").await;
    three.stop().await;
}

/// Who loses the lead stands by, and can lead again.
#[tokio::test(start_paused = true)]
async fn a_lost_lead_can_be_gained_again() {
    let store = Arc::new(Memory::builder().build());
    let one = server(&store, 1, 2).await;
    led_by(&one, "server-1").await;
    deploys(&one, "before").await;
    let leases: Api<Lease> = Api::namespaced(one.client(), "kube-system");
    for lease in DUTIES {
        let thief = serde_json::json!({"spec": {"holderIdentity": "thief"}});
        leases.patch(lease, &PatchParams::default(), &Patch::Merge(thief)).await.unwrap();
    }
    let deployments: Api<Deployment> = Api::namespaced(one.client(), "default");
    tokio::time::sleep(Duration::from_secs(5)).await;
    deployments.create(&PostParams::default(), rkube::deployment("meanwhile", "nginx", 2)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let idle = deployments.get("meanwhile").await.unwrap();
    assert!(idle.status.as_ref().is_none_or(|status| status.replicas.is_none()), "nobody leads: {idle:?}");
    // The thief never renews.
    led_by(&one, "server-1").await;
    one.wait_for(&deployments, "meanwhile", ready(2)).await.unwrap();
    one.stop().await;
}
