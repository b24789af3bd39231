//! Writes down what was decided of volumes, and waits until it is done.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use rkube_api::{
    client::{Api, Client, ObjectKey, PostParams},
    helpers::{
        affinity::RequiredNodeAffinity,
        volumes::{SELECTED_NODE, annotation, claim_ref, is_fully_bound, volume_name},
    },
    meta::validation::go_quoted,
    object::Kind,
};
use tokio::time::{sleep, timeout};

use super::{VolumeBinding, assumed::version};
use crate::snapshot::PodInfo;

/// How soon after the write the claims are looked at, and how rarely at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What Reserve has decided: the volumes and claims as they are to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Reserved {
    /// Volumes, each with its claim.
    pub(super) volumes: Vec<(Arc<PersistentVolume>, ObjectKey)>,
    /// Claims for which a volume is to be made.
    pub(super) claims: Vec<Arc<PersistentVolumeClaim>>,
}

impl Reserved {
    pub(super) fn is_empty(&self) -> bool {
        self.volumes.is_empty() && self.claims.is_empty()
    }
}

fn quoted(object: &impl Kind) -> String {
    go_quoted(object.metadata().name.as_deref().unwrap_or_default())
}

impl VolumeBinding {
    /// Writes what was reserved and waits until every claim has its volume.
    pub(super) async fn bind(&self, reserved: Reserved, pod: &PodInfo, node: &str) -> Result<(), String> {
        let Some(client) = &self.client else { return Err("no API server to bind through".into()) };
        let reserved = self.write(client, reserved).await?;
        let wait = async {
            let (mut pause, longest) = PAUSES;
            while !self.is_done(&reserved, node)? {
                sleep(pause).await;
                if pause == longest {
                    still_wanted(client, pod).await?;
                }
                pause = (pause * 2).min(longest);
            }
            self.is_reached(client, &reserved, node).await
        };
        let waited = timeout(self.timeout, wait).await;
        let waited = waited.unwrap_or_else(|_| Err("context deadline exceeded".into()));
        waited.map_err(|why| format!("binding volumes: {why}"))?;
        self.forget(&reserved);
        Ok(())
    }

    /// The API shows it all: nothing is assumed any more.
    pub(super) fn forget(&self, reserved: &Reserved) {
        for (volume, _) in &reserved.volumes {
            self.volumes.revert(&ObjectKey::of(&**volume));
        }
        for claim in &reserved.claims {
            self.claims.revert(&ObjectKey::of(&**claim));
        }
    }

    async fn write(&self, client: &Client, mut reserved: Reserved) -> Result<Reserved, String> {
        let params = PostParams::default();
        let volumes = Api::<PersistentVolume>::all(client.clone());
        for (volume, _) in &mut reserved.volumes {
            let written = volumes.update(&params, (**volume).clone()).await;
            *volume = written.map_err(|error| error.to_string())?;
            self.volumes.assume(volume.clone());
        }
        for claim in &mut reserved.claims {
            let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
            let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace);
            let written = claims.update(&params, (**claim).clone()).await;
            *claim = written.map_err(|error| error.to_string())?;
            self.claims.assume(claim.clone());
        }
        Ok(reserved)
    }

    /// Whether every claim has its volume. An error: that will not be, here and now.
    fn is_done(&self, reserved: &Reserved, node: &str) -> Result<bool, String> {
        let missing = |kind: &str, name: &str| format!("{kind} {} not found", go_quoted(name));
        for (written, claim) in &reserved.volumes {
            let name = written.metadata.name.as_deref().unwrap_or_default();
            let shown = self.volumes.shown().get("", name);
            let shown = shown
                .ok_or_else(|| format!("failed to check binding: {}", missing("persistentvolume", name)))?;
            if version(&*shown) < version(&**written) {
                return Ok(false);
            }
            if claim_ref(&shown).is_none_or(|claim| claim.uid.as_deref().unwrap_or_default().is_empty()) {
                return Err(format!("ClaimRef got reset for pv {}", go_quoted(name)));
            }
            let claim = self.claims.shown().get_key(claim).ok_or_else(|| {
                format!("failed to check binding: {}", missing("persistentvolumeclaim", &claim.name))
            })?;
            if !is_fully_bound(&claim) {
                return Ok(false);
            }
        }
        for written in &reserved.claims {
            let key = ObjectKey::of(&**written);
            let shown = self.claims.shown().get_key(&key).ok_or_else(|| {
                format!("failed to check provisioning pvc: {}", missing("persistentvolumeclaim", &key.name))
            })?;
            if version(&*shown) < version(&**written) {
                return Ok(false);
            }
            // Whoever cannot make the volume there takes the annotation off again.
            if annotation(&shown.metadata, SELECTED_NODE) != Some(node) {
                return Err(format!("provisioning failed for PVC {}", go_quoted(&key.name)));
            }
            if !is_fully_bound(&shown) || self.volumes.shown().get("", volume_name(&shown)).is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the node reaches the volumes that were made for it.
    async fn is_reached(&self, client: &Client, reserved: &Reserved, name: &str) -> Result<(), String> {
        if reserved.claims.is_empty() {
            return Ok(());
        }
        let node = Api::<Node>::all(client.clone()).get(name).await.map_err(|error| error.to_string())?;
        for claim in &reserved.claims {
            let claim = self.claims.shown().get_key(&ObjectKey::of(&**claim));
            let volume = claim.and_then(|claim| self.volumes.shown().get("", volume_name(&claim)));
            let Some(volume) = volume else { continue };
            let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
            let Some(required) = affinity.and_then(|affinity| affinity.required.as_ref()) else { continue };
            if !RequiredNodeAffinity::of_selector(required).matches_node(&node) {
                return Err(format!(
                    "pv {} node affinity doesn't match node {}: no matching NodeSelectorTerms",
                    quoted(&*volume),
                    go_quoted(name)
                ));
            }
        }
        Ok(())
    }
}

/// Whether a pod is there to be bound; it may go while what it needs is made.
pub(crate) async fn still_wanted(client: &Client, pod: &PodInfo) -> Result<(), String> {
    let pods = Api::<Pod>::namespaced(client.clone(), &pod.key.namespace);
    match pods.get_opt(&pod.key.name).await {
        Ok(Some(found)) if found.metadata.uid == pod.pod.metadata.uid => Ok(()),
        Ok(_) => {
            let name = go_quoted(&pod.key.name);
            Err(format!("pod does not exist any more: pod {name} not found"))
        }
        // It is asked again soon.
        Err(_) => Ok(()),
    }
}
