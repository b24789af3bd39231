//! The `default` service account of each namespace.

pub mod plan;

use std::collections::BTreeSet;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use rkube_api::{
    client::{Api, Cache, Client, ObjectKey, PostParams},
    error::ApiError,
};

use self::plan::{ACCOUNTS, Action, plan};
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
        namespaces: informers.get::<Namespace>().cache().clone(),
        accounts: informers.get::<ServiceAccount>().cache().clone(),
    };
    Controller::builder("serviceaccount")
        .for_kind::<Namespace>()
        .watches_when(predicate::deleted(), |account: &ServiceAccount| {
            vec![ObjectKey::new("", facts::namespace(&account.metadata))]
        })
        .build(reconciler)
}

struct Reconciler {
    client: Client,
    namespaces: Cache<Namespace>,
    accounts: Cache<ServiceAccount>,
}

#[async_trait]
impl Reconcile for Reconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let Some(namespace) = self.namespaces.get_key(key) else { return Ok(Outcome::Done) };
        let present: BTreeSet<&str> =
            ACCOUNTS.into_iter().filter(|name| self.accounts.get(&key.name, name).is_some()).collect();
        for Action::Create(account) in plan(&namespace, &present) {
            let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &*key.name);
            match api.create(&PostParams::default(), *account).await {
                // Made already, or no longer needed.
                Ok(_) | Err(ApiError::AlreadyExists { .. } | ApiError::NotFound { .. }) => {}
                Err(error) if facts::is_namespace_terminating(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Outcome::Done)
    }
}
