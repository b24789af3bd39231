//! Looks at every binding in the moment in which the server takes it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rkube_api::{
    client::{Api, Client, ListParams},
    helpers::pod::is_terminal,
    k8s_openapi::api::core::v1::{Binding, Namespace, Node, Pod, PodSpec},
    object::Kind,
};
use rkube_sched::testing::reference::{Cluster, Storage, Verdict, verdict};
use serde_json::json;
use tokio::time::Instant;

use crate::{cluster::from, shapes::fixed_labels, storage, weather::Weather};

/// Every form that each node has had.
#[derive(Default)]
pub(crate) struct NodeHistory(Mutex<BTreeMap<String, Vec<(Instant, Option<Node>)>>>);

impl NodeHistory {
    /// A node is so from now on; `None`: it is gone.
    pub(crate) fn note(&self, name: &str, node: Option<&Node>) {
        self.0.lock().entry(name.to_owned()).or_default().push((Instant::now(), node.cloned()));
    }

    /// The forms that a node had at any time in the last `period`.
    fn within(&self, name: &str, period: Duration) -> Vec<Node> {
        let history = self.0.lock();
        let forms = history.get(name).map(Vec::as_slice).unwrap_or_default();
        let old = |at: &Instant| at.elapsed() > period;
        let first = forms.iter().rposition(|(at, _)| old(at)).unwrap_or(0);
        forms[first..].iter().filter_map(|(_, node)| node.clone()).collect()
    }
}

/// The news of a moment may be on their way still.
const MOMENT: Duration = Duration::from_secs(2);
/// What a scheduler may not know yet after faults, or when a pod has waited in Permit.
const LONG: Duration = Duration::from_secs(400);

/// Sees all bindings.
pub(crate) struct Watchman {
    pub(crate) admin: Client,
    pub(crate) weather: Arc<Weather>,
    pub(crate) nodes: NodeHistory,
    /// Who has bound each pod, by UID.
    placed: Mutex<BTreeMap<String, &'static str>>,
    wrong: Mutex<Vec<String>>,
}

impl Watchman {
    pub(crate) fn new(admin: Client, weather: Arc<Weather>) -> Self {
        Self {
            admin,
            weather,
            nodes: NodeHistory::default(),
            placed: Mutex::default(),
            wrong: Mutex::default(),
        }
    }

    /// What was wrong with bindings so far.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.wrong.lock().clone()
    }

    /// How many pods were bound.
    pub(crate) fn bound_so_far(&self) -> usize {
        self.placed.lock().len()
    }

    /// All that volumes are made of.
    pub(crate) async fn storage(&self) -> Storage {
        let (claims, volumes) = (list(&self.admin).await, list(&self.admin).await);
        let (classes, nodes) = (list(&self.admin).await, list(&self.admin).await);
        Storage {
            claims: owned(claims),
            volumes: owned(volumes),
            classes: owned(classes),
            nodes: owned(nodes),
            ..Storage::default()
        }
    }

    /// A scheduler has bound a pod. The pods that it placed itself must fit together, with each other and on
    /// the node as the scheduler may have known it, by all that no other scheduler's pods can change.
    pub(crate) async fn bound(&self, who: &'static str, binding: &Binding) {
        let uid = binding.metadata.uid.clone().unwrap_or_default();
        if let Some(before) = self.placed.lock().insert(uid.clone(), who) {
            self.wrong.lock().push(format!("{uid} was bound by {before} and again by {who}"));
        }
        let pods = list::<Pod>(&self.admin).await;
        let nodes = list::<Node>(&self.admin).await;
        let namespaces = list::<Namespace>(&self.admin).await;
        let Some(pod) = pods.iter().find(|pod| pod.metadata.uid.as_ref() == Some(&uid)).cloned() else {
            return;
        };
        let own = {
            let placed = self.placed.lock();
            let own = |pod: &Arc<Pod>| {
                let by = pod.metadata.uid.as_ref().and_then(|uid| placed.get(uid));
                by == Some(&who) && !is_terminal(pod) && pod.metadata.uid.as_ref() != Some(&uid)
            };
            owned(pods.into_iter().filter(own).collect())
        };
        let (nodes, namespaces) = (owned(nodes), owned(namespaces));
        let mut cluster = Cluster { nodes, pods: own, namespaces, ..Cluster::default() };
        let target = binding.target.name.clone().unwrap_or_default();
        let period = if self.weather.is_settled() && !may_have_waited(&pod) { MOMENT } else { LONG };
        let mut bare = without_company(Arc::unwrap_or_clone(pod));
        let storage = self.storage().await;
        // Of claims that are gone, or have come meanwhile, the scheduler can know nothing.
        let now = self.admin.context().clock.now().0.as_second();
        if storage::are_there(&storage, &bare, now, period.as_secs()) {
            cluster.storage = storage;
            let node = from(json!({"metadata": {"name": target, "labels": fixed_labels(&target)}}));
            if !storage::are_reached(&cluster.storage, &bare, &node) {
                let name = bare.metadata.name.clone().unwrap_or_default();
                self.wrong.lock().push(format!("{who} bound {name} to {target}, without its volumes"));
            }
        } else if let Some(spec) = bare.spec.as_mut() {
            spec.volumes = None;
        }
        let fits = self.nodes.within(&target, period).into_iter().any(|form| {
            cluster.nodes.retain(|node| node.metadata.name != form.metadata.name);
            cluster.nodes.push(form.clone());
            verdict(&cluster, &bare, &form) == Verdict::Fits
        });
        if !fits {
            let name = bare.metadata.name.unwrap_or_default();
            self.wrong.lock().push(format!("{who} bound {name} to {target}, where it does not fit"));
        }
    }
}

/// Whether Permit or PreBind may have held a pod for long.
fn may_have_waited(pod: &Pod) -> bool {
    let asks = pod.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key("permit"));
    let waits = |spec: &PodSpec| spec.scheduling_group.is_some() || spec.volumes.is_some();
    asks || pod.spec.as_ref().is_some_and(waits)
}

/// The pod without what it asks of other pods' presence, which may have gone by now, and not yet on a node.
fn without_company(mut pod: Pod) -> Pod {
    if let Some(spec) = pod.spec.as_mut() {
        spec.node_name = None;
        spec.topology_spread_constraints = None;
        if let Some(affinity) = spec.affinity.as_mut() {
            affinity.pod_affinity = None;
        }
    }
    pod
}

/// All objects of a kind.
pub(crate) async fn list<K: Kind>(client: &Client) -> Vec<Arc<K>> {
    Api::<K>::all(client.clone()).list(&ListParams::default()).await.unwrap().items
}

/// The objects themselves, as the reference engine takes them.
pub(crate) fn owned<K: Kind + Clone>(objects: Vec<Arc<K>>) -> Vec<K> {
    objects.into_iter().map(Arc::unwrap_or_clone).collect()
}
