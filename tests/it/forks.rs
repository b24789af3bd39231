//! Clusters that go on from the state of another one.

use std::{collections::BTreeSet, sync::Arc};

use rkube::prelude::*;
use serde_json::json;

use crate::workloads::ready;

fn of(value: serde_json::Value) -> Service {
    serde_json::from_value(value).unwrap()
}

fn node_port(name: &str) -> Service {
    let spec = json!({"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80}]});
    of(json!({"metadata": {"name": name}, "spec": spec}))
}

fn version(of: Option<&str>) -> u64 {
    of.unwrap().parse().unwrap()
}

/// A cluster with two nodes and something of each that must not be given twice.
async fn busy(seed: u64) -> Cluster {
    let cluster = Cluster::builder().simulated(seed).nodes(2).start().await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(cluster.client(), "default");
    let services: Api<Service> = Api::namespaced(cluster.client(), "default");
    deployments.create(&PostParams::default(), rkube::deployment("web", "nginx", 3)).await.unwrap();
    for name in ["one", "two"] {
        services.create(&PostParams::default(), node_port(name)).await.unwrap();
    }
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "default");
    let map = serde_json::from_value(json!({"metadata": {"name": "rests"}, "data": {"a": "b"}}));
    maps.create(&PostParams::default(), map.unwrap()).await.unwrap();
    cluster.wait_for(&deployments, "web", ready(3)).await.unwrap();
    cluster
}

/// What a cluster has that no two objects may share.
#[derive(Debug, Default, PartialEq)]
struct Unique {
    uids: BTreeSet<String>,
    addresses: BTreeSet<String>,
    node_ports: BTreeSet<i32>,
    pods: usize,
    services: usize,
    newest: u64,
}

async fn unique(cluster: &Cluster) -> Unique {
    let mut found = Unique::default();
    let pods = Api::<Pod>::all(cluster.client()).list(&ListParams::default()).await.unwrap();
    for pod in &pods.items {
        found.uids.extend(pod.metadata.uid.clone());
        found.addresses.extend(pod.status.as_ref().and_then(|status| status.pod_ip.clone()));
    }
    let services = Api::<Service>::all(cluster.client()).list(&ListParams::default()).await.unwrap();
    for service in &services.items {
        let spec = service.spec.as_ref().unwrap();
        found.uids.extend(service.metadata.uid.clone());
        found.addresses.extend(spec.cluster_ip.clone());
        found.node_ports.extend(spec.ports.iter().flatten().filter_map(|port| port.node_port));
    }
    found.newest = version(Some(&pods.resource_version));
    (found.pods, found.services) = (pods.items.len(), services.items.len());
    found
}

/// Lets a cluster that goes on from another one's state work, and looks for what is given twice.
async fn goes_on(cluster: &Cluster, before: &Unique) {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client(), "default");
    let services: Api<Service> = Api::namespaced(cluster.client(), "default");
    let then = deployments.get("web").await.unwrap();
    let scale = Patch::Merge(json!({"spec": {"replicas": 6}}));
    let scaled = deployments.patch("web", &PatchParams::default(), &scale).await.unwrap();
    let [old, new] = [&then, &scaled].map(|it| version(it.metadata.resource_version.as_deref()));
    assert!(new > old && new > before.newest, "{new} after {old} and {}", before.newest);
    for name in ["three", "four"] {
        services.create(&PostParams::default(), node_port(name)).await.unwrap();
    }
    cluster.wait_for(&deployments, "web", ready(6)).await.unwrap();

    let after = unique(cluster).await;
    assert_eq!((after.pods, after.services), (before.pods + 3, before.services + 2));
    assert_eq!(after.uids.len(), after.pods + after.services, "every uid is its object's own");
    assert_eq!(after.addresses.len(), after.pods + after.services, "every address: {:?}", after.addresses);
    assert_eq!(after.node_ports.len(), 4, "{:?}", after.node_ports);
    assert!(after.uids.is_superset(&before.uids), "what was there is still there");
    assert!(after.addresses.is_superset(&before.addresses));
    let pods = Api::<Pod>::namespaced(cluster.client(), "default");
    for pod in pods.list(&ListParams::default()).await.unwrap().items {
        let [made, now] = [pod.metadata.creation_timestamp.clone().unwrap(), cluster.context().clock.now()];
        assert!(made <= now, "made at {made:?}, in the future of {now:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fork_goes_on_and_its_origin_does_not_notice() {
    let cluster = busy(11).await;
    let before = unique(&cluster).await;
    // The same seed: what it draws must be new all the same.
    let fork = cluster.fork().await.unwrap().seed(11).nodes(2).start().await.unwrap();
    let [maps, forked] = [&cluster, &fork].map(|it| Api::<ConfigMap>::namespaced(it.client(), "default"));
    let [real, shared] = [maps.get("rests").await.unwrap(), forked.get("rests").await.unwrap()];
    assert!(Arc::ptr_eq(&real, &shared), "no object is copied");

    goes_on(&fork, &before).await;
    let deployments: Api<Deployment> = Api::namespaced(cluster.client(), "default");
    assert!(ready(3)(Some(&*deployments.get("web").await.unwrap())), "the origin is as it was");
    let services: Api<Service> = Api::namespaced(cluster.client(), "default");
    assert!(services.get_opt("three").await.unwrap().is_none());
    let mut changed = ConfigMap::clone(&real);
    changed.data.get_or_insert_default().insert("a".into(), "c".into());
    maps.update(&PostParams::default(), changed).await.unwrap();
    assert_eq!(forked.get("rests").await.unwrap(), real, "the fork does not see the origin's writes");
    fork.stop().await;
    cluster.stop().await;
}

#[cfg(feature = "durable")]
#[tokio::test(start_paused = true)]
async fn a_saved_cluster_goes_on() {
    let path = std::env::temp_dir().join(format!("rkube-saved-{}", std::process::id()));
    let cluster = busy(13).await;
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    let before = unique(&cluster).await;
    cluster.save(&path).await.unwrap();
    // The same seed: what it draws must be new all the same.
    let again = Cluster::builder().simulated(13).restore(&path).nodes(2).start().await.unwrap();
    goes_on(&again, &before).await;
    again.save(&path).await.unwrap();
    again.stop().await;
    let deployments = |cluster: &Cluster| Api::<Deployment>::namespaced(cluster.client(), "default");
    let third = Cluster::builder().simulated(13).restore(&path).nodes(2).start().await.unwrap();
    third.wait_for(&deployments(&third), "web", ready(6)).await.unwrap();
    third.stop().await;

    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = Cluster::builder().restore(&path).start().await.unwrap_err();
    assert!(error.to_string().contains("is damaged at byte"), "{error}");
    std::fs::remove_file(&path).unwrap();
    cluster.stop().await;
}

/// At the same revisions, in a folder that was none before; once, for then there is something to lose.
#[cfg(feature = "durable")]
#[tokio::test]
async fn a_folder_begins_with_a_saved_cluster() {
    let place = tempfile::tempdir().unwrap();
    let (saved, folder) = (place.path().join("saved"), place.path().join("data"));
    let map = |name: &str| -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"name": name}, "data": {"a": "b"}})).unwrap()
    };
    let maps = |cluster: &Cluster| Api::<ConfigMap>::namespaced(cluster.client(), "default");
    let cluster = Cluster::builder().start().await.unwrap();
    let first = maps(&cluster).create(&PostParams::default(), map("first")).await.unwrap();
    cluster.save(&saved).await.unwrap();
    cluster.stop().await;

    let restored = Cluster::builder().restore_into(&saved, &folder).start().await.unwrap();
    assert_eq!(maps(&restored).get("first").await.unwrap(), first, "with its UID and its version");
    let second = maps(&restored).create(&PostParams::default(), map("second")).await.unwrap();
    assert!(
        version(second.metadata.resource_version.as_deref())
            > version(first.metadata.resource_version.as_deref())
    );
    restored.stop().await;

    let again = Cluster::builder().restore_into(&saved, &folder).start().await;
    let error = again.expect_err("it would take back what came since");
    assert!(error.to_string().contains("there is a store already"), "{error}");
    let later = Cluster::builder().data_dir(&folder).start().await.unwrap();
    assert_eq!(maps(&later).get("second").await.unwrap(), second);
    later.stop().await;
}

#[tokio::test(start_paused = true)]
async fn forks_with_other_seeds_are_other_worlds() {
    let cluster = busy(12).await;
    let mut worlds = Vec::new();
    for seed in [1, 1, 2] {
        let fork = cluster.fork().await.unwrap().seed(seed).start().await.unwrap();
        let services: Api<Service> = Api::namespaced(fork.client(), "default");
        worlds.push(
            services.create(&PostParams::default(), node_port("new")).await.unwrap().metadata.uid.clone(),
        );
        fork.stop().await;
    }
    assert_eq!(worlds[0], worlds[1]);
    assert_ne!(worlds[0], worlds[2]);
    cluster.stop().await;
}
