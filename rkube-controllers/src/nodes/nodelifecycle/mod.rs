//! Nodes' health: leases and status reports in, conditions and taints out.

pub mod plan;
#[cfg(test)]
mod tests;
mod zones;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::join_all;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, Pod},
};
use parking_lot::Mutex;
use rkube_api::{
    client::{Api, Cache, Change, Client, EventKind, EventRecorder, Informers, ObjectKey, PostParams, Scope},
    error::ApiError,
    helpers::node as nodes,
    meta::conditions,
};
use tokio::time::Instant;

use self::plan::{Observed, Patience, Plan};
use crate::{
    all::Deps,
    facts::{self, NODE_INDEX},
    runtime::{Controller, Outcome, Reconcile, ReconcileError},
};

/// Where node agents renew their leases.
pub const LEASES: &str = "kube-node-lease";
/// How long counts of silent nodes stay good.
const FRESH: Duration = Duration::from_secs(5);

/// The controller, with Kubernetes' patience.
pub fn controller(deps: &Deps) -> Controller {
    with_patience(deps, Patience::default())
}

/// The controller.
pub fn with_patience(deps: &Deps, patience: Patience) -> Controller {
    let informers = deps.informers();
    let reconciler = Reconciler {
        client: deps.client().clone(),
        nodes: informers.get::<Node>().cache().clone(),
        pods: informers.get::<Pod>().cache().clone(),
        recorder: deps.recorder("node-controller"),
        heard: Heard::default(),
        zones: Mutex::default(),
        patience,
    };
    facts::index_by_node(&reconciler.pods);
    let heard = reconciler.heard.clone();
    Controller::builder("nodelifecycle")
        .workers(8)
        .for_kind_when::<Node>(matters)
        .source(move |informers, _| heard.follow(informers))
        .build(reconciler)
}

/// Whether a change of a node may ask for anything: not each report that all is well.
fn matters(change: &Change<Node>) -> bool {
    let Change::Updated { old, new } = change else { return true };
    let states = |node: &Node| -> Vec<(String, String)> {
        let list = nodes::conditions_of(node).iter();
        list.map(|condition| (condition.type_.clone(), condition.status.clone())).collect()
    };
    old.spec != new.spec || states(old) != states(new)
}

/// When each node was last heard, on this process's clock: nodes' clocks may be wrong.
#[derive(Clone, Debug, Default)]
struct Heard(Arc<Mutex<BTreeMap<String, Instant>>>);

impl Heard {
    fn follow(&self, informers: &Informers) {
        let leases = self.clone();
        let scope = Scope { namespace: Some(LEASES.into()), ..Scope::default() };
        informers.get_scoped::<Lease>(scope).on_change(move |change| {
            let renewed = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
            match change {
                Change::Updated { old, new } if renewed(old) == renewed(new) => {}
                Change::Deleted(_) => {}
                _ => leases.note(facts::name(&change.object().metadata)),
            }
        });
        let reports = self.clone();
        informers.get::<Node>().on_change(move |change| {
            let name = facts::name(&change.object().metadata);
            let reported = |node: &Node| {
                conditions::get(nodes::conditions_of(node), "Ready")
                    .filter(|ready| ready.status != "Unknown")
                    .and_then(|ready| ready.last_heartbeat_time.clone())
            };
            match change {
                Change::Deleted(_) => _ = reports.0.lock().remove(name),
                Change::Updated { old, new } if reported(old) == reported(new) => {}
                _ => reports.note(name),
            }
        });
    }

    fn note(&self, node: &str) {
        self.0.lock().insert(node.to_owned(), Instant::now());
    }

    /// How long the node has been silent. One not heard of yet starts being so now.
    fn silence(&self, node: &str) -> Duration {
        self.0.lock().entry(node.to_owned()).or_insert_with(Instant::now).elapsed()
    }
}

#[derive(Debug, Default)]
struct Zones {
    rates: BTreeMap<String, f64>,
    counted: Option<Instant>,
    limiter: zones::Limiter,
}

struct Reconciler {
    client: Client,
    nodes: Cache<Node>,
    pods: Cache<Pod>,
    recorder: EventRecorder,
    heard: Heard,
    zones: Mutex<Zones>,
    patience: Patience,
}

#[async_trait]
impl Reconcile for Reconciler {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, ReconcileError> {
        let Some(node) = self.nodes.get_key(key) else { return Ok(Outcome::Done) };
        let mut observed = Observed {
            node: &node,
            silent: self.heard.silence(&key.name),
            patience: self.patience,
            may_drive_out: false,
            now: self.client.context().clock.now(),
        };
        let mut plan = plan::plan(&observed);
        let mut wait = plan.look_again;
        if plan.held_back {
            match self.may_drive_out(&node) {
                Ok(()) => {
                    observed.may_drive_out = true;
                    plan = plan::plan(&observed);
                }
                Err(pause) => wait = Some(wait.map_or(pause, |wait| wait.min(pause))),
            }
        }
        self.act(&node, plan).await?;
        Ok(Outcome::after(wait))
    }
}

impl Reconciler {
    fn may_drive_out(&self, node: &Node) -> Result<(), Duration> {
        let mut zones = self.zones.lock();
        if zones.counted.is_none_or(|counted| counted.elapsed() >= FRESH) {
            let all = self.nodes.list();
            zones.rates = zones::rates(all.iter().map(|node| &**node));
            zones.counted = Some(Instant::now());
        }
        let zone = zones::zone(node);
        let rate = zones.rates.get(&zone).copied().unwrap_or_default();
        zones.limiter.take(&zone, rate)
    }

    async fn act(&self, node: &Node, plan: Plan) -> Result<(), ReconcileError> {
        let api: Api<Node> = Api::all(self.client.clone());
        let params = PostParams::default();
        let mut current = node.clone();
        if plan.pods_not_ready {
            // First the pods: if this fails, the node's condition still brings us back.
            self.mark_pods(node).await?;
        }
        if let Some(changed) = plan.status {
            let name = facts::name(&node.metadata);
            let note = format!("Node {name} status is now: NodeNotReady");
            current = (*api.update_status(&params, *changed).await?).clone();
            self.recorder.record(node, EventKind::Normal, "NodeNotReady", "MonitorNodes", note);
        }
        if let Some(taints) = plan.taints {
            current.spec.get_or_insert_default().taints = (!taints.is_empty()).then_some(taints);
            api.update(&params, current).await?;
        }
        Ok(())
    }

    /// Services must not send to pods that nobody can vouch for.
    async fn mark_pods(&self, node: &Node) -> Result<(), ReconcileError> {
        let now = self.client.context().clock.now();
        let pods = self.pods.by_index(NODE_INDEX, facts::name(&node.metadata));
        let writes = pods.iter().filter_map(|pod| plan::not_ready(pod, &now)).map(|pod| async {
            self.recorder.record(
                &pod,
                EventKind::Warning,
                "NodeNotReady",
                "MonitorNodes",
                "Node is not ready".into(),
            );
            let api: Api<Pod> = Api::namespaced(self.client.clone(), facts::namespace(&pod.metadata));
            api.update_status(&PostParams::default(), pod).await
        });
        for result in join_all(writes).await {
            match result {
                Ok(_) | Err(ApiError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
