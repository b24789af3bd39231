//! The real API server on a store in memory, what an administrator does to it, and kubelets that do the least.

use std::{collections::BTreeMap, sync::Arc};

use rkube_api::{
    client::{Api, Client, DeleteParams, Patch, PatchParams, PostParams},
    context::{Context, Rng},
    helpers::pod::{is_terminal, node_name},
    k8s_openapi::api::{
        core::v1::{Namespace, Node, Pod, ServiceAccount},
        policy::v1::PodDisruptionBudget,
        scheduling::v1::PriorityClass,
    },
    kinds,
    object::{Kind, Object},
    pipeline::Server,
    registry::Registry,
    request::UserInfo,
};
use rkube_store::Memory;
use serde_json::{Value, json};

use crate::{
    binds::{Watchman, list},
    log::Log,
    shapes::Palette,
    weather::Weather,
};

/// The priority classes of the pods: name, priority, whether they preempt.
const CLASSES: [(&str, i32, &str); 4] = [
    ("low", -10, "PreemptLowerPriority"),
    ("middle", 100, "PreemptLowerPriority"),
    ("high", 1000, "PreemptLowerPriority"),
    ("patient", 500, "Never"),
];

pub(crate) struct World {
    pub(crate) server: Arc<Server>,
    pub(crate) admin: Client,
    pub(crate) weather: Arc<Weather>,
    pub(crate) watchman: Arc<Watchman>,
    pub(crate) context: Context,
    pub(crate) log: Log,
    /// What there is in it.
    palette: Palette,
    /// What kubelets and controllers do at times.
    pub(crate) kubelet: Rng,
    /// What was last said of each pod in the log.
    told: BTreeMap<String, String>,
}

pub(crate) fn from<K: Kind>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

impl World {
    pub(crate) async fn new(seed: u64, palette: Palette) -> Self {
        let context = Context::simulated(seed);
        let registry = Arc::new(Registry::new(kinds::all()).unwrap());
        let store = Arc::new(Memory::<Object>::builder().build());
        let server = Server::builder(store, registry, context.child("server")).build().unwrap();
        let admin = server.client(UserInfo::admin("admin"), "simulation/1.0");
        let weather = Arc::new(Weather::fair());
        let watchman = Arc::new(Watchman::new(admin.clone(), weather.clone()));
        let kubelet = context.rng.fork("kubelet");
        let log = Log::new();
        let told = BTreeMap::new();
        let world = Self { server, admin, weather, watchman, context, log, palette, kubelet, told };
        world.furnish().await;
        if palette.volumes {
            world.furnish_storage().await;
        }
        if palette.devices {
            world.furnish_devices().await;
        }
        world
    }

    async fn furnish(&self) {
        for (name, team) in [("default", "y"), ("other", "x")] {
            self.create::<Namespace>(json!({"metadata": {"name": name, "labels": {"team": team}}})).await;
            let account = json!({"metadata": {"name": "default", "namespace": name}});
            Api::<ServiceAccount>::namespaced(self.admin.clone(), name)
                .create(&PostParams::default(), from(account))
                .await
                .unwrap();
        }
        for (name, value, policy) in CLASSES {
            let class = json!({"metadata": {"name": name}, "value": value, "preemptionPolicy": policy});
            self.create::<PriorityClass>(class).await;
        }
        let budget = json!({
            "metadata": {"name": "b", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": "b"}}, "minAvailable": 1}
        });
        Api::<PodDisruptionBudget>::namespaced(self.admin.clone(), "default")
            .create(&PostParams::default(), from(budget))
            .await
            .unwrap();
    }

    pub(crate) async fn create<K: Kind>(&self, value: Value) {
        let created = Api::<K>::all(self.admin.clone()).create(&PostParams::default(), from(value)).await;
        created.unwrap();
    }

    pub(crate) fn api<K: Kind>(&self) -> Api<K> {
        Api::all(self.admin.clone())
    }

    pub(crate) fn pods_in(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.admin.clone(), namespace)
    }

    pub(crate) async fn all<K: Kind>(&self) -> Vec<Arc<K>> {
        list(&self.admin).await
    }

    /// A node comes, ready.
    pub(crate) async fn add_node(&self, mut node: Value) {
        node["status"]["capacity"] = node["status"]["allocatable"].clone();
        node["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        let (name, taints) =
            (node["metadata"]["name"].as_str().unwrap().to_owned(), node["spec"]["taints"].clone());
        let created = self.api::<Node>().create(&PostParams::default(), from(node)).await;
        if created.is_ok() {
            // The admission's own taint, that a controller would take away, is not the matter here.
            self.change_node(&name, json!({"spec": {"taints": taints}})).await;
        }
    }

    pub(crate) async fn change_node(&self, name: &str, change: Value) {
        let node = self.api::<Node>().patch(name, &PatchParams::default(), &Patch::Merge(change)).await;
        self.watchman.nodes.note(name, node.ok().as_deref());
    }

    pub(crate) async fn change_node_status(&self, name: &str, change: Value) {
        let node =
            self.api::<Node>().patch_status(name, &PatchParams::default(), &Patch::Merge(change)).await;
        self.watchman.nodes.note(name, node.ok().as_deref());
    }

    pub(crate) async fn remove_node(&self, name: &str) {
        let _ = self.api::<Node>().delete(name, &DeleteParams::now()).await;
        self.watchman.nodes.note(name, None);
    }

    /// A pod comes; the server's word if it does not want it.
    pub(crate) async fn add_pod(&self, pod: Value) {
        let namespace = pod["metadata"]["namespace"].as_str().unwrap().to_owned();
        let name = pod["metadata"]["name"].clone();
        if let Err(error) = self.pods_in(&namespace).create(&PostParams::default(), from(pod)).await {
            let mut text = error.to_string();
            text.truncate(text.floor_char_boundary(300));
            self.log.line(format_args!("pod {name} is refused: {text}"));
        }
    }

    pub(crate) async fn change_pod(&self, pod: &Pod, change: Value) {
        let (api, name) = self.place_of(pod);
        let _ = api.patch(&name, &PatchParams::default(), &Patch::Merge(change)).await;
    }

    pub(crate) async fn delete_pod(&self, pod: &Pod, params: &DeleteParams) {
        let (api, name) = self.place_of(pod);
        let _ = api.delete(&name, params).await;
    }

    pub(crate) async fn change_pod_status(&self, pod: &Pod, change: Value) {
        let (api, name) = self.place_of(pod);
        let _ = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(change)).await;
    }

    fn place_of(&self, pod: &Pod) -> (Api<Pod>, String) {
        let meta = &pod.metadata;
        (self.pods_in(meta.namespace.as_deref().unwrap()), meta.name.clone().unwrap())
    }

    /// What kubelets and controllers do at times (`eagerness` of a hundred).
    pub(crate) async fn work(&self, eagerness: usize) {
        self.keep_pods(eagerness).await;
        if self.palette.volumes {
            self.keep_storage(eagerness).await;
        }
        if self.palette.devices {
            self.keep_devices(eagerness).await;
        }
    }

    /// The kubelets, and the collector of pods whose node is gone: pods start, and those on their way out go.
    async fn keep_pods(&self, eagerness: usize) {
        let nodes = self.all::<Node>().await;
        for pod in self.all::<Pod>().await {
            let Some(node) = node_name(&pod) else { continue };
            if self.kubelet.below(100) >= eagerness {
                continue;
            }
            let orphan = !nodes.iter().any(|known| known.metadata.name.as_deref() == Some(node));
            let started = pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
            if pod.metadata.deletion_timestamp.is_some() || orphan {
                self.delete_pod(&pod, &DeleteParams::now()).await;
            } else if !started && !is_terminal(&pod) {
                let now = self.context.clock.now();
                self.change_pod_status(&pod, json!({"status": {"phase": "Running", "startTime": now}})).await;
            }
        }
    }

    /// Writes what has become of each pod since the last call.
    pub(crate) async fn tell(&mut self) {
        let pods = self.all::<Pod>().await;
        let said: BTreeMap<String, String> =
            pods.iter().map(|pod| (pod.metadata.uid.clone().unwrap_or_default(), account(pod))).collect();
        for (uid, text) in &said {
            if self.told.get(uid) != Some(text) {
                self.log.line(text);
            }
        }
        for (_, text) in self.told.iter().filter(|(uid, _)| !said.contains_key(*uid)) {
            self.log.line(format_args!("gone: {text}"));
        }
        self.told = said;
    }
}

/// The condition `PodScheduled`: status, reason, message.
pub(crate) fn scheduled(pod: &Pod) -> (String, String, String) {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let found = conditions.iter().find(|condition| condition.type_ == "PodScheduled").cloned();
    let found = found.unwrap_or_default();
    (found.status, found.reason.unwrap_or_default(), found.message.unwrap_or_default())
}

/// The node where room is held for a pod.
pub(crate) fn nominated(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.nominated_node_name.as_deref().filter(|node| !node.is_empty())
}

fn account(pod: &Pod) -> String {
    let (status, reason, message) = scheduled(pod);
    format!(
        "pod {} {}: on {:?}, nominated {:?}, going {}, {:?}, scheduled {status} {reason} {message}",
        pod.metadata.name.as_deref().unwrap_or_default(),
        pod.metadata.resource_version.as_deref().unwrap_or_default(),
        node_name(pod),
        nominated(pod),
        pod.metadata.deletion_timestamp.is_some(),
        pod.status.as_ref().and_then(|status| status.phase.as_deref()),
    )
}
