//! Brings pods and their volumes together: a pod goes where its volumes can be reached, and claims that wait
//! for their pod get a volume that its node reaches, one that is there or one that is made.
//!
//! PreFilter works out once what the claims ask for, Filter and Score ask each node. Reserve assumes the
//! decision, so that the next pod does not take the same volume; PreBind writes it down (`claimRef` of a volume,
//! the annotation `volume.kubernetes.io/selected-node` of a claim) and waits until the claims are bound, which is
//! the work of the persistent volume controller and of provisioners. Semantics:
//! <https://kubernetes.io/docs/concepts/storage/storage-classes/#volume-binding-mode>

mod assumed;
pub(super) mod bind;
mod plan;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass},
};
use rkube_api::{
    client::{Cache, Client, ObjectKey},
    helpers::volumes::{
        NO_PROVISIONER, SELECTED_NODE, Wanted, annotation, bind_volume, claim_class, claim_phase,
        is_fully_bound, is_made_for, mark, requested, volume_class, volume_name, waits_for_consumer,
    },
    meta::{ErrorList, FieldError, FieldPath, LabelSelector, validation::go_quoted},
};
use serde::Deserialize;

use self::{
    assumed::Assumed,
    bind::Reserved,
    plan::{Bound, Found, Plan, Provision, Unbound, limit},
};
use super::node_resources_fit::{ShapePoint, on_curve, scaled, validate_shape};
use crate::{
    claims::{CLAIMS, CLASSES, VOLUMES, claims_of, is_of_pod, listers, not_found},
    framework::{
        Actions, Args, ClusterEvent, ConfigError, CycleState, Filter, Handle, Hint, Interest, Locality,
        Normalization, Plugin, PointSet, Points, PreBind, PreFilter, PreFiltered, PreScore, Reserve,
        Resource, Score, Status, Subject,
    },
    snapshot::{Facet, NodeId, NodeSet, NodeView, PodClaim, PodInfo, Snapshot},
};

/// The plugin's name.
pub const NAME: &str = "VolumeBinding";

const WAITS: &str = "pod has unbound immediate PersistentVolumeClaims";
const BY_CLASS: &str = "storageClassName";
const FULL: i64 = 100;

/// `VolumeBindingArgs`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeBindingArgs {
    /// How long a pod waits in PreBind for its claims, in seconds; 600 by default.
    #[serde(default = "ten_minutes")]
    pub bind_timeout_seconds: i64,
    /// The score by how much of the storage would be used; by default the less, the better.
    #[serde(default = "emptiest")]
    pub shape: Vec<ShapePoint>,
}

fn ten_minutes() -> i64 {
    600
}

fn emptiest() -> Vec<ShapePoint> {
    vec![ShapePoint { utilization: 0, score: 10 }, ShapePoint { utilization: 100, score: 0 }]
}

impl Default for VolumeBindingArgs {
    fn default() -> Self {
        Self { bind_timeout_seconds: ten_minutes(), shape: emptiest() }
    }
}

/// Binds volumes. See the module's documentation.
#[derive(Debug)]
pub struct VolumeBinding {
    claims: Assumed<PersistentVolumeClaim>,
    volumes: Assumed<PersistentVolume>,
    classes: Cache<StorageClass>,
    drivers: Cache<CSIDriver>,
    capacities: Cache<CSIStorageCapacity>,
    client: Option<Client>,
    timeout: Duration,
    shape: Vec<ShapePoint>,
}

/// Makes the plugin from [`VolumeBindingArgs`].
pub fn make(args: &Args, handle: &Handle) -> Result<PointSet, ConfigError> {
    let plugin = VolumeBinding::new(args.read(NAME)?, handle)?;
    Ok(Points::of(plugin).pre_filter().filter().pre_score().score().reserve().pre_bind().done())
}

impl VolumeBinding {
    fn new(args: VolumeBindingArgs, handle: &Handle) -> Result<Self, ConfigError> {
        let mut errors = ErrorList::new();
        if args.bind_timeout_seconds < 0 {
            let text = "invalid BindTimeoutSeconds, should not be a negative value";
            let path = FieldPath::new("bindTimeoutSeconds");
            errors.push(FieldError::invalid(&path, args.bind_timeout_seconds, text));
        }
        validate_shape(&FieldPath::new("shape"), &args.shape, &mut errors);
        errors.into_result().map_err(|errors| ConfigError::arguments(NAME, errors.to_string()))?;
        let seconds = u64::try_from(args.bind_timeout_seconds).unwrap_or(0);
        let listers = listers(handle);
        let volumes = listers.get::<PersistentVolume>();
        volumes.add_index(BY_CLASS, |volume| vec![volume_class(volume).to_owned()]);
        // Its events are of interest, though nothing is read from it.
        listers.get::<CSINode>();
        Ok(Self {
            claims: Assumed::over(listers.get()),
            volumes: Assumed::over(volumes),
            classes: listers.get(),
            drivers: listers.get(),
            capacities: listers.get(),
            client: handle.client.clone(),
            timeout: Duration::from_secs(seconds),
            shape: scaled(&args.shape),
        })
    }

    /// A claim of the pod, if it is fit to be used.
    fn claim(&self, pod: &PodInfo, wanted: &PodClaim) -> Result<Arc<PersistentVolumeClaim>, Status> {
        let name = &*wanted.name;
        let Some(claim) = self.claims.get(&pod.key.namespace, name) else {
            if !wanted.ephemeral {
                return Err(not_found("persistentvolumeclaim", name));
            }
            let text = "waiting for ephemeral volume controller to create the persistentvolumeclaim";
            return Err(Status::unresolvable(format!("{text} {}", go_quoted(name))));
        };
        let quoted = || go_quoted(name);
        let text = if claim_phase(&claim) == "Lost" {
            let volume = go_quoted(volume_name(&claim));
            format!("persistentvolumeclaim {} bound to non-existent persistentvolume {volume}", quoted())
        } else if claim.metadata.deletion_timestamp.is_some() {
            format!("persistentvolumeclaim {} is being deleted", quoted())
        } else if wanted.ephemeral && !is_made_for(&claim, &pod.pod) {
            let (namespace, pod) = (&pod.key.namespace, &pod.key);
            format!("PVC {namespace}/{name} was not created for pod {pod} (pod is not owner)")
        } else {
            return Ok(claim);
        };
        Err(Status::unresolvable(text))
    }

    /// What the pod's claims ask for.
    fn plan(&self, pod: &PodInfo, snapshot: &Snapshot) -> Result<Plan, Status> {
        let (mut bound, mut unbound) = (Vec::new(), Vec::new());
        let mut waits = false;
        let claims: Result<Vec<_>, Status> =
            claims_of(pod).iter().map(|wanted| self.claim(pod, wanted)).collect();
        for claim in claims? {
            if is_fully_bound(&claim) {
                let volume = self.volumes.get("", volume_name(&claim));
                bound.push(Bound::new(volume, snapshot));
                continue;
            }
            let class = self.classes.get("", claim_class(&claim));
            match class.filter(|class| waits_for_consumer(class) && volume_name(&claim).is_empty()) {
                Some(class) => unbound.push(self.unbound(claim, &class, snapshot)),
                None => waits = true,
            }
        }
        if waits { Err(Status::unresolvable(WAITS)) } else { Ok(Plan::new(bound, unbound)) }
    }

    fn unbound(
        &self,
        claim: Arc<PersistentVolumeClaim>,
        class: &StorageClass,
        snapshot: &Snapshot,
    ) -> Unbound {
        let selected = annotation(&claim.metadata, SELECTED_NODE).map(str::to_owned);
        let found = match &selected {
            Some(_) => Found::default(),
            None => {
                let wanted = Wanted::of(&claim);
                let volumes = self.volumes.shown().by_index(BY_CLASS, claim_class(&claim));
                let volumes = volumes.into_iter().map(|volume| self.volumes.newest(volume));
                Found::new(volumes.filter_map(|volume| Some((wanted.fit(&volume)?, volume))), snapshot)
            }
        };
        let provision = self.provision(&claim, class);
        Unbound { claim, selected, found, provision }
    }

    fn provision(&self, claim: &PersistentVolumeClaim, class: &StorageClass) -> Provision {
        let provisioner = class.provisioner.as_str();
        if matches!(provisioner, "" | NO_PROVISIONER) {
            return Provision::Never;
        }
        let driver = self.drivers.get("", provisioner);
        let tells = driver.is_some_and(|driver| driver.spec.storage_capacity == Some(true));
        let capacities = tells.then(|| {
            let (name, size) = (class.metadata.name.as_deref().unwrap_or_default(), requested(claim));
            let all = self.capacities.list().into_iter();
            let enough = all.filter(|capacity| {
                capacity.storage_class_name == name && limit(capacity).is_some_and(|limit| limit >= size)
            });
            let somewhere = enough.filter_map(|capacity| {
                // What no node has access to is nowhere.
                let nodes = LabelSelector::from_api(Some(capacity.node_topology.as_ref()?)).ok()?;
                let left = capacity.capacity.as_ref().and_then(|left| left.try_into().ok());
                Some((nodes, left.map_or(0, rkube_api::meta::Quantity::value)))
            });
            somewhere.collect()
        });
        Provision::Within { topologies: class.allowed_topologies.clone().unwrap_or_default(), capacities }
    }

    /// How good it is to use so much of what there is.
    fn score_of(&self, asked: i64, there: i64) -> i64 {
        if there == 0 || asked > there {
            return on_curve(&self.shape, FULL);
        }
        let used = i128::from(asked) * i128::from(FULL) / i128::from(there);
        on_curve(&self.shape, i64::try_from(used).unwrap_or(FULL))
    }

    fn hint_of_other(pod: &PodInfo, event: &ClusterEvent) -> Hint {
        let Subject::Object(changed) = &event.subject else { return Hint::Queue };
        if event.resource == Resource::Other(CLAIMS) {
            return is_of_pod(pod, event).into();
        }
        if let (Some(old), Some(new)) = (changed.before::<StorageClass>(), changed.after::<StorageClass>()) {
            return (old.allowed_topologies != new.allowed_topologies).into();
        }
        if let (Some(old), Some(new)) = (changed.before::<CSIDriver>(), changed.after::<CSIDriver>()) {
            let tells = |driver: &CSIDriver| driver.spec.storage_capacity == Some(true);
            return (tells(old) && !tells(new)).into();
        }
        if let (Some(old), Some(new)) =
            (changed.before::<CSIStorageCapacity>(), changed.after::<CSIStorageCapacity>())
        {
            return (limit(new) > limit(old)).into();
        }
        // What a node's drivers are is of no interest; that there is something new may be.
        (changed.before::<CSINode>().is_none()).into()
    }
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> Vec<Interest> {
        let made_or_changed = Actions::ADD | Actions::UPDATE_OTHER;
        vec![
            Interest::new(Resource::Other(CLASSES), made_or_changed),
            Interest::new(Resource::Other(CLAIMS), made_or_changed),
            Interest::new(Resource::Other(VOLUMES), made_or_changed),
            Interest::new(Resource::Node, Actions::ADD | Actions::UPDATE_NODE_LABEL),
            Interest::new(Resource::Other("csinodes"), made_or_changed),
            Interest::new(Resource::Other("csidrivers"), Actions::UPDATE_OTHER),
            Interest::new(Resource::Other("csistoragecapacities"), made_or_changed),
        ]
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> Hint {
        Self::hint_of_other(pod, event)
    }

    fn locality(&self, pod: &PodInfo, _: &Snapshot) -> Locality {
        if claims_of(pod).is_empty() { Locality::Node } else { Locality::Cluster }
    }

    /// Nodes with the same labels are alike, of those by which volumes and storage are found.
    fn facets(&self, state: &mut CycleState, _: &PodInfo, snapshot: &Snapshot) -> Option<Vec<Facet>> {
        let Some(plan) = state.read::<Plan>() else { return Some(Vec::new()) };
        Some(plan.keys()?.into_iter().map(|key| Facet::by_label(snapshot, key)).collect())
    }

    /// A volume that is on one host leaves no choice.
    fn confines(&self, state: &CycleState, _: &PodInfo, snapshot: &Snapshot) -> Option<Vec<NodeId>> {
        state.read::<Plan>()?.few(snapshot)
    }
}

impl PreFilter for VolumeBinding {
    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, snapshot: &Snapshot) -> PreFiltered {
        if claims_of(pod).is_empty() {
            return Status::skip().into();
        }
        match self.plan(pod, snapshot) {
            Ok(plan) => {
                state.write(plan);
                PreFiltered::default()
            }
            Err(refusal) => refusal.into(),
        }
    }
}

impl Filter for VolumeBinding {
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: NodeView<'_>) -> Status {
        if claims_of(pod).is_empty() {
            return Status::success();
        }
        let alone;
        let plan = match state.read::<Plan>() {
            Some(plan) => plan,
            None => match self.plan(pod, node.snapshot()) {
                Ok(plan) => {
                    alone = plan;
                    &alone
                }
                Err(refusal) => return refusal,
            },
        };
        let Err(reasons) = plan.on(node) else { return Status::success() };
        let mut reasons = reasons.into_iter();
        let first = Status::unresolvable(reasons.next().unwrap_or_default());
        reasons.fold(first, Status::with)
    }
}

impl PreScore for VolumeBinding {
    fn pre_score(&self, state: &mut CycleState, _: &PodInfo, _: NodeSet<'_>) -> Status {
        let waits = state.read::<Plan>().is_some_and(|plan| !plan.all_bound());
        if waits { Status::success() } else { Status::skip() }
    }
}

impl Score for VolumeBinding {
    fn score(&self, state: &CycleState, _: &PodInfo, node: NodeView<'_>) -> Result<i64, Status> {
        let Some(here) = state.read::<Plan>().and_then(|plan| plan.on(node).ok()) else { return Ok(0) };
        let classes = here.by_class();
        let sum: i64 = classes.values().map(|(asked, there)| self.score_of(*asked, *there)).sum();
        let count = classes.len() as i64;
        // Rounded to the nearest.
        Ok(if count == 0 { 0 } else { (2 * sum + count) / (2 * count) })
    }

    fn normalization(&self) -> Normalization {
        Normalization::None
    }
}

impl Reserve for VolumeBinding {
    fn reserve(&self, state: &mut CycleState, _: &PodInfo, node: NodeView<'_>) -> Status {
        let Some(plan) = state.read::<Plan>().filter(|plan| !plan.all_bound()).cloned() else {
            return Status::success();
        };
        let Ok(here) = plan.on(node) else {
            return Status::error(format!("no pod volumes found for node {}", go_quoted(node.name())));
        };
        let mut reserved = Reserved::default();
        for (claim, volume) in here.bindings {
            let mut kept = (**volume).clone();
            bind_volume(&mut kept, claim);
            reserved.volumes.push((Arc::new(kept), ObjectKey::of(&**claim)));
        }
        for (claim, _) in here.provisions {
            let mut chosen = (**claim).clone();
            mark(&mut chosen.metadata, SELECTED_NODE, node.name());
            reserved.claims.push(Arc::new(chosen));
        }
        for (volume, _) in &reserved.volumes {
            self.volumes.assume(volume.clone());
        }
        for claim in &reserved.claims {
            self.claims.assume(claim.clone());
        }
        state.write(reserved);
        Status::success()
    }

    fn unreserve(&self, state: &mut CycleState, _: &PodInfo, _: &str) {
        if let Some(reserved) = state.modify::<Reserved>() {
            self.forget(&std::mem::take(reserved));
        }
    }
}

#[async_trait]
impl PreBind for VolumeBinding {
    fn waits(&self, state: &CycleState, _: &PodInfo) -> bool {
        state.read::<Reserved>().is_some_and(|reserved| !reserved.is_empty())
    }

    async fn pre_bind(&self, state: &CycleState, pod: &PodInfo, node: &str) -> Status {
        let Some(reserved) = state.read::<Reserved>().filter(|reserved| !reserved.is_empty()) else {
            return Status::success();
        };
        match self.bind(reserved.clone(), pod, node).await {
            Ok(()) => Status::success(),
            Err(why) => Status::error(why),
        }
    }
}
