//! What a stored pod takes in memory, hot and cold, and what it costs to read one that is cold.
//!
//! ```sh
//! cargo bench -p rkube-api --features server --bench memory             # 10,000 and 100,000
//! cargo bench -p rkube-api --features server --bench memory -- 1000000  # up to 8 GB
//! ```
//!
//! Pods are of 837 bytes of JSON, as in the design. Each line is a process of its own, whose resident memory
//! is what is measured. `hot`: all objects are kept; `cold`: none is, but the bytes; `default`: what the
//! memory store does unless told otherwise.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a program that measures and reports"
)]

use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use rkube_api::object::Object;
use rkube_store::{Key, ListOptions, Memory, Prefix, Store, Txn};
use serde_json::json;

/// As a replica set makes it and the server fills it in; 837 bytes for names of this length.
fn pod(at: usize) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("web-5d4f8c7b9d-{at:07}"), "namespace": "default",
            "uid": format!("0b6f3f63-6f6f-4f0e-9d6d-{at:012}"),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": "web", "pod-template-hash": "5d4f8c7b9d"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f8c7b9d",
                "uid": "0b6f3f63-6f6f-4f0e-9d6d-3e1d6c1f6f6f", "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "containers": [{
                "name": "web", "image": "example.com/web:1", "imagePullPolicy": "IfNotPresent",
                "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
            "securityContext": {}, "terminationGracePeriodSeconds": 30,
        },
        "status": {"phase": "Pending", "qosClass": "BestEffort"},
    }))
    .unwrap()
}

fn key(at: usize) -> Key {
    Key::new(format!("/registry/pods/default/web-5d4f8c7b9d-{at:07}"))
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    let kilobytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

async fn measure(pods: usize, mode: &str) {
    let builder = Memory::<Object>::builder();
    let store = match mode {
        "hot" => builder.all_hot().build(),
        "cold" => builder.hot_bytes(0).build(),
        _ => builder.build(),
    };
    let json = Object::new(pod(0)).encode().unwrap().len();
    let before = resident();
    let start = Instant::now();
    for at in 0..pods {
        store.commit(Txn::create(key(at), Object::new(pod(at)))).await.unwrap();
    }
    let wrote = start.elapsed();
    let each = resident().saturating_sub(before) / pods as u64;

    let mut gets = Vec::new();
    // Far apart, so that none was read before.
    for at in (0..pods).step_by((pods / 5_000).max(1)) {
        let start = Instant::now();
        assert!(store.get(&key(at), None).await.unwrap().entry.is_some());
        gets.push(start.elapsed().as_secs_f64() * 1e6);
    }
    let mut lists = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        let page = store.list(&Prefix::new("/registry/pods"), ListOptions::page(10_000)).await.unwrap();
        assert_eq!(page.entries.len(), pods.min(10_000));
        lists.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let after = resident().saturating_sub(before) / pods as u64;
    println!(
        "{pods:>9} pods of {json} bytes, {mode:<7} {each:>6} bytes each ({after} after reading), \
         a get {:>6.2} us, a list of 10,000 {:>6.1} ms, made and written in {:.1} s",
        median(gets),
        median(lists),
        wrote.as_secs_f64()
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|text| !text.starts_with('-')).collect();
    if let [pods, mode] = arguments.as_slice()
        && let Ok(pods) = pods.parse()
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        return runtime.block_on(measure(pods, mode));
    }
    let usual = ["10000".to_owned(), "100000".to_owned()];
    let this = std::env::current_exe().unwrap();
    for pods in if arguments.is_empty() { usual.as_slice() } else { arguments.as_slice() } {
        for mode in ["hot", "default", "cold"] {
            let status = std::process::Command::new(&this).args([pods, mode]).status().unwrap();
            assert!(status.success(), "{pods} {mode}");
        }
    }
}
