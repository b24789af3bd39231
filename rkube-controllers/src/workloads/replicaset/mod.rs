//! Replica sets: so many pods of a template.

pub mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
use rkube_api::{
    client::{
        Api, Cache, Change, Client, DeleteParams, EventKind, EventRecorder, Informers, ObjectKey, PostParams,
    },
    error::ApiError,
    meta::{LabelSelector, owners},
};

use self::plan::{Action, Observed};
use super::claim;
use crate::{
    all::Deps,
    facts::{self, CONTROLLER_INDEX},
    runtime::{Controller, Expectations, Outcome, Reconcile, ReconcileError, owner_key},
};

/// The controller.
pub fn controller(deps: &Deps) -> Controller {
    let informers = deps.informers();
    let expectations = Expectations::default();
    let reconciler = Reconciler {
        client: deps.client().clone(),
        sets: informers.get::<ReplicaSet>().cache().clone(),
        pods: informers.get::<Pod>().cache().clone(),
        recorder: deps.recorder("replicaset-controller"),
        expectations: expectations.clone(),
    };
    facts::index_by_controller(&reconciler.sets);
    facts::index_by_controller(&reconciler.pods);
    let sets = reconciler.sets.clone();
    Controller::builder("replicaset")
        .workers(5)
        .for_kind::<ReplicaSet>()
        .source(move |informers, _| note_changes(informers, &expectations))
        .owns::<Pod>()
        .watches_when(
            |change: &Change<Pod>| !matches!(change, Change::Deleted(_)),
            move |pod| adopters(&sets, pod),
        )
        .build(reconciler)
}

/// Tells the expectations what the cache has seen; before the keys of the same changes are queued.
fn note_changes(informers: &Informers, expectations: &Expectations) {
    let (pods, sets) = (expectations.clone(), expectations.clone());
    informers.get::<Pod>().on_change(move |change| {
        let pod = change.object();
        let Some(key) = owner_key::<ReplicaSet>(&**pod) else { return };
        match change {
            Change::Added(pod) if pod.metadata.deletion_timestamp.is_none() => pods.creation_seen(&key),
            Change::Updated { new, .. } if new.metadata.deletion_timestamp.is_none() => {}
            _ => pods.deletion_seen(&key, facts::uid(&pod.metadata)),
        }
    });
    informers.get::<ReplicaSet>().on_change(move |change| {
        if let Change::Deleted(set) = change {
            sets.forget(&ObjectKey::of(&**set));
        }
    });
}

/// The sets that may adopt an orphan.
fn adopters(sets: &Cache<ReplicaSet>, pod: &Pod) -> Vec<ObjectKey> {
    if owners::controller_of(&pod.metadata).is_some() {
        return Vec::new();
    }
    let matches = |set: &ReplicaSet| {
        LabelSelector::from_api(Some(&set.spec.selector)).is_ok_and(|selector| {
            !selector.is_everything() && selector.matches_opt(pod.metadata.labels.as_ref())
        })
    };
    let candidates = sets.list_in(facts::namespace(&pod.metadata));
    candidates.iter().filter(|set| matches(set)).map(|set| ObjectKey::of(&**set)).collect()
}

struct Reconciler {
    client: Client,
    sets: Cache<ReplicaSet>,
    pods: Cache<Pod>,
    recorder: EventRecorder,
    expectations: Expectations,
}

#[async_trait]
impl Reconcile for Reconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let Some(set) = self.sets.get_key(key) else {
            self.expectations.forget(key);
            return Ok(Outcome::Done);
        };
        let settled = self.expectations.are_met(key);
        let mut pods = self.claim(&set).await?;
        let related = self.related(&set);
        let clock = &self.client.context().clock;
        let now = clock.now();
        let observed = Observed { set: &set, pods: &pods, related: &related, now: now.clone() };
        let mut failure = None;
        if settled {
            for action in plan::plan(&observed) {
                failure = self.act(key, &set, action).await.err();
            }
        }
        // The cache shows pods for a while that were told to go: whoever goes by the status must not count on
        // them.
        pods.retain(|pod| !self.expectations.awaits_deletion(key, facts::uid(&pod.metadata)));
        let observed = Observed { set: &set, pods: &pods, related: &related, now };
        let message = failure.as_ref().map(ToString::to_string);
        let status = plan::status(&observed, message.as_deref());
        if set.status.as_ref() != Some(&status) {
            let mut set = (*set).clone();
            set.status = Some(status);
            let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &*key.namespace);
            match api.update_status(&PostParams::default(), set).await {
                Ok(_) | Err(ApiError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(Outcome::after(plan::look_again(&observed))),
        }
    }
}

impl Reconciler {
    /// The pods that the set manages, after adoptions and releases.
    async fn claim(&self, set: &ReplicaSet) -> Result<Vec<Arc<Pod>>, ReconcileError> {
        let namespace = facts::namespace(&set.metadata);
        let selector = LabelSelector::from_api(Some(&set.spec.selector))
            .map_err(|error| ReconcileError::Permanent(error.to_string()))?;
        let orphans = self.pods.by_index(CONTROLLER_INDEX, &facts::orphans_of(namespace));
        let orphans = orphans.into_iter().filter(|pod| facts::is_active(pod));
        let owned = self.pods.by_index(CONTROLLER_INDEX, facts::uid(&set.metadata));
        let claim = claim::claim(&set.metadata, &selector, owned.into_iter().chain(orphans));
        let sets = Api::namespaced(self.client.clone(), namespace);
        let pods = Api::namespaced(self.client.clone(), namespace);
        Ok(claim::settle(&sets, &pods, set, claim).await?)
    }

    /// The pods of all sets of the same owner.
    fn related(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let owner = owners::controller_of(&set.metadata).map(|owner| owner.uid.as_str());
        let siblings = owner.map(|owner| self.sets.by_index(CONTROLLER_INDEX, owner)).unwrap_or_default();
        let mut uids: Vec<&str> = siblings.iter().map(|set| facts::uid(&set.metadata)).collect();
        if uids.is_empty() {
            uids.push(facts::uid(&set.metadata));
        }
        uids.into_iter().flat_map(|uid| self.pods.by_index(CONTROLLER_INDEX, uid)).collect()
    }

    async fn act(&self, key: &ObjectKey, set: &ReplicaSet, action: Action) -> Result<(), ApiError> {
        match action {
            Action::Create(count) => self.create(key, set, count).await,
            Action::Delete(pods) => self.delete(key, set, pods).await,
        }
    }

    /// Makes pods in batches that double while all goes well, so that a template that is refused costs
    /// one request and not hundreds.
    async fn create(&self, key: &ObjectKey, set: &ReplicaSet, count: usize) -> Result<(), ApiError> {
        let Some(pod) = plan::new_pod(set) else {
            return Err(ApiError::bad_request("unable to create pods, no labels"));
        };
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &*key.namespace);
        let params = PostParams::default();
        self.expectations.expect_creations(key, count);
        let (mut left, mut batch, mut failure) = (count, 1, None);
        while left > 0 && failure.is_none() {
            let size = batch.min(left);
            let results = join_all((0..size).map(|_| pods.create(&params, pod.clone()))).await;
            for result in results {
                match result {
                    Ok(pod) => {
                        let note = format!("Created pod: {}", facts::name(&pod.metadata));
                        self.recorder.record(set, EventKind::Normal, "SuccessfulCreate", "Create", note);
                    }
                    Err(error) => {
                        self.expectations.creation_seen(key);
                        if !facts::is_namespace_terminating(&error) {
                            let note = format!("Error creating: {error}");
                            self.recorder.record(set, EventKind::Warning, "FailedCreate", "Create", note);
                        }
                        failure = Some(error);
                    }
                }
            }
            left -= size;
            batch *= 2;
        }
        // What was not tried is not expected.
        (0..left).for_each(|_| self.expectations.creation_seen(key));
        // Nothing can be made in a namespace that goes away, and nothing needs to be.
        failure.filter(|error| !facts::is_namespace_terminating(error)).map_or(Ok(()), Err)
    }

    async fn delete(&self, key: &ObjectKey, set: &ReplicaSet, pods: Vec<Arc<Pod>>) -> Result<(), ApiError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &*key.namespace);
        self.expectations.expect_deletions(key, pods.iter().map(|pod| facts::uid(&pod.metadata).to_owned()));
        let results = join_all(pods.iter().map(|pod| async {
            let params = DeleteParams::default().uid(facts::uid(&pod.metadata));
            api.delete(facts::name(&pod.metadata), &params).await
        }));
        let mut failure = None;
        for (pod, result) in pods.iter().zip(results.await) {
            let name = facts::name(&pod.metadata);
            match result {
                Ok(_) => {
                    let note = format!("Deleted pod: {name}");
                    self.recorder.record(set, EventKind::Normal, "SuccessfulDelete", "Delete", note);
                }
                // Gone already, or its name belongs to another by now.
                Err(ApiError::NotFound { .. } | ApiError::Conflict { .. }) => {
                    self.expectations.deletion_seen(key, facts::uid(&pod.metadata));
                }
                Err(error) => {
                    self.expectations.deletion_seen(key, facts::uid(&pod.metadata));
                    let note = format!("Error deleting: {error}");
                    self.recorder.record(set, EventKind::Warning, "FailedDelete", "Delete", note);
                    failure = Some(error);
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }
}
