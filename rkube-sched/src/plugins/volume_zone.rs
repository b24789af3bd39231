//! Keeps pods in the zones and regions of their volumes, as the volumes' labels say.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use rkube_api::{
    client::Cache,
    helpers::volumes::{WAIT_FOR_FIRST_CONSUMER, claim_class, volume_name, waits_for_consumer},
    meta::validation::go_quoted,
};

use crate::{
    claims::{CLAIMS, CLASSES, VOLUMES, is_of_pod, listers, not_found},
    framework::{
        Actions, Args, ClusterEvent, ConfigError, CycleState, Filter, Handle, Hint, Interest, Locality,
        Plugin, PointSet, Points, PreFilter, PreFiltered, Resource, Status, Subject,
    },
    snapshot::{Facet, NodeView, PodInfo, Snapshot},
};

/// The plugin's name.
pub const NAME: &str = "VolumeZone";

const REFUSED: &str = "node(s) had no available volume zone";
/// The labels that say where a volume is, each with the one that took its place.
const LABELS: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
];

/// Filters by the zones of volumes. See the module's documentation.
#[derive(Debug)]
pub struct VolumeZone {
    claims: Cache<PersistentVolumeClaim>,
    volumes: Cache<PersistentVolume>,
    classes: Cache<StorageClass>,
}

/// Makes the plugin; it has no arguments.
pub fn make(_: &Args, handle: &Handle) -> Result<PointSet, ConfigError> {
    let listers = listers(handle);
    let plugin = VolumeZone { claims: listers.get(), volumes: listers.get(), classes: listers.get() };
    Ok(Points::of(plugin).pre_filter().filter().done())
}

/// Where a volume is, by one label.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    key: &'static str,
    newer: &'static str,
    values: BTreeSet<String>,
}

/// Where all the pod's volumes are.
#[derive(Clone, Debug, Default)]
struct Places(Vec<Place>);

fn places(volume: &PersistentVolume) -> impl Iterator<Item = Place> {
    let labels = volume.metadata.labels.as_ref();
    LABELS.into_iter().filter_map(move |(key, newer)| {
        let values: BTreeSet<String> = labels?.get(key)?.split("__").map(|zone| zone.trim().into()).collect();
        // A label that cannot be read says nothing.
        (!values.contains("")).then_some(Place { key, newer, values })
    })
}

impl VolumeZone {
    fn places(&self, pod: &PodInfo) -> Result<Places, Status> {
        let mut all = Vec::new();
        let names = pod.volumes.iter().flat_map(|volumes| volumes.shared_claims());
        for name in names {
            if name.is_empty() {
                return Err(Status::unresolvable("PersistentVolumeClaim had no name"));
            }
            let claim = self.claims.get(&pod.key.namespace, name);
            let claim = claim.ok_or_else(|| not_found("persistentvolumeclaim", name))?;
            match volume_name(&claim) {
                "" => self.must_wait(&claim)?,
                volume => {
                    let found = self.volumes.get("", volume);
                    let found = found.ok_or_else(|| not_found("persistentvolume", volume))?;
                    all.extend(places(&found));
                }
            }
        }
        Ok(Places(all))
    }

    /// A claim without a volume says nothing yet if its volume waits for the pod.
    fn must_wait(&self, claim: &PersistentVolumeClaim) -> Result<(), Status> {
        let class = claim_class(claim);
        if class.is_empty() {
            let text = "PersistentVolumeClaim had no pv name and storageClass name";
            return Err(Status::unresolvable(text));
        }
        let found = self.classes.get("", class);
        let found = found.ok_or_else(|| not_found("storageclass.storage.k8s.io", class))?;
        if found.volume_binding_mode.is_none() {
            let text = format!("VolumeBindingMode not set for StorageClass {}", go_quoted(class));
            return Err(Status::unresolvable(text));
        }
        if waits_for_consumer(&found) {
            return Ok(());
        }
        Err(Status::unresolvable("PersistentVolume had no name"))
    }
}

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> Vec<Interest> {
        let made_or_changed = Actions::ADD | Actions::UPDATE_OTHER;
        vec![
            Interest::new(Resource::Other(CLASSES), Actions::ADD),
            Interest::new(Resource::Node, Actions::ADD | Actions::UPDATE_NODE_LABEL),
            Interest::new(Resource::Other(CLAIMS), made_or_changed),
            Interest::new(Resource::Other(VOLUMES), made_or_changed),
        ]
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> Hint {
        let Subject::Object(changed) = &event.subject else { return Hint::Queue };
        if event.resource == Resource::Other(CLAIMS) {
            return is_of_pod(pod, event).into();
        }
        if let Some(class) = changed.after::<StorageClass>() {
            return (class.volume_binding_mode.as_deref() == Some(WAIT_FOR_FIRST_CONSUMER)).into();
        }
        match (changed.before::<PersistentVolume>(), changed.after::<PersistentVolume>()) {
            (Some(old), Some(new)) => (!places(old).eq(places(new))).into(),
            _ => Hint::Queue,
        }
    }

    fn locality(&self, pod: &PodInfo, _: &Snapshot) -> Locality {
        if pod.volumes.is_none() { Locality::Node } else { Locality::Cluster }
    }

    /// Nodes of one zone and region are alike.
    fn facets(&self, state: &mut CycleState, _: &PodInfo, snapshot: &Snapshot) -> Option<Vec<Facet>> {
        let Some(_) = state.read::<Places>() else { return Some(Vec::new()) };
        Some(LABELS.iter().map(|(key, _)| Facet::by_label(snapshot, key)).collect())
    }
}

impl PreFilter for VolumeZone {
    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, _: &Snapshot) -> PreFiltered {
        if pod.volumes.is_none() {
            return Status::skip().into();
        }
        match self.places(pod) {
            Err(refusal) => refusal.into(),
            Ok(places) if places.0.is_empty() => Status::skip().into(),
            Ok(places) => {
                state.write(places);
                PreFiltered::default()
            }
        }
    }
}

impl Filter for VolumeZone {
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: NodeView<'_>) -> Status {
        if pod.volumes.is_none() {
            return Status::success();
        }
        let alone;
        let places = match state.read::<Places>() {
            Some(places) => places,
            None => match self.places(pod) {
                Ok(places) => {
                    alone = places;
                    &alone
                }
                Err(refusal) => return refusal,
            },
        };
        // A node that says nothing of zones is in all of them: there is but one.
        if LABELS.iter().all(|(key, _)| node.label(key).is_none()) {
            return Status::success();
        }
        let there = |place: &Place| {
            let value = node.label(place.key).or_else(|| node.label(place.newer));
            value.is_some_and(|value| place.values.contains(value))
        };
        if places.0.iter().all(there) { Status::success() } else { Status::unresolvable(REFUSED) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rkube_api::client::Change;
    use serde_json::{Value, from_value, json};

    use super::*;
    use crate::testing;

    const ZONE: &str = "topology.kubernetes.io/zone";
    const OLD_ZONE: &str = "failure-domain.beta.kubernetes.io/zone";

    fn plugin() -> VolumeZone {
        VolumeZone { claims: Cache::default(), volumes: Cache::default(), classes: Cache::default() }
    }

    fn volume(labels: Value) -> Arc<PersistentVolume> {
        Arc::new(from_value(json!({"metadata": {"name": "v", "labels": labels}})).unwrap())
    }

    fn claim(spec: Value) -> Arc<PersistentVolumeClaim> {
        let meta = json!({"name": "c", "namespace": "default"});
        Arc::new(from_value(json!({"metadata": meta, "spec": spec})).unwrap())
    }

    fn pod() -> PodInfo {
        let source = json!({"claimName": "c"});
        testing::pod("p", json!({"volumes": [{"name": "v", "persistentVolumeClaim": source}]}))
    }

    #[test]
    fn a_volume_s_labels_say_where_its_pods_can_be() {
        let plugin = plugin();
        plugin.claims.insert(claim(json!({"volumeName": "v"})));
        let nodes =
            [json!({ZONE: "a"}), json!({ZONE: "b"}), json!({OLD_ZONE: "a"}), json!({}), json!({ZONE: "c"})];
        let nodes = nodes.into_iter().enumerate();
        let snapshot =
            testing::snapshot(nodes.map(|(at, labels)| testing::node_labelled(&format!("n{at}"), labels)));
        let check = |labels: Value, expected: [&str; 5]| {
            plugin.volumes.insert(volume(labels));
            testing::assert_filter(&plugin, &pod(), &snapshot, &expected);
        };
        check(json!({}), [""; 5]);
        check(json!({ZONE: "a"}), ["", REFUSED, REFUSED, "", REFUSED]);
        check(json!({OLD_ZONE: "a"}), ["", REFUSED, "", "", REFUSED]);
        check(json!({ZONE: "a__b"}), ["", "", REFUSED, "", REFUSED]);
        check(json!({ZONE: "a__"}), [""; 5]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let plugin = plugin();
        let snapshot = testing::snapshot([]);
        let ask = || plugin.pre_filter(&mut CycleState::default(), &pod(), &snapshot).status.message();
        assert_eq!(ask(), "persistentvolumeclaim \"c\" not found");
        plugin.claims.insert(claim(json!({"volumeName": "v"})));
        assert_eq!(ask(), "persistentvolume \"v\" not found");
        plugin.claims.insert(claim(json!({})));
        assert_eq!(ask(), "PersistentVolumeClaim had no pv name and storageClass name");
        plugin.claims.insert(claim(json!({"storageClassName": "s"})));
        assert_eq!(ask(), "storageclass.storage.k8s.io \"s\" not found");
        let class =
            |mode: &str| json!({"metadata": {"name": "s"}, "provisioner": "p", "volumeBindingMode": mode});
        plugin.classes.insert(Arc::new(from_value(class("Immediate")).unwrap()));
        assert_eq!(ask(), "PersistentVolume had no name");
        plugin.classes.insert(Arc::new(from_value(class("WaitForFirstConsumer")).unwrap()));
        assert!(plugin.pre_filter(&mut CycleState::default(), &pod(), &snapshot).status.is_skip());
    }

    #[test]
    fn a_volume_helps_by_moving() {
        let moved = |new: Value| {
            let change = Change::Updated { old: volume(json!({ZONE: "a"})), new: volume(new) };
            plugin().hint(&pod(), &ClusterEvent::other(&change))
        };
        assert_eq!(moved(json!({ZONE: "b"})), Hint::Queue);
        assert_eq!(moved(json!({ZONE: "a", "other": "x"})), Hint::Skip);
    }
}
