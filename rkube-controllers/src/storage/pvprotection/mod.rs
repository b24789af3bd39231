//! Keeps volumes that are bound: the finalizer goes when the claim is gone.
//! <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection>

pub mod plan;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::PersistentVolume;
use rkube_api::{
    client::{Api, Cache, Client, ObjectKey, PostParams},
    error::ApiError,
};

use crate::{
    all::Deps,
    runtime::{Controller, Outcome, Reconcile, ReconcileError},
};

/// The controller.
pub fn controller(deps: &Deps) -> Controller {
    let reconciler = Reconciler {
        client: deps.client().clone(),
        volumes: deps.informers().get::<PersistentVolume>().cache().clone(),
    };
    Controller::builder("pvprotection").for_kind::<PersistentVolume>().build(reconciler)
}

struct Reconciler {
    client: Client,
    volumes: Cache<PersistentVolume>,
}

#[async_trait]
impl Reconcile for Reconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let Some(volume) = self.volumes.get_key(key) else { return Ok(Outcome::Done) };
        let Some(changed) = plan::plan(&volume) else { return Ok(Outcome::Done) };
        let api = Api::<PersistentVolume>::all(self.client.clone());
        match api.update(&PostParams::default(), changed).await {
            Ok(_) | Err(ApiError::NotFound { .. }) => Ok(Outcome::Done),
            Err(error) => Err(error.into()),
        }
    }
}
