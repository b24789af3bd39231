//! Calls in process on the memory store: what one core does in a second.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
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
            let store = Memory::<Object>::builder().build();
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

/// So many pods go into one world; more would measure the store's cold values instead.
const CHUNK: u64 = 5000;

/// The time of `work` over `count` pods, in worlds of [`CHUNK`].
#[expect(clippy::disallowed_methods, reason = "a benchmark takes the time")]
fn fresh(count: u64, admission: bool, work: impl Fn(&World, Vec<Pod>)) -> Duration {
    let mut total = Duration::ZERO;
    for begin in (0..count).step_by(CHUNK as usize) {
        let world = World::new(admission);
        let pods: Vec<Pod> = (begin..count.min(begin + CHUNK)).map(|_| world.pod()).collect();
        let start = Instant::now();
        work(&world, pods);
        total += start.elapsed();
    }
    total
}

/// The time of `work` over the names of `count` pods that exist.
#[expect(clippy::disallowed_methods, reason = "a benchmark takes the time")]
fn fresh_stored<F: Future<Output = ()>>(count: u64, work: impl Fn(Rc<World>, String) -> F) -> Duration {
    let mut total = Duration::ZERO;
    for begin in (0..count).step_by(CHUNK as usize) {
        let world = Rc::new(World::new(true));
        let mut names = Vec::new();
        for _ in begin..count.min(begin + CHUNK) {
            let made =
                world.runtime.block_on(world.pods.create(&PostParams::default(), world.pod())).unwrap();
            names.push(made.metadata.name.clone().unwrap());
        }
        let start = Instant::now();
        world.runtime.block_on(async {
            for name in names {
                work(world.clone(), name).await;
            }
        });
        total += start.elapsed();
    }
    total
}

fn writes(c: &mut Criterion) {
    let mut group = c.benchmark_group("in process");
    group.throughput(Throughput::Elements(1));
    for (name, admission) in [("create a pod", true), ("create a pod, no admission", false)] {
        group.bench_function(name, |b| {
            b.iter_custom(|count| {
                fresh(count, admission, |world, pods| {
                    world.runtime.block_on(async {
                        for pod in pods {
                            world.pods.create(&PostParams::default(), pod).await.unwrap();
                        }
                    });
                })
            });
        });
    }
    group.bench_function("bind a pod", |b| {
        b.iter_custom(|count| {
            fresh_stored(count, |world, name| async move {
                let mut binding = Binding::default();
                binding.metadata.name = Some(name.clone());
                binding.target.name = Some("n1".into());
                let params = PostParams::default();
                world.pods.create_subresource(&name, "binding", &params, binding).await.unwrap();
            })
        });
    });
    group.bench_function("delete a pod", |b| {
        b.iter_custom(|count| {
            fresh_stored(count, |world, name| async move {
                world.pods.delete(&name, &DeleteParams::now()).await.unwrap();
            })
        });
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
