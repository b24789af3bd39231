//! One node's part of the simulation.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::{
    Behaviour, Driver, Due, Fail,
    container::{Scene, SimContainer, Step, hash, image_id, long_id, short_id},
};
use crate::runtime::{
    Capabilities, ContainerRequest, EventSink, ImageState, Logs, PodRuntime, Probe, Probes, PullRequest,
    RuntimeContainer, RuntimeError, RuntimeEvent, RuntimeInfo, RuntimePod, Sandbox, SandboxRequest,
};

/// The simulated runtime of one node.
pub struct SimNode {
    name: Arc<str>,
    driver: Arc<Driver>,
    state: Mutex<State>,
    /// Itself, for timers and capabilities.
    me: std::sync::Weak<SimNode>,
}

#[derive(Default)]
struct State {
    pods: BTreeMap<Arc<str>, SimPod>,
    /// What is on the disk, and since when.
    images: BTreeMap<Arc<str>, Timestamp>,
    /// By pod and image: pulls under way or failed, and those of pods that are to fail.
    pulls: BTreeMap<Arc<str>, BTreeMap<Arc<str>, SimPull>>,
    sink: Option<EventSink>,
    off: bool,
    /// Counts power cycles, so that timers from before one do nothing.
    boot: u32,
}

struct SimPod {
    namespace: Arc<str>,
    name: Box<str>,
    behaviour: Arc<Behaviour>,
    sandbox: SimSandbox,
    containers: SmallVec<[SimContainer; 1]>,
}

struct SimSandbox {
    attempt: u32,
    tries: u32,
    ready: bool,
    created_at: Timestamp,
    ips: SmallVec<[IpAddr; 1]>,
}

#[derive(Default)]
struct SimPull {
    tries: u32,
    state: PullState,
}

#[derive(Default)]
enum PullState {
    /// It will come to this.
    UnderWay(Result<(), Arc<str>>),
    Failed {
        error: Arc<str>,
        at: Timestamp,
    },
    /// It is over, and the image on the disk.
    #[default]
    Over,
}

impl std::fmt::Debug for SimNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimNode({})", self.name)
    }
}

impl SimPod {
    fn observed(&self, uid: &Arc<str>) -> RuntimePod {
        let sandbox = &self.sandbox;
        RuntimePod {
            uid: uid.clone(),
            namespace: self.namespace.clone(),
            name: (&*self.name).into(),
            sandbox: (sandbox.created_at != Timestamp::UNIX_EPOCH).then(|| Sandbox {
                id: long_id(hash(&[uid, "sandbox", &sandbox.attempt.to_string()])),
                attempt: sandbox.attempt,
                ready: sandbox.ready,
                created_at: sandbox.created_at,
                ips: sandbox.ips.to_vec(),
            }),
            containers: self.containers.iter().map(SimContainer::observed).collect(),
        }
    }

    fn find(&self, id: u64) -> Option<usize> {
        self.containers.iter().position(|container| container.id == id)
    }
}

impl SimNode {
    pub(super) fn new(name: &str, driver: Arc<Driver>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self { name: name.into(), driver, state: Mutex::default(), me: me.clone() })
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Cuts the power: every container ends at once (137), every call fails until [`SimNode::power_on`].
    pub fn power_off(&self) {
        let mut state = self.state.lock();
        state.off = true;
        state.boot += 1;
        let now = self.now();
        let State { pods, pulls, .. } = &mut *state;
        for (uid, pod) in pods.iter_mut() {
            pod.sandbox.ready = false;
            self.kill_all(uid, pod, now);
        }
        // A pull that was under way left nothing behind; what is on the disk stays.
        for pulls in pulls.values_mut() {
            pulls.retain(|_, pull| !matches!(pull.state, PullState::UnderWay(_)));
        }
    }

    /// Puts the power back: exited containers and images are still there.
    pub fn power_on(&self) {
        self.state.lock().off = false;
        self.tell(RuntimeEvent::Relist);
    }

    /// Removes an image, as if the node had collected it.
    pub fn forget_image(&self, image: &str) {
        self.state.lock().images.remove(image);
    }

    fn now(&self) -> Timestamp {
        self.driver.context.clock.timestamp()
    }

    fn tell(&self, event: RuntimeEvent) {
        let sink = self.state.lock().sink.clone();
        if let Some(sink) = sink {
            sink(event);
        }
    }

    fn kill_all(&self, uid: &str, pod: &mut SimPod, now: Timestamp) {
        for container in &mut pod.containers {
            let behaviour = pod.behaviour.container(&container.name, container.role);
            let scene = Scene { uid, behaviour, rng: &self.driver.context.rng, now };
            container.step(&scene, Step::Killed);
        }
    }

    /// Lets a container take a step; what follows at once follows now, the rest goes to the timers.
    fn advance(&self, pod: &mut SimPod, uid: &Arc<str>, at: usize, first: Step) -> bool {
        let now = self.now();
        let SimPod { containers, behaviour, .. } = pod;
        let Some(container) = containers.get_mut(at) else { return false };
        let behaviour = behaviour.container(&container.name, container.role);
        let scene = Scene { uid, behaviour, rng: &self.driver.context.rng, now };
        let mut changed = false;
        let mut steps = vec![first];
        while let Some(step) = steps.pop() {
            let Some(next) = container.step(&scene, step) else { continue };
            changed = true;
            for (wait, step) in next {
                if wait.is_zero() {
                    steps.insert(0, step);
                } else {
                    self.later(wait, uid, container.id, step);
                }
            }
        }
        changed
    }

    fn later(&self, wait: Duration, uid: &Arc<str>, id: u64, step: Step) {
        if let Some(node) = self.me.upgrade() {
            self.driver.after(wait, Due::Container { node, uid: uid.clone(), id, step });
        }
    }

    /// A timer of a container went off.
    pub(super) fn step(&self, uid: &Arc<str>, id: u64, step: Step) {
        let changed = {
            let mut state = self.state.lock();
            let Some(pod) = state.pods.get_mut(uid) else { return };
            let Some(at) = pod.find(id) else { return };
            self.advance(pod, uid, at, step)
        };
        if changed {
            self.tell(RuntimeEvent::Pod(uid.clone()));
        }
    }

    /// A pull has ended.
    pub(super) fn pulled(&self, uid: &Arc<str>, image: &Arc<str>, boot: u32) {
        {
            let mut state = self.state.lock();
            if state.boot != boot {
                return;
            }
            state.end_pull(uid, image, self.now());
        }
        self.tell(RuntimeEvent::Pod(uid.clone()));
    }

    /// Runs `act` on a pod, if the power is on.
    fn with_pod<T>(
        &self,
        uid: &str,
        act: impl FnOnce(&Arc<str>, &mut SimPod) -> T,
    ) -> Result<Option<T>, RuntimeError> {
        let mut state = self.state.lock();
        state.powered()?;
        let Some(uid) = state.pods.get_key_value(uid).map(|(uid, _)| uid.clone()) else { return Ok(None) };
        Ok(state.pods.get_mut(&uid).map(|pod| act(&uid, pod)))
    }
}

impl State {
    fn powered(&self) -> Result<(), RuntimeError> {
        if self.off {
            return Err(RuntimeError::Unavailable { message: "the machine is off".into() });
        }
        Ok(())
    }

    fn end_pull(&mut self, uid: &str, image: &Arc<str>, now: Timestamp) {
        let Some(pulls) = self.pulls.get_mut(uid) else { return };
        let Some(pull) = pulls.get_mut(image) else { return };
        let PullState::UnderWay(outcome) = std::mem::take(&mut pull.state) else { return };
        pull.tries += 1;
        match outcome {
            Ok(()) => {
                self.images.insert(image.clone(), now);
            }
            Err(error) => pull.state = PullState::Failed { error, at: now },
        }
        // How often it was tried matters only where tries fail.
        let fails = self.pods.get(uid).is_some_and(|pod| pod.behaviour.pull.fail != Fail::Never);
        if !fails && matches!(pull.state, PullState::Over) {
            pulls.remove(image);
            if pulls.is_empty() {
                self.pulls.remove(uid);
            }
        }
    }

    /// An image as a pod sees it.
    fn image(&self, uid: &str, image: &str) -> ImageState {
        let pull = self.pulls.get(uid).and_then(|pulls| pulls.get(image));
        match pull.map(|pull| &pull.state) {
            Some(PullState::UnderWay(_)) => return ImageState::Pulling,
            Some(PullState::Failed { error, at }) => {
                return ImageState::Failed { error: error.clone(), at: *at };
            }
            Some(PullState::Over) | None => {}
        }
        // To a pod whose pulls fail, it is not there until one of them has not failed.
        let barred = || self.pods.get(uid).is_some_and(|pod| pod.behaviour.pull.fails(image, 0));
        match self.images.get(image) {
            Some(at) if pull.is_some() || !barred() => ImageState::Present { id: image_id(image), at: *at },
            _ => ImageState::Absent,
        }
    }
}

fn pull_outcome(behaviour: &Behaviour, earlier: u32, image: &str) -> Result<(), Arc<str>> {
    if !behaviour.pull.fails(image, earlier) {
        return Ok(());
    }
    Err(match behaviour.pull.error.as_str() {
        "" => format!("rpc error: code = NotFound desc = failed to pull image \"{image}\": not found").into(),
        error => error.into(),
    })
}

impl Probes for SimNode {
    fn probe(&self, uid: &str, container: &RuntimeContainer) -> Probe {
        let state = self.state.lock();
        let ready = short_id(&container.id)
            .zip(state.pods.get(uid))
            .and_then(|(id, pod)| pod.containers.get(pod.find(id)?))
            .is_some_and(SimContainer::ready);
        Probe { ready, ..Probe::PASSED }
    }
}

#[async_trait]
impl Logs for SimNode {
    async fn read(&self, uid: &str, id: &str) -> Result<Vec<u8>, RuntimeError> {
        let missing = || RuntimeError::NotFound { what: "container", id: id.to_owned() };
        let text = self.with_pod(uid, |_, pod| {
            let container = pod.containers.get(pod.find(short_id(id)?)?)?;
            Some(pod.behaviour.container(&container.name, container.role).log.clone().into_bytes())
        })?;
        text.flatten().ok_or_else(missing)
    }
}

#[async_trait]
impl PodRuntime for SimNode {
    fn info(&self) -> RuntimeInfo {
        let me = self.me.upgrade();
        RuntimeInfo {
            name: "sim".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            capabilities: Capabilities {
                probes: me.clone().map(|me| me as Arc<dyn Probes>),
                logs: me.map(|me| me as Arc<dyn Logs>),
                ..Capabilities::default()
            },
        }
    }

    fn subscribe(&self, sink: EventSink) {
        self.state.lock().sink = Some(sink);
    }

    async fn health(&self) -> Result<(), RuntimeError> {
        self.state.lock().powered()
    }

    async fn pods(&self) -> Result<Vec<RuntimePod>, RuntimeError> {
        let state = self.state.lock();
        state.powered()?;
        Ok(state.pods.iter().map(|(uid, pod)| pod.observed(uid)).collect())
    }

    async fn pod(&self, uid: &str) -> Result<Option<RuntimePod>, RuntimeError> {
        self.with_pod(uid, |uid, pod| pod.observed(uid))
    }

    async fn run_sandbox(&self, request: SandboxRequest<'_>) -> Result<(), RuntimeError> {
        let pod = request.pod;
        let behaviour = self.driver.profiles.of(pod)?;
        let now = self.now();
        let mut state = self.state.lock();
        state.powered()?;
        let entry = state.pods.entry(request.uid.clone()).or_insert_with(|| SimPod {
            namespace: self.driver.intern(pod.metadata.namespace.as_deref().unwrap_or_default()),
            name: pod.metadata.name.as_deref().unwrap_or_default().into(),
            behaviour,
            sandbox: SimSandbox {
                attempt: 0,
                tries: 0,
                ready: false,
                created_at: Timestamp::UNIX_EPOCH,
                ips: SmallVec::new(),
            },
            containers: SmallVec::new(),
        });
        if entry.sandbox.ready {
            return Ok(());
        }
        entry.sandbox.tries += 1;
        if entry.behaviour.sandbox_fail.fails(entry.sandbox.tries - 1) {
            return Err(RuntimeError::Failed {
                message: "failed to create pod sandbox: simulated failure".into(),
            });
        }
        entry.sandbox.attempt = request.attempt;
        entry.sandbox.ready = true;
        entry.sandbox.created_at = now;
        entry.sandbox.ips = request.ips.into();
        Ok(())
    }

    async fn stop_sandbox(&self, uid: &str) -> Result<(), RuntimeError> {
        let now = self.now();
        self.with_pod(uid, |uid, pod| {
            pod.sandbox.ready = false;
            pod.sandbox.ips = SmallVec::new();
            self.kill_all(uid, pod, now);
        })
        .map(|_| ())
    }

    async fn remove_pod(&self, uid: &str) -> Result<(), RuntimeError> {
        let mut state = self.state.lock();
        state.powered()?;
        state.pods.remove(uid);
        state.pulls.remove(uid);
        Ok(())
    }

    async fn image(&self, uid: &str, image: &str) -> Result<ImageState, RuntimeError> {
        let state = self.state.lock();
        state.powered()?;
        Ok(state.image(uid, image))
    }

    async fn pull_image(&self, request: PullRequest<'_>) -> Result<(), RuntimeError> {
        let behaviour = self.driver.profiles.of(request.pod)?;
        let (uid, image) = (request.uid, self.driver.intern(request.image));
        let mut state = self.state.lock();
        state.powered()?;
        let boot = state.boot;
        let pull = state.pulls.entry(uid.clone()).or_default().entry(image.clone()).or_default();
        if matches!(pull.state, PullState::UnderWay(_)) {
            return Ok(());
        }
        let occasion = || format!("{uid}/{image}/{}", pull.tries);
        let wait = behaviour.pull.time.draw(&self.driver.context.rng, occasion);
        pull.state = PullState::UnderWay(pull_outcome(&behaviour, pull.tries, &image));
        if let Some(pod) = state.pods.get_mut(uid) {
            // What the pod says now counts, not what it said when it began.
            pod.behaviour = behaviour;
        }
        if wait.is_zero() {
            state.end_pull(uid, &image, self.now());
        } else if let Some(node) = self.me.upgrade() {
            self.driver.after(wait, Due::Pulled { node, uid: uid.clone(), image, boot });
        }
        Ok(())
    }

    async fn start_container(&self, request: ContainerRequest<'_>) -> Result<(), RuntimeError> {
        let name = self.driver.intern(&request.container.name);
        let image = self.driver.intern(request.container.image.as_deref().unwrap_or_default());
        let started = self.with_pod(request.uid, |uid, pod| {
            if !pod.sandbox.ready {
                return Err(RuntimeError::NotFound { what: "sandbox", id: uid.to_string() });
            }
            let new = SimContainer::new(uid, name, request.attempt, request.role, image);
            if pod.find(new.id).is_some() {
                return Ok(());
            }
            let behaviour = pod.behaviour.container(&new.name, new.role);
            let scene = Scene { uid, behaviour, rng: &self.driver.context.rng, now: self.now() };
            let (wait, id) = (new.start_delay(&scene), new.id);
            pod.containers.push(new);
            if wait.is_zero() {
                self.advance(pod, uid, pod.containers.len() - 1, Step::Run);
            } else {
                self.later(wait, uid, id, Step::Run);
            }
            Ok(())
        })?;
        let missing = || RuntimeError::NotFound { what: "sandbox", id: request.uid.to_string() };
        started.ok_or_else(missing)?
    }

    async fn stop_container(&self, uid: &str, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        self.with_pod(uid, |uid, pod| {
            let Some(at) = short_id(id).and_then(|id| pod.find(id)) else { return };
            let Some(container) = pod.containers.get(at).filter(|one| !one.exited()) else { return };
            let behaviour = pod.behaviour.container(&container.name, container.role);
            let scene = Scene { uid, behaviour, rng: &self.driver.context.rng, now: self.now() };
            let (wait, step) = container.stop(&scene, grace);
            if wait.is_zero() {
                self.advance(pod, uid, at, step);
            } else {
                self.later(wait, uid, container.id, step);
            }
        })
        .map(|_| ())
    }

    async fn remove_container(&self, uid: &str, id: &str) -> Result<(), RuntimeError> {
        self.with_pod(uid, |_, pod| {
            let id = short_id(id);
            pod.containers.retain(|container| Some(container.id) != id || !container.exited());
        })
        .map(|_| ())
    }
}
