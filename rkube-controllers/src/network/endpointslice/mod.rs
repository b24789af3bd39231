//! Endpoint slices: the addresses of a service's pods.

mod endpoint;
pub mod plan;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use rkube_api::{
    client::{
        Api, Cache, Change, Client, DeleteParams, EventKind, EventRecorder, Informers, ObjectKey, PostParams,
    },
    error::ApiError,
};

use self::plan::{Action, MANAGED_BY_LABEL, MANAGER, Observed, SERVICE_LABEL};
use crate::{
    all::Deps,
    facts,
    runtime::{Controller, Expectations, Outcome, Reconcile, ReconcileError, predicate},
};

/// The index of slices by their service's key.
const SERVICE_INDEX: &str = "endpointslice-service";

/// The controller.
pub fn controller(deps: &Deps) -> Controller {
    let informers = deps.informers();
    let expectations = Expectations::default();
    let reconciler = Reconciler {
        client: deps.client().clone(),
        services: informers.get::<Service>().cache().clone(),
        pods: informers.get::<Pod>().cache().clone(),
        nodes: informers.get::<Node>().cache().clone(),
        slices: informers.get::<EndpointSlice>().cache().clone(),
        recorder: deps.recorder("endpoint-slice-controller"),
        expectations: expectations.clone(),
    };
    reconciler.slices.add_index(SERVICE_INDEX, |slice: &EndpointSlice| {
        service_of(slice).map(|key| key.to_string()).into_iter().collect()
    });
    let services = reconciler.services.clone();
    Controller::builder("endpointslice")
        .workers(5)
        .for_kind::<Service>()
        .source(move |informers, _| note_changes(informers, &expectations))
        .watches::<EndpointSlice>(|slice| service_of(slice).into_iter().collect())
        .watches_when(predicate::differs(what_matters), move |pod: &Pod| selecting(&services, pod))
        .build(reconciler)
}

/// What of a pod shows in a slice.
fn what_matters(pod: &Pod) -> impl PartialEq + use<> {
    let status = pod.status.as_ref();
    (
        pod.metadata.labels.clone(),
        pod.metadata.deletion_timestamp.is_some(),
        facts::is_ready(pod),
        facts::is_finished(pod),
        facts::node(pod).to_owned(),
        status.and_then(|status| status.pod_ips.clone()),
        status.and_then(|status| status.pod_ip.clone()),
    )
}

fn note_changes(informers: &Informers, expectations: &Expectations) {
    let (slices, services) = (expectations.clone(), expectations.clone());
    informers.get::<EndpointSlice>().on_change(move |change| {
        if let (Change::Added(slice), Some(key)) = (change, service_of(change.object())) {
            tracing::trace!(slice = facts::name(&slice.metadata), "seen");
            slices.creation_seen(&key);
        }
    });
    informers.get::<Service>().on_change(move |change| {
        if let Change::Deleted(service) = change {
            services.forget(&ObjectKey::of(&**service));
        }
    });
}

/// The service of a slice that this controller keeps.
fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let labels = slice.metadata.labels.as_ref()?;
    let service = labels.get(SERVICE_LABEL)?;
    let ours = labels.get(MANAGED_BY_LABEL).is_some_and(|manager| manager == MANAGER);
    ours.then(|| ObjectKey::new(facts::namespace(&slice.metadata), service.clone()))
}

/// The services that select a pod.
fn selecting(services: &Cache<Service>, pod: &Pod) -> Vec<ObjectKey> {
    let candidates = services.list_in(facts::namespace(&pod.metadata));
    candidates
        .iter()
        .filter(|service| selects(service, pod))
        .map(|service| ObjectKey::of(&**service))
        .collect()
}

fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let labels = pod.metadata.labels.as_ref();
    selector.is_some_and(|selector| {
        !selector.is_empty()
            && selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    })
}

struct Reconciler {
    client: Client,
    services: Cache<Service>,
    pods: Cache<Pod>,
    nodes: Cache<Node>,
    slices: Cache<EndpointSlice>,
    recorder: EventRecorder,
    expectations: Expectations,
}

#[async_trait]
impl Reconcile for Reconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        // The slices of a service that is gone go with it, by their owner references.
        let Some(service) = self.services.get_key(key) else { return Ok(Outcome::Done) };
        let spec = service.spec.as_ref();
        let selector = spec.and_then(|spec| spec.selector.as_ref());
        let external = spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
        let leaving = service.metadata.deletion_timestamp.is_some();
        // Without a selector the slices are the user's own.
        if selector.is_none_or(BTreeMap::is_empty) || external || leaving {
            return Ok(Outcome::Done);
        }
        if !self.expectations.are_met(key) {
            // The event of the slice that was made brings this key back.
            return Ok(Outcome::Done);
        }
        let pods: Vec<Arc<Pod>> =
            self.pods.list_in(&key.namespace).into_iter().filter(|pod| selects(&service, pod)).collect();
        let nodes = pods.iter().filter_map(|pod| self.nodes.get("", facts::node(pod)));
        let nodes = nodes.map(|node| (facts::name(&node.metadata).to_owned(), node)).collect();
        let slices = self.slices.by_index(SERVICE_INDEX, &key.to_string());
        let observed = Observed { service: &service, pods: &pods, nodes: &nodes, slices: &slices };
        let actions = plan::plan(&observed);
        let created = actions.iter().filter(|action| matches!(action, Action::Create(_))).count();
        if created > 0 {
            self.expectations.expect_creations(key, created);
        }
        let mut failure = None;
        for action in actions {
            if let Err(error) = self.act(key, action).await {
                failure.get_or_insert(error);
            }
        }
        let Some(error) = failure else { return Ok(Outcome::Done) };
        if facts::is_namespace_terminating(&error) {
            return Ok(Outcome::Done);
        }
        if !matches!(error, ApiError::Conflict { .. }) {
            let note =
                format!("Error updating Endpoint Slices for Service {}/{}: {error}", key.namespace, key.name);
            let reason = "FailedToUpdateEndpointSlices";
            self.recorder.record(&*service, EventKind::Warning, reason, "UpdateEndpointSlices", note);
        }
        Err(error.into())
    }
}

impl Reconciler {
    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), ApiError> {
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &*key.namespace);
        match action {
            Action::Create(slice) => {
                let created = api.create(&PostParams::default(), *slice).await;
                created.map(drop).inspect_err(|_| self.expectations.creation_seen(key))
            }
            Action::Update(slice) => api.update(&PostParams::default(), *slice).await.map(drop),
            Action::Delete(slice) => {
                let params = DeleteParams::default().uid(facts::uid(&slice.metadata));
                match api.delete(facts::name(&slice.metadata), &params).await {
                    Ok(_) | Err(ApiError::NotFound { .. }) => Ok(()),
                    Err(error) => Err(error),
                }
            }
        }
    }
}
