//! What changes in the cluster, and which of it can help a pod that did not fit.
//!
//! Semantics: KEP-4247 (per-plugin callback functions for accurate requeueing).

use std::{any::Any, ops::BitOr, sync::Arc};

use k8s_openapi::api::core::v1::{Node, NodeStatus};
use rkube_api::{
    client::{Change, ObjectKey},
    object::Kind,
};

use crate::snapshot::{PlacedPod, PodInfo, Requests};

/// Which objects an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// A pod that has a node.
    AssignedPod,
    /// A pod without a node, most often the waiting pod itself.
    PendingPod,
    /// Any pod.
    Pod,
    /// A node.
    Node,
    /// Objects that plugins read through [`Listers`](super::Listers), by the name of their resource
    /// (`persistentvolumeclaims`), or whatever a plugin of the host's likes to name.
    Other(&'static str),
    /// Anything.
    Any,
}

impl Resource {
    fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::Pod, Self::AssignedPod | Self::PendingPod) => true,
            (mine, theirs) => mine == theirs,
        }
    }
}

/// A set of things that can happen to an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Actions(u16);

impl Actions {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// It is new.
    pub const ADD: Self = Self(1);
    /// It is gone.
    pub const DELETE: Self = Self(1 << 1);
    /// A node's allocatable resources changed.
    pub const UPDATE_NODE_ALLOCATABLE: Self = Self(1 << 2);
    /// A node's labels changed.
    pub const UPDATE_NODE_LABEL: Self = Self(1 << 3);
    /// A node's taints, or `unschedulable`, changed.
    pub const UPDATE_NODE_TAINT: Self = Self(1 << 4);
    /// A node's conditions changed.
    pub const UPDATE_NODE_CONDITION: Self = Self(1 << 5);
    /// A node's annotations changed.
    pub const UPDATE_NODE_ANNOTATION: Self = Self(1 << 6);
    /// A pod's labels changed.
    pub const UPDATE_POD_LABEL: Self = Self(1 << 7);
    /// A pod asks for less.
    pub const UPDATE_POD_SCALE_DOWN: Self = Self(1 << 8);
    /// A pod's tolerations changed.
    pub const UPDATE_POD_TOLERATION: Self = Self(1 << 9);
    /// A pod's last scheduling gate is gone.
    pub const UPDATE_POD_GATES_ELIMINATED: Self = Self(1 << 10);
    /// Something else changed.
    pub const UPDATE_OTHER: Self = Self(1 << 11);
    /// The features that a node declares changed.
    pub const UPDATE_NODE_DECLARED_FEATURES: Self = Self(1 << 12);
    /// A claim was made for a pod from a template.
    pub const UPDATE_POD_GENERATED_RESOURCE_CLAIM: Self = Self(1 << 13);
    /// Any change of a node.
    pub const UPDATE_NODE: Self = Self(0b111_1100 | (1 << 11) | (1 << 12));
    /// Everything.
    pub const ALL: Self = Self(u16::MAX);

    /// Whether both sets have something in common.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set with `other` added if `condition` holds.
    #[must_use]
    pub const fn with_if(self, condition: bool, other: Self) -> Self {
        if condition { Self(self.0 | other.0) } else { self }
    }
}

impl BitOr for Actions {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The object of an event, before and after.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A pod that has a node, as the scheduler knows it: it keeps no more of these.
    Pod {
        /// Before; absent if it is new. Of a pod that is gone what was last known of it, even if nobody saw it
        /// go.
        old: Option<Arc<PlacedPod>>,
        /// After; absent if it is gone.
        new: Option<Arc<PlacedPod>>,
    },
    /// A pod that waits for a node.
    Waiting {
        /// Before.
        old: Arc<PodInfo>,
        /// After.
        new: Arc<PodInfo>,
    },
    /// A node.
    Node {
        /// Before; absent if it is new.
        old: Option<Arc<Node>>,
        /// After; absent if it is gone.
        new: Option<Arc<Node>>,
    },
    /// An object of another kind.
    Object(Changed),
    /// Not known: a leftover flushed, a plugin's own event.
    Unknown,
}

/// An object of a kind that plugins read through [`Listers`](super::Listers), before and after.
#[derive(Clone)]
pub struct Changed {
    /// Which.
    pub key: ObjectKey,
    old: Option<Arc<dyn Any + Send + Sync>>,
    new: Option<Arc<dyn Any + Send + Sync>>,
}

impl std::fmt::Debug for Changed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Changed({})", self.key)
    }
}

impl Changed {
    /// As it was, if it was there and is a `K`.
    pub fn before<K: Kind>(&self) -> Option<&K> {
        self.old.as_ref()?.downcast_ref()
    }

    /// As it is, if it is there and is a `K`.
    pub fn after<K: Kind>(&self) -> Option<&K> {
        self.new.as_ref()?.downcast_ref()
    }
}

/// A change in the cluster.
#[derive(Clone, Debug)]
pub struct ClusterEvent {
    /// About what.
    pub resource: Resource,
    /// What happened.
    pub actions: Actions,
    /// To which object.
    pub subject: Subject,
}

impl ClusterEvent {
    /// The event that may help every pod.
    pub fn wildcard() -> Self {
        Self { resource: Resource::Any, actions: Actions::ALL, subject: Subject::Unknown }
    }

    /// Whether it is that event.
    pub fn is_wildcard(&self) -> bool {
        self.resource == Resource::Any && self.actions == Actions::ALL
    }

    /// An object of another kind is new, has changed, or is gone.
    pub fn other<K: Kind>(change: &Change<K>) -> Self {
        let any = |object: &Arc<K>| Some(object.clone() as Arc<dyn Any + Send + Sync>);
        let (actions, old, new) = match change {
            Change::Added(new) => (Actions::ADD, None, any(new)),
            Change::Updated { old, new } => (Actions::UPDATE_OTHER, any(old), any(new)),
            Change::Deleted(old) => (Actions::DELETE, any(old), None),
        };
        let key = ObjectKey::of(&**change.object());
        let subject = Subject::Object(Changed { key, old, new });
        Self { resource: Resource::Other(K::URL_PATH_SEGMENT), actions, subject }
    }

    /// A node is new.
    pub fn node_added(node: Arc<Node>) -> Self {
        Self {
            resource: Resource::Node,
            actions: Actions::ADD,
            subject: Subject::Node { old: None, new: Some(node) },
        }
    }

    /// A node is gone.
    pub fn node_deleted(node: Arc<Node>) -> Self {
        Self {
            resource: Resource::Node,
            actions: Actions::DELETE,
            subject: Subject::Node { old: Some(node), new: None },
        }
    }

    /// A node has changed; `None` if in nothing that scheduling looks at.
    pub fn node_updated(old: &Arc<Node>, new: &Arc<Node>) -> Option<Self> {
        let (before, after) = (old.spec.as_ref(), new.spec.as_ref());
        let (status_before, status_after) = (old.status.as_ref(), new.status.as_ref());
        let resized = status_before.and_then(|status| status.allocatable.as_ref())
            != status_after.and_then(|status| status.allocatable.as_ref());
        let tainted = before.and_then(|spec| spec.taints.as_ref())
            != after.and_then(|spec| spec.taints.as_ref())
            || before.and_then(|spec| spec.unschedulable).unwrap_or_default()
                != after.and_then(|spec| spec.unschedulable).unwrap_or_default();
        let actions = Actions::NONE
            .with_if(resized, Actions::UPDATE_NODE_ALLOCATABLE)
            .with_if(old.metadata.labels != new.metadata.labels, Actions::UPDATE_NODE_LABEL)
            .with_if(tainted, Actions::UPDATE_NODE_TAINT)
            .with_if(!conditions(status_before).eq(conditions(status_after)), Actions::UPDATE_NODE_CONDITION)
            .with_if(old.metadata.annotations != new.metadata.annotations, Actions::UPDATE_NODE_ANNOTATION);
        let declared = status_before.and_then(|status| status.declared_features.as_ref())
            != status_after.and_then(|status| status.declared_features.as_ref());
        let actions = actions.with_if(declared, Actions::UPDATE_NODE_DECLARED_FEATURES);
        let subject = Subject::Node { old: Some(old.clone()), new: Some(new.clone()) };
        (!actions.is_empty()).then_some(Self { resource: Resource::Node, actions, subject })
    }

    /// A pod has got a node, or came with one.
    pub fn pod_assigned(pod: Arc<PlacedPod>) -> Self {
        Self {
            resource: Resource::AssignedPod,
            actions: Actions::ADD,
            subject: Subject::Pod { old: None, new: Some(pod) },
        }
    }

    /// A pod with a node is gone, or has ended.
    pub fn assigned_pod_deleted(pod: Arc<PlacedPod>) -> Self {
        Self {
            resource: Resource::AssignedPod,
            actions: Actions::DELETE,
            subject: Subject::Pod { old: Some(pod), new: None },
        }
    }

    /// A pod with a node has changed; `None` if in nothing that scheduling looks at.
    pub fn assigned_pod_updated(old: &Arc<PlacedPod>, new: &Arc<PlacedPod>) -> Option<Self> {
        let actions = Actions::NONE
            .with_if(old.labels != new.labels, Actions::UPDATE_POD_LABEL)
            .with_if(asks_for_less(&old.requests, &new.requests), Actions::UPDATE_POD_SCALE_DOWN)
            .with_if(old.generation != new.generation || old.requests != new.requests, Actions::UPDATE_OTHER);
        let subject = Subject::Pod { old: Some(old.clone()), new: Some(new.clone()) };
        (!actions.is_empty()).then_some(Self { resource: Resource::AssignedPod, actions, subject })
    }

    /// A pod without a node has changed; `None` if in nothing that scheduling looks at.
    pub fn waiting_pod_updated(old: &Arc<PodInfo>, new: &Arc<PodInfo>) -> Option<Self> {
        let (before, after) = (old.spec(), new.spec());
        let gated = |pod: &PodInfo| {
            pod.spec().and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty())
        };
        let claims = |pod: &PodInfo| {
            let status = pod.pod.status.as_ref();
            status.and_then(|status| status.resource_claim_statuses.clone()).unwrap_or_default()
        };
        let actions = Actions::NONE
            .with_if(old.labels() != new.labels(), Actions::UPDATE_POD_LABEL)
            .with_if(old.tolerations() != new.tolerations(), Actions::UPDATE_POD_TOLERATION)
            .with_if(gated(old) && !gated(new), Actions::UPDATE_POD_GATES_ELIMINATED)
            .with_if(asks_for_less(&old.requests, &new.requests), Actions::UPDATE_POD_SCALE_DOWN)
            .with_if(claims(old) != claims(new), Actions::UPDATE_POD_GENERATED_RESOURCE_CLAIM)
            .with_if(before != after, Actions::UPDATE_OTHER);
        let subject = Subject::Waiting { old: old.clone(), new: new.clone() };
        (!actions.is_empty()).then_some(Self { resource: Resource::PendingPod, actions, subject })
    }
}

/// What nodes report of themselves; heartbeats change the times only.
fn conditions(status: Option<&NodeStatus>) -> impl Iterator<Item = (&str, &str)> {
    let list = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    list.iter().map(|condition| (condition.type_.as_str(), condition.status.as_str()))
}

fn asks_for_less(before: &Requests, after: &Requests) -> bool {
    before.cpu_milli > after.cpu_milli
        || before.memory > after.memory
        || before.ephemeral > after.ephemeral
        || before.scalars.iter().any(|(name, amount)| *amount > after.scalar(name))
}

/// Events that a plugin wants to hear of, because they may make a pod schedulable that it refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// About what.
    pub resource: Resource,
    /// What happens.
    pub actions: Actions,
}

impl Interest {
    /// Such events.
    pub const fn new(resource: Resource, actions: Actions) -> Self {
        Self { resource, actions }
    }

    /// Whether the event is one of them.
    pub fn matches(&self, event: &ClusterEvent) -> bool {
        self.resource.covers(event.resource) && self.actions.intersects(event.actions)
    }
}

/// Whether an event is worth another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// It may help.
    Queue,
    /// It cannot help.
    Skip,
}

impl From<bool> for Hint {
    fn from(helps: bool) -> Self {
        if helps { Self::Queue } else { Self::Skip }
    }
}

/// Whether the event is an update of the waiting pod itself.
pub fn is_own_update(pod: &PodInfo, event: &ClusterEvent) -> bool {
    matches!(&event.subject, Subject::Waiting { new, .. } if new.uid == pod.uid)
}
