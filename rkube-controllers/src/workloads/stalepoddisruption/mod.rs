//! Takes the mark `DisruptionTarget` off pods that were to be disrupted (KEP-3329) and are still there: whoever
//! wanted to delete them was stopped before it did. A part of Kubernetes' disruption controller.

pub mod plan;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use rkube_api::{
    client::{Api, Cache, Change, Client, ObjectKey, PostParams},
    error::ApiError,
};

use crate::{
    all::Deps,
    runtime::{Controller, Outcome, Reconcile, ReconcileError},
};

/// The controller.
pub fn controller(deps: &Deps) -> Controller {
    let clock = deps.client().context().clock.clone();
    let marked = move |change: &Change<Pod>| match change {
        Change::Deleted(_) => false,
        _ => plan::until_stale(change.object(), clock.timestamp()).is_some(),
    };
    Controller::builder("stalepoddisruption").for_kind_when::<Pod>(marked).build(Reconciler {
        client: deps.client().clone(),
        pods: deps.informers().get::<Pod>().cache().clone(),
    })
}

struct Reconciler {
    client: Client,
    pods: Cache<Pod>,
}

#[async_trait]
impl Reconcile for Reconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let Some(pod) = self.pods.get_key(key) else { return Ok(Outcome::Done) };
        let now = self.client.context().clock.now();
        match plan::until_stale(&pod, now.0) {
            None => return Ok(Outcome::Done),
            Some(left) if !left.is_zero() => return Ok(Outcome::RequeueAfter(left)),
            Some(_) => {}
        }
        let Some(unmarked) = plan::unmarked(&pod, &now) else { return Ok(Outcome::Done) };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &*key.namespace);
        match api.update_status(&PostParams::default(), unmarked).await {
            Ok(_) | Err(ApiError::NotFound { .. }) => Ok(Outcome::Done),
            Err(error) => Err(error.into()),
        }
    }
}
