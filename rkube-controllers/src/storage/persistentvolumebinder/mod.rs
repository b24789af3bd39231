//! Binds claims and volumes to each other, and says in which phase each is. A claim gets the smallest volume that
//! fits, or the one that is kept for it; one whose class waits for a pod gets what the scheduler has chosen. Making
//! and deleting volumes is left to provisioners from outside, which read the annotation
//! `volume.kubernetes.io/storage-provisioner`.
//! <https://kubernetes.io/docs/concepts/storage/persistent-volumes/>

pub mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};
use rkube_api::{
    client::{
        Api, Cache, Change, Client, EventKind, EventRecorder, Informers, ObjectKey, PostParams, WorkQueue,
    },
    error::ApiError,
    helpers::volumes::{
        BIND_COMPLETED, annotation, claim_class, claim_ref, claims_of, volume_class, volume_name,
        volume_phase,
    },
    object::Kind,
};

use self::plan::{ClaimSeen, ForClaim, ForVolume, Note};
use super::{CLAIM_INDEX, index_by_claim};
use crate::{
    all::Deps,
    facts,
    runtime::{Controller, Outcome, Reconcile, ReconcileError},
};

/// The index of claims that are not bound by their class, and of volumes that are nobody's by theirs.
const CLASS_INDEX: &str = "unbound-of-class";
/// The index of claims by the volume that they name.
const VOLUME_INDEX: &str = "volume";
/// The index of volumes by the claim that they are kept for, as `namespace/name`.
const KEPT_INDEX: &str = "claim";

/// The controller. Its keys are those of claims and, without a namespace, of volumes; one worker deals with all,
/// so that no two claims are given one volume at a time.
pub fn controller(deps: &Deps) -> Controller {
    let informers = deps.informers();
    let reconciler = Reconciler {
        client: deps.client().clone(),
        claims: informers.get::<PersistentVolumeClaim>().cache().clone(),
        volumes: informers.get::<PersistentVolume>().cache().clone(),
        classes: informers.get::<StorageClass>().cache().clone(),
        pods: informers.get::<Pod>().cache().clone(),
        recorder: deps.recorder("persistentvolume-controller"),
    };
    index_by_claim(&reconciler.pods);
    index(&reconciler.claims, &reconciler.volumes);
    Controller::builder("persistentvolumebinder")
        .for_kind::<PersistentVolume>()
        .watches(|claim: &PersistentVolumeClaim| {
            let volume = volume_name(claim);
            let named = (!volume.is_empty()).then(|| ObjectKey::new("", volume));
            [ObjectKey::of(claim)].into_iter().chain(named).collect()
        })
        .source(follow_volumes)
        .source(follow_classes)
        .source(follow_pods)
        .build(reconciler)
}

fn index(claims: &Cache<PersistentVolumeClaim>, volumes: &Cache<PersistentVolume>) {
    claims.add_index(CLASS_INDEX, |claim| {
        let bound = annotation(&claim.metadata, BIND_COMPLETED).is_some();
        if bound { Vec::new() } else { vec![claim_class(claim).to_owned()] }
    });
    claims.add_index(VOLUME_INDEX, |claim| vec![volume_name(claim).to_owned()]);
    volumes.add_index(CLASS_INDEX, |volume| {
        if claim_ref(volume).is_some() { Vec::new() } else { vec![volume_class(volume).to_owned()] }
    });
    volumes.add_index(KEPT_INDEX, |volume| kept_for(volume).map(|key| key.to_string()).into_iter().collect());
}

/// The claim that a volume is bound to, or kept for.
fn kept_for(volume: &PersistentVolume) -> Option<ObjectKey> {
    let claim = claim_ref(volume)?;
    let (namespace, name) = (claim.namespace.as_deref()?, claim.name.as_deref()?);
    (!namespace.is_empty() && !name.is_empty()).then(|| ObjectKey::new(namespace, name))
}

/// A volume is of interest to its claim, and one that is free to all claims of its class that have none.
fn follow_volumes(informers: &Informers, queue: &WorkQueue<ObjectKey>) {
    let (claims, queue) = (informers.get::<PersistentVolumeClaim>().cache().clone(), queue.clone());
    informers.get::<PersistentVolume>().on_change(move |change| {
        let volume = change.object();
        if let Some(key) = kept_for(volume) {
            queue.add(key);
        }
        let became = match change {
            Change::Updated { old, new } => {
                volume_phase(old) != volume_phase(new)
                    || old.spec != new.spec
                    || old.metadata.labels != new.metadata.labels
            }
            Change::Added(_) => true,
            Change::Deleted(_) => false,
        };
        if became && volume_phase(volume) == "Available" {
            of_class(&claims, volume_class(volume)).for_each(|key| queue.add(key));
        }
        // Whoever names it, kept or not, has it no more or can have it now.
        if !matches!(change, Change::Updated { .. }) {
            let named = claims.by_index(VOLUME_INDEX, facts::name(&volume.metadata));
            named.iter().for_each(|claim| queue.add(ObjectKey::of(&**claim)));
        }
    });
}

/// Claims wait for their class, and claims without one for a default.
fn follow_classes(informers: &Informers, queue: &WorkQueue<ObjectKey>) {
    let (claims, queue) = (informers.get::<PersistentVolumeClaim>().cache().clone(), queue.clone());
    informers.get::<StorageClass>().on_change(move |change| {
        let name = facts::name(&change.object().metadata);
        of_class(&claims, name).chain(of_class(&claims, "")).for_each(|key| queue.add(key));
    });
}

/// The pod for which a claim waits is told of.
fn follow_pods(informers: &Informers, queue: &WorkQueue<ObjectKey>) {
    let (claims, queue) = (informers.get::<PersistentVolumeClaim>().cache().clone(), queue.clone());
    informers.get::<Pod>().on_change(move |change| {
        let Change::Added(pod) = change else { return };
        let namespace = facts::namespace(&pod.metadata);
        for claim in claims_of(pod) {
            if claims.get(namespace, &claim).is_some_and(|claim| volume_name(&claim).is_empty()) {
                queue.add(ObjectKey::new(namespace, claim));
            }
        }
    });
}

fn of_class(claims: &Cache<PersistentVolumeClaim>, class: &str) -> impl Iterator<Item = ObjectKey> + use<> {
    claims.by_index(CLASS_INDEX, class).into_iter().map(|claim| ObjectKey::of(&*claim))
}

struct Reconciler {
    client: Client,
    claims: Cache<PersistentVolumeClaim>,
    volumes: Cache<PersistentVolume>,
    classes: Cache<StorageClass>,
    pods: Cache<Pod>,
    recorder: EventRecorder,
}

#[async_trait]
impl Reconcile for Reconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let done = match key.namespace.is_empty() {
            true => self.volume(key).await,
            false => self.claim(key).await,
        };
        match done {
            // It is gone; what that means is told by its end.
            Ok(()) | Err(ApiError::NotFound { .. }) => Ok(Outcome::Done),
            Err(error) => Err(error.into()),
        }
    }
}

impl Reconciler {
    async fn claim(&self, key: &ObjectKey) -> Result<(), ApiError> {
        let Some(claim) = self.claims.get_key(key) else { return Ok(()) };
        // One that is kept for the claim may be of any class.
        let mut volumes = self.volumes.by_index(KEPT_INDEX, &key.to_string());
        volumes.extend(self.volumes.by_index(CLASS_INDEX, claim_class(&claim)));
        let named = self.named(&claim).await?;
        let pods = self.pods.by_index(CLAIM_INDEX, &key.to_string());
        let waiting = pods.iter().find(|pod| facts::node(pod).is_empty());
        let seen = ClaimSeen {
            claim: &claim,
            volumes: &volumes,
            named: named.as_ref(),
            classes: &self.classes.list(),
            waiting: waiting.map(|pod| facts::name(&pod.metadata)),
        };
        match plan::for_claim(&seen) {
            ForClaim::Nothing => Ok(()),
            ForClaim::Bind(volume) => self.bind(&claim, &volume).await,
            ForClaim::Class(class) => {
                let mut claim = (*claim).clone();
                claim.spec.get_or_insert_default().storage_class_name = Some(class);
                self.claims_of(&claim).update(&PostParams::default(), claim).await.map(drop)
            }
            ForClaim::Provision(provisioner, note) => {
                self.tell(&*claim, &note);
                self.claim_phase(&claim, "Pending", None).await?;
                let Some(asking) = plan::provisioned_by(&claim, &provisioner) else { return Ok(()) };
                self.claims_of(&claim).update(&PostParams::default(), asking).await.map(drop)
            }
            ForClaim::Wait(note) => {
                if let Some(note) = note {
                    self.tell(&*claim, &note);
                }
                self.claim_phase(&claim, "Pending", None).await.map(drop)
            }
            ForClaim::Lose(note) => {
                if self.claim_phase(&claim, "Lost", None).await?.is_some() {
                    self.tell(&*claim, &note);
                }
                Ok(())
            }
        }
    }

    /// The volume that a claim names. A claim loses its volume for good: the server has the last word.
    async fn named(&self, claim: &PersistentVolumeClaim) -> Result<Option<Arc<PersistentVolume>>, ApiError> {
        let name = volume_name(claim);
        if name.is_empty() {
            return Ok(None);
        }
        match self.volumes.get("", name) {
            Some(volume) => Ok(Some(volume)),
            None => Api::<PersistentVolume>::all(self.client.clone()).get_opt(name).await,
        }
    }

    /// Volume first: were it the claim's before it is the claim's alone, two claims could have it.
    async fn bind(
        &self,
        claim: &Arc<PersistentVolumeClaim>,
        volume: &Arc<PersistentVolume>,
    ) -> Result<(), ApiError> {
        let (params, volumes) = (PostParams::default(), Api::<PersistentVolume>::all(self.client.clone()));
        let volume = match plan::kept(volume, claim) {
            Some(kept) => volumes.update(&params, kept).await?,
            None => volume.clone(),
        };
        let volume = match plan::in_phase(&volume, "Bound", "", &self.client.context().clock.now()) {
            Some(bound) => volumes.update_status(&params, bound).await?,
            None => volume,
        };
        let claim = match plan::having(claim, &volume) {
            Some(having) => self.claims_of(claim).update(&params, having).await?,
            None => claim.clone(),
        };
        self.claim_phase(&claim, "Bound", Some(&volume)).await.map(drop)
    }

    async fn volume(&self, key: &ObjectKey) -> Result<(), ApiError> {
        let Some(volume) = self.volumes.get_key(key) else { return Ok(()) };
        let claim = self.claim_of(&volume).await?;
        let (params, volumes) = (PostParams::default(), Api::<PersistentVolume>::all(self.client.clone()));
        let now = self.client.context().clock.now();
        let (phase, message, volume) = match plan::for_volume(&volume, claim.as_deref()) {
            ForVolume::Nothing => return Ok(()),
            ForVolume::LookAtClaim => match &claim {
                Some(claim) => return self.claim(&ObjectKey::of(&**claim)).await,
                None => return Ok(()),
            },
            ForVolume::Phase(phase) => (phase, String::new(), volume),
            ForVolume::Unbind => {
                ("Available", String::new(), volumes.update(&params, plan::unbound(&volume)).await?)
            }
            ForVolume::Fail(note) => {
                self.tell(&*volume, &note);
                ("Failed", note.text, volume)
            }
        };
        match plan::in_phase(&volume, phase, &message, &now) {
            Some(changed) => volumes.update_status(&params, changed).await.map(drop),
            None => Ok(()),
        }
    }

    /// The claim of the name that a volume is bound to. That it is gone is for good: the server has the last word.
    async fn claim_of(
        &self,
        volume: &PersistentVolume,
    ) -> Result<Option<Arc<PersistentVolumeClaim>>, ApiError> {
        let (Some(reference), Some(key)) = (claim_ref(volume), kept_for(volume)) else { return Ok(None) };
        let known = self.claims.get_key(&key);
        if let Some(claim) = known.filter(|claim| claim.metadata.uid == reference.uid) {
            return Ok(Some(claim));
        }
        Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), key.namespace).get_opt(&key.name).await
    }

    fn claims_of(&self, claim: &PersistentVolumeClaim) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), facts::namespace(&claim.metadata))
    }

    /// Writes the phase of a claim, if it is another.
    async fn claim_phase(
        &self,
        claim: &PersistentVolumeClaim,
        phase: &str,
        volume: Option<&PersistentVolume>,
    ) -> Result<Option<Arc<PersistentVolumeClaim>>, ApiError> {
        match plan::claim_in_phase(claim, phase, volume) {
            Some(changed) => {
                self.claims_of(claim).update_status(&PostParams::default(), changed).await.map(Some)
            }
            None => Ok(None),
        }
    }

    fn tell<K: Kind>(&self, object: &K, note: &Note) {
        let kind = if note.warning { EventKind::Warning } else { EventKind::Normal };
        self.recorder.record(object, kind, note.reason, "Binding", note.text.clone());
    }
}
