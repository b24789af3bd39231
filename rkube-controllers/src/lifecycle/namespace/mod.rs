//! Namespaces that go away: their contents first, in order, then they.

pub mod plan;

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::{
    api::core::v1::{Namespace, Pod},
    apimachinery::pkg::apis::meta::v1::DeleteOptions,
};
use rkube_api::{
    client::{Api, Cache, Change, Client, ObjectKey, PostParams},
    error::ApiError,
    object::Object,
    request::{ApiResponse, Body, Options, Verb},
};

use self::plan::{Remains, Survey, Untold};
use crate::{
    all::Deps,
    facts,
    resources::{ApiResource, ResourceLister},
    runtime::{Controller, Outcome, Reconcile, ReconcileError},
};

/// How many objects are read at a time to count what is left.
const PAGE: u64 = 500;

/// The controller.
pub fn controller(deps: &Deps) -> Controller {
    let informers = deps.informers();
    let reconciler = Reconciler {
        client: deps.client().clone(),
        namespaces: informers.get::<Namespace>().cache().clone(),
        lister: deps.resources(),
    };
    let namespaces = reconciler.namespaces.clone();
    let ends = move |change: &Change<Pod>| {
        let namespace = namespaces.get("", facts::namespace(&change.object().metadata));
        matches!(change, Change::Deleted(_)) && namespace.is_some_and(|namespace| plan::is_due(&namespace))
    };
    Controller::builder("namespace")
        .workers(10)
        .for_kind_when(|change: &Change<Namespace>| plan::is_due(change.object()))
        // Pods hold up all the rest: no waiting once the last is gone.
        .watches_when(ends, |pod: &Pod| vec![ObjectKey::new("", facts::namespace(&pod.metadata))])
        .build(reconciler)
}

struct Reconciler {
    client: Client,
    namespaces: Cache<Namespace>,
    lister: Arc<dyn ResourceLister>,
}

#[async_trait]
impl Reconcile for Reconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        if self.namespaces.get_key(key).is_none_or(|namespace| !plan::is_due(&namespace)) {
            return Ok(Outcome::Done);
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        // Contents are deleted for good: be sure that it is this namespace that goes.
        let Some(mut namespace) = api.get_opt(&key.name).await? else { return Ok(Outcome::Done) };
        if !plan::is_due(&namespace) {
            return Ok(Outcome::Done);
        }
        let survey = self.empty(&key.name).await;
        let conclusion = plan::conclude(&namespace, &survey, &self.client.context().clock.now());
        if let Some(changed) = conclusion.status {
            match api.update_status(&PostParams::default(), *changed).await {
                Ok(written) => namespace = written,
                Err(ApiError::NotFound { .. }) => return Ok(Outcome::Done),
                Err(error) => return Err(error.into()),
            }
        }
        if conclusion.finalize {
            self.finalize(&namespace).await?;
        }
        Ok(Outcome::after(conclusion.look_again))
    }
}

impl Reconciler {
    /// Tells everything in the namespace to go, stage by stage, and counts what is left.
    async fn empty(&self, namespace: &str) -> Survey {
        let mut survey = Survey::default();
        let served = match self.lister.resources().await {
            Ok(served) => served,
            Err(error) => {
                survey.discovery_error = Some(Untold { versions: 1, message: error.to_string() });
                return survey;
            }
        };
        survey.discovery_error = plan::untold(&served.untold);
        for stage in plan::stages(&served.resources) {
            for resource in &stage {
                let remains = self
                    .empty_of(resource, namespace)
                    .await
                    .unwrap_or_else(|error| Remains { error: Some(error.to_string()), ..Remains::default() });
                survey.remains.insert(plan::label(resource), remains);
            }
            if survey.remains.values().any(|remains| remains.count > 0 || remains.error.is_some()) {
                break;
            }
        }
        survey
    }

    async fn empty_of(&self, resource: &ApiResource, namespace: &str) -> Result<Remains, ApiError> {
        let objects = self.list(resource, namespace).await?;
        // Those that are going need not be told again.
        if objects.iter().any(|object| object.meta().deletion_timestamp.is_none()) {
            self.delete_all(resource, namespace, &objects).await?;
        } else {
            return Ok(Remains::of(objects.iter().map(Object::meta)));
        }
        let left = self.list(resource, namespace).await?;
        Ok(Remains::of(left.iter().map(Object::meta)))
    }

    async fn delete_all(
        &self,
        resource: &ApiResource,
        namespace: &str,
        objects: &[Object],
    ) -> Result<(), ApiError> {
        let options = DeleteOptions { propagation_policy: Some("Background".into()), ..Default::default() };
        if resource.can(Verb::DeleteCollection) {
            let body = Body::Delete(Box::new(options));
            let target = resource.all(Some(namespace));
            self.client.request(Verb::DeleteCollection, target, Options::default(), body).await?;
            return Ok(());
        }
        for object in objects.iter().filter(|object| object.meta().deletion_timestamp.is_none()) {
            let target = resource.one(namespace, object.name());
            let body = Body::Delete(Box::new(options.clone()));
            match self.client.request(Verb::Delete, target, Options::default(), body).await {
                Ok(_) | Err(ApiError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn list(&self, resource: &ApiResource, namespace: &str) -> Result<Vec<Object>, ApiError> {
        let mut options = Options { limit: PAGE, ..Options::default() };
        let mut objects = Vec::new();
        loop {
            let target = resource.all(Some(namespace));
            match self.client.request(Verb::List, target, options.clone(), Body::Empty).await {
                Ok(ApiResponse::List(list)) => {
                    objects.extend(list.items);
                    match list.continue_token {
                        Some(token) => options.continue_token = Some(token),
                        None => return Ok(objects),
                    }
                }
                Ok(other) => return Err(ApiError::internal(format!("expected a list, got {other:?}"))),
                // A definition that was taken away has no objects left.
                Err(ApiError::NoSuchPath) => return Ok(objects),
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives up this controller's finalizer; the server removes the namespace when no other is left.
    async fn finalize(&self, namespace: &Namespace) -> Result<(), ReconcileError> {
        let finalized = plan::finalized(namespace);
        let api: Api<Namespace> = Api::all(self.client.clone());
        let name = facts::name(&namespace.metadata);
        let written: Result<Namespace, ApiError> =
            api.update_subresource(name, "finalize", &PostParams::default(), &finalized).await;
        match written {
            Ok(_) | Err(ApiError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
