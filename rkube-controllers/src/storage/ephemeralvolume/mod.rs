//! Makes the claims of volumes that live and die with a pod. They are the pod's: the garbage collector takes
//! them away with it.
//! <https://kubernetes.io/docs/concepts/storage/ephemeral-volumes/#generic-ephemeral-volumes>

pub mod plan;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use rkube_api::{
    client::{Api, Cache, Client, EventKind, EventRecorder, ObjectKey, PostParams},
    error::ApiError,
};

use self::plan::Action;
use crate::{
    all::Deps,
    facts,
    runtime::{Controller, Outcome, Reconcile, ReconcileError, owner_key, predicate},
};

/// The controller.
pub fn controller(deps: &Deps) -> Controller {
    let informers = deps.informers();
    let reconciler = Reconciler {
        client: deps.client().clone(),
        pods: informers.get::<Pod>().cache().clone(),
        claims: informers.get::<PersistentVolumeClaim>().cache().clone(),
        recorder: deps.recorder("ephemeral_volume"),
    };
    Controller::builder("ephemeralvolume")
        .for_kind_when::<Pod>(predicate::differs(|pod: &Pod| pod.metadata.uid.clone()))
        .watches_when(predicate::deleted(), |claim: &PersistentVolumeClaim| {
            owner_key::<Pod>(claim).into_iter().collect()
        })
        .build(reconciler)
}

struct Reconciler {
    client: Client,
    pods: Cache<Pod>,
    claims: Cache<PersistentVolumeClaim>,
    recorder: EventRecorder,
}

#[async_trait]
impl Reconcile for Reconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let Some(pod) = self.pods.get_key(key) else { return Ok(Outcome::Done) };
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &key.namespace);
        for action in plan::plan(&pod, |name| self.claims.get(&key.namespace, name)) {
            match action {
                Action::Make(claim) => match api.create(&PostParams::default(), *claim).await {
                    // Somebody else's is found out when it shows.
                    Ok(_) | Err(ApiError::AlreadyExists { .. }) => {}
                    Err(error) => {
                        let note = format!("ephemeral volume: create PVC: {error}");
                        self.recorder.record(&*pod, EventKind::Warning, "FailedBinding", "Create", note);
                        return Err(error.into());
                    }
                },
                Action::Refuse(claim) => {
                    let name = facts::name(&pod.metadata);
                    let note = format!(
                        "PVC {}/{claim} was not created for pod {}/{name} (pod is not owner)",
                        key.namespace, key.namespace
                    );
                    self.recorder.record(&*pod, EventKind::Warning, "FailedBinding", "Create", note);
                }
            }
        }
        Ok(Outcome::Done)
    }
}
