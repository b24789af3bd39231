//! Deployments: replica sets that follow one another.

#[cfg(test)]
mod extremes;
pub mod plan;
mod revision;
mod scale;
mod size;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
pub use revision::{DESIRED_REPLICAS, HASH_LABEL, MAX_REPLICAS, REVISION, REVISION_HISTORY};
use rkube_api::{
    client::{Api, Cache, Change, Client, DeleteParams, EventKind, EventRecorder, ObjectKey, PostParams},
    error::ApiError,
    meta::{LabelSelector, owners},
};

use self::plan::{Action, Observed};
use super::claim;
use crate::{
    all::Deps,
    facts::{self, CONTROLLER_INDEX},
    runtime::{Controller, Outcome, Reconcile, ReconcileError, owner_key, predicate},
};

/// How often in a row a deployment may fail before it waits for a change: Kubernetes' figure.
const MAX_RETRIES: u32 = 15;

/// The controller.
pub fn controller(deps: &Deps) -> Controller {
    let informers = deps.informers();
    let reconciler = Reconciler {
        client: deps.client().clone(),
        deployments: informers.get::<Deployment>().cache().clone(),
        sets: informers.get::<ReplicaSet>().cache().clone(),
        pods: informers.get::<Pod>().cache().clone(),
        recorder: deps.recorder("deployment-controller"),
    };
    facts::index_by_controller(&reconciler.sets);
    facts::index_by_controller(&reconciler.pods);
    let (deployments, sets) = (reconciler.deployments.clone(), reconciler.sets.clone());
    Controller::builder("deployment")
        .workers(5)
        .max_retries(MAX_RETRIES)
        .for_kind::<Deployment>()
        .owns::<ReplicaSet>()
        .watches_when(
            |change: &Change<ReplicaSet>| !matches!(change, Change::Deleted(_)),
            move |set| adopters(&deployments, set),
        )
        // A recreation waits until the last old pod is gone or has ended.
        .watches_when(predicate::differs(facts::is_finished), move |pod: &Pod| {
            deployment_of(&sets, pod).into_iter().collect()
        })
        .build(reconciler)
}

/// The deployments that may adopt an orphan.
fn adopters(deployments: &Cache<Deployment>, set: &ReplicaSet) -> Vec<ObjectKey> {
    if owners::controller_of(&set.metadata).is_some() {
        return Vec::new();
    }
    let matches = |deployment: &Deployment| {
        LabelSelector::from_api(Some(&deployment.spec.selector)).is_ok_and(|selector| {
            !selector.is_everything() && selector.matches_opt(set.metadata.labels.as_ref())
        })
    };
    let candidates = deployments.list_in(facts::namespace(&set.metadata));
    candidates.iter().filter(|deployment| matches(deployment)).map(|found| ObjectKey::of(&**found)).collect()
}

fn deployment_of(sets: &Cache<ReplicaSet>, pod: &Pod) -> Option<ObjectKey> {
    let set = sets.get_key(&owner_key::<ReplicaSet>(pod)?)?;
    owner_key::<Deployment>(&*set)
}

struct Reconciler {
    client: Client,
    deployments: Cache<Deployment>,
    sets: Cache<ReplicaSet>,
    pods: Cache<Pod>,
    recorder: EventRecorder,
}

#[async_trait]
impl Reconcile for Reconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let Some(deployment) = self.deployments.get_key(key) else { return Ok(Outcome::Done) };
        let sets = self.claim(&deployment).await?;
        let pods: Vec<Arc<Pod>> = sets
            .iter()
            .flat_map(|set| self.pods.by_index(CONTROLLER_INDEX, facts::uid(&set.metadata)))
            .collect();
        let now = self.client.context().clock.now();
        let observed = Observed { deployment: &deployment, replica_sets: &sets, pods: &pods, now };
        let plan = plan::plan(&observed);
        for action in plan.actions {
            self.act(&deployment, action).await?;
        }
        Ok(Outcome::after(plan.look_again))
    }
}

impl Reconciler {
    fn deployments_in(&self, namespace: &str) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn sets_in(&self, namespace: &str) -> Api<ReplicaSet> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The replica sets that the deployment manages, after adoptions and releases.
    async fn claim(&self, deployment: &Deployment) -> Result<Vec<Arc<ReplicaSet>>, ReconcileError> {
        let namespace = facts::namespace(&deployment.metadata);
        let selector = LabelSelector::from_api(Some(&deployment.spec.selector))
            .map_err(|error| ReconcileError::Permanent(error.to_string()))?;
        let owned = self.sets.by_index(CONTROLLER_INDEX, facts::uid(&deployment.metadata));
        if selector.is_everything() {
            return Ok(owned);
        }
        let orphans = self.sets.by_index(CONTROLLER_INDEX, &facts::orphans_of(namespace));
        let claim = claim::claim(&deployment.metadata, &selector, owned.into_iter().chain(orphans));
        let (deployments, sets) = (self.deployments_in(namespace), self.sets_in(namespace));
        Ok(claim::settle(&deployments, &sets, deployment, claim).await?)
    }

    async fn act(&self, deployment: &Deployment, action: Action) -> Result<(), ReconcileError> {
        let namespace = facts::namespace(&deployment.metadata);
        let params = PostParams::default();
        match action {
            Action::Create(set) => self.create(deployment, *set).await?,
            Action::Update { set, from } => {
                let to = set.spec.replicas.unwrap_or(1);
                let set = self.sets_in(namespace).update(&params, *set).await?;
                self.tell_scaled(deployment, facts::name(&set.metadata), from, to);
            }
            Action::Delete(set) => {
                let delete = DeleteParams::default().uid(facts::uid(&set.metadata));
                match self.sets_in(namespace).delete(facts::name(&set.metadata), &delete).await {
                    Ok(_) | Err(ApiError::NotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Action::UpdateStatus(changed) => {
                self.deployments_in(namespace).update_status(&params, *changed).await?;
            }
            Action::SelectsAll => {
                let note = "This deployment is selecting all pods. A non-empty selector is required.";
                self.recorder.record(
                    deployment,
                    EventKind::Warning,
                    "SelectingAll",
                    "Reconcile",
                    note.into(),
                );
            }
        }
        Ok(())
    }

    fn tell_scaled(&self, deployment: &Deployment, set: &str, from: i32, to: i32) {
        if from == to {
            return;
        }
        let way = if from < to { "up" } else { "down" };
        let note = format!("Scaled {way} replica set {set} from {from} to {to}");
        self.recorder.record(deployment, EventKind::Normal, "ScalingReplicaSet", "Scale", note);
    }

    async fn create(&self, deployment: &Deployment, set: ReplicaSet) -> Result<(), ReconcileError> {
        let namespace = facts::namespace(&deployment.metadata);
        let (name, size) = (facts::name(&set.metadata).to_owned(), set.spec.replicas.unwrap_or(1));
        let sets = self.sets_in(namespace);
        let error = match sets.create(&PostParams::default(), set.clone()).await {
            Ok(_) => {
                self.tell_scaled(deployment, &name, 0, size);
                return Ok(());
            }
            Err(error) => error,
        };
        if facts::is_namespace_terminating(&error) {
            return Ok(());
        }
        let params = PostParams::default();
        if matches!(error, ApiError::AlreadyExists { .. }) {
            let live = sets.get(&name).await?;
            let ours = owners::is_controlled_by(&live.metadata, facts::uid(&deployment.metadata));
            if ours && revision::same_template(live.spec.template.as_ref(), set.spec.template.as_ref()) {
                // The cache lags behind: the set is there already, and its event is on the way.
                return Ok(());
            }
            let next = plan::after_collision(deployment);
            self.deployments_in(namespace).update_status(&params, next).await?;
            return Err(error.into());
        }
        let note = format!("Failed to create new replica set {name:?}: {error}");
        let next = plan::after_failure(deployment, &note, &self.client.context().clock.now());
        if next != *deployment {
            self.deployments_in(namespace).update_status(&params, next).await?;
        }
        self.recorder.record(deployment, EventKind::Warning, "ReplicaSetCreateError", "Create", note);
        Err(error.into())
    }
}
