//! Changes of the nodes, in thought.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Node, Pod, Taint},
    policy::v1::PodDisruptionBudget,
    storage::v1::CSINode,
};
use rkube_api::{
    client::ObjectKey,
    helpers::{disruption, taints::effect},
    meta::owners::controller_of,
    object::Object,
};

use super::{
    Simulator, admission,
    report::{Cause, HoldUp, Report},
    run::Waiting,
    world::World,
};
use crate::{framework::Listers, snapshot::PodInfo};

/// What an unschedulable node is tainted with.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Taints that tell a node's own state begin so.
const STATE: &str = "node.kubernetes.io/";
const HOSTNAME: &str = "kubernetes.io/hostname";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A change of the cluster's nodes.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A node comes. It is empty: which daemons would run there is not known.
    Add(Box<Node>),
    /// Nodes come that are like one that is there: of its size, labels and taints, with a host name of their own,
    /// and with its daemons and mirror pods.
    Copy {
        /// The node that is there.
        node: String,
        /// How many come.
        count: usize,
    },
    /// A node takes no new pods.
    Cordon(String),
    /// A node takes pods again.
    Uncordon(String),
    /// A node takes no new pods, and those that it has must go, but for daemons and mirror pods.
    Drain(String),
    /// A node goes, with all that runs there. Other nodes must take the pods that are no daemons or mirrors.
    Remove(String),
}

/// Why a change cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no such node.
    #[error("there is no node {0:?}")]
    NoSuchNode(String),
    /// There is a node of that name.
    #[error("there is a node {0:?} already")]
    Exists(String),
    /// The node to add has no name.
    #[error("a node to add has no name")]
    Unnamed,
}

impl Simulator {
    /// Changes the nodes, then looks for nodes for all pods that wait: those that did before, and those whose
    /// node was drained or is gone.
    ///
    /// First all nodes change, one change after the other, then all pods go that have to, at once, as by several
    /// `kubectl drain --force --ignore-daemonsets`; the disruption budgets that would make those wait are
    /// [told](Report::held_up). To try something out,
    /// clone the simulator. An error leaves the simulator as it was.
    ///
    /// ```
    /// use rkube_sched::simulator::{Change, Simulator};
    ///
    /// let simulator = Simulator::builder().load("
    /// {apiVersion: v1, kind: Node, metadata: {name: a}, status: {allocatable: {cpu: 2, memory: 4Gi, pods: 9}}}
    /// ---
    /// {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {nodeName: a, containers: [{name: c}]}}
    /// ")?.build()?;
    /// let drained = simulator.clone().apply(&[Change::Drain("a".into())])?;
    /// let message = &drained.pending[0].message;
    /// assert!(message.starts_with("0/1 nodes are available: 1 node(s) were unschedulable."), "{message}");
    ///
    /// let more = Change::Copy { node: "a".into(), count: 1 };
    /// let report = simulator.clone().apply(&[more, Change::Drain("a".into())])?;
    /// assert_eq!((&*report.moves[0].to, report.all_fit()), ("a-copy-1", true));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn apply(&mut self, changes: &[Change]) -> Result<Report, ChangeError> {
        let before = self.usage();
        let mut changed = self.clone();
        let world = &mut changed.world;
        let (mut added, mut leaving, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::Add(node) => added.push(add(world, (**node).clone())?),
                Change::Copy { node, count } => {
                    added.extend(copy(world, &changed.handle.listers, node, *count)?)
                }
                Change::Cordon(node) => cordon(world, node, true)?,
                Change::Uncordon(node) => cordon(world, node, false)?,
                Change::Drain(node) => {
                    cordon(world, node, true)?;
                    leaving.push((node.clone(), Cause::Drained));
                }
                Change::Remove(node) => {
                    world.snapshot.remove_node(node).ok_or_else(|| no_such(node))?;
                    leaving.push((node.clone(), Cause::NodeGone));
                }
            }
        }
        *self = changed;
        let drained = leaving.iter().filter(|(_, cause)| *cause == Cause::Drained);
        let held_up = self.held_up(drained.map(|(node, _)| &**node));
        for (node, cause) in leaving {
            gone.extend(self.vacate(&node, &cause));
        }
        let report = self.schedule();
        Ok(Report { added, gone, held_up, before, ..report })
    }

    /// The budgets that do not let all pods of some nodes go at once.
    fn held_up<'a>(&self, nodes: impl Iterator<Item = &'a str>) -> Vec<HoldUp> {
        let leaves =
            |pod: &Arc<PodInfo>| !is_bound_to_node(&pod.pod) && pod.pod.metadata.deletion_timestamp.is_none();
        let leaving: Vec<_> = nodes.flat_map(|node| self.world.pods_on(node)).filter(leaves).collect();
        let hold_up = |budget: Arc<PodDisruptionBudget>| {
            let key = ObjectKey::of(&*budget);
            let is_its = |pod: &&Arc<PodInfo>| {
                pod.key.namespace == key.namespace
                    && disruption::selects(&budget, pod.pod.metadata.labels.as_ref())
            };
            let leaving = leaving.iter().filter(is_its).count();
            let allowed = budget.status.as_ref().and_then(|status| status.disruptions_allowed);
            let allowed = allowed.and_then(|allowed| usize::try_from(allowed).ok()).unwrap_or(0);
            (leaving > allowed).then_some(HoldUp { budget: key, allowed, leaving })
        };
        self.handle.listers.get::<PodDisruptionBudget>().list().into_iter().filter_map(hold_up).collect()
    }

    /// Sends the pods of a node away; those that come back somewhere else wait from now on, the others are told.
    fn vacate(&mut self, node: &str, cause: &Cause) -> Vec<ObjectKey> {
        let mut gone = Vec::new();
        for pod in self.world.pods_on(node) {
            let stays = is_bound_to_node(&pod.pod);
            if stays && *cause == Cause::Drained {
                continue;
            }
            self.displace(&pod.uid);
            if stays || pod.pod.metadata.deletion_timestamp.is_some() {
                gone.push(pod.key.clone());
            } else {
                let waiting = Waiting::again(&pod, Some(node.to_owned()), cause.clone());
                self.world.wait(waiting);
            }
        }
        gone
    }
}

fn copy(world: &mut World, listers: &Listers, node: &str, count: usize) -> Result<Vec<String>, ChangeError> {
    let original = world.node(node).ok_or_else(|| no_such(node))?.clone();
    let daemons = world.pods_on(node).into_iter().filter(|pod| is_bound_to_node(&pod.pod));
    let daemons: Vec<_> = daemons.collect();
    let drivers = listers.get::<CSINode>();
    let mut added = Vec::new();
    let mut number = 0;
    while added.len() < count {
        number += 1;
        let name = format!("{node}-copy-{number}");
        if world.node(&name).is_some() {
            continue;
        }
        add(world, copied(&original, &name))?;
        if let Some(there) = drivers.get("", node) {
            let mut copy = (*there).clone();
            copy.metadata.name = Some(name.clone());
            drivers.insert(Arc::new(copy));
        }
        for daemon in &daemons {
            let mut pod = (*daemon.pod).clone();
            pod.metadata.uid = None;
            pod.metadata.name = Some(format!("{}-{name}", daemon.key.name));
            pod.spec.get_or_insert_default().node_name = Some(name.clone());
            world.set_pod(pod);
        }
        added.push(name);
    }
    Ok(added)
}

fn no_such(node: &str) -> ChangeError {
    ChangeError::NoSuchNode(node.to_owned())
}

fn add(world: &mut World, node: Node) -> Result<String, ChangeError> {
    let mut object = Object::new(node);
    admission::default("Node", &mut object);
    let node = object.as_kind::<Node>().cloned().unwrap_or_default();
    let name = node.metadata.name.clone().filter(|name| !name.is_empty()).ok_or(ChangeError::Unnamed)?;
    if world.node(&name).is_some() {
        return Err(ChangeError::Exists(name));
    }
    world.snapshot.set_node(Arc::new(node));
    Ok(name)
}

/// A fresh node like another: what tells of the other's own state is left out.
fn copied(original: &Node, name: &str) -> Node {
    let mut node = original.clone();
    node.metadata.name = Some(name.to_owned());
    node.metadata.uid = None;
    if let Some(hostname) = node.metadata.labels.as_mut().and_then(|labels| labels.get_mut(HOSTNAME)) {
        name.clone_into(hostname);
    }
    if let Some(spec) = &mut node.spec {
        spec.unschedulable = None;
        spec.provider_id = None;
        spec.pod_cidr = None;
        spec.pod_cidrs = None;
        if let Some(taints) = &mut spec.taints {
            taints.retain(|taint| !taint.key.starts_with(STATE));
        }
    }
    node
}

/// As `kubectl cordon` and the controller do that taints such nodes.
fn cordon(world: &mut World, name: &str, is_cordoned: bool) -> Result<(), ChangeError> {
    let mut node = world.node(name).ok_or_else(|| no_such(name))?.clone();
    let spec = node.spec.get_or_insert_default();
    spec.unschedulable = is_cordoned.then_some(true);
    let taints = spec.taints.get_or_insert_default();
    taints.retain(|taint| taint.key != UNSCHEDULABLE);
    if is_cordoned {
        let (key, effect) = (UNSCHEDULABLE.to_owned(), effect::NO_SCHEDULE.to_owned());
        taints.push(Taint { key, effect, ..Taint::default() });
    }
    world.snapshot.set_node(Arc::new(node));
    Ok(())
}

/// Whether a pod belongs to its node: a daemon, or the mirror of one that the node runs by itself.
fn is_bound_to_node(pod: &Pod) -> bool {
    let meta = &pod.metadata;
    controller_of(meta).is_some_and(|owner| owner.kind == "DaemonSet")
        || meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR))
}
