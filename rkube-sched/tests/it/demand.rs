//! Kinds that the scheduler looks at for some pods only.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use rkube_api::{
    client::PostParams,
    error::ApiError,
    k8s_openapi::api::core::v1::PersistentVolumeClaim,
    request::{ApiRequest, Verb},
};
use rkube_sched::Config;
use serde_json::{Value, json};

use crate::support::{Fault, World, after, from};

/// Notes which kinds are watched; the first lists of volumes fail.
fn noting(failures: usize) -> (Arc<Mutex<BTreeSet<String>>>, impl Fault) {
    let (watched, failed) = (Arc::<Mutex<BTreeSet<String>>>::default(), AtomicUsize::new(0));
    let noted = watched.clone();
    let fault = move |request: &ApiRequest| {
        let resource = &request.target.resource;
        if request.verb == Verb::Watch {
            noted.lock().insert(resource.to_string());
        }
        let fails = request.verb == Verb::List
            && resource == "persistentvolumes"
            && failed.fetch_add(1, Ordering::Relaxed) < failures;
        fails.then(|| ApiError::Unavailable { message: "not now".into() })
    };
    (watched, fault)
}

fn with_claim(name: &str) -> Value {
    json!({"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": name}}]})
}

#[tokio::test(start_paused = true)]
async fn a_kind_is_watched_when_the_first_pod_needs_it_and_only_such_pods_wait_for_it() {
    let world = World::new(1).await;
    world.node("a", "8").await;
    let (watched, fault) = noting(4);
    let running = world.scheduler_with_faults(Config::default(), fault);
    world.pod("plain", "1").await;
    after(1).await;
    assert_eq!(world.node_of("plain").await.as_deref(), Some("a"));
    let before = watched.lock().clone();
    for kind in ["persistentvolumes", "csinodes", "resourceclaims", "podgroups"] {
        assert!(!before.contains(kind), "{kind}");
    }

    world.pod_with("early", "1", with_claim("none")).await;
    world.pod_with("gone", "1", with_claim("none")).await;
    world.pod("other", "1").await;
    after(1).await;
    assert_eq!(world.node_of("other").await.as_deref(), Some("a"), "others go on");
    assert_eq!(world.condition("early").await.status, "", "it was not tried");
    assert_eq!(running.stats.decisions(), 2);
    world.delete_pod("gone").await;

    after(60).await;
    let message = world.condition("early").await.message.unwrap_or_default();
    assert!(message.contains("persistentvolumeclaim \"none\" not found"), "{message}");
    assert_eq!(running.inspector.look().await.unwrap().queue.unschedulable, 1);
    let after_that = watched.lock().clone();
    assert!(after_that.contains("persistentvolumes") && after_that.contains("csinodes"));
    assert!(!after_that.contains("resourceclaims") && !after_that.contains("podgroups"));

    // News of the kind arrive from now on.
    let decisions = running.stats.decisions();
    let claim: PersistentVolumeClaim = from(json!({
        "metadata": {"name": "none", "namespace": "default"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    }));
    let claims = rkube_api::client::Api::namespaced(world.client.clone(), "default");
    claims.create(&PostParams::default(), claim).await.unwrap();
    after(20).await;
    assert!(running.stats.decisions() > decisions);
}
