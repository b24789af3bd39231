//! Calls in process on the memory store: what one core does in a second.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use k8s_openapi::api::core::v1::{Binding, ConfigMap, Namespace, Pod, ServiceAccount};
use rkube_api::{
    client::{Api, DeleteParams, ListParams, PostParams},
    context::Context,
    kinds,
    object::Object,
    pipeline::Server,
    registry::Registry,
    request::UserInfo,
};
use rkube_store::Memory;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

struct World {
    runtime: Runtime,
    pods: Api<Pod>,
    maps: Api<ConfigMap>,
    next: std::cell::Cell<u64>,
}

impl World {
    fn new(admission: bool) -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let client = runtime.block_on(async {
            let store = Memory::<Object>::builder().history(10_000).build();
            let registry = Arc::new(Registry::new(kinds::all()).unwrap());
            let builder = Server::builder(Arc::new(store), registry, Context::system(1));
            let builder = if admission { builder } else { builder.admission(Vec::new()) };
            let client = builder.build().unwrap().client(UserInfo::admin("bench"), "bench");
            let mut namespace = Namespace::default();
            namespace.metadata.name = Some("default".into());
            Api::all(client.clone()).create(&PostParams::default(), namespace).await.unwrap();
            let mut account = ServiceAccount::default();
            account.metadata.name = Some("default".into());
            account.automount_service_account_token = Some(false);
            Api::namespaced(client.clone(), "default").create(&PostParams::default(), account).await.unwrap();
            client
        });
        let pods = Api::namespaced(client.clone(), "default");
        Self { runtime, pods, maps: Api::namespaced(client, "default"), next: 0.into() }
    }

    /// A pod of 837 bytes of JSON, as a replica set makes it, with a name of its own.
    fn pod(&self) -> Pod {
        let at = self.next.get();
        self.next.set(at + 1);
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("web-{at}"), "namespace": "default",
                "labels": {"app": "web", "pod-template-hash": "5d4f8c7b9d"},
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f8c7b9d",
                    "uid": "0b6f3f63-6f6f-4f0e-9d6d-3e1d6c1f6f6f", "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "containers": [{
                    "name": "web", "image": "registry.example.com/web:1.2.3", "imagePullPolicy": "IfNotPresent",
                    "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                }],
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
                "securityContext": {}, "terminationGracePeriodSeconds": 30,
            },
        }))
        .unwrap()
    }
}

fn writes(c: &mut Criterion) {
    let mut group = c.benchmark_group("in process");
    group.throughput(Throughput::Elements(1));
    for (name, admission) in [("create a pod", true), ("create a pod, no admission", false)] {
        let world = World::new(admission);
        group.bench_function(name, |b| {
            b.iter_batched(
                || world.pod(),
                |pod| world.runtime.block_on(world.pods.create(&PostParams::default(), pod)).unwrap(),
                BatchSize::NumIterations(1000),
            );
        });
    }
    let world = World::new(true);
    group.bench_function("bind a pod", |b| {
        b.iter_batched(
            || {
                let pod = world.pod();
                let name = pod.metadata.name.clone().unwrap();
                world.runtime.block_on(world.pods.create(&PostParams::default(), pod)).unwrap();
                let mut binding = Binding::default();
                binding.metadata.name = Some(name.clone());
                binding.target.name = Some("n1".into());
                (name, binding)
            },
            |(name, binding)| {
                let params = PostParams::default();
                world
                    .runtime
                    .block_on(world.pods.create_subresource(&name, "binding", &params, binding))
                    .unwrap()
            },
            BatchSize::NumIterations(1000),
        );
    });
    group.bench_function("delete a pod", |b| {
        b.iter_batched(
            || {
                let pod = world.pod();
                let name = pod.metadata.name.clone().unwrap();
                world.runtime.block_on(world.pods.create(&PostParams::default(), pod)).unwrap();
                name
            },
            |name| world.runtime.block_on(world.pods.delete(&name, &DeleteParams::now())).unwrap(),
            BatchSize::NumIterations(1000),
        );
    });
    group.finish();
}

fn reads(c: &mut Criterion) {
    let world = World::new(true);
    let mut map = ConfigMap::default();
    map.metadata.name = Some("a".into());
    world.runtime.block_on(world.maps.create(&PostParams::default(), map.clone())).unwrap();
    for _ in 0..1000 {
        world.runtime.block_on(world.pods.create(&PostParams::default(), world.pod())).unwrap();
    }
    let mut group = c.benchmark_group("in process");
    group.throughput(Throughput::Elements(1));
    group.bench_function("get", |b| b.iter(|| world.runtime.block_on(world.maps.get("a")).unwrap()));
    group.bench_function("list 1000 pods", |b| {
        b.iter(|| world.runtime.block_on(world.pods.list(&ListParams::default())).unwrap());
    });
    let at = std::cell::Cell::new(0_u64);
    group.bench_function("update a config map", |b| {
        b.iter(|| {
            let mut next = map.clone();
            at.set(at.get() + 1);
            next.data = Some([("k".to_owned(), at.get().to_string())].into());
            world.runtime.block_on(world.maps.update(&PostParams::default(), next)).unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, writes, reads);
criterion_main!(benches);
