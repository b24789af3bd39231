//! The certificate authority of the API server in each namespace: ConfigMap `kube-root-ca.crt`
//! (KEP-1205), which pods mount to know whom to trust.

pub mod plan;

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use rkube_api::{
    client::{Api, Cache, Client, Informers, ObjectKey, PostParams, Scope, WorkQueue},
    error::ApiError,
};

use self::plan::{Action, NAME, plan};
use crate::{
    all::Deps,
    facts,
    runtime::{Controller, Outcome, Reconcile, ReconcileError},
};

/// The controller. Its keys are namespaces. Without an authority ([`Deps::root_ca`]) it has nothing to do.
pub fn controller(deps: &Deps) -> Controller {
    let builder = Controller::builder("rootcacertpublisher");
    let Some(authority) = deps.root_ca() else { return builder.build(Idle) };
    let informers = deps.informers();
    let reconciler = Reconciler {
        client: deps.client().clone(),
        namespaces: informers.get::<Namespace>().cache().clone(),
        maps: informers.get_scoped::<ConfigMap>(published()).cache().clone(),
        authority,
    };
    builder.for_kind::<Namespace>().source(follow_maps).build(reconciler)
}

/// Of all config maps only those of this controller.
fn published() -> Scope {
    Scope { fields: format!("metadata.name={NAME}"), ..Scope::default() }
}

fn follow_maps(informers: &Informers, queue: &WorkQueue<ObjectKey>) {
    let queue = queue.clone();
    informers.get_scoped::<ConfigMap>(published()).on_change(move |change| {
        queue.add(ObjectKey::new("", facts::namespace(&change.object().metadata)));
    });
}

struct Idle;

#[async_trait]
impl Reconcile for Idle {
    async fn reconcile(&self, _: &ObjectKey) -> Result<Outcome, ReconcileError> {
        Ok(Outcome::Done)
    }
}

struct Reconciler {
    client: Client,
    namespaces: Cache<Namespace>,
    maps: Cache<ConfigMap>,
    authority: Arc<str>,
}

#[async_trait]
impl Reconcile for Reconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let Some(namespace) = self.namespaces.get_key(key) else { return Ok(Outcome::Done) };
        let found = self.maps.get(&key.name, NAME);
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &*key.name);
        let params = PostParams::default();
        let done = match plan(&namespace, found.as_deref(), &self.authority) {
            None => return Ok(Outcome::Done),
            Some(Action::Create(map)) => api.create(&params, *map).await,
            Some(Action::Update(map)) => api.update(&params, *map).await,
        };
        match done {
            // Made already, or no longer needed: the cache will tell.
            Ok(_) | Err(ApiError::AlreadyExists { .. } | ApiError::NotFound { .. }) => Ok(Outcome::Done),
            Err(error) if facts::is_namespace_terminating(&error) => Ok(Outcome::Done),
            Err(error) => Err(error.into()),
        }
    }
}
