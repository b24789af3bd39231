//! Makes the claims of pods from templates, takes pods off claims that they no longer use, gives the devices of
//! unused claims back, and removes the claims of pods that have ended (KEP-4381).
//!
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/>

pub mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::{
    core::v1::Pod,
    resource::v1::{ResourceClaim, ResourceClaimConsumerReference, ResourceClaimTemplate},
};
use rkube_api::{
    client::{
        Api, Cache, Change, Client, DeleteParams, EventKind, EventRecorder, ObjectKey, Patch, PatchParams,
        PostParams,
    },
    error::ApiError,
    meta::owners,
};
use serde_json::{Value, json};

use self::plan::{ClaimPlan, Made, PlanError};
use crate::{
    all::Deps,
    facts::{self, CONTROLLER_INDEX},
    runtime::{Controller, Outcome, Reconcile, ReconcileError},
};

/// What the key of a claim begins with; that of a pod is its own.
const CLAIM: &str = "claim:";

/// The controller. Its keys are pods, and claims with a word before their names.
pub fn controller(deps: &Deps) -> Controller {
    let informers = deps.informers();
    let reconciler = Reconciler {
        client: deps.client().clone(),
        pods: informers.get::<Pod>().cache().clone(),
        claims: informers.get::<ResourceClaim>().cache().clone(),
        templates: informers.get::<ResourceClaimTemplate>().cache().clone(),
        recorder: deps.recorder("resource_claim"),
    };
    facts::index_by_controller(&reconciler.claims);
    let (pods, claims) = (reconciler.pods.clone(), reconciler.claims.clone());
    Controller::builder("resourceclaim")
        .workers(4)
        .for_kind_when::<Pod>(|change: &Change<Pod>| plan::uses_claims(change.object()))
        .watches_when(
            |change: &Change<Pod>| plan::uses_claims(change.object()),
            move |pod: &Pod| {
                let made = claims.by_index(CONTROLLER_INDEX, facts::uid(&pod.metadata));
                let made = made.iter().map(|claim| facts::name(&claim.metadata).to_owned());
                let named = plan::claim_names(pod).map(str::to_owned);
                let namespace = facts::namespace(&pod.metadata);
                made.chain(named).map(|name| claim_key(namespace, &name)).collect()
            },
        )
        .watches(|claim: &ResourceClaim| {
            let namespace = facts::namespace(&claim.metadata);
            let owner = plan::owning_pod(claim).map(|owner| ObjectKey::new(namespace, owner.name.clone()));
            owner.into_iter().chain([claim_key(namespace, facts::name(&claim.metadata))]).collect()
        })
        // A pod may have come before the template that it names.
        .watches_when(
            |change: &Change<ResourceClaimTemplate>| matches!(change, Change::Added(_)),
            move |template: &ResourceClaimTemplate| {
                let name = facts::name(&template.metadata);
                let waiting = pods.list_in(facts::namespace(&template.metadata));
                let waiting = waiting.iter().filter(|pod| plan::names_template(pod, name));
                waiting.map(|pod| ObjectKey::of(&**pod)).collect()
            },
        )
        .build(reconciler)
}

fn claim_key(namespace: &str, name: &str) -> ObjectKey {
    ObjectKey::new(namespace, format!("{CLAIM}{name}"))
}

struct Reconciler {
    client: Client,
    pods: Cache<Pod>,
    claims: Cache<ResourceClaim>,
    templates: Cache<ResourceClaimTemplate>,
    recorder: EventRecorder,
}

#[async_trait]
impl Reconcile for Reconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        match key.name.strip_prefix(CLAIM) {
            Some(name) => match self.claims.get(&key.namespace, name) {
                Some(claim) => self.reconcile_claim(&claim).await,
                None => Ok(Outcome::Done),
            },
            None => match self.pods.get_key(key) {
                Some(pod) => self.reconcile_pod(&pod).await,
                None => Ok(Outcome::Done),
            },
        }
    }
}

impl Reconciler {
    fn api(&self, namespace: &str) -> Api<ResourceClaim> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn reconcile_pod(&self, pod: &Arc<Pod>) -> Result<Outcome, ReconcileError> {
        if plan::needs_nothing(pod) {
            return Ok(Outcome::Done);
        }
        let namespace = facts::namespace(&pod.metadata);
        let owned = self.claims.by_index(CONTROLLER_INDEX, facts::uid(&pod.metadata));
        let mut made = Vec::new();
        let planned = plan::for_pod(
            pod,
            &owned,
            |name| self.claims.get(namespace, name),
            |name| self.templates.get(namespace, name),
        );
        for (name, planned) in planned {
            match planned {
                Ok(Made::Known(claim)) => made.push((name, claim)),
                Ok(Made::Not) => {}
                Ok(Made::Now(claim)) => {
                    match self.api(namespace).create(&PostParams::default(), *claim).await {
                        Ok(claim) => made.push((name, facts::name(&claim.metadata).to_owned())),
                        Err(error) if facts::is_namespace_terminating(&error) => return Ok(Outcome::Done),
                        Err(error) => {
                            let text = format!("create ResourceClaim : {error}");
                            self.failed(pod, &name, &text);
                            self.record(pod, &made).await?;
                            return Err(error.into());
                        }
                    }
                }
                Err(error) => {
                    self.failed(pod, &name, &error.to_string());
                    self.record(pod, &made).await?;
                    return Err(failure(error));
                }
            }
        }
        self.record(pod, &made).await?;
        for claim in plan::to_reserve(pod, |name| self.claims.get(namespace, name)) {
            self.reserve(pod, &claim).await?;
        }
        Ok(Outcome::Done)
    }

    fn failed(&self, pod: &Pod, claim: &str, why: &str) {
        let note = format!("PodResourceClaim {claim}: {why}");
        self.recorder.record(pod, EventKind::Warning, "FailedResourceClaimCreation", "CreateClaim", note);
    }

    /// Tells the pod the names of its claims.
    async fn record(&self, pod: &Pod, made: &[(String, String)]) -> Result<(), ReconcileError> {
        let known = |(name, claim): &&(String, String)| !plan::is_recorded(pod, name, claim);
        let news: Vec<Value> = made
            .iter()
            .filter(known)
            .map(|(name, claim)| json!({"name": name, "resourceClaimName": claim}))
            .collect();
        if news.is_empty() {
            return Ok(());
        }
        let patch = json!({
            "metadata": {"uid": pod.metadata.uid}, "status": {"resourceClaimStatuses": news}
        });
        let pods = Api::<Pod>::namespaced(self.client.clone(), facts::namespace(&pod.metadata));
        let name = facts::name(&pod.metadata);
        match pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            // Another pod of the name asks for itself.
            Ok(_) | Err(ApiError::NotFound { .. } | ApiError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// For a pod that got its node from somebody who does not know claims.
    async fn reserve(&self, pod: &Pod, claim: &ResourceClaim) -> Result<(), ReconcileError> {
        let mut claim = claim.clone();
        let consumer = ResourceClaimConsumerReference {
            resource: "pods".into(),
            name: facts::name(&pod.metadata).into(),
            uid: facts::uid(&pod.metadata).into(),
            ..ResourceClaimConsumerReference::default()
        };
        claim.status.get_or_insert_default().reserved_for.get_or_insert_default().push(consumer);
        self.write_status(claim).await.map(drop)
    }

    async fn write_status(&self, claim: ResourceClaim) -> Result<Option<Arc<ResourceClaim>>, ReconcileError> {
        let api = self.api(facts::namespace(&claim.metadata));
        match api.update_status(&PostParams::default(), claim).await {
            Ok(claim) => Ok(Some(claim)),
            Err(ApiError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn reconcile_claim(&self, claim: &Arc<ResourceClaim>) -> Result<Outcome, ReconcileError> {
        let mut users = Vec::new();
        for consumer in plan::reserved_for(claim) {
            users.push((consumer, self.uses(claim, consumer).await?));
        }
        let namespace = facts::namespace(&claim.metadata);
        let owner = plan::owning_pod(claim).and_then(|owner| self.pods.get(namespace, &owner.name));
        let ClaimPlan { status, unprotect, delete } = plan::for_claim(claim, &users, owner.as_deref());
        let mut newest = claim.clone();
        if let Some(status) = status {
            let changed = ResourceClaim { status: Some(status), ..(**claim).clone() };
            let Some(written) = self.write_status(changed).await? else { return Ok(Outcome::Done) };
            newest = written;
        }
        if unprotect && let Some(free) = plan::without_protection(&newest) {
            match self.api(namespace).update(&PostParams::default(), free).await {
                Ok(written) => newest = written,
                Err(ApiError::NotFound { .. }) => return Ok(Outcome::Done),
                Err(error) => return Err(error.into()),
            }
        }
        if delete && newest.metadata.deletion_timestamp.is_none() {
            let params = DeleteParams::default().uid(facts::uid(&claim.metadata));
            match self.api(namespace).delete(facts::name(&claim.metadata), &params).await {
                Ok(_) | Err(ApiError::NotFound { .. } | ApiError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Outcome::Done)
    }

    /// Whether somebody still uses a claim. A pod that the cache does not show may be too new for it.
    async fn uses(
        &self,
        claim: &ResourceClaim,
        consumer: &ResourceClaimConsumerReference,
    ) -> Result<bool, ReconcileError> {
        if consumer.resource != "pods" || consumer.api_group.as_ref().is_some_and(|group| !group.is_empty()) {
            let text = format!("unsupported ReservedFor entry: {consumer:?}");
            return Err(ReconcileError::Permanent(text));
        }
        let namespace = facts::namespace(&claim.metadata);
        let pod = match self.pods.get(namespace, &consumer.name) {
            Some(pod) => Some(pod),
            None => Api::<Pod>::namespaced(self.client.clone(), namespace).get_opt(&consumer.name).await?,
        };
        Ok(pod.is_some_and(|pod| facts::uid(&pod.metadata) == consumer.uid && !plan::is_done(&pod)))
    }
}

fn failure(error: PlanError) -> ReconcileError {
    ReconcileError::Other(Box::new(error))
}

/// The owner reference of a claim that is made for a pod.
fn owned_by(pod: &Pod) -> Option<Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference>> {
    owners::controller_ref(pod).map(|owner| vec![owner])
}
