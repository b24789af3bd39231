//! The suite that every pod runtime passes: what [`PodRuntime`] promises, checked from outside.
//!
//! An implementor gives a [`Fixture`] and calls [`check`]:
//!
//! ```
//! use std::sync::Arc;
//! use rkube_api::context::Context;
//! use rkube_node::{runtime::{PodRuntime, sim::{Profiles, Sim, SimNode}}, testing::{self, Fixture}};
//! use k8s_openapi::api::core::v1::Pod;
//! use serde_json::json;
//!
//! struct Simulated(Arc<SimNode>);
//!
//! impl Fixture for Simulated {
//!     fn runtime(&self) -> Arc<dyn PodRuntime> {
//!         self.0.clone()
//!     }
//!     fn runs(&self) -> Pod {
//!         testing::pod("nginx:1", json!({}))
//!     }
//!     fn ends(&self, code: i32) -> Pod {
//!         let runs = json!({"main": {"runs": [{"after": "1s", "code": code}]}});
//!         testing::pod("nginx:1", json!({"sim.rkube.dev/behaviour": runs.to_string()}))
//!     }
//!     fn no_image(&self) -> Pod {
//!         testing::pod("none:1", json!({"sim.rkube.dev/profile": "image-error"}))
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! let sim = Sim::new(&Context::simulated(1), Profiles::default());
//! testing::check(|name| Simulated(sim.node(name))).await;
//! # });
//! ```
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used, reason = "a suite fails by panicking")]

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::runtime::{
    ContainerRequest, ContainerState, Exit, ImageState, PodRuntime, PullRequest, Role, RuntimeContainer,
    RuntimeEvent, RuntimePod, SandboxRequest,
};

/// What the suite needs of a runtime: a machine with nothing on it, and pods that do certain things on it.
/// The names and UIDs of the pods are the suite's.
pub trait Fixture {
    /// The runtime. A second call gives it to another agent, as after a restart: what runs is still there.
    fn runtime(&self) -> Arc<dyn PodRuntime>;
    /// A pod of one container that runs until it is stopped, and ends well within 5 s of being asked.
    fn runs(&self) -> Pod;
    /// A pod of one container that runs for a moment and ends with this code.
    fn ends(&self, code: i32) -> Pod;
    /// A pod of one container whose image cannot be pulled.
    fn no_image(&self) -> Pod;
}

/// A pod of one container, with these annotations.
pub fn pod(image: &str, annotations: serde_json::Value) -> Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": {"annotations": annotations},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }))
    .expect("the shape of a pod")
}

/// How long the suite waits for a change.
const PATIENCE: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(30);

/// Runs every check, each on a machine of its own.
///
/// # Panics
/// With what was expected, when the runtime does not keep a promise.
pub async fn check<F: Fixture>(machine: impl Fn(&str) -> F) {
    what_is_not_there_is_no_error(&machine("absent")).await;
    a_container_runs_and_is_listed(&machine("runs")).await;
    an_end_is_observed_and_told(&machine("ends")).await;
    a_stop_ends_a_container(&machine("stops")).await;
    starts_are_kept_apart(&machine("restarts")).await;
    a_sandbox_ends_with_all_in_it(&machine("sandbox")).await;
    images_are_pulled_or_fail(&machine("images")).await;
    what_runs_outlives_the_agent(&machine("recovery")).await;
}

/// One pod on one runtime.
struct Case {
    runtime: Arc<dyn PodRuntime>,
    pod: Pod,
    uid: Arc<str>,
    events: Arc<Mutex<Vec<RuntimeEvent>>>,
}

impl Case {
    fn new(fixture: &impl Fixture, uid: &str, mut pod: Pod) -> Self {
        pod.metadata.name = Some(format!("pod-{uid}"));
        pod.metadata.namespace = Some("default".into());
        pod.metadata.uid = Some(uid.to_owned());
        let (runtime, events) = (fixture.runtime(), Arc::new(Mutex::new(Vec::new())));
        let sink = events.clone();
        runtime.subscribe(Arc::new(move |event| sink.lock().push(event)));
        Self { runtime, pod, uid: uid.into(), events }
    }

    async fn sandbox(&self, attempt: u32) {
        let ips = if self.runtime.info().capabilities.assigns_addresses {
            Vec::new()
        } else {
            vec!["10.244.0.9".parse().expect("an address")]
        };
        let request = SandboxRequest { pod: &self.pod, uid: &self.uid, attempt, ips: &ips };
        self.runtime.run_sandbox(request).await.expect("a sandbox");
        let sandbox = self.look().await.expect("a pod after its sandbox").sandbox.expect("a sandbox");
        assert!(sandbox.ready && sandbox.attempt == attempt, "{sandbox:?}");
        assert!(!sandbox.ips.is_empty() && (ips.is_empty() || sandbox.ips == ips), "{sandbox:?}");
    }

    async fn pull(&self) -> ImageState {
        let image = self.image();
        self.runtime
            .pull_image(PullRequest { pod: &self.pod, uid: &self.uid, image })
            .await
            .expect("a pull begins");
        self.until("the pull has ended", async || {
            let state = self.runtime.image(&self.uid, image).await.expect("an image's state");
            (!matches!(state, ImageState::Pulling | ImageState::Absent)).then_some(state)
        })
        .await
    }

    fn image(&self) -> &str {
        self.pod.spec.as_ref().and_then(|spec| spec.containers[0].image.as_deref()).expect("an image")
    }

    async fn start(&self, attempt: u32) {
        let container = &self.pod.spec.as_ref().expect("a spec").containers[0];
        let request =
            ContainerRequest { pod: &self.pod, uid: &self.uid, container, role: Role::Main, attempt };
        self.runtime.start_container(request).await.expect("a container starts");
    }

    async fn look(&self) -> Option<RuntimePod> {
        self.runtime.pod(&self.uid).await.expect("a pod's state")
    }

    async fn latest(&self) -> Option<RuntimeContainer> {
        self.look().await?.latest("c").cloned()
    }

    async fn until<T>(&self, what: &str, found: impl AsyncFn() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = found().await {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "never: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn running(&self, attempt: u32) -> RuntimeContainer {
        self.until("it runs", async || {
            let latest = self.latest().await?;
            let runs = matches!(latest.state, ContainerState::Running { .. });
            (runs && latest.attempt == attempt).then_some(latest)
        })
        .await
    }

    async fn exited(&self) -> Exit {
        self.until("it has ended", async || match self.latest().await?.state {
            ContainerState::Exited(exit) => Some(exit),
            _ => None,
        })
        .await
    }

    /// Sandbox, image, container.
    async fn run(&self) -> RuntimeContainer {
        self.sandbox(0).await;
        let state = self.pull().await;
        assert!(matches!(state, ImageState::Present { .. }), "{state:?}");
        self.start(0).await;
        self.running(0).await
    }
}

async fn what_is_not_there_is_no_error(fixture: &impl Fixture) {
    let case = Case::new(fixture, "u1", fixture.runs());
    let runtime = &case.runtime;
    runtime.health().await.expect("a healthy runtime");
    assert_eq!(runtime.pods().await.expect("a list"), [], "a new machine has no pods");
    assert_eq!(case.look().await, None);
    runtime.stop_sandbox("u1").await.expect("stopping nothing is no error");
    runtime.stop_container("u1", "none", LONG).await.expect("stopping nothing is no error");
    runtime.remove_container("u1", "none").await.expect("removing nothing is no error");
    runtime.remove_pod("u1").await.expect("removing nothing is no error");
    let container = &case.pod.spec.as_ref().expect("a spec").containers[0];
    let request =
        ContainerRequest { pod: &case.pod, uid: &case.uid, container, role: Role::Main, attempt: 0 };
    assert!(runtime.start_container(request).await.is_err(), "no container without a sandbox");
}

async fn a_container_runs_and_is_listed(fixture: &impl Fixture) {
    // Not in the order of their UIDs.
    let cases = ["u2", "u1"].map(|uid| Case::new(fixture, uid, fixture.runs()));
    for case in &cases {
        let container = case.run().await;
        assert_eq!((&*container.name, container.attempt, &*container.image), ("c", 0, case.image()));
        assert!(!container.image_id.is_empty() && !container.id.is_empty());
        let pod = case.look().await.expect("the pod");
        assert_eq!((&*pod.namespace, pod.name.to_string()), ("default", format!("pod-{}", case.uid)));
    }
    let listed = cases[0].runtime.pods().await.expect("a list");
    let uids: Vec<&str> = listed.iter().map(|pod| &*pod.uid).collect();
    assert_eq!(uids, ["u1", "u2"], "in the order of UIDs");
    let ids: Vec<&str> = listed.iter().flat_map(|pod| &pod.containers).map(|one| &*one.id).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
    // One pod's end is not the other's.
    cases[0].runtime.remove_pod("u2").await.expect("removed");
    assert_eq!(cases[0].look().await, None);
    cases[1].running(0).await;
}

async fn an_end_is_observed_and_told(fixture: &impl Fixture) {
    for (uid, code) in [("u1", 0), ("u2", 3)] {
        let case = Case::new(fixture, uid, fixture.ends(code));
        case.sandbox(0).await;
        case.pull().await;
        case.events.lock().clear();
        case.start(0).await;
        let exit = case.exited().await;
        assert_eq!((exit.code, exit.success()), (code, code == 0));
        let started = exit.started_at.expect("it had started");
        assert!(started <= exit.finished_at);
        let told = async || {
            let events = case.events.lock();
            let ours = |event: &RuntimeEvent| match event {
                RuntimeEvent::Pod(uid) => *uid == case.uid,
                RuntimeEvent::Relist => true,
            };
            events.iter().any(ours).then_some(())
        };
        case.until("the end is told", told).await;
        // It stays until it is removed.
        assert_eq!(case.exited().await, exit);
        let id = case.latest().await.expect("the container").id;
        case.runtime.remove_container(&case.uid, &id).await.expect("removed");
        assert_eq!(case.latest().await, None);
    }
}

async fn a_stop_ends_a_container(fixture: &impl Fixture) {
    let case = Case::new(fixture, "u1", fixture.runs());
    let id = case.run().await.id;
    // A running container is not removed.
    let _ = case.runtime.remove_container("u1", &id).await;
    assert!(case.latest().await.is_some());
    case.runtime.stop_container("u1", &id, LONG).await.expect("a stop begins");
    case.runtime.stop_container("u1", &id, Duration::from_secs(5)).await.expect("a second stop");
    let exit = case.exited().await;
    case.runtime.stop_container("u1", &id, LONG).await.expect("stopping what has stopped is no error");
    assert_eq!(case.exited().await, exit);
    assert!(case.look().await.expect("the pod").ready(), "the sandbox stays");
}

async fn starts_are_kept_apart(fixture: &impl Fixture) {
    let case = Case::new(fixture, "u1", fixture.runs());
    let first = case.run().await;
    case.start(0).await;
    assert_eq!(case.look().await.expect("the pod").containers.len(), 1, "the same start again is none");
    case.runtime.stop_container("u1", &first.id, LONG).await.expect("a stop begins");
    case.exited().await;
    case.start(1).await;
    let second = case.running(1).await;
    assert_ne!(first.id, second.id);
    let pod = case.look().await.expect("the pod");
    assert_eq!(pod.containers.iter().map(|one| one.attempt).collect::<Vec<_>>(), [0, 1]);
}

async fn a_sandbox_ends_with_all_in_it(fixture: &impl Fixture) {
    let case = Case::new(fixture, "u1", fixture.runs());
    case.run().await;
    case.sandbox(0).await;
    case.running(0).await;
    case.runtime.stop_sandbox("u1").await.expect("stopped");
    case.exited().await;
    assert!(!case.look().await.expect("what has ended is still there").ready());
    case.runtime.stop_sandbox("u1").await.expect("stopping what has stopped is no error");
    case.sandbox(1).await;
    case.start(1).await;
    case.running(1).await;
    case.runtime.remove_pod("u1").await.expect("removed while it runs");
    assert_eq!(case.look().await, None);
    assert_eq!(case.runtime.pods().await.expect("a list"), []);
}

async fn images_are_pulled_or_fail(fixture: &impl Fixture) {
    let case = Case::new(fixture, "u1", fixture.no_image());
    assert_eq!(case.runtime.image(&case.uid, case.image()).await.expect("a state"), ImageState::Absent);
    case.sandbox(0).await;
    let ImageState::Failed { error, .. } = case.pull().await else { panic!("it cannot be pulled") };
    assert!(!error.is_empty());
    let good = Case::new(fixture, "u2", fixture.runs());
    let ImageState::Present { at, .. } = good.pull().await else { panic!("it can be pulled") };
    let ImageState::Present { at: again, .. } = good.pull().await else { panic!("and again") };
    assert!(again >= at, "a later pull is seen to be later");
}

async fn what_runs_outlives_the_agent(fixture: &impl Fixture) {
    let before = Case::new(fixture, "u1", fixture.runs());
    let container = before.run().await;
    let ended = Case::new(fixture, "u2", fixture.ends(7));
    ended.sandbox(0).await;
    ended.pull().await;
    ended.start(0).await;
    let exit = ended.exited().await;
    let after = Case::new(fixture, "u1", fixture.runs());
    assert_eq!(after.latest().await.as_ref(), Some(&container));
    let listed = after.runtime.pods().await.expect("a list");
    assert_eq!(listed.len(), 2);
    let ContainerState::Exited(found) = &listed[1].containers[0].state else { panic!("{listed:?}") };
    assert_eq!((found.code, found.finished_at), (7, exit.finished_at));
}
