//! What changes of pods and nodes mean to the loop.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::{ContainerImage, Node, Pod};
use rkube_api::client::{Change, Seen};
use tokio::time::Instant;

use super::{Driver, inbox::News};
use crate::{
    framework::ClusterEvent,
    snapshot::{PlacedPod, PodInfo, Uid, is_terminal, node_of, uid_of},
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

    /// Of pods that wait the queue keeps all, of those that have a node the snapshot keeps a [`PlacedPod`], of
    /// all others nobody keeps anything. So what a pod was before is what the queue or the snapshot knows of it.
    pub(super) fn pod_seen(&mut self, seen: &Seen<Pod>) {
        let now = Instant::now();
        match seen {
            Seen::Listing => self.missing = self.known_pods(),
            Seen::There(pod) => {
                if !self.missing.is_empty() {
                    self.missing.remove(&uid_of(pod));
                }
                self.handle.activations.ask(self.handle.members.seen(pod));
                match self.role(pod) {
                    Role::Assigned => self.pod_assigned(pod, now),
                    Role::Waiting => self.pod_waits(pod, now),
                    Role::Foreign => self.pod_gone(&uid_of(pod), now),
                }
            }
            Seen::Gone(pod) => {
                let uid = uid_of(pod);
                self.handle.members.gone(&uid);
                self.pod_gone(&uid, now);
            }
            Seen::Listed => {
                for uid in std::mem::take(&mut self.missing) {
                    self.handle.members.gone(&uid);
                    self.pod_gone(&uid, now);
                }
            }
        }
    }

    fn known_pods(&self) -> BTreeSet<Uid> {
        let placed = self.snapshot.pods().map(|(pod, _)| pod.uid.clone());
        let waiting = self.queue.uids().chain(self.early.keys()).cloned();
        placed.chain(waiting).chain(self.handle.members.uids()).collect()
    }

    fn pod_waits(&mut self, pod: &Arc<Pod>, now: Instant) {
        let info = PodInfo::new(pod.clone());
        // One that was just bound may show late that it waited.
        if self.queue.is_in_flight(&info.uid) || !self.snapshot.is_assumed(&info.uid) {
            self.when_known(Arc::new(info), now);
        }
    }

    /// Puts a pod into the queue, but not before the objects are known that plugins look up for it. Others go on.
    fn when_known(&mut self, pod: Arc<PodInfo>, now: Instant) {
        if self.handle.listers.are_known_for(&pod) {
            return self.queue.update(pod, now);
        }
        if let Some(known) = self.handle.listers.start_for(&pod) {
            let tell = self.inbox.teller(|()| News::Known);
            self.client_spawner().spawn("scheduler-objects", async move {
                known.await;
                tell(());
            });
        }
        self.early.insert(pod.uid.clone(), pod);
    }

    pub(super) fn early_pods_wait(&mut self) {
        for pod in std::mem::take(&mut self.early).into_values() {
            self.when_known(pod, Instant::now());
        }
    }

    /// Seen on a node: by our own binding, or by somebody else's, or again.
    fn pod_assigned(&mut self, pod: &Pod, now: Instant) {
        let placed = Arc::new(PlacedPod::of(pod));
        let before = match self.snapshot.pod(&placed.uid) {
            Some((before, _)) if !self.snapshot.is_assumed(&placed.uid) => Some(before.clone()),
            _ => None,
        };
        self.snapshot.set_pod(placed.clone(), node_of(pod).unwrap_or_default());
        let event = match before {
            Some(before) => {
                if placed.terminating {
                    self.departed(&placed.uid, false, now);
                }
                ClusterEvent::assigned_pod_updated(&before, &placed)
            }
            None => {
                self.queue.delete(&placed.uid);
                self.early.shift_remove(&placed.uid);
                Some(ClusterEvent::pod_assigned(placed))
            }
        };
        if let Some(event) = event {
            self.queue.on_event(&event, now);
        }
    }

    fn pod_gone(&mut self, uid: &Uid, now: Instant) {
        self.queue.delete(uid);
        self.early.shift_remove(uid);
        self.handle.waiting.reject(uid, "", "the pod was deleted");
        if let Some(placed) = self.snapshot.remove_pod(uid) {
            self.queue.on_event(&ClusterEvent::assigned_pod_deleted(placed), now);
            self.departed(uid, true, now);
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
