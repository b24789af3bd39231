//! Removes pods that are bound to nodes which no longer exist.

pub mod plan;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;
use rkube_api::{
    client::{Api, Cache, Change, Client, DeleteParams, ObjectKey, PostParams},
    error::ApiError,
};
use tokio::time::Instant;

use self::plan::{Action, plan};
use crate::{
    all::Deps,
    facts::{self, NODE_INDEX},
    runtime::{Controller, Outcome, Reconcile, ReconcileError, predicate},
};

/// The controller. Its keys are nodes.
pub fn controller(deps: &Deps) -> Controller {
    let informers = deps.informers();
    let reconciler = Reconciler {
        client: deps.client().clone(),
        nodes: informers.get::<Node>().cache().clone(),
        pods: informers.get::<Pod>().cache().clone(),
        missing: Arc::default(),
    };
    facts::index_by_node(&reconciler.pods);
    let nodes = reconciler.nodes.clone();
    let lost = move |change: &Change<Pod>| {
        let node = facts::node(change.object());
        !node.is_empty() && !matches!(change, Change::Deleted(_)) && nodes.get("", node).is_none()
    };
    Controller::builder("podgc")
        .for_kind_when::<Node>(|change: &Change<Node>| {
            predicate::deleted()(change) || matches!(change, Change::Added(_))
        })
        .watches_when(lost, |pod: &Pod| vec![ObjectKey::new("", facts::node(pod))])
        .build(reconciler)
}

struct Reconciler {
    client: Client,
    nodes: Cache<Node>,
    pods: Cache<Pod>,
    /// Since when nodes that pods name have been gone.
    missing: Arc<Mutex<BTreeMap<String, Instant>>>,
}

#[async_trait]
impl Reconcile for Reconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let pods = self.pods.by_index(NODE_INDEX, &key.name);
        if pods.is_empty() || self.nodes.get_key(key).is_some() {
            self.missing.lock().remove(&key.name);
            return Ok(Outcome::Done);
        }
        let missing = self.missing.lock().entry(key.name.clone()).or_insert_with(Instant::now).elapsed();
        let actions = plan(&pods, missing, &self.client.context().clock.now());
        if let [Action::Wait(time)] = &actions[..] {
            return Ok(Outcome::RequeueAfter(*time));
        }
        // The cache may lag behind a node that has come.
        if Api::<Node>::all(self.client.clone()).get_opt(&key.name).await?.is_some() {
            return Ok(Outcome::RequeueAfter(plan::QUARANTINE));
        }
        for action in actions {
            self.act(action).await?;
        }
        Ok(Outcome::Done)
    }
}

impl Reconciler {
    async fn act(&self, action: Action) -> Result<(), ReconcileError> {
        let api = |pod: &Pod| Api::<Pod>::namespaced(self.client.clone(), facts::namespace(&pod.metadata));
        let result = match action {
            Action::Wait(_) => return Ok(()),
            Action::Fail(pod) => api(&pod).update_status(&PostParams::default(), *pod).await.map(drop),
            Action::Delete(pod) => {
                let params = DeleteParams::now().uid(facts::uid(&pod.metadata));
                api(&pod).delete(facts::name(&pod.metadata), &params).await.map(drop)
            }
        };
        match result {
            Ok(()) | Err(ApiError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
