//! Pods as the scheduler sees them: the one to place, whole; those that are placed, as projections.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};
use rkube_api::{
    client::ObjectKey,
    helpers::pod::{conditions_of, priority},
};

use super::{PodVolumes, Requests, content};
use crate::{
    framework::DEFAULT_SCHEDULER,
    matching::{HostPort, PodTerms},
};

/// A pod's UID; for a pod without one (a what-if run) its namespace and name.
pub type Uid = Arc<str>;

/// A pod to place, with what the plugins ask of it again and again.
#[derive(Clone, Debug)]
pub struct PodInfo {
    /// Its UID.
    pub uid: Uid,
    /// Its namespace and name.
    pub key: ObjectKey,
    /// Its priority.
    pub priority: i32,
    /// What it asks for.
    pub requests: Requests,
    /// Its terms of pod affinity, if it has any.
    pub terms: Option<Arc<PodTerms>>,
    /// The ports that it takes on its node.
    pub ports: Box<[HostPort]>,
    /// Its volumes, if it has any that matter.
    pub volumes: Option<Arc<PodVolumes>>,
    /// The pod.
    pub pod: Arc<Pod>,
    /// A hash of its content: see [`PodInfo::same_content`].
    content: u64,
}

/// A pod's UID.
pub(crate) fn uid_of(pod: &Pod) -> Uid {
    let meta = &pod.metadata;
    match meta.uid.as_deref() {
        Some(uid) => uid.into(),
        None => ObjectKey::of(pod).to_string().into(),
    }
}

impl PodInfo {
    /// Looks at a pod.
    pub fn new(pod: Arc<Pod>) -> Self {
        let (requests, ports) = (Requests::of_pod(&pod), HostPort::of(&pod));
        Self {
            uid: uid_of(&pod),
            key: ObjectKey::of(&*pod),
            priority: priority(&pod),
            content: content::hash(&pod, &requests, &ports),
            requests,
            terms: PodTerms::of(&pod).map(Arc::new),
            volumes: PodVolumes::of(&pod),
            ports,
            pod,
        }
    }

    /// Its labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.pod.metadata.labels.as_ref().unwrap_or(&NONE)
    }

    /// Equal for pods of equal content, and mostly different for others.
    pub(crate) fn content_hash(&self) -> u64 {
        self.content
    }

    /// Whether two pods ask the same of a node: resources, node name, node selector and affinity,
    /// tolerations, host ports, images. What they are called and labelled does not count.
    pub fn same_content(&self, other: &Self) -> bool {
        self.content == other.content
            && self.requests == other.requests
            && self.ports == other.ports
            && content::same(&self.pod, &other.pod)
    }

    /// The pod's spec, if it has one.
    pub fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    /// Its tolerations.
    pub fn tolerations(&self) -> &[Toleration] {
        self.spec().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
    }

    /// The scheduler that it asks for.
    pub fn scheduler_name(&self) -> &str {
        self.spec().and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or(DEFAULT_SCHEDULER)
    }

    /// The group with which it is scheduled.
    pub fn scheduling_group(&self) -> Option<ObjectKey> {
        scheduling_group(&self.pod)
    }

    /// The node on which room is held for it.
    pub fn nominated_node(&self) -> Option<&str> {
        nominated_node(&self.pod)
    }
}

/// The key of the pod group with which a pod is scheduled.
pub fn scheduling_group(pod: &Pod) -> Option<ObjectKey> {
    let name = pod.spec.as_ref()?.scheduling_group.as_ref()?.pod_group_name.clone()?;
    Some(ObjectKey { namespace: pod.metadata.namespace.clone().unwrap_or_default(), name })
}

/// A pod that has a node. Not the whole object: a million of them must fit into memory.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacedPod {
    /// Its UID.
    pub uid: Uid,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its priority.
    pub priority: i32,
    /// What it asks for.
    pub requests: Requests,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it started, if it has: preemption spares those that run longest.
    pub since: Option<Timestamp>,
    /// Whether it is on its way out.
    pub terminating: bool,
    /// Whether it is on its way out to make room for another pod.
    pub preempted: bool,
    /// Its terms of pod affinity, if it has any.
    pub terms: Option<Arc<PodTerms>>,
    /// The ports that it takes on its node.
    pub ports: Box<[HostPort]>,
    /// Its volumes, if it has any that matter.
    pub volumes: Option<Arc<PodVolumes>>,
    /// Whether it has claims of devices.
    pub has_devices: bool,
    /// How often its spec has changed, as far as the server counts that.
    pub generation: i64,
}

impl PlacedPod {
    /// The projection of a pod.
    pub fn of(pod: &Pod) -> Self {
        let terms = PodTerms::of(pod).map(Arc::new);
        let (ports, volumes) = (HostPort::of(pod), PodVolumes::of(pod));
        Self::project(pod, uid_of(pod), Requests::of_pod(pod), terms, ports, volumes)
    }

    fn project(
        pod: &Pod,
        uid: Uid,
        requests: Requests,
        terms: Option<Arc<PodTerms>>,
        ports: Box<[HostPort]>,
        volumes: Option<Arc<PodVolumes>>,
    ) -> Self {
        let meta = &pod.metadata;
        Self {
            uid,
            namespace: meta.namespace.as_deref().unwrap_or_default().into(),
            name: meta.name.as_deref().unwrap_or_default().into(),
            priority: priority(pod),
            requests,
            labels: meta.labels.clone().unwrap_or_default(),
            since: pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0),
            terminating: meta.deletion_timestamp.is_some(),
            preempted: meta.deletion_timestamp.is_some() && is_preempted(pod),
            terms,
            ports,
            volumes,
            has_devices: has_devices(pod),
            generation: meta.generation.unwrap_or_default(),
        }
    }
}

/// Whether a pod has claims of devices.
fn has_devices(pod: &Pod) -> bool {
    let claims = pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_ref());
    claims.is_some_and(|claims| !claims.is_empty())
}

impl From<&PodInfo> for PlacedPod {
    fn from(info: &PodInfo) -> Self {
        let PodInfo { uid, requests, terms, ports, volumes, pod, .. } = info;
        Self::project(pod, uid.clone(), requests.clone(), terms.clone(), ports.clone(), volumes.clone())
    }
}

/// Whether the scheduler has asked the pod to go.
fn is_preempted(pod: &Pod) -> bool {
    let target = conditions_of(pod).iter().find(|condition| condition.type_ == "DisruptionTarget");
    target.is_some_and(|condition| {
        condition.status == "True" && condition.reason.as_deref() == Some("PreemptionByScheduler")
    })
}

/// The node on which room is held for a pod.
pub fn nominated_node(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.nominated_node_name.as_deref().filter(|name| !name.is_empty())
}
