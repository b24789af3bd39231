//! Decisions of the engine alone: a pod decided and assumed, on clusters of two sizes.

use std::{hint::black_box, sync::Arc};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rkube_api::context::Rng;
use rkube_sched::{
    engine::{Decision, Engine},
    framework::Profiles,
    queue::Nominator,
    snapshot::{PlacedPod, PodInfo, Snapshot},
};
use serde_json::{Value, json};

fn cluster(nodes: usize) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for index in 0..nodes {
        let node = serde_json::from_value(json!({
            "metadata": {"name": format!("node-{index}"), "labels": {
                "kubernetes.io/hostname": format!("node-{index}"),
                "topology.kubernetes.io/zone": format!("zone-{}", index % 3)
            }},
            "status": {"allocatable": {"cpu": "4", "memory": "32Gi", "pods": "110"}}
        }));
        snapshot.set_node(Arc::new(node.unwrap_or_default()));
    }
    snapshot
}

fn pod(index: usize, spec: &Value) -> PodInfo {
    let pod = serde_json::from_value(json!({
        "metadata": {"name": format!("pod-{index}"), "namespace": "default", "uid": format!("uid-{index}")},
        "spec": spec
    }));
    PodInfo::new(Arc::new(pod.unwrap_or_default()))
}

/// The pod of upstream's scheduler_perf: 100 m of CPU, 500 Mi of memory.
fn basic() -> Value {
    json!({"containers": [
        {"name": "pause", "resources": {"requests": {"cpu": "100m", "memory": "500Mi"}}}
    ]})
}

fn with_affinity() -> Value {
    let mut spec = basic();
    spec["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [
            {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["zone-0", "zone-1"]}
        ]}]
    }}});
    spec
}

fn decisions(criterion: &mut Criterion) {
    let profiles = Profiles::standard();
    let (nominator, rng) = (Nominator::default(), Rng::seeded(1));
    for (name, spec) in [("basic", basic()), ("node_affinity", with_affinity())] {
        let mut group = criterion.benchmark_group(format!("decide_{name}"));
        group.throughput(Throughput::Elements(1));
        for nodes in [100, 5_000] {
            // At most four pods a node, so that the cluster never fills up.
            let pods: Vec<_> = (0..nodes * 4).map(|index| pod(index, &spec)).collect();
            let (mut snapshot, mut next) = (cluster(nodes), 0);
            group.bench_function(BenchmarkId::from_parameter(nodes), |bencher| {
                bencher.iter(|| {
                    let pod = &pods[next % pods.len()];
                    // A pod that comes round again has left its node.
                    snapshot.remove_pod(&pod.uid);
                    next += 1;
                    let Some(profile) = profiles.of(pod) else { return };
                    let engine = Engine { snapshot: &snapshot, nominator: &nominator, rng: &rng };
                    if let Decision::Place(placement) = black_box(engine.decide(pod, profile)).decision {
                        let node = snapshot.view(placement.node).name().to_owned();
                        snapshot.assume(PlacedPod::from(pod), &node);
                    }
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, decisions);
criterion_main!(benches);
