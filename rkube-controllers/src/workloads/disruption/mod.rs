//! Disruption budgets: how many pods may be evicted now. The eviction itself takes from what is written here.
//! <https://kubernetes.io/docs/concepts/workloads/pods/disruptions/>

pub mod plan;
mod scale;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::Pod,
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use rkube_api::{
    client::{Api, Cache, Change, Client, EventKind, EventRecorder, ObjectKey, PostParams},
    error::ApiError,
    helpers::{disruption, pod as pods},
    meta::{intstr::IntOrStringError, owners},
};

use self::{
    plan::Observed,
    scale::{Scale, ScaleError, Scales},
};
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
        budgets: informers.get::<PodDisruptionBudget>().cache().clone(),
        pods: informers.get::<Pod>().cache().clone(),
        scales: Scales {
            client: deps.client().clone(),
            resources: deps.resources(),
            deployments: informers.get::<Deployment>().cache().clone(),
            sets: informers.get::<ReplicaSet>().cache().clone(),
        },
        recorder: deps.recorder("controllermanager"),
    };
    let budgets = || reconciler.budgets.clone();
    let (of_pods, of_sets, of_deployments) = (budgets(), budgets(), budgets());
    Controller::builder("disruption")
        .for_kind::<PodDisruptionBudget>()
        .watches_when(matters, move |pod: &Pod| about(&of_pods, &pod.metadata, pod.metadata.labels.as_ref()))
        .watches_when(predicate::differs(|set: &ReplicaSet| set.spec.replicas), move |set: &ReplicaSet| {
            let template = set.spec.template.as_ref().and_then(|template| template.metadata.as_ref());
            about(&of_sets, &set.metadata, template.and_then(|meta| meta.labels.as_ref()))
        })
        .watches_when(
            predicate::differs(|deployment: &Deployment| deployment.spec.replicas),
            move |deployment: &Deployment| {
                let template = deployment.spec.template.metadata.as_ref();
                about(&of_deployments, &deployment.metadata, template.and_then(|meta| meta.labels.as_ref()))
            },
        )
        .build(reconciler)
}

/// Whether a change of a pod may be one of a budget's counts.
fn matters(change: &Change<Pod>) -> bool {
    let Change::Updated { old, new } = change else { return true };
    let manager = |pod: &Pod| owners::controller_of(&pod.metadata).map(|owner| owner.uid.clone());
    facts::is_ready(old) != facts::is_ready(new)
        || pods::is_deleting(old) != pods::is_deleting(new)
        || old.metadata.labels != new.metadata.labels
        || manager(old) != manager(new)
}

/// The budgets that are about pods with these labels, in an object's namespace.
fn about(
    budgets: &Cache<PodDisruptionBudget>,
    meta: &ObjectMeta,
    labels: Option<&BTreeMap<String, String>>,
) -> Vec<ObjectKey> {
    let found = budgets.list_in(facts::namespace(meta));
    found.iter().filter(|it| disruption::selects(it, labels)).map(|it| ObjectKey::of(&**it)).collect()
}

/// Why a status could not be found out.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Scale(#[from] ScaleError),
    #[error(transparent)]
    Amount(#[from] IntOrStringError),
}

struct Reconciler {
    client: Client,
    budgets: Cache<PodDisruptionBudget>,
    pods: Cache<Pod>,
    scales: Scales,
    recorder: EventRecorder,
}

#[async_trait]
impl Reconcile for Reconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let Some(budget) = self.budgets.get_key(key) else { return Ok(Outcome::Done) };
        let mut pods = self.pods.list_in(&key.namespace);
        pods.retain(|pod| disruption::selects(&budget, pod.metadata.labels.as_ref()));
        match self.look(&budget, &pods).await {
            Ok((plan, scale)) => {
                if self.write(&budget, plan.status).await? {
                    self.tell(&budget, &pods, &scale);
                }
                for pod in plan.stayed {
                    let note = format!("Pod was expected by PDB {key} to be deleted but it wasn't");
                    self.recorder.record(&*pod, EventKind::Warning, "NotDeleted", "Evict", note);
                }
                Ok(Outcome::after(plan.look_again))
            }
            Err(failure) => {
                self.fail(&budget, &failure).await?;
                match failure {
                    // It may be otherwise soon, without any change of what is watched.
                    Failure::Scale(ScaleError::Api(error)) => Err(error.into()),
                    _ => Ok(Outcome::Done),
                }
            }
        }
    }
}

impl Reconciler {
    async fn look(
        &self,
        budget: &PodDisruptionBudget,
        pods: &[Arc<Pod>],
    ) -> Result<(plan::Plan, Scale), Failure> {
        let scale = match &budget.spec {
            Some(spec) if plan::needs_scale(spec) => self.scales.of(pods).await?,
            _ => Scale::default(),
        };
        let now = self.client.context().clock.now().0;
        let plan = plan::plan(&Observed { budget, pods, scale: scale.replicas, now })?;
        Ok((plan, scale))
    }

    /// Whether there was anything to write.
    async fn write(
        &self,
        budget: &PodDisruptionBudget,
        status: PodDisruptionBudgetStatus,
    ) -> Result<bool, ReconcileError> {
        if budget.status.as_ref() == Some(&status) {
            return Ok(false);
        }
        let api =
            Api::<PodDisruptionBudget>::namespaced(self.client.clone(), facts::namespace(&budget.metadata));
        let budget = PodDisruptionBudget { status: Some(status), ..budget.clone() };
        match api.update_status(&PostParams::default(), budget).await {
            Ok(_) | Err(ApiError::NotFound { .. }) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Allows nothing while it isn't known what could be allowed.
    async fn fail(&self, budget: &PodDisruptionBudget, why: &Failure) -> Result<(), ReconcileError> {
        let mut status = budget.status.clone().unwrap_or_default();
        let now = self.client.context().clock.now().0;
        if disruption::set_failed(&mut status, why.to_string(), now) && self.write(budget, status).await? {
            let note = format!("Failed to calculate the number of expected pods: {why}");
            let reason = "CalculateExpectedPodCountFailed";
            self.recorder.record(budget, EventKind::Warning, reason, "Reconcile", note);
        }
        Ok(())
    }

    fn tell(&self, budget: &PodDisruptionBudget, pods: &[Arc<Pod>], scale: &Scale) {
        let record = |kind, reason, note: &str| {
            self.recorder.record(budget, kind, reason, "Reconcile", note.to_owned());
        };
        if pods.is_empty() {
            record(EventKind::Normal, "NoPods", "No matching pods found");
        }
        if scale.unmanaged {
            let note = "Some of the pods are managed by nothing, so it is not known how many there should be: a \
                        budget counts those only if its minAvailable is a number";
            record(EventKind::Warning, "UnmanagedPods", note);
        }
    }
}
