//! Keeps pods off nodes whose CSI drivers would have to attach more volumes than they can.

mod in_tree;
mod ledger;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::{CSIDriver, CSINode, StorageClass, VolumeAttachment},
};
use parking_lot::Mutex;
use rkube_api::{
    client::Cache,
    helpers::volumes::{claim_class, is_made_for, volume_name},
};

use self::ledger::{Answers, Demand, Ledger, Reading, Said};
use crate::{
    claims::{CLAIMS, claims_of, is_of_pod, listers, not_found},
    framework::{
        Actions, Args, ClusterEvent, ConfigError, CycleState, Filter, Handle, Hint, Interest, Locality,
        Plugin, PointSet, Points, PreFilter, PreFiltered, Resource, Status, Subject,
    },
    snapshot::{Facet, NodeView, PodInfo, PodVolumes, Snapshot},
};

/// The plugin's name.
pub const NAME: &str = "NodeVolumeLimits";

const REFUSED: &str = "node(s) exceed max volume count";
/// The index of attachments by their node.
const BY_NODE: &str = "spec.nodeName";
const NODES: &str = "csinodes";
const ATTACHMENTS: &str = "volumeattachments";

/// Filters by how many volumes a node can take. See the module's documentation.
#[derive(Debug)]
pub struct NodeVolumeLimits {
    claims: Cache<PersistentVolumeClaim>,
    volumes: Cache<PersistentVolume>,
    classes: Cache<StorageClass>,
    nodes: Cache<CSINode>,
    drivers: Cache<CSIDriver>,
    attachments: Cache<VolumeAttachment>,
    ledger: Arc<Mutex<Ledger>>,
}

/// Makes the plugin; it has no arguments.
pub fn make(_: &Args, handle: &Handle) -> Result<PointSet, ConfigError> {
    Ok(Points::of(NodeVolumeLimits::new(handle)).pre_filter().filter().done())
}

/// A volume by its driver and what the driver calls it; one that is not made yet by its claim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Attachable {
    driver: String,
    handle: String,
    /// It is the driver's only on nodes where that has taken over from this plugin of Kubernetes' own.
    taken_over: Option<&'static str>,
}

impl Attachable {
    /// Whether it is attached by its driver there.
    fn counts_on(&self, node: &CSINode) -> bool {
        self.taken_over.is_none_or(|plugin| in_tree::is_taken_over(plugin, node))
    }
}

/// The pod's volumes, or why they cannot be told.
#[derive(Clone, Debug, Default)]
struct Wanted {
    volumes: BTreeSet<Attachable>,
    /// The drivers without which a node is none for the pod.
    needed: BTreeSet<String>,
    refusal: Option<Status>,
    /// The same by number, if PreFilter has counted what is attached where.
    counted: Option<Counted>,
}

/// How many volumes are wanted.
#[derive(Clone, Debug)]
struct Counted {
    demand: Arc<Demand>,
    /// Whether none of them is attached to a node that has a limit.
    new: bool,
    /// Under which the answers to the demand are known.
    version: [u64; 2],
}

fn of_volume(volume: &PersistentVolume) -> Option<Attachable> {
    let spec = volume.spec.as_ref()?;
    let Some(csi) = &spec.csi else { return in_tree::of_volume(spec) };
    Some(Attachable { driver: csi.driver.clone(), handle: csi.volume_handle.clone(), taken_over: None })
}

impl NodeVolumeLimits {
    fn new(handle: &Handle) -> Self {
        let listers = listers(handle);
        let plugin = Self {
            claims: listers.get(),
            volumes: listers.get(),
            classes: listers.get(),
            nodes: listers.get(),
            drivers: listers.get(),
            attachments: listers.get(),
            ledger: Arc::default(),
        };
        plugin.attachments.add_index(BY_NODE, |attachment| vec![attachment.spec.node_name.clone()]);
        plugin.claims.remember_changes();
        plugin.volumes.remember_changes();
        plugin.nodes.remember_changes();
        plugin.attachments.remember_changes();
        plugin
    }

    /// Counts what is wanted, and what is attached where.
    fn counted(&self, wanted: &Wanted, snapshot: &Snapshot) -> Counted {
        let demand = Arc::new(Demand::of(wanted));
        let mut ledger = self.ledger.lock();
        ledger.catch_up(snapshot, self);
        Counted { new: ledger.has_none_of(wanted), version: ledger.version_of(&demand), demand }
    }

    /// What follows from the numbers alone, if anything does.
    fn by_number(&self, counted: &Counted, node: NodeView<'_>) -> Option<Status> {
        if node.overlay().is_some() {
            return None;
        }
        match self.ledger.lock().says(node.snapshot(), node.id(), &counted.demand)? {
            Said::Fits => Some(Status::success()),
            Said::Exceeds => counted.new.then(|| Status::unschedulable(REFUSED)),
            Said::Lacks(_) => None,
        }
    }

    fn wanted(&self, pod: &PodInfo) -> Wanted {
        let mut wanted = Wanted::default();
        for claim in claims_of(pod) {
            let found = self.claims.get(&pod.key.namespace, &claim.name);
            let refusal = match &found {
                None => {
                    let missing = not_found("persistentvolumeclaim", &claim.name).message();
                    let text = format!("looking up PVC {}/{}: {missing}", pod.key.namespace, claim.name);
                    Some(Status::unresolvable(text))
                }
                Some(found) if claim.ephemeral && !is_made_for(found, &pod.pod) => {
                    Some(Status::error(not_made_for(pod, &claim.name)))
                }
                Some(_) => None,
            };
            if refusal.is_some() {
                wanted.refusal = refusal;
                return wanted;
            }
            wanted.volumes.extend(found.and_then(|found| self.attachable(&found)));
        }
        wanted.volumes.extend(disks_of(pod.volumes.as_deref()));
        let needs = |volume: &&Attachable| {
            let driver = self.drivers.get("", &volume.driver);
            driver.is_some_and(|driver| driver.spec.prevent_pod_scheduling_if_missing == Some(true))
        };
        let drivers = wanted.volumes.iter().filter(|volume| volume.taken_over.is_none()).filter(needs);
        wanted.needed = drivers.map(|volume| volume.driver.clone()).collect();
        wanted
    }

    /// What stands behind a claim; `None` if no CSI driver does.
    fn attachable(&self, claim: &PersistentVolumeClaim) -> Option<Attachable> {
        if let Some(volume) = self.volumes.get("", volume_name(claim)) {
            return of_volume(&volume);
        }
        let class = self.classes.get("", claim_class(claim))?;
        let meta = &claim.metadata;
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        // No handle of a driver begins so.
        let handle = format!("\0{}/{}", name(&meta.namespace), name(&meta.name));
        let (taken_over, driver) = match in_tree::provisioner(&class.provisioner) {
            Some((plugin, driver)) => (Some(plugin), driver),
            None => (None, &*class.provisioner),
        };
        Some(Attachable { driver: driver.into(), handle, taken_over })
    }

    /// The volumes that are attached to a node, or will be for its pods; tells what it has read for that.
    fn attached(&self, node: NodeView<'_>, reads: &mut dyn FnMut(Reading<'_>)) -> BTreeSet<Attachable> {
        let mut attached = BTreeSet::new();
        for pod in node.pods() {
            let volumes = pod.volumes.as_deref();
            attached.extend(disks_of(volumes));
            for claim in volumes.iter().flat_map(|volumes| &volumes.claims) {
                reads(Reading::Claim(&pod.namespace, &claim.name));
                let Some(claim) = self.claims.get(&pod.namespace, &claim.name) else { continue };
                if !volume_name(&claim).is_empty() {
                    reads(Reading::Volume(volume_name(&claim)));
                }
                attached.extend(self.attachable(&claim));
            }
        }
        for attachment in self.attachments.by_index(BY_NODE, node.name()) {
            reads(Reading::Attachment(attachment.metadata.name.as_deref().unwrap_or_default()));
            let Some(volume) = &attachment.spec.source.persistent_volume_name else { continue };
            reads(Reading::Volume(volume));
            attached.extend(self.volumes.get("", volume).and_then(|volume| of_volume(&volume)));
        }
        attached
    }

    /// No more volumes than this are attached to a node: quick to know, and mostly enough.
    fn at_most(&self, node: NodeView<'_>) -> usize {
        let volumes = node.pods().filter_map(|pod| pod.volumes.as_ref());
        let claims = volumes.map(|volumes| volumes.claims.len() + volumes.disks.len());
        let attachments = match self.attachments.is_empty() {
            true => 0,
            false => self.attachments.by_index(BY_NODE, node.name()).len(),
        };
        claims.sum::<usize>() + attachments
    }
}

fn disks_of(volumes: Option<&PodVolumes>) -> impl Iterator<Item = Attachable> {
    volumes.into_iter().flat_map(|volumes| volumes.disks.iter().filter_map(in_tree::of_pod))
}

fn not_made_for(pod: &PodInfo, claim: &str) -> String {
    format!("PVC {}/{claim} was not created for pod {} (pod is not owner)", pod.key.namespace, pod.key)
}

/// How many volumes the node's drivers take, of the drivers that say so.
fn limits(node: &CSINode) -> BTreeMap<&str, usize> {
    let drivers = node.spec.drivers.iter();
    let counted = drivers.filter_map(|driver| Some((&*driver.name, driver.allocatable.as_ref()?.count?)));
    counted.map(|(name, count)| (name, usize::try_from(count).unwrap_or(0))).collect()
}

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> Vec<Interest> {
        vec![
            // Its CSINode may come late, or never: then it has no limit.
            Interest::new(Resource::Node, Actions::ADD),
            Interest::new(Resource::Other(NODES), Actions::ADD | Actions::UPDATE_OTHER),
            Interest::new(Resource::AssignedPod, Actions::DELETE),
            Interest::new(Resource::Other(CLAIMS), Actions::ADD),
            Interest::new(Resource::Other(ATTACHMENTS), Actions::DELETE),
        ]
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> Hint {
        match &event.subject {
            Subject::Pod { old: Some(gone), new: None } => gone.volumes.is_some().into(),
            Subject::Object(changed) => {
                if let (Some(old), Some(new)) = (changed.before::<CSINode>(), changed.after::<CSINode>()) {
                    let (before, after) = (limits(old), limits(new));
                    let drivers_came = new.spec.drivers.len() > old.spec.drivers.len();
                    let more = |(driver, limit): (&&str, &usize)| {
                        before.get(driver).is_none_or(|before| before < limit)
                    };
                    let less_bound = before.keys().any(|driver| !after.contains_key(driver));
                    return (after.iter().any(more) || drivers_came || less_bound).into();
                }
                (event.resource != Resource::Other(CLAIMS) || is_of_pod(pod, event)).into()
            }
            _ => Hint::Queue,
        }
    }

    fn locality(&self, pod: &PodInfo, _: &Snapshot) -> Locality {
        if pod.volumes.is_none() { Locality::Node } else { Locality::Cluster }
    }

    /// Nodes with room are alike, and nodes without it, if the pod's volumes are attached to none of them.
    fn facets(&self, state: &mut CycleState, _: &PodInfo, snapshot: &Snapshot) -> Option<Vec<Facet>> {
        // A pod that is refused for itself is refused everywhere.
        let wanted = state.read::<Wanted>().filter(|wanted| wanted.refusal.is_none());
        let Some(wanted) = wanted else { return Some(Vec::new()) };
        let counted = wanted.counted.as_ref().filter(|counted| counted.new)?;
        let (ledger, demand) = (self.ledger.clone(), counted.demand.clone());
        let answers = Answers { ledger, demand, snapshot: snapshot.lineage().mark() };
        Some(vec![Facet::marked(Arc::new(answers), counted.version)])
    }
}

impl PreFilter for NodeVolumeLimits {
    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, snapshot: &Snapshot) -> PreFiltered {
        if pod.volumes.is_none() {
            return Status::skip().into();
        }
        let mut wanted = self.wanted(pod);
        if wanted.refusal.is_none() {
            if wanted.volumes.is_empty() {
                return Status::skip().into();
            }
            wanted.counted = Some(self.counted(&wanted, snapshot));
        }
        state.write(wanted);
        PreFiltered::default()
    }
}

impl Filter for NodeVolumeLimits {
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: NodeView<'_>) -> Status {
        if pod.volumes.is_none() {
            return Status::success();
        }
        let Some(wanted) = state.read_or(|| Some(self.wanted(pod))) else { return Status::success() };
        if let Some(refusal) = &wanted.refusal {
            return refusal.clone();
        }
        if let Some(said) = wanted.counted.as_ref().and_then(|counted| self.by_number(counted, node)) {
            return said;
        }
        let known = self.nodes.get("", node.name());
        let has = |driver: &str| {
            known.as_ref().is_some_and(|node| node.spec.drivers.iter().any(|there| there.name == driver))
        };
        if let Some(driver) = wanted.needed.iter().find(|driver| !has(driver)) {
            return Status::unschedulable(format!("{driver} CSI driver is not installed on the node"));
        }
        let Some(known) = &known else { return Status::success() };
        let limits = limits(known);
        let mine: Vec<&Attachable> = wanted.volumes.iter().filter(|volume| volume.counts_on(known)).collect();
        let limit = |volume: &&Attachable| limits.get(&*volume.driver).copied();
        match mine.iter().filter_map(limit).min() {
            None => return Status::success(),
            Some(least) if self.at_most(node) + mine.len() <= least => return Status::success(),
            Some(_) => {}
        }
        let mut all = self.attached(node, &mut |_| {});
        all.retain(|volume| volume.counts_on(known));
        let more: Vec<&Attachable> = mine.into_iter().filter(|volume| !all.contains(volume)).collect();
        let drivers: BTreeSet<String> = more.iter().map(|volume| volume.driver.clone()).collect();
        all.extend(more.into_iter().cloned());
        let exceeded = |driver: &String| {
            let there = all.iter().filter(|volume| volume.driver == *driver).count();
            limits.get(&**driver).is_some_and(|limit| there > *limit)
        };
        if drivers.iter().any(exceeded) { Status::unschedulable(REFUSED) } else { Status::success() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rkube_api::client::Change;
    use serde_json::{Value, from_value, json};

    use super::*;
    use crate::testing;

    fn plugin() -> NodeVolumeLimits {
        let plugin = NodeVolumeLimits::new(&Handle::default());
        for (claim, volume) in [("c1", "v1"), ("c2", "v2"), ("c3", "v3"), ("none", "")] {
            let meta = json!({"name": claim, "namespace": "default"});
            let spec = json!({"volumeName": volume, "storageClassName": "s"});
            plugin.claims.insert(Arc::new(from_value(json!({"metadata": meta, "spec": spec})).unwrap()));
            if !volume.is_empty() {
                let csi = json!({"driver": "d", "volumeHandle": format!("h-{volume}")});
                let volume = json!({"metadata": {"name": volume}, "spec": {"csi": csi}});
                plugin.volumes.insert(Arc::new(from_value(volume).unwrap()));
            }
        }
        let class = json!({"metadata": {"name": "s"}, "provisioner": "d"});
        plugin.classes.insert(Arc::new(from_value(class).unwrap()));
        plugin
    }

    fn csi_node(limit: Value) -> Arc<CSINode> {
        let driver = json!({"name": "d", "nodeID": "n", "allocatable": {"count": limit}});
        Arc::new(from_value(json!({"metadata": {"name": "a"}, "spec": {"drivers": [driver]}})).unwrap())
    }

    fn pod(name: &str, claims: &[&str]) -> PodInfo {
        let source = |claim: &&str| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}});
        let volumes: Vec<Value> = claims.iter().map(source).collect();
        testing::pod(name, json!({"volumes": volumes}))
    }

    #[test]
    fn a_driver_takes_so_many_volumes_and_each_once() {
        let plugin = plugin();
        let mut snapshot = testing::snapshot(["a", "b"].map(|name| testing::node(name, json!({}))));
        testing::place(&mut snapshot, [(pod("x", &["c1"]), "a"), (pod("y", &["c1"]), "a")]);
        let check = |claims: &[&str], snapshot: &Snapshot, expected: &str| {
            testing::assert_filter(&plugin, &pod("p", claims), snapshot, &[expected, ""]);
        };
        check(&["c2"], &snapshot, "");
        plugin.nodes.insert(csi_node(json!(2)));
        check(&["c2"], &snapshot, "");
        check(&["none"], &snapshot, "");
        check(&["c2", "c3"], &snapshot, REFUSED);
        check(&["c2", "none"], &snapshot, REFUSED);
        plugin.nodes.insert(csi_node(json!(1)));
        check(&["c2"], &snapshot, REFUSED);
        check(&["c1"], &snapshot, "");
        plugin.nodes.insert(csi_node(Value::Null));
        check(&["c2"], &snapshot, "");
        // What is attached counts, whether or not a pod has it.
        plugin.nodes.insert(csi_node(json!(2)));
        let attachment = json!({"metadata": {"name": "at"}, "spec": {"attacher": "d", "nodeName": "a",
            "source": {"persistentVolumeName": "v3"}}});
        plugin.attachments.insert(Arc::new(from_value(attachment).unwrap()));
        check(&["c2"], &snapshot, REFUSED);
        check(&["c3"], &snapshot, "");
        snapshot.remove_pod("uid-x");
        snapshot.remove_pod("uid-y");
        check(&["c2"], &snapshot, "");
    }

    #[test]
    fn disks_that_a_driver_has_taken_over_count_where_it_has() {
        let plugin = plugin();
        let mut snapshot = testing::snapshot(["a", "b"].map(|name| testing::node(name, json!({}))));
        let disk = |id: &str| json!({"name": id, "awsElasticBlockStore": {"volumeID": id}});
        let inline = |name: &str, id: &str| testing::pod(name, json!({"volumes": [disk(id)]}));
        let spec = json!({"awsElasticBlockStore": {"volumeID": "e1"}});
        plugin
            .volumes
            .insert(Arc::new(from_value(json!({"metadata": {"name": "v1"}, "spec": spec})).unwrap()));
        testing::place(&mut snapshot, [(inline("x", "e2"), "a"), (inline("y", "e2"), "b")]);
        let drivers = |name: &str, annotation: &str| -> Arc<CSINode> {
            let driver = json!({"name": "ebs.csi.aws.com", "nodeID": "n", "allocatable": {"count": 1}});
            let annotations = json!({"storage.alpha.kubernetes.io/migrated-plugins": annotation});
            let meta = json!({"name": name, "annotations": annotations});
            Arc::new(from_value(json!({"metadata": meta, "spec": {"drivers": [driver]}})).unwrap())
        };
        plugin.nodes.insert(drivers("a", "kubernetes.io/gce-pd,kubernetes.io/aws-ebs"));
        plugin.nodes.insert(drivers("b", "kubernetes.io/gce-pd"));
        testing::assert_filter(&plugin, &pod("p", &["c1"]), &snapshot, &[REFUSED, ""]);
        testing::assert_filter(&plugin, &inline("p", "e3"), &snapshot, &[REFUSED, ""]);
        testing::assert_filter(&plugin, &inline("p", "e2"), &snapshot, &["", ""]);
    }

    #[test]
    fn a_driver_may_be_needed() {
        let plugin = plugin();
        let snapshot = testing::snapshot(["a", "b"].map(|name| testing::node(name, json!({}))));
        let driver = json!({"metadata": {"name": "d"}, "spec": {"preventPodSchedulingIfMissing": true}});
        plugin.drivers.insert(Arc::new(from_value(driver).unwrap()));
        plugin.nodes.insert(csi_node(json!(9)));
        let refused = "d CSI driver is not installed on the node";
        testing::assert_filter(&plugin, &pod("p", &["c1"]), &snapshot, &["", refused]);
        let ask = |pod: &PodInfo| plugin.pre_filter(&mut CycleState::default(), pod, &snapshot).status;
        assert!(ask(&pod("p", &[])).is_skip());
        let missing = "looking up PVC default/x: persistentvolumeclaim \"x\" not found";
        testing::assert_filter(&plugin, &pod("p", &["x"]), &snapshot, &[missing, missing]);
    }

    #[test]
    fn more_room_helps() {
        let plugin = plugin();
        let hint = |old: Value, new: Value| {
            let change = Change::Updated { old: csi_node(old), new: csi_node(new) };
            plugin.hint(&pod("p", &["c1"]), &ClusterEvent::other(&change))
        };
        assert_eq!(hint(json!(1), json!(2)), Hint::Queue);
        assert_eq!(hint(json!(1), Value::Null), Hint::Queue);
        assert_eq!(hint(json!(2), json!(1)), Hint::Skip);
        let gone = |claims: &[&str]| ClusterEvent::assigned_pod_deleted(testing::placed(pod("x", claims)));
        assert_eq!(plugin.hint(&pod("p", &["c1"]), &gone(&["c2"])), Hint::Queue);
        assert_eq!(plugin.hint(&pod("p", &["c1"]), &gone(&[])), Hint::Skip);
    }
}
