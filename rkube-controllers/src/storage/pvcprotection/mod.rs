//! Keeps claims that pods use: the finalizer goes when nobody does any more.
//! <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection>

pub mod plan;

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use rkube_api::{
    client::{Api, Cache, Change, Client, ListParams, ObjectKey, PostParams},
    error::ApiError,
    helpers::volumes::claims_of,
};

use self::plan::Action;
use super::{CLAIM_INDEX, index_by_claim};
use crate::{
    all::Deps,
    facts,
    runtime::{Controller, Outcome, Reconcile, ReconcileError, predicate},
};

/// The controller.
pub fn controller(deps: &Deps) -> Controller {
    let informers = deps.informers();
    let reconciler = Reconciler {
        client: deps.client().clone(),
        claims: informers.get::<PersistentVolumeClaim>().cache().clone(),
        pods: informers.get::<Pod>().cache().clone(),
    };
    index_by_claim(&reconciler.pods);
    // A pod may stand in the way of a claim's end until it is gone, or another has its name.
    let frees = |change: &Change<Pod>| {
        let ended = predicate::differs(|pod: &Pod| (pod.metadata.uid.clone(), facts::is_finished(pod)));
        matches!(change, Change::Deleted(_)) || ended(change)
    };
    Controller::builder("pvcprotection")
        .for_kind_when::<PersistentVolumeClaim>(predicate::differs(|claim: &PersistentVolumeClaim| {
            (claim.metadata.deletion_timestamp.clone(), claim.metadata.finalizers.clone())
        }))
        .watches_when(frees, |pod: &Pod| {
            let namespace = facts::namespace(&pod.metadata);
            claims_of(pod).map(|claim| ObjectKey::new(namespace, claim)).collect()
        })
        .build(reconciler)
}

struct Reconciler {
    client: Client,
    claims: Cache<PersistentVolumeClaim>,
    pods: Cache<Pod>,
}

#[async_trait]
impl Reconcile for Reconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let Some(claim) = self.claims.get_key(key) else { return Ok(Outcome::Done) };
        let pods = self.pods.by_index(CLAIM_INDEX, &key.to_string());
        let Some(action) = plan::plan(&claim, &pods) else { return Ok(Outcome::Done) };
        // The cache may lag behind a pod that has just got a node.
        if action == Action::Release && self.is_used(&claim).await? {
            return Ok(Outcome::Done);
        }
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &key.namespace);
        match api.update(&PostParams::default(), plan::changed(&claim, action)).await {
            Ok(_) | Err(ApiError::NotFound { .. }) => Ok(Outcome::Done),
            Err(error) => Err(error.into()),
        }
    }
}

impl Reconciler {
    async fn is_used(&self, claim: &Arc<PersistentVolumeClaim>) -> Result<bool, ReconcileError> {
        let api = Api::<Pod>::namespaced(self.client.clone(), facts::namespace(&claim.metadata));
        let pods = api.list(&ListParams::default()).await?.items;
        Ok(plan::plan(claim, &pods) != Some(Action::Release))
    }
}
