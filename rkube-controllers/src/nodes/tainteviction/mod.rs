//! Drives pods out of nodes with NoExecute taints that they don't tolerate (any longer).

pub mod plan;

use std::collections::BTreeMap;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;
use rkube_api::{
    client::{
        Api, Cache, Client, DeleteParams, EventKind, EventRecorder, Informers, ObjectKey, PostParams,
        WorkQueue,
    },
    error::ApiError,
    helpers,
};

use self::plan::{Action, Seen};
use crate::{
    all::Deps,
    facts::{self, NODE_INDEX},
    runtime::{Controller, Outcome, Reconcile, ReconcileError, predicate},
};

/// The controller.
pub fn controller(deps: &Deps) -> Controller {
    let informers = deps.informers();
    let reconciler = Reconciler {
        client: deps.client().clone(),
        pods: informers.get::<Pod>().cache().clone(),
        nodes: informers.get::<Node>().cache().clone(),
        recorder: deps.recorder("taint-eviction-controller"),
        waiting: Mutex::default(),
    };
    facts::index_by_node(&reconciler.pods);
    Controller::builder("tainteviction")
        .workers(8)
        .for_kind_when::<Pod>(predicate::differs(|pod: &Pod| {
            let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.clone());
            (facts::node(pod).to_owned(), tolerations)
        }))
        .source(follow_taints)
        .build(reconciler)
}

/// A change of a node's taints brings up all its pods.
fn follow_taints(informers: &Informers, queue: &WorkQueue<ObjectKey>) {
    let (pods, queue) = (informers.get::<Pod>().cache().clone(), queue.clone());
    let differs = predicate::differs(|node: &Node| helpers::node::taints(node).to_vec());
    informers.get::<Node>().on_change(move |change| {
        if differs(change) {
            let name = facts::name(&change.object().metadata);
            pods.by_index(NODE_INDEX, name).iter().for_each(|pod| queue.add(ObjectKey::of(&**pod)));
        }
    });
}

struct Reconciler {
    client: Client,
    pods: Cache<Pod>,
    nodes: Cache<Node>,
    recorder: EventRecorder,
    waiting: Mutex<BTreeMap<ObjectKey, Waiting>>,
}

/// A pod whose time runs out.
struct Waiting {
    uid: String,
    seen: Seen,
}

#[async_trait]
impl Reconcile for Reconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let Some(pod) = self.pods.get_key(key).filter(|pod| facts::is_active(pod)) else {
            self.forget(key);
            return Ok(Outcome::Done);
        };
        let Some(node) = self.nodes.get("", facts::node(&pod)) else { return Ok(Outcome::Done) };
        let now = self.client.context().clock.timestamp();
        match plan::plan(&pod, helpers::node::taints(&node), &self.seen(key, &pod), now) {
            Action::Keep => {
                if self.forget(key) {
                    self.record(&pod, format!("Cancelling deletion of Pod {key}"));
                }
                Ok(Outcome::Done)
            }
            Action::Wait { left, seen } => {
                let uid = facts::uid(&pod.metadata).to_owned();
                self.waiting.lock().insert(key.clone(), Waiting { uid, seen });
                Ok(Outcome::RequeueAfter(left))
            }
            Action::Evict => {
                self.evict(key, &pod).await?;
                self.forget(key);
                Ok(Outcome::Done)
            }
        }
    }
}

impl Reconciler {
    /// What the last look at this very pod told.
    fn seen(&self, key: &ObjectKey, pod: &Pod) -> Seen {
        let waiting = self.waiting.lock();
        let known = waiting.get(key).filter(|known| known.uid == facts::uid(&pod.metadata));
        known.map(|known| known.seen.clone()).unwrap_or_default()
    }

    /// Whether its time was running out.
    fn forget(&self, key: &ObjectKey) -> bool {
        self.waiting.lock().remove(key).is_some()
    }

    fn record(&self, pod: &Pod, note: String) {
        self.recorder.record(pod, EventKind::Normal, "TaintManagerEviction", "Evict", note);
    }

    async fn evict(&self, key: &ObjectKey, pod: &Pod) -> Result<(), ReconcileError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &*key.namespace);
        let now = self.client.context().clock.now();
        let why = "Taint manager: deleting due to NoExecute taint";
        if let Some(marked) = facts::disrupted(pod, "DeletionByTaintManager", why, &now) {
            match api.update_status(&PostParams::default(), marked).await {
                Ok(_) | Err(ApiError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // Not of a try that lost to another writer.
        self.record(pod, format!("Marking for deletion Pod {key}"));
        let params = DeleteParams::default().uid(facts::uid(&pod.metadata));
        match api.delete(&key.name, &params).await {
            Ok(_) | Err(ApiError::NotFound { .. } | ApiError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
