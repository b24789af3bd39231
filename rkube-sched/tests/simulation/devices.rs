//! Devices and claims to them, and a controller that does the least: it makes claims and gives devices back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rkube_api::{
    client::{Api, DeleteParams, Patch, PatchParams, PostParams},
    context::Rng,
    helpers::{
        affinity::RequiredNodeAffinity,
        pod::{is_terminal, node_name},
    },
    k8s_openapi::api::{
        core::v1::{Node, Pod},
        resource::v1::{AllocationResult, DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice},
    },
    meta::owners::controller_of,
};
use serde_json::{Value, json};

use crate::{
    binds::owned,
    checks::Broken,
    cluster::{World, from},
    shapes::pick,
};

const DRIVER: &str = "gpu.example.com";
/// So many claims have a name of their own.
const NUMBERS: usize = 4;
/// Pools of devices: one a node, for the first nodes, and one that a zone shares.
const POOLS: usize = 6;
const SHARED: &str = "shared";

/// What an administrator, or a driver, does to devices.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A pool has so many devices from now on.
    Pool(usize, usize),
    AddClaim(Value),
    /// The one at this place of the list.
    DeleteClaim(usize),
}

pub(crate) fn draw(rng: &Rng) -> Change {
    match rng.below(10) {
        0..=3 => Change::Pool(rng.below(POOLS + 1), rng.below(4)),
        4..=7 => Change::AddClaim(claim(rng, rng.below(NUMBERS))),
        _ => Change::DeleteClaim(rng.below(1000)),
    }
}

fn requests(kind: &str) -> Value {
    let one = |class: &str| json!({"deviceClassName": class});
    let request = match kind {
        "one" => json!({"name": "r", "exactly": one("gpu")}),
        "two" => json!({"name": "r", "exactly": {"deviceClassName": "gpu", "count": 2}}),
        "large" => json!({"name": "r", "exactly": one("large")}),
        "all" => json!({"name": "r", "exactly": {"deviceClassName": "large", "allocationMode": "All"}}),
        _ => json!({"name": "r", "firstAvailable": [
            {"name": "a", "deviceClassName": "large"}, {"name": "b", "deviceClassName": "gpu"}
        ]}),
    };
    json!({"devices": {"requests": [request]}})
}

const KINDS: [&str; 5] = ["one", "two", "large", "all", "either"];

fn claim(rng: &Rng, number: usize) -> Value {
    let meta = json!({"name": format!("d{number}"), "namespace": pick(rng, &["default", "other"])});
    json!({"metadata": meta, "spec": requests(pick(rng, &KINDS))})
}

/// Gives a pod a claim, of its own or one that it shares and that need not be there.
pub(crate) fn adorn(rng: &Rng, pod: &mut Value) {
    let claim = match rng.below(3) {
        0 => json!({"name": "d", "resourceClaimName": format!("d{}", rng.below(NUMBERS))}),
        _ => json!({"name": "d", "resourceClaimTemplateName": pick(rng, &KINDS)}),
    };
    pod["spec"]["resourceClaims"] = json!([claim]);
    pod["spec"]["containers"][0]["resources"]["claims"] = json!([{"name": "d"}]);
}

fn pool_name(number: usize) -> String {
    if number == POOLS { SHARED.to_owned() } else { format!("n{number}") }
}

/// A pool's only slice.
fn slice(number: usize, devices: usize, generation: i64) -> Value {
    let name = pool_name(number);
    let device = |at: usize| {
        let size = if at.is_multiple_of(2) { 16 } else { 40 };
        json!({"name": format!("g{at}"), "attributes": {"memory": {"int": size}}})
    };
    let mut spec = json!({
        "driver": DRIVER, "pool": {"name": name, "generation": generation, "resourceSliceCount": 1},
        "devices": (0..devices).map(device).collect::<Vec<_>>()
    });
    if number == POOLS {
        let zone = json!({"key": "zone", "operator": "In", "values": ["z0"]});
        spec["nodeSelector"] = json!({"nodeSelectorTerms": [{"matchExpressions": [zone]}]});
    } else {
        spec["nodeName"] = json!(name);
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

fn allocation(claim: &ResourceClaim) -> Option<&AllocationResult> {
    claim.status.as_ref()?.allocation.as_ref()
}

/// The UIDs of the pods for which a claim is reserved.
fn users(claim: &ResourceClaim) -> Vec<&str> {
    let list = claim.status.iter().flat_map(|status| status.reserved_for.iter().flatten());
    list.map(|user| user.uid.as_str()).collect()
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// Whether a pod has ended, or goes before it has begun.
fn is_done(pod: &Pod) -> bool {
    is_terminal(pod) || (pod.metadata.deletion_timestamp.is_some() && node_name(pod).is_none())
}

/// The names of a pod's claims; `None` while one was not made yet.
fn names(pod: &Pod) -> Option<Vec<String>> {
    let asked = pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_deref()).unwrap_or_default();
    let made = pod.status.as_ref().and_then(|status| status.resource_claim_statuses.as_deref());
    let made = |name: &str| {
        let found = made.unwrap_or_default().iter().find(|made| made.name == name)?;
        found.resource_claim_name.clone()
    };
    asked.iter().map(|asked| asked.resource_claim_name.clone().or_else(|| made(&asked.name))).collect()
}

/// A pod's claims; `None` if one is not there to be used.
fn claims_of(pod: &Pod, claims: &[ResourceClaim]) -> Option<Vec<ResourceClaim>> {
    let find = |name: String| {
        let same = |claim: &&ResourceClaim| {
            claim.metadata.name.as_ref() == Some(&name) && claim.metadata.namespace == pod.metadata.namespace
        };
        claims.iter().find(same).filter(|claim| claim.metadata.deletion_timestamp.is_none()).cloned()
    };
    names(pod)?.into_iter().map(find).collect()
}

fn is_usable(claim: &ResourceClaim, node: &Node) -> bool {
    let selector = allocation(claim).and_then(|allocation| allocation.node_selector.as_ref());
    selector.is_none_or(|selector| RequiredNodeAffinity::of_selector(selector).matches_node(node))
}

/// What there is of devices.
#[derive(Default)]
pub(crate) struct Devices {
    slices: Vec<ResourceSlice>,
    classes: Vec<DeviceClass>,
    claims: Vec<ResourceClaim>,
}

impl Devices {
    /// Whether a pod asks for devices.
    pub(crate) fn asked_by(pod: &Pod) -> bool {
        pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_ref()).is_some_and(|it| !it.is_empty())
    }

    /// Whether a pod's claims are all there.
    pub(crate) fn are_claimed(&self, pod: &Pod) -> bool {
        claims_of(pod, &self.claims).is_some()
    }

    /// Whether a pod that waits could have its devices on a node, if what nobody else uses is given back.
    #[cfg(feature = "dra")]
    pub(crate) fn can_serve(&self, pod: &Pod, node: &Node) -> bool {
        let Some(mine) = claims_of(pod, &self.claims) else { return false };
        let (open, fixed): (Vec<_>, Vec<_>) = mine.into_iter().partition(|claim| {
            let idle = users(claim).iter().all(|user| *user == uid(pod));
            allocation(claim).is_none() || (idle && !is_usable(claim, node))
        });
        let open: Vec<ResourceClaim> = open.into_iter().map(without_devices).collect();
        let other = |claim: &&ResourceClaim| open.iter().all(|open| open.metadata.uid != claim.metadata.uid);
        let offers = rkube_sched::testing::reference::devices::Offers {
            slices: self.slices.clone(),
            classes: self.classes.clone(),
            claims: self.claims.iter().filter(other).cloned().collect(),
            ..Default::default()
        };
        fixed.iter().all(|claim| is_usable(claim, node)) && offers.can_allocate(node, &open)
    }

    /// Without the plugin devices are nobody's business.
    #[cfg(not(feature = "dra"))]
    pub(crate) fn can_serve(&self, _: &Pod, _: &Node) -> bool {
        let _ = (&self.slices, &self.classes);
        true
    }
}

#[cfg(feature = "dra")]
fn without_devices(mut claim: ResourceClaim) -> ResourceClaim {
    claim.status = None;
    claim
}

impl World {
    /// Classes, templates and the first devices.
    pub(crate) async fn furnish_devices(&self) {
        for (name, more) in
            [("gpu", String::new()), ("large", format!(" && device.attributes['{DRIVER}'].memory > 20"))]
        {
            let selector = json!({"cel": {"expression": format!("device.driver == '{DRIVER}'{more}")}});
            self.create::<DeviceClass>(
                json!({"metadata": {"name": name}, "spec": {"selectors": [selector]}}),
            )
            .await;
        }
        for namespace in ["default", "other"] {
            for kind in KINDS {
                let meta = json!({"name": kind, "namespace": namespace});
                let template = json!({"metadata": meta, "spec": {"spec": requests(kind)}});
                let templates = Api::<ResourceClaimTemplate>::namespaced(self.admin.clone(), namespace);
                templates.create(&PostParams::default(), from(template)).await.unwrap();
            }
        }
        for number in 0..POOLS {
            self.create::<ResourceSlice>(slice(number, 1 + number % 3, 1)).await;
        }
    }

    fn device_claims(&self, namespace: Option<&str>) -> Api<ResourceClaim> {
        Api::namespaced(self.admin.clone(), namespace.unwrap())
    }

    pub(crate) async fn change_devices(&self, change: Change) {
        match change {
            Change::Pool(number, devices) => self.change_pool(number, devices).await,
            Change::AddClaim(claim) => {
                let claim: ResourceClaim = from(claim);
                let claims = self.device_claims(claim.metadata.namespace.as_deref());
                let _ = claims.create(&PostParams::default(), claim).await;
            }
            Change::DeleteClaim(at) => {
                let claims = self.all::<ResourceClaim>().await;
                if let Some(claim) = (!claims.is_empty()).then(|| &claims[at % claims.len()]) {
                    self.delete_device_claim(claim).await;
                }
            }
        }
    }

    async fn change_pool(&self, number: usize, devices: usize) {
        let (name, slices) = (pool_name(number), self.api::<ResourceSlice>());
        let before = slices.get_opt(&name).await.unwrap();
        let generation = before.as_ref().map_or(1, |before| before.spec.pool.generation + 1);
        let new = slice(number, devices, generation);
        let _ = match (before, devices) {
            (Some(_), 0) => slices.delete(&name, &DeleteParams::now()).await.map(drop),
            (Some(_), _) => slices.patch(&name, &PatchParams::default(), &Patch::Merge(new)).await.map(drop),
            (None, 0) => Ok(()),
            (None, _) => slices.create(&PostParams::default(), from(new)).await.map(drop),
        };
    }

    async fn delete_device_claim(&self, claim: &ResourceClaim) {
        let claims = self.device_claims(claim.metadata.namespace.as_deref());
        let _ = claims.delete(claim.metadata.name.as_deref().unwrap(), &DeleteParams::now()).await;
    }

    pub(crate) async fn devices(&self) -> Devices {
        Devices {
            slices: owned(self.all().await),
            classes: owned(self.all().await),
            claims: owned(self.all().await),
        }
    }

    /// The controller's work, of which `eagerness` of a hundred is done.
    pub(crate) async fn keep_devices(&self, eagerness: usize) {
        let pods = self.all::<Pod>().await;
        for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && !is_terminal(pod)) {
            if self.kubelet.below(100) < eagerness {
                self.make_claims(pod).await;
            }
        }
        for claim in self.all::<ResourceClaim>().await {
            if self.kubelet.below(100) < eagerness {
                self.keep_device_claim(&claim, &pods).await;
            }
        }
        for pod in pods.iter().filter(|pod| node_name(pod).is_some() && !is_terminal(pod)) {
            if self.kubelet.below(100) < eagerness {
                self.reserve_claims(pod).await;
            }
        }
    }

    /// A pod that has its node has its claims, too, whatever schedulers that compete have made of them.
    async fn reserve_claims(&self, pod: &Pod) {
        for name in names(pod).unwrap_or_default() {
            let claims = self.device_claims(pod.metadata.namespace.as_deref());
            let Ok(Some(claim)) = claims.get_opt(&name).await else { continue };
            if allocation(&claim).is_some() && !users(&claim).contains(&uid(pod)) {
                let user = json!({"resource": "pods", "name": pod.metadata.name, "uid": uid(pod)});
                let mut new = (*claim).clone();
                new.status
                    .as_mut()
                    .unwrap()
                    .reserved_for
                    .get_or_insert_default()
                    .push(serde_json::from_value(user).unwrap());
                let _ = claims.update_status(&PostParams::default(), new).await;
            }
        }
    }

    async fn make_claims(&self, pod: &Pod) {
        if names(pod).is_some() {
            return;
        }
        let meta = &pod.metadata;
        let asked = pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_deref()).unwrap_or_default();
        let mut made = Vec::new();
        for asked in asked {
            let Some(kind) = &asked.resource_claim_template_name else { continue };
            let name =
                format!("{}-{}-{}", meta.name.as_deref().unwrap(), asked.name, meta.generation.unwrap_or(0));
            let owner = json!({
                "apiVersion": "v1", "kind": "Pod", "name": meta.name, "uid": meta.uid, "controller": true
            });
            let claim_meta = json!({"name": name, "namespace": meta.namespace, "ownerReferences": [owner]});
            let claim: ResourceClaim = from(json!({"metadata": claim_meta, "spec": requests(kind)}));
            let claims = self.device_claims(meta.namespace.as_deref());
            let _ = claims.create(&PostParams::default(), claim).await;
            made.push(json!({"name": asked.name, "resourceClaimName": name}));
        }
        self.change_pod_status(pod, json!({"status": {"resourceClaimStatuses": made}})).await;
    }

    async fn keep_device_claim(&self, claim: &ResourceClaim, pods: &[Arc<Pod>]) {
        let there = |user: &str| pods.iter().find(|pod| uid(pod) == user).filter(|pod| !is_done(pod));
        let meta = &claim.metadata;
        let claims = self.device_claims(meta.namespace.as_deref());
        let (before, going) = (users(claim), meta.deletion_timestamp.is_some());
        let unused = !before.iter().any(|user| there(user).is_some());
        let gives_back = unused && (!before.is_empty() || going);
        if before.iter().any(|user| there(user).is_none()) || (gives_back && allocation(claim).is_some()) {
            let mut new = claim.clone();
            let status = new.status.get_or_insert_default();
            let reserved = status.reserved_for.get_or_insert_default();
            reserved.retain(|user| there(&user.uid).is_some());
            if gives_back {
                (status.allocation, status.devices, status.reserved_for) = (None, None, None);
            }
            // Who has changed it meanwhile comes first.
            if claims.update_status(&PostParams::default(), new).await.is_err() {
                return;
            }
        }
        if gives_back && meta.finalizers.is_some() {
            let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            let _ = claims.patch(meta.name.as_deref().unwrap(), &PatchParams::default(), &free).await;
        }
        let orphan = controller_of(meta).is_some_and(|owner| there(&owner.uid).is_none());
        if orphan && unused && !going {
            self.delete_device_claim(claim).await;
        }
    }

    /// What must hold at any time where one scheduler works `alone`: a device has one claim, and a pod that has its
    /// node has its devices there. Of those that compete none knows what the other is about to do.
    pub(crate) async fn check_devices(&self, alone: bool) -> Broken {
        let mut broken = Broken::new();
        let claims = self.all::<ResourceClaim>().await;
        let mut holders = BTreeMap::new();
        if !alone {
            return broken;
        }
        for claim in &claims {
            let results = allocation(claim).and_then(|it| it.devices.as_ref()?.results.as_ref());
            for it in results.into_iter().flatten() {
                let device = (it.driver.clone(), it.pool.clone(), it.device.clone());
                if let Some(other) = holders.insert(device.clone(), claim.metadata.name.clone()) {
                    broken.push(format!("{device:?} has claims {other:?} and {:?}", claim.metadata.name));
                }
            }
        }
        let claims = owned(claims);
        for pod in self.all::<Pod>().await {
            let asks = Devices::asked_by(&pod) && !is_terminal(&pod);
            if let Some(node) = node_name(&pod).filter(|_| asks) {
                broken.extend(check_pod(&pod, node, &claims));
            }
        }
        broken
    }

    /// Once everything rests: claims are reserved for pods that are there, and those made for pods that are gone
    /// are gone.
    pub(crate) async fn check_devices_at_rest(&self) -> Broken {
        let pods = self.all::<Pod>().await;
        let pods: BTreeSet<&str> = pods.iter().filter(|pod| !is_done(pod)).map(|pod| uid(pod)).collect();
        let mut broken = Broken::new();
        for claim in self.all::<ResourceClaim>().await {
            let owner = controller_of(&claim.metadata).map(|owner| owner.uid.as_str());
            let gone: Vec<&str> =
                users(&claim).into_iter().chain(owner).filter(|it| !pods.contains(it)).collect();
            if !gone.is_empty() {
                broken.push(format!("claim {:?} is there for {gone:?}", claim.metadata.name));
            }
        }
        broken
    }
}

fn check_pod(pod: &Pod, on: &str, claims: &[ResourceClaim]) -> Broken {
    let mut broken = Broken::new();
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let of = |name: &String| {
        let same = |claim: &&ResourceClaim| {
            claim.metadata.name.as_ref() == Some(name) && claim.metadata.namespace == pod.metadata.namespace
        };
        claims.iter().find(same)
    };
    let node: Node = from(json!({"metadata": {"name": on, "labels": crate::shapes::fixed_labels(on)}}));
    for name in names(pod).unwrap_or_default() {
        let Some(claim) = of(&name) else {
            broken.push(format!("pod {pod_name} has a node, and its claim {name} is gone"));
            continue;
        };
        if !users(claim).contains(&uid(pod)) {
            broken.push(format!("pod {pod_name} has a node, and its claim {name} is not reserved for it"));
        }
        if allocation(claim).is_none() || !is_usable(claim, &node) {
            broken.push(format!("pod {pod_name} is on {on}, and the devices of {name} are not"));
        }
    }
    broken
}
