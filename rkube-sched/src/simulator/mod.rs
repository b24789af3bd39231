//! The scheduler without a cluster: where would a pod go and why, what fits if nodes come or go.
//!
//! A [`Simulator`] is made from what `kubectl get nodes,pods -A -o yaml` prints (JSON too) of any cluster, and
//! from any profiles. Whatever plugins look up beside can stand in the text as well: namespaces, priority classes,
//! disruption budgets, services, replica sets, volumes and claims. It decides with the engine, the plugins and the
//! order of the queue of the [`Scheduler`](crate::Scheduler), waits for nothing, and with the same seed gives the
//! same answers.
//!
//! ```
//! use rkube_sched::simulator::{Change, Choice, Simulator, Verdict};
//!
//! let mut simulator = Simulator::builder().seed(7).load("
//! apiVersion: v1
//! kind: List
//! items:
//! - {apiVersion: v1, kind: Node, metadata: {name: small}, status: {allocatable: {cpu: 1, memory: 4Gi, pods: 9}}}
//! - {apiVersion: v1, kind: Node, metadata: {name: large}, status: {allocatable: {cpu: 4, memory: 8Gi, pods: 9}}}
//! ")?.build()?;
//!
//! // Where would it go, and why?
//! let pod = serde_json::from_value(serde_json::json!({
//!     "metadata": {"name": "web"},
//!     "spec": {"containers": [{"name": "web", "image": "nginx", "resources": {"requests": {"cpu": "2"}}}]}
//! }))?;
//! let answer = simulator.place(pod)?;
//! assert_eq!(answer.choice.node(), Some("large"));
//! let Some(Verdict::Refused { plugin, reasons, .. }) = answer.of_node("small") else { panic!() };
//! assert_eq!((*plugin, &*reasons[0]), (Some("NodeResourcesFit"), "Insufficient cpu"));
//! println!("{answer}"); // a table
//!
//! // And if its node is drained?
//! let report = simulator.clone().apply(&[Change::Drain("large".into())])?;
//! assert_eq!(&*report.pending[0].pod.name, "web");
//! let more = Change::Copy { node: "large".into(), count: 1 };
//! let report = simulator.clone().apply(&[more, Change::Drain("large".into())])?;
//! assert_eq!(&*report.moves[0].to, "large-copy-1");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What differs from a running cluster: pods that make room are gone at once, no binding fails, no node but those
//! that a [`Change`] names changes, and what PreBind and Bind would do is taken to go well. A pod that is drained or
//! sent away to make room comes back under its own name, as its controller would make it anew. Pods that Permit
//! holds, those of a gang, get their nodes when it lets them through; if no other pod helps, they never do.

mod admission;
mod answer;
mod change;
mod kinds;
mod manifest;
mod report;
mod reservations;
mod run;
mod table;
mod usage;
mod workload;
mod world;

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Pod};
use rkube_api::{client::ObjectKey, context::Rng};

use self::{
    reservations::Reservations,
    run::{Tried, Waiting, decide, held},
    world::World,
};
use crate::{
    driver::Config,
    engine::{Classes, Decision, Engine, Explained, Scored, Unfit},
    framework::{Code, ConfigError, Handle, Nomination, Profiles, Status},
    snapshot::{NodeId, PodInfo, is_terminal, node_of},
};

pub use crate::engine::PluginScore;
pub use admission::PodError;
pub use answer::{Answer, Choice, NodeAnswer, Verdict};
pub use change::{Change, ChangeError};
pub use manifest::{LoadError, Manifest, Place};
pub use report::{Cause, HoldUp, Move, Pending, Report};
pub use usage::{NodeUsage, ResourceUsage, Usage};
pub use workload::new_pods;

/// The settings of a [`Simulator`].
///
/// ```
/// use rkube_sched::{Configuration, simulator::Simulator};
///
/// let packer = "
/// apiVersion: kubescheduler.config.k8s.io/v1
/// kind: KubeSchedulerConfiguration
/// profiles:
/// - pluginConfig:
///   - name: NodeResourcesFit
///     args: {scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 1}]}}
/// ";
/// let nodes = "{kind: Node, apiVersion: v1, metadata: {name: a}}";
/// let builder = Simulator::builder().config(Configuration::read(packer)?.config()).seed(7);
/// let simulator = builder.load(nodes)?.build()?;
/// assert_eq!(simulator.nodes().count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Builder {
    config: Config,
    seed: u64,
    manifest: Manifest,
}

impl Builder {
    /// Profiles and plugins: those of kube-scheduler unless said otherwise. Its other settings mean nothing here.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// What breaks ties; 0 unless said otherwise.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Reads nodes, pods and what else there is from a text, beside what was read before. See [`Manifest`].
    pub fn load(mut self, text: impl AsRef<[u8]>) -> Result<Self, LoadError> {
        self.manifest.add(text)?;
        Ok(self)
    }

    /// Takes objects that were read already, in the place of those that [`Builder::load`] has read so far.
    pub fn manifest(mut self, manifest: Manifest) -> Self {
        self.manifest = manifest;
        self
    }

    /// Makes the simulator. The error is that of the profiles.
    pub fn build(self) -> Result<Simulator, ConfigError> {
        let handle = Handle::default();
        let profiles = Profiles::build(&self.config.profiles, &self.config.plugins, &handle)?;
        let mut simulator = Simulator {
            config: Arc::new(self.config),
            profiles: Arc::new(profiles),
            rng: Rng::seeded(self.seed),
            world: World::shown_by(&handle),
            reserved: Reservations::default(),
            handle,
        };
        simulator.take(self.manifest);
        Ok(simulator)
    }
}

/// The scheduler on a cluster in thought. See the [module's documentation](self).
///
/// A clone goes its own way, with plugins of its own: try changes on one.
#[derive(Debug)]
pub struct Simulator {
    config: Arc<Config>,
    profiles: Arc<Profiles>,
    handle: Handle,
    rng: Rng,
    world: World,
    reserved: Reservations,
}

impl Clone for Simulator {
    fn clone(&self) -> Self {
        let (listers, members) = (kinds::copy_all(&self.handle.listers), self.handle.members.fork());
        let handle = Handle { listers, members, ..Handle::default() };
        let profiles = Profiles::build(&self.config.profiles, &self.config.plugins, &handle);
        // They could be made before; plugins of a host's that fail this time are shared.
        let profiles = profiles.map_or_else(|_| self.profiles.clone(), Arc::new);
        let reserved = self.reserved.again(&profiles, &self.world.snapshot, &handle.waiting);
        let shown = World::shown_by(&handle);
        let world = World { shown: shown.shown, members: shown.members, ..self.world.clone() };
        let (config, rng) = (self.config.clone(), self.rng.clone());
        Self { config, profiles, handle, rng, world, reserved }
    }
}

impl Simulator {
    /// Begins one: kube-scheduler's own profile, no nodes.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The nodes, in no particular but a repeatable order.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.world.snapshot.nodes().iter().filter_map(|&id| self.world.snapshot.view(id).node())
    }

    /// The pods that wait for a node, in the order in which they came.
    pub fn pending(&self) -> impl Iterator<Item = &Pod> {
        self.world.waiting.iter().map(|waiting| &*waiting.info.pod)
    }

    /// The node of a pod, if it has one.
    pub fn node_of(&self, pod: &ObjectKey) -> Option<&str> {
        node_of(&self.find(pod)?.pod)
    }

    /// How full the nodes are.
    pub fn usage(&self) -> Usage {
        Usage::of(&self.world.snapshot)
    }

    /// Where a new pod would go, and why. Nothing changes by asking.
    pub fn ask(&self, pod: Pod) -> Result<Answer, PodError> {
        Ok(self.answer(&self.admit(pod)?))
    }

    /// Puts a new pod where it goes: who is asked about next sees it there. If it fits nowhere it waits, and
    /// pods that had to make room for it do. Pods that waited before do not come first: see
    /// [`Simulator::schedule`].
    pub fn place(&mut self, pod: Pod) -> Result<Answer, PodError> {
        let info = self.admit(pod)?;
        let mut answer = self.answer(&info);
        match self.attempt(&mut Classes::default(), &info) {
            Tried::Placed { victims, hold, .. } => {
                for (victim, node) in victims {
                    let cause = Cause::Preempted { by: info.key.clone() };
                    self.world.wait(Waiting::again(&victim, Some(node), cause));
                }
                match hold {
                    None => self.world.bind(&info.uid),
                    Some(hold) => {
                        self.displace(&info.uid);
                        answer.choice = Choice::Held { plugin: hold.plugin };
                        answer.message = "it would wait there for others".into();
                        self.world.wait(Waiting::new(info));
                    }
                }
            }
            // It was refused at last by what it would have reserved.
            Tried::Unfit { message, plugins } if answer.choice.node().is_some() => {
                (answer.choice, answer.message) = (Choice::Nowhere { plugins }, message);
                self.world.wait(Waiting::new(info));
            }
            _ => self.world.wait(Waiting::new(info)),
        }
        Ok(answer)
    }

    /// Where a pod would go that waits, and why. `None`: no such pod waits.
    pub fn explain(&self, pod: &ObjectKey) -> Option<Answer> {
        let waiting = self.world.waiting.iter().find(|waiting| waiting.info.key == *pod)?;
        Some(self.answer(&waiting.info))
    }

    fn find(&self, pod: &ObjectKey) -> Option<&Arc<PodInfo>> {
        self.world.pods().find(|info| info.key == *pod)
    }

    /// Takes the objects of a cluster in.
    fn take(&mut self, manifest: Manifest) {
        let (mut nodes, mut pods) = (Vec::new(), Vec::new());
        for (known, object) in manifest.objects {
            match (object.as_kind::<Node>(), object.as_kind::<Pod>()) {
                (Some(_), _) => nodes.extend(object.into_kind::<Node>()),
                (_, Some(_)) => pods.extend(object.into_kind::<Pod>()),
                _ => known.keep(&self.handle.listers, object),
            }
        }
        for node in nodes {
            self.world.snapshot.set_node(node);
        }
        let spaces: BTreeSet<&str> =
            pods.iter().filter_map(|pod| pod.metadata.namespace.as_deref()).collect();
        kinds::infer_namespaces(&self.handle.listers, spaces.into_iter());
        // Who came first is first in the queue.
        pods.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        for pod in pods {
            let mut pod = Arc::unwrap_or_clone(pod);
            // A class that is not there leaves a pod at zero, as an API server without the plugin does.
            let _ = admission::prioritize(&mut pod, &self.handle.listers);
            self.name(&mut pod);
            if is_terminal(&pod) {
                continue;
            }
            match node_of(&pod) {
                Some(_) => self.world.set_pod(pod),
                None if pod.metadata.deletion_timestamp.is_some() => {}
                None => self.world.wait(Waiting::new(Arc::new(PodInfo::new(Arc::new(pod))))),
            }
        }
    }

    fn admit(&self, mut pod: Pod) -> Result<Arc<PodInfo>, PodError> {
        pod.metadata.namespace.get_or_insert_with(|| "default".into());
        self.name(&mut pod);
        let key = ObjectKey::of(&pod);
        if self.find(&key).is_some() {
            return Err(PodError::Exists { pod: key });
        }
        let mut pod = admission::admit(pod, &self.handle.listers)?;
        kinds::infer_namespaces(&self.handle.listers, [&*key.namespace].into_iter());
        // Whatever it was elsewhere, here it is another one.
        pod.metadata.uid = Some(key.to_string());
        Ok(Arc::new(PodInfo::new(Arc::new(pod))))
    }

    /// Names a pod that leaves its name to the API server.
    fn name(&self, pod: &mut Pod) {
        let meta = &mut pod.metadata;
        if meta.name.as_deref().is_some_and(|name| !name.is_empty()) {
            return;
        }
        let Some(prefix) = meta.generate_name.as_deref().filter(|prefix| !prefix.is_empty()) else { return };
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let taken: BTreeSet<&str> = (self.world.pods())
            .filter(|info| info.key.namespace == namespace)
            .map(|info| &*info.key.name)
            .collect();
        let mut names = (1..).map(|number: u64| format!("{prefix}{number}"));
        meta.name = names.find(|name| !taken.contains(&**name));
    }

    fn answer(&self, info: &Arc<PodInfo>) -> Answer {
        let answer =
            |choice, message: String| Answer { pod: info.key.clone(), choice, message, nodes: Vec::new() };
        let Some(profile) = self.profiles.of(info) else {
            return answer(Choice::Foreign { scheduler: info.scheduler_name().to_owned() }, String::new());
        };
        if let Some(status) = held(profile, info) {
            return answer(Choice::Held { plugin: status.plugin().unwrap_or_default() }, status.message());
        }
        let outcome = decide(&self.world, &self.rng, &mut Classes::default(), info, profile);
        let explained = match self.engine(|engine| engine.explain(info, profile)) {
            Ok(explained) => explained,
            Err(status) => return answer(Choice::Failed { plugin: status.plugin() }, status.message()),
        };
        let (choice, message) = self.choice(outcome.decision, &explained);
        let mut answer = answer(choice, message);
        answer.nodes = self.node_answers(explained, answer.choice.node());
        answer
    }

    fn engine<T>(&self, ask: impl FnOnce(Engine<'_>) -> T) -> T {
        ask(Engine { snapshot: &self.world.snapshot, nominator: &self.world.nominator, rng: &self.rng })
    }

    fn node_name(&self, id: NodeId) -> String {
        self.world.snapshot.view(id).name().to_owned()
    }

    fn choice(&self, decision: Decision, explained: &Explained) -> (Choice, String) {
        match decision {
            Decision::Place(placement) => {
                let of_node = |scored: &&Scored| scored.node == placement.node;
                let best = explained.scored.iter().find(of_node).map(|scored| scored.total);
                let choice = Choice::Node {
                    node: self.node_name(placement.node),
                    score: placement.score,
                    feasible: placement.feasible,
                    best: explained.scored.iter().filter(|scored| Some(scored.total) == best).count(),
                };
                (choice, String::new())
            }
            Decision::Unfit(unfit) => {
                let Unfit { diagnosis, plan } = *unfit;
                let message = diagnosis.message();
                match plan.nomination {
                    Nomination::Node(node) if !plan.victims.is_empty() => {
                        let key =
                            |victim: crate::framework::Victim| ObjectKey::new(victim.namespace, victim.name);
                        let victims = plan.victims.into_iter().map(key).collect();
                        (Choice::Preempts { node, victims }, message)
                    }
                    _ => {
                        let mut plugins = diagnosis.unschedulable_plugins;
                        plugins.extend(diagnosis.pending_plugins);
                        (Choice::Nowhere { plugins }, message)
                    }
                }
            }
            Decision::Fail(status) => (Choice::Failed { plugin: status.plugin() }, status.message()),
        }
    }

    fn node_answers(&self, explained: Explained, chosen: Option<&str>) -> Vec<NodeAnswer> {
        let fits = |scored: Scored| NodeAnswer {
            node: self.node_name(scored.node),
            verdict: Verdict::Fits { total: scored.total, scores: scored.scores },
        };
        let refused = |(id, status): (NodeId, Status)| NodeAnswer {
            node: self.node_name(id),
            verdict: Verdict::Refused {
                plugin: status.plugin(),
                reasons: status.reasons().map(str::to_owned).collect(),
                may_change: status.code() != Code::UnschedulableAndUnresolvable,
            },
        };
        let mut nodes: Vec<NodeAnswer> = explained
            .scored
            .into_iter()
            .map(fits)
            .chain(explained.rejected.into_iter().map(refused))
            .collect();
        nodes.sort_by(|a, b| {
            let rank = |answer: &NodeAnswer| match answer.verdict {
                Verdict::Fits { total, .. } => (Some(&*answer.node) != chosen, Some(-total)),
                Verdict::Refused { .. } => (true, Some(i64::MAX)),
            };
            rank(a).cmp(&rank(b)).then_with(|| a.node.cmp(&b.node))
        });
        nodes
    }
}

#[cfg(test)]
mod tests;
