//! What the rules of a kind cost on a write: defaults, preparation and validation of a new pod of 837
//! bytes of JSON. The whole of a create has five microseconds (200,000 a second a core).

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use k8s_openapi::api::core::v1::Pod;
use rkube_api::{kinds, object::Object, registry::Definition};
use serde_json::json;

fn definition() -> Definition {
    kinds::core::pod::definition()
}

/// A plain pod as a workload's controller makes it.
fn pod() -> Pod {
    let value = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "web-5d4f8c7b9d-x2x9k", "namespace": "default",
            "labels": {"app": "web", "pod-template-hash": "5d4f8c7b9d"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f8c7b9d",
                "uid": "7e1c2a34-5b6d-4e8f-9a0b-1c2d3e4f5a6b", "controller": true, "blockOwnerDeletion": true
            }]
        },
        "spec": {"containers": [{
            "name": "web", "image": "registry.example/web:1.2.3",
            "ports": [{"name": "http", "containerPort": 8080}],
            "env": [{"name": "MODE", "value": "production"}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}}
        }]}
    });
    serde_json::from_value(value).unwrap_or_default()
}

fn rules(c: &mut Criterion) {
    let definition = definition();
    let strategy = definition.strategy.clone();
    let raw = || Object::new(pod());
    let default = |object: &mut Object| strategy.default.iter().for_each(|change| change(object));
    let prepare = |object: &mut Object| strategy.prepare_create.iter().for_each(|change| change(object));
    let mut done = raw();
    default(&mut done);
    prepare(&mut done);
    assert!(definition.validate_create(&done).is_empty());
    let mut group = c.benchmark_group("pod rules");
    group.bench_function("default and prepare", |b| {
        b.iter_batched(
            raw,
            |mut object| {
                default(&mut object);
                prepare(&mut object);
                object
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("default again", |b| {
        b.iter(|| default(black_box(&mut done)));
    });
    group.bench_function("validate", |b| b.iter(|| definition.validate_create(black_box(&done))));
    group.finish();
}

criterion_group!(benches, rules);
criterion_main!(benches);
