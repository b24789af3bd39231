//! Allocates devices to the claims of pods (KEP-4381, structured parameters).
//!
//! A claim asks for devices of classes; slices say which devices there are and where. The pod waits until its
//! claims exist; a node fits if the devices can be had there; what was found is kept in memory from the
//! decision on, and written to the claims before the pod is bound. Requests for a number of devices or for all,
//! alternatives, admin access, expressions, constraints, taints (of slices and of rules), parts of the capacity of
//! shared devices, pools and shared counters are as kube-scheduler has them; the first solution in its order is
//! taken.
//!
//! What differs: `distinctAttribute` tells all devices of its requests apart, where kube-scheduler compares
//! with the last one of each request only; a search ends after a number of steps, not after a time; steps of a
//! capacity's range are exact, where kube-scheduler rounds up to whole numbers; a share that is taken back gives
//! its counters back. Absent are derived attributes (off in Kubernetes), extended resources backed by devices, and
//! claims of pod groups.
//!
//! Devices with binding conditions are made ready by others for the node that was chosen: the pod is bound once
//! their conditions are true, and its claims are given back if one fails, or none comes in time
//! ([`DynamicResourcesArgs::binding_timeout`]).
//!
//! ```
//! use k8s_openapi::api::{core::v1::Node, resource::v1::{DeviceClass, ResourceClaim, ResourceSlice}};
//! use rkube_sched::plugins::dynamic_resources::{Expressions, Inventory, Memo, Wanted, allocate};
//! use serde_json::{from_value, json};
//! use std::sync::Arc;
//!
//! let slice: ResourceSlice = from_value(json!({"metadata": {"name": "s"}, "spec": {
//!     "driver": "gpu.example.com", "nodeName": "n", "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1},
//!     "devices": [{"name": "a"}, {"name": "b", "attributes": {"memory": {"int": 40}}}]
//! }}))?;
//! let class: DeviceClass = from_value(json!({"metadata": {"name": "gpu"}, "spec": {"selectors": [
//!     {"cel": {"expression": "device.attributes['gpu.example.com'].?memory.orValue(0) > 20"}}
//! ]}}))?;
//! let claim: ResourceClaim = from_value(json!({"metadata": {"name": "c", "namespace": "default"}, "spec": {
//!     "devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}
//! }}))?;
//! let node: Node = from_value(json!({"metadata": {"name": "n"}}))?;
//!
//! let (inventory, class) = (Inventory::new(vec![Arc::new(slice)]), Arc::new(class));
//! let wanted = Wanted::new([Arc::new(claim)], |_| Some(class.clone()), &Expressions::default())?;
//! let taken = inventory.taken_by([].into_iter());
//! let found = allocate(&inventory, &taken, &wanted, &Memo::default(), &node)?.expect("a device");
//! assert_eq!(found.results[0].devices.as_ref().unwrap().results.as_ref().unwrap()[0].device, "b");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bind;
mod capacity;
mod claims;
mod conditions;
mod error;
mod inventory;
mod result;
mod search;
#[cfg(test)]
mod tests;
mod wanted;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceClass, DeviceTaintRule, ResourceClaim, ResourceSlice,
};
use parking_lot::Mutex;
use rkube_api::{
    client::{Cache, Client},
    context::{Context, Rng},
    helpers::affinity::RequiredNodeAffinity,
    meta::{ErrorList, FieldError, FieldPath},
};
use serde::Deserialize;

use self::claims::{Claims, is_reserved_for};
use crate::{
    configuration::duration,
    engine::{Diagnosis, WhatIf},
    framework::{
        Actions, Args, ClusterEvent, ConfigError, CycleState, Filter, Handle, Hint, Interest, Locality,
        MAX_NODE_SCORE, Normalization, Plugin, PointSet, Points, PostFilter, PostFiltered, PreEnqueue,
        PreFilter, PreFiltered, PreScore, Reserve, Resource, Score, Status, Subject, default_normalize,
        is_own_update,
    },
    snapshot::{NodeSet, NodeView, PodInfo, Snapshot},
};

pub use error::AllocateError;
pub use inventory::{Inventory, Taken};
pub use search::{Found, Memo, allocate};
pub use wanted::{Expressions, Wanted};

/// The plugin's name.
pub const NAME: &str = "DynamicResources";

const CANNOT: &str = "cannot allocate all claims";
const PATIENCE: Duration = Duration::from_secs(600);
const ELSEWHERE: &str = "resourceclaim not available on the node";

/// Allocates devices. See the module's documentation.
#[derive(Debug)]
pub struct DynamicResources {
    client: Option<Client>,
    context: Option<Context>,
    claims: Claims,
    classes: Cache<DeviceClass>,
    slices: Cache<ResourceSlice>,
    rules: Cache<DeviceTaintRule>,
    /// The inventory of the slices and rules at versions of their caches.
    inventory: Mutex<Option<([u64; 2], Arc<Inventory>)>>,
    expressions: Expressions,
    /// For the IDs of shares.
    rng: Rng,
    /// How long devices may take to be made ready.
    patience: Duration,
}

/// `DynamicResourcesArgs`; durations as Go writes them, such as `10m`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DynamicResourcesArgs {
    /// How long kube-scheduler looks for devices on a node. Here that is a number of steps, which a duration does
    /// not change.
    pub filter_timeout: Option<String>,
    /// How long a claim's devices may take to be made ready; ten minutes by default.
    pub binding_timeout: Option<String>,
}

impl DynamicResourcesArgs {
    /// How long a claim's devices may take to be made ready.
    fn patience(&self) -> Result<Duration, ErrorList> {
        let mut errors = ErrorList::new();
        if let Some(text) = self.filter_timeout.as_ref().filter(|text| duration(text).is_none()) {
            let path = FieldPath::new("filterTimeout");
            errors.push(FieldError::invalid(&path, text, "must be zero or positive"));
        }
        let patience = self.binding_timeout.as_deref().map_or(Some(PATIENCE), duration);
        if patience.is_none_or(|patience| patience < Duration::from_secs(1)) {
            let path = FieldPath::new("bindingTimeout");
            errors.push(FieldError::invalid(&path, &self.binding_timeout, "must be at least 1 second"));
        }
        errors.into_result().map(|()| patience.unwrap_or(PATIENCE))
    }
}

/// Makes the plugin from [`DynamicResourcesArgs`].
pub fn make(args: &Args, handle: &Handle) -> Result<PointSet, ConfigError> {
    let args: DynamicResourcesArgs = args.read(NAME)?;
    let patience = args.patience().map_err(|errors| ConfigError::arguments(NAME, errors.to_string()))?;
    let plugin = DynamicResources { patience, ..DynamicResources::new(handle) };
    let points = Points::of(plugin).pre_enqueue().pre_filter().filter().post_filter().pre_score().score();
    Ok(points.reserve().pre_bind().done())
}

/// What one cycle knows of a pod's claims. Copies of the cycle's state share it.
#[derive(Clone, Debug)]
struct State(Arc<Cycle>);

#[derive(Debug)]
struct Cycle {
    /// The pod's claims.
    claims: Vec<Arc<ResourceClaim>>,
    /// Where those that are allocated can be used, if not everywhere.
    usable: Vec<Option<RequiredNodeAffinity>>,
    /// Which of them no node can use: their devices will not be made ready.
    stuck: Vec<bool>,
    /// What is to be allocated, if anything.
    search: Option<Search>,
    /// The allocated claims that some node could not use.
    unavailable: Mutex<BTreeSet<usize>>,
    /// What was found on each node.
    found: Mutex<BTreeMap<String, Found>>,
    /// The claims as they are written, in the order of `claims`.
    written: Mutex<BTreeMap<usize, Arc<ResourceClaim>>>,
}

#[derive(Debug)]
struct Search {
    inventory: Arc<Inventory>,
    taken: Taken,
    wanted: Wanted,
    memo: Memo,
}

fn allocation(claim: &ResourceClaim) -> Option<&AllocationResult> {
    claim.status.as_ref()?.allocation.as_ref()
}

fn uses_claims(pod: &PodInfo) -> bool {
    pod.spec().and_then(|spec| spec.resource_claims.as_ref()).is_some_and(|claims| !claims.is_empty())
}

impl DynamicResources {
    fn new(handle: &Handle) -> Self {
        let listers = handle.listers.for_pods(uses_claims);
        Self {
            client: handle.client.clone(),
            context: handle.context.clone(),
            claims: Claims::new(listers.get(), handle.client.is_none()),
            classes: listers.get(),
            slices: listers.get(),
            rules: listers.get(),
            inventory: Mutex::default(),
            expressions: Expressions::default(),
            rng: handle.context.as_ref().map_or_else(|| Rng::seeded(0), |context| context.rng.clone()),
            patience: PATIENCE,
        }
    }

    /// The devices on offer, put in order anew when a slice or a rule has changed.
    fn inventory(&self) -> Arc<Inventory> {
        let mut kept = self.inventory.lock();
        let versions = [self.slices.version(), self.rules.version()];
        match &*kept {
            Some((known, inventory)) if *known == versions => inventory.clone(),
            _ => {
                let inventory = Inventory::new(self.slices.list()).tainted_by(&self.rules.list());
                let inventory = Arc::new(inventory);
                *kept = Some((versions, inventory.clone()));
                inventory
            }
        }
    }

    /// Looks at a pod's claims. `None`: it has none.
    fn prepare(&self, pod: &PodInfo) -> Result<Option<State>, Status> {
        let claims = self.claims.of(&pod.pod).map_err(Status::unresolvable)?;
        if claims.is_empty() {
            return Ok(None);
        }
        let mut to_allocate = Vec::new();
        for claim in &claims {
            if allocation(claim).is_none() {
                self.check(claim)?;
                to_allocate.push(claim.clone());
            }
        }
        let selector = |claim: &Arc<ResourceClaim>| {
            let selector = allocation(claim)?.node_selector.as_ref()?;
            Some(RequiredNodeAffinity::of_selector(selector))
        };
        let usable = claims.iter().map(selector).collect();
        let is_stuck = |claim: &Arc<ResourceClaim>| allocation(claim).is_some() && self.is_stuck(claim);
        let stuck = claims.iter().map(is_stuck).collect();
        let search = match to_allocate.is_empty() {
            true => None,
            false => Some(self.search(to_allocate).map_err(|error| Status::error(error.to_string()))?),
        };
        let (unavailable, found, written) = Default::default();
        Ok(Some(State(Arc::new(Cycle { claims, usable, stuck, search, unavailable, found, written }))))
    }

    fn search(&self, claims: Vec<Arc<ResourceClaim>>) -> Result<Search, AllocateError> {
        let inventory = self.inventory();
        let all = self.claims.all();
        Ok(Search {
            taken: inventory.taken_by(all.iter().map(|claim| &**claim)),
            wanted: Wanted::new(claims, |class| self.classes.get("", class), &self.expressions)?,
            memo: Memo::default(),
            inventory,
        })
    }

    /// Whether a claim can be allocated now, wherever.
    fn check(&self, claim: &ResourceClaim) -> Result<(), Status> {
        let name = rkube_api::client::ObjectKey::of(claim);
        if self.claims.is_pending(claim) {
            let text = format!("resource claim {name} is in the process of being allocated");
            return Err(Status::unresolvable(text));
        }
        let missing = |request: &str, class: &str| {
            self.classes.get("", class).is_none().then(|| {
                Status::unresolvable(format!("request {request}: device class {class} does not exist"))
            })
        };
        let devices = claim.spec.as_ref().and_then(|spec| spec.devices.as_ref());
        for request in devices.iter().flat_map(|devices| devices.requests.iter().flatten()) {
            let alternatives = request.first_available.as_deref().unwrap_or_default();
            let refused = match &request.exactly {
                Some(exactly) => missing(&request.name, &exactly.device_class_name),
                None if alternatives.is_empty() => {
                    let text =
                        format!("resource claim {name}, request {}: unknown request type", request.name);
                    Some(Status::unresolvable(text))
                }
                None => alternatives
                    .iter()
                    .find_map(|it| missing(&format!("{}/{}", request.name, it.name), &it.device_class_name)),
            };
            if let Some(status) = refused {
                return Err(status);
            }
        }
        Ok(())
    }

    /// Whether a change of a claim, as it is now, may help a pod.
    fn claim_helps(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        let Subject::Object(changed) = &event.subject else { return true };
        let Ok(claims) = self.claims.of(&pod.pod) else { return false };
        let key = &changed.key;
        let uses = claims.iter().any(|claim| claim.metadata.name.as_deref() == Some(&*key.name))
            && pod.key.namespace == key.namespace;
        // One that is allocated to others gives nothing back.
        let held = |claim: Option<&ResourceClaim>| claim.is_some_and(|claim| allocation(claim).is_some());
        let freed = held(changed.before()) && !held(changed.after());
        uses || freed
    }
}

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> Vec<Interest> {
        let change = Actions::ADD | Actions::UPDATE_OTHER | Actions::DELETE;
        vec![
            Interest::new(Resource::Node, Actions::ADD | Actions::UPDATE_NODE_LABEL),
            Interest::new(Resource::Other("resourceclaims"), change),
            Interest::new(Resource::Other("resourceslices"), change),
            // A new rule only keeps devices from pods.
            Interest::new(Resource::Other("devicetaintrules"), Actions::UPDATE_OTHER | Actions::DELETE),
            Interest::new(Resource::Other("deviceclasses"), Actions::ADD | Actions::UPDATE_OTHER),
            Interest::new(Resource::PendingPod, Actions::UPDATE_POD_GENERATED_RESOURCE_CLAIM),
            // A pod whose binding failed gives its devices back before anybody has heard of them.
            Interest::new(Resource::AssignedPod, Actions::DELETE),
        ]
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> Hint {
        match (&event.resource, &event.subject) {
            (Resource::Other("resourceclaims"), _) => self.claim_helps(pod, event).into(),
            (_, Subject::Waiting { new, .. }) => {
                (is_own_update(pod, event) && self.claims.of(&new.pod).is_ok()).into()
            }
            (_, Subject::Pod { old: Some(gone), .. }) => gone.has_devices.into(),
            _ => Hint::Queue,
        }
    }

    /// A pod without claims asks nothing of this plugin, whatever the node.
    fn locality(&self, pod: &PodInfo, _: &Snapshot) -> Locality {
        if uses_claims(pod) { Locality::Cluster } else { Locality::Node }
    }
}

impl PreEnqueue for DynamicResources {
    fn pre_enqueue(&self, pod: &PodInfo) -> Status {
        match uses_claims(pod) {
            true => {
                self.claims.of(&pod.pod).map(drop).map_err(Status::unresolvable).err().unwrap_or_default()
            }
            false => Status::success(),
        }
    }
}

impl PreFilter for DynamicResources {
    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, _: &Snapshot) -> PreFiltered {
        if !uses_claims(pod) {
            return Status::skip().into();
        }
        match self.prepare(pod) {
            Ok(Some(cycle)) => {
                state.write(cycle);
                PreFiltered::default()
            }
            Ok(None) => Status::skip().into(),
            Err(status) => status.into(),
        }
    }
}

impl Filter for DynamicResources {
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: NodeView<'_>) -> Status {
        if !uses_claims(pod) {
            return Status::success();
        }
        let prepared = match state.read::<State>() {
            Some(state) => Ok(Some(state.clone())),
            None => self.prepare(pod),
        };
        match prepared {
            Ok(Some(State(cycle))) => cycle.filter(node),
            Ok(None) => Status::success(),
            Err(status) => status,
        }
    }
}

impl Cycle {
    fn filter(&self, view: NodeView<'_>) -> Status {
        let Some(node) = view.node() else { return Status::success() };
        let mut found = None;
        if let Some(search) = &self.search {
            match allocate(&search.inventory, &search.taken, &search.wanted, &search.memo, node) {
                Ok(Some(it)) => found = Some(it),
                Ok(None) => return Status::unresolvable(CANNOT),
                Err(error) if error.is_of_node() => return Status::unresolvable(error.to_string()),
                Err(error) => return Status::error(error.to_string()),
            }
        }
        let not_here = |index: &usize| {
            let usable = self.usable[*index].as_ref().is_none_or(|usable| usable.matches_node(node));
            self.stuck[*index] || !usable
        };
        let elsewhere: Vec<usize> = (0..self.claims.len()).filter(not_here).collect();
        if !elsewhere.is_empty() {
            self.unavailable.lock().extend(elsewhere);
            return Status::unresolvable(ELSEWHERE);
        }
        if let Some(found) = found {
            self.found.lock().insert(view.name().to_owned(), found);
        }
        Status::success()
    }
}

impl PostFilter for DynamicResources {
    /// An allocated claim that nobody uses may be in the way: it is given back, so that the pod's next try
    /// can have it allocated elsewhere.
    fn post_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        _: &WhatIf<'_>,
        _: &Diagnosis,
    ) -> PostFiltered {
        let Some(State(cycle)) = state.read::<State>() else {
            return Status::unschedulable("no new claims to deallocate").into();
        };
        let idle = |claim: &&Arc<ResourceClaim>| {
            let reserved = claim.status.as_ref().and_then(|status| status.reserved_for.as_deref());
            match reserved.unwrap_or_default() {
                [] => true,
                [only] => Some(&only.uid) == pod.pod.metadata.uid.as_ref(),
                _ => false,
            }
        };
        let unavailable = cycle.unavailable.lock();
        let claim = unavailable.iter().map(|&index| &cycle.claims[index]).find(idle);
        let (Some(claim), Some(client), Some(context)) = (claim, &self.client, &self.context) else {
            return Status::unschedulable("still not schedulable").into();
        };
        let work = bind::deallocate(client.clone(), claim.clone());
        context.spawner.spawn("deallocation", work);
        Status::unschedulable("deallocation of ResourceClaim completed").into()
    }
}

impl PreScore for DynamicResources {
    fn pre_score(&self, state: &mut CycleState, _: &PodInfo, _: NodeSet<'_>) -> Status {
        let search = state.read::<State>().and_then(|State(cycle)| cycle.search.as_ref());
        match search {
            Some(search) if search.wanted.has_alternatives() => Status::success(),
            _ => Status::skip(),
        }
    }
}

impl Score for DynamicResources {
    fn score(&self, state: &CycleState, _: &PodInfo, node: NodeView<'_>) -> Result<i64, Status> {
        let found = |State(cycle): &State| cycle.found.lock().get(node.name()).map(|found| found.score);
        Ok(state.read::<State>().and_then(found).unwrap_or(0))
    }

    fn normalization(&self) -> Normalization {
        Normalization::ByValue
    }

    fn normalize(&self, _: &CycleState, _: &PodInfo, scores: &mut [i64]) -> Status {
        default_normalize(MAX_NODE_SCORE, false, scores);
        Status::success()
    }
}

impl Reserve for DynamicResources {
    /// From now on the devices are taken, whoever else is decided about before they are written down.
    fn reserve(&self, state: &mut CycleState, pod: &PodInfo, node: NodeView<'_>) -> Status {
        let Some(State(cycle)) = state.read::<State>() else { return Status::success() };
        if cycle.search.is_some() {
            let id = || self.rng.uid().to_string();
            let found = cycle.found.lock().get(node.name()).map(|found| found.identified(id));
            let Some(found) = found else { return Status::error("claim allocation not found for node") };
            let to_allocate = cycle.claims.iter().filter(|claim| allocation(claim).is_none());
            for (claim, result) in to_allocate.zip(found) {
                self.claims.pend(claim, result);
            }
        }
        if self.claims.at_once {
            cycle.claims.iter().for_each(|claim| self.claims.use_by(claim, &pod.pod));
        }
        Status::success()
    }

    fn unreserve(&self, state: &mut CycleState, pod: &PodInfo, _: &str) {
        let Some(State(cycle)) = state.read::<State>() else { return };
        if self.claims.at_once {
            return cycle.claims.iter().for_each(|claim| self.claims.leave_by(claim, &pod.pod));
        }
        for (index, claim) in cycle.claims.iter().enumerate() {
            self.claims.settle(claim, None);
            let written = cycle.written.lock().get(&index).cloned();
            let claim = written.as_ref().unwrap_or(claim);
            if let (true, Some(client), Some(context)) =
                (is_reserved_for(claim, &pod.pod), &self.client, &self.context)
            {
                let work = bind::unreserve(client.clone(), claim.clone(), pod.pod.clone());
                context.spawner.spawn("unreserve", work);
            }
        }
    }
}
