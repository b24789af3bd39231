//! Keeps pods apart that cannot share a volume: those of one claim that is for one pod only, and those on
//! one node with the same disk of GCE, EBS, iSCSI or Ceph.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use rkube_api::{
    client::{Cache, ObjectKey},
    helpers::volumes::is_for_one_pod,
};

use crate::{
    claims::{CLAIMS, claims_of, is_of_pod, listers, not_found},
    framework::{
        Actions, Args, ClusterEvent, ConfigError, CycleState, Filter, Handle, Hint, Interest, Locality,
        Plugin, PointSet, Points, PreFilter, PreFilterExtensions, PreFiltered, Resource, Status, Subject,
    },
    snapshot::{Facet, NodeView, PlacedPod, PodInfo, PodVolumes, Snapshot},
};

/// The plugin's name.
pub const NAME: &str = "VolumeRestrictions";

const SAME_DISK: &str = "node(s) had no available disk";
const FOR_ONE_POD: &str = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";

/// Filters by volumes that cannot be shared. See the module's documentation.
#[derive(Debug)]
pub struct VolumeRestrictions {
    claims: Cache<PersistentVolumeClaim>,
}

/// Makes the plugin; it has no arguments.
pub fn make(_: &Args, handle: &Handle) -> Result<PointSet, ConfigError> {
    let plugin = VolumeRestrictions { claims: listers(handle).get() };
    Ok(Points::of(plugin).pre_filter().filter().done())
}

/// The pod's claims that are for one pod only, and how many of them other pods have.
#[derive(Clone, Debug, Default)]
struct Exclusive {
    claims: Vec<ObjectKey>,
    taken: i64,
}

impl VolumeRestrictions {
    fn exclusive(&self, pod: &PodInfo, snapshot: &Snapshot) -> Result<Exclusive, Status> {
        let mut exclusive = Exclusive::default();
        let names = pod.volumes.iter().flat_map(|volumes| volumes.shared_claims());
        for name in names {
            let key = ObjectKey::new(&*pod.key.namespace, name);
            let claim = self.claims.get_key(&key).ok_or_else(|| not_found("persistentvolumeclaim", name))?;
            if claim.spec.as_ref().is_some_and(is_for_one_pod) && !exclusive.claims.contains(&key) {
                exclusive.taken += i64::from(snapshot.is_claim_used(&key));
                exclusive.claims.push(key);
            }
        }
        Ok(exclusive)
    }
}

/// Whether both have a disk that they cannot have on one node.
fn conflict(one: Option<&PodVolumes>, other: Option<&PodVolumes>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    one.disks.iter().any(|disk| other.disks.iter().any(|there| disk.conflicts(there)))
}

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> Vec<Interest> {
        vec![
            Interest::new(Resource::AssignedPod, Actions::DELETE),
            Interest::new(Resource::Node, Actions::ADD),
            Interest::new(Resource::Other(CLAIMS), Actions::ADD | Actions::UPDATE_OTHER),
        ]
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> Hint {
        match &event.subject {
            Subject::Pod { old: Some(gone), new: None } => {
                let theirs = gone.volumes.as_deref();
                let here = *gone.namespace == *pod.key.namespace;
                let uses = |name: &str| claims_of(pod).iter().any(|mine| *mine.name == *name);
                let shared = || theirs.iter().any(|volumes| volumes.shared_claims().any(uses));
                (conflict(pod.volumes.as_deref(), theirs) || here && shared()).into()
            }
            Subject::Object(_) => is_of_pod(pod, event).into(),
            _ => Hint::Queue,
        }
    }

    fn locality(&self, pod: &PodInfo, _: &Snapshot) -> Locality {
        if pod.volumes.is_none() { Locality::Node } else { Locality::Cluster }
    }

    /// Only disks tell nodes apart: a claim that is taken is taken wherever the pod would go.
    fn facets(&self, _: &mut CycleState, pod: &PodInfo, _: &Snapshot) -> Option<Vec<Facet>> {
        let disks = pod.volumes.as_ref().is_some_and(|volumes| !volumes.disks.is_empty());
        (!disks).then(Vec::new)
    }
}

impl PreFilter for VolumeRestrictions {
    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, snapshot: &Snapshot) -> PreFiltered {
        let Some(volumes) = &pod.volumes else { return Status::skip().into() };
        match self.exclusive(pod, snapshot) {
            Err(missing) => missing.into(),
            Ok(exclusive) if volumes.disks.is_empty() && exclusive.taken == 0 => Status::skip().into(),
            Ok(exclusive) => {
                state.write(exclusive);
                PreFiltered::default()
            }
        }
    }

    fn extensions(&self) -> Option<&dyn PreFilterExtensions> {
        Some(self)
    }
}

impl PreFilterExtensions for VolumeRestrictions {
    fn shift(
        &self,
        state: &mut CycleState,
        _: &PodInfo,
        moved: &PlacedPod,
        _: NodeView<'_>,
        by: i64,
    ) -> Status {
        if let (Some(exclusive), Some(volumes)) = (state.modify::<Exclusive>(), &moved.volumes) {
            let ours = |name: &&str| {
                let mut claims = exclusive.claims.iter();
                claims.any(|claim| claim.name == **name && claim.namespace == *moved.namespace)
            };
            exclusive.taken += by * volumes.shared_claims().filter(ours).count() as i64;
        }
        Status::success()
    }
}

impl Filter for VolumeRestrictions {
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: NodeView<'_>) -> Status {
        let Some(volumes) = pod.volumes.as_deref() else { return Status::success() };
        if !volumes.disks.is_empty()
            && node.pods().any(|there| conflict(Some(volumes), there.volumes.as_deref()))
        {
            return Status::unschedulable(SAME_DISK);
        }
        let exclusive = state.read_or(|| self.exclusive(pod, node.snapshot()).ok());
        if exclusive.is_some_and(|exclusive| exclusive.taken > 0) {
            return Status::unschedulable(FOR_ONE_POD);
        }
        Status::success()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::{framework::Changed, testing};

    fn with_volume(name: &str, source: Value) -> PodInfo {
        let mut volume = json!({"name": "v"});
        volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        testing::pod(name, json!({"nodeName": "a", "volumes": [volume]}))
    }

    fn claim(name: &str, mode: &str) -> Arc<PersistentVolumeClaim> {
        let meta = json!({"name": name, "namespace": "default"});
        let value = json!({"metadata": meta, "spec": {"accessModes": [mode]}});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn plugin() -> VolumeRestrictions {
        VolumeRestrictions { claims: Cache::default() }
    }

    #[test]
    fn the_same_disk_is_on_one_node_only_if_all_just_read_it() {
        let gce = |read_only| json!({"gcePersistentDisk": {"pdName": "d", "readOnly": read_only}});
        let iscsi = |iqn: &str, reads| json!({"iscsi": {"targetPortal": "p", "lun": 0, "iqn": iqn, "readOnly": reads}});
        let rbd = |monitors: &[&str], reads| json!({"rbd": {"monitors": monitors, "image": "i", "readOnly": reads}});
        let ebs = json!({"awsElasticBlockStore": {"volumeID": "e", "readOnly": true}});
        for (there, wanted, fits) in [
            (gce(false), gce(true), false),
            (gce(true), gce(true), true),
            (ebs.clone(), ebs, false),
            (iscsi("x", true), iscsi("x", true), true),
            (iscsi("x", false), iscsi("x", true), false),
            (iscsi("x", false), iscsi("y", false), true),
            (rbd(&["a", "b"], false), rbd(&["b"], false), false),
            (rbd(&["a"], false), rbd(&["b"], false), true),
            (rbd(&["a"], true), rbd(&["a"], true), true),
            (gce(false), json!({"emptyDir": {}}), true),
        ] {
            let mut snapshot = testing::snapshot(["a", "b"].map(|name| testing::node(name, json!({}))));
            testing::place(&mut snapshot, [(with_volume("x", there.clone()), "a")]);
            let expected = if fits { "" } else { SAME_DISK };
            testing::assert_filter(&plugin(), &with_volume("p", wanted.clone()), &snapshot, &[expected, ""]);
            let gone = ClusterEvent::assigned_pod_deleted(testing::placed(with_volume("x", there)));
            assert_eq!(plugin().hint(&with_volume("p", wanted), &gone), Hint::from(!fits));
        }
    }

    #[test]
    fn a_claim_for_one_pod_is_for_one_pod() {
        let plugin = plugin();
        let pod = |name: &str| with_volume(name, json!({"persistentVolumeClaim": {"claimName": "c"}}));
        let mut snapshot = testing::snapshot(["a", "b"].map(|name| testing::node(name, json!({}))));
        let mut state = CycleState::default();
        let ask = |state: &mut CycleState, snapshot: &Snapshot| {
            plugin.pre_filter(state, &pod("p"), snapshot).status
        };
        assert_eq!(ask(&mut state, &snapshot), Status::unresolvable("persistentvolumeclaim \"c\" not found"));
        plugin.claims.insert(claim("c", "ReadWriteOnce"));
        testing::place(&mut snapshot, [(pod("x"), "b")]);
        assert!(ask(&mut state, &snapshot).is_skip(), "several may have it");
        plugin.claims.insert(claim("c", "ReadWriteOncePod"));
        assert!(ask(&mut state, &snapshot).is_success());
        let view = snapshot.view(snapshot.nodes()[0]);
        assert_eq!(plugin.filter(&state, &pod("p"), view), Status::unschedulable(FOR_ONE_POD));
        // Who has it could go.
        plugin.shift(&mut state, &pod("p"), &PlacedPod::from(&pod("x")), view, -1);
        assert!(plugin.filter(&state, &pod("p"), view).is_success());
        snapshot.remove_pod("uid-x");
        assert!(ask(&mut state, &snapshot).is_skip());
        assert!(plugin.pre_filter(&mut state, &testing::pod("q", json!({})), &snapshot).status.is_skip());
    }

    #[test]
    fn only_its_own_claims_help_a_pod() {
        let pod = with_volume("p", json!({"persistentVolumeClaim": {"claimName": "c"}}));
        let added =
            |name: &str| ClusterEvent::other(&rkube_api::client::Change::Added(claim(name, "ReadWriteOnce")));
        assert_eq!(plugin().hint(&pod, &added("c")), Hint::Queue);
        assert_eq!(plugin().hint(&pod, &added("d")), Hint::Skip);
        let Subject::Object(subject) = added("c").subject else { panic!() };
        let named = |changed: &Changed| {
            changed.after::<PersistentVolumeClaim>().and_then(|it| it.metadata.name.clone())
        };
        assert_eq!(named(&subject).as_deref(), Some("c"));
        assert!(subject.before::<PersistentVolumeClaim>().is_none());
    }
}
