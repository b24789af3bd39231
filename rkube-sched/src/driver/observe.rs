//! What changes of pods and nodes mean to the loop.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerImage, Node, Pod};
use rkube_api::client::Change;
use tokio::time::Instant;

use super::Driver;
use crate::{
    framework::{ClusterEvent, Resource},
    snapshot::{PlacedPod, PodInfo, is_terminal, node_of},
};

/// What a pod is to this scheduler.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It holds resources on a node.
    Assigned,
    /// It waits for us.
    Waiting,
    /// It has ended, or waits for another scheduler.
    Foreign,
}

impl Driver {
    fn role(&self, pod: &Pod) -> Role {
        let scheduler = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
        let ours = || self.profiles.named(scheduler.unwrap_or(crate::framework::DEFAULT_SCHEDULER)).is_some();
        match node_of(pod) {
            _ if is_terminal(pod) => Role::Foreign,
            Some(_) => Role::Assigned,
            None if ours() => Role::Waiting,
            None => Role::Foreign,
        }
    }

    pub(super) fn pod_changed(&mut self, change: &Change<Pod>) {
        let now = Instant::now();
        match change {
            Change::Added(pod) => match self.role(pod) {
                Role::Assigned => self.pod_assigned(pod, now),
                Role::Waiting => self.pod_waits(pod, now),
                Role::Foreign => {}
            },
            Change::Deleted(pod) => self.pod_gone(pod, now),
            Change::Updated { old, new } => match (self.role(old), self.role(new)) {
                (Role::Assigned, Role::Assigned) => {
                    let placed = PlacedPod::of(new);
                    if placed.terminating {
                        self.departed(&placed.uid, false, now);
                    }
                    self.snapshot.set_pod(placed, node_of(new).unwrap_or_default());
                    if let Some(event) = ClusterEvent::pod_updated(Resource::AssignedPod, old, new) {
                        self.queue.on_event(&event, now);
                    }
                }
                (_, Role::Assigned) => self.pod_assigned(new, now),
                (Role::Waiting, Role::Waiting) => {
                    self.queue.update(old, Arc::new(PodInfo::new(new.clone())), now);
                }
                (_, Role::Waiting) => self.pod_waits(new, now),
                (Role::Foreign, Role::Foreign) => {}
                (_, Role::Foreign) => self.pod_gone(new, now),
            },
        }
    }

    fn pod_waits(&mut self, pod: &Arc<Pod>, now: Instant) {
        let info = PodInfo::new(pod.clone());
        if !self.snapshot.is_assumed(&info.uid) {
            self.queue.add(Arc::new(info), now);
        }
    }

    /// Seen on a node: by our own binding, or by somebody else's.
    fn pod_assigned(&mut self, pod: &Arc<Pod>, now: Instant) {
        let placed = PlacedPod::of(pod);
        self.queue.delete(&placed.uid);
        self.snapshot.set_pod(placed, node_of(pod).unwrap_or_default());
        self.queue.on_event(&ClusterEvent::pod_assigned(pod.clone()), now);
    }

    fn pod_gone(&mut self, pod: &Arc<Pod>, now: Instant) {
        let uid = PlacedPod::of(pod).uid;
        self.queue.delete(&uid);
        self.handle.waiting.reject(&uid, "", "the pod was deleted");
        let node = self.snapshot.pod(&uid).map(|(_, node)| self.snapshot.view(node).name().to_owned());
        if let Some(node) = node {
            self.snapshot.remove_pod(&uid);
            self.queue.on_event(&ClusterEvent::assigned_pod_deleted(on_node(pod, &node)), now);
            self.departed(&uid, true, now);
        }
    }

    pub(super) fn node_changed(&mut self, change: &Change<Node>) {
        let event = match change {
            Change::Added(node) => Some(ClusterEvent::node_added(node.clone())),
            Change::Deleted(node) => Some(ClusterEvent::node_deleted(node.clone())),
            Change::Updated { old, new } => {
                let event = ClusterEvent::node_updated(old, new);
                // A heartbeat alone is no news. Images make no pod fit that did not, but count in scores.
                if event.is_none() && images_of(old) == images_of(new) {
                    return;
                }
                event
            }
        };
        match change {
            Change::Added(node) | Change::Updated { new: node, .. } => {
                self.snapshot.set_node(node.clone());
            }
            Change::Deleted(node) => {
                self.snapshot.remove_node(node.metadata.name.as_deref().unwrap_or_default());
            }
        }
        if let Some(event) = event {
            self.queue.on_event(&event, Instant::now());
        }
    }
}

fn images_of(node: &Node) -> &[ContainerImage] {
    node.status.as_ref().and_then(|status| status.images.as_deref()).unwrap_or_default()
}

/// The pod as it is once it has its node, which an assumed pod does not show yet.
pub(super) fn on_node(pod: &Arc<Pod>, node: &str) -> Arc<Pod> {
    if node_of(pod).is_some() {
        return pod.clone();
    }
    let mut pod = (**pod).clone();
    if let Some(spec) = pod.spec.as_mut() {
        spec.node_name = Some(node.to_owned());
    }
    Arc::new(pod)
}
