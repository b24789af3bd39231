//! Gives nodes their ranges: writes `spec.podCIDR` and `spec.podCIDRs` of nodes that have none.
//!
//! As the range allocator of Kubernetes' node IPAM controller. What nodes have is read before anything
//! is given out, so a restart gives no range twice. A node for which nothing is left gets the event
//! `CIDRNotAvailable` and is tried again, at once when a range becomes free.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, NodeSpec};
use parking_lot::Mutex;
use rkube_api::{
    client::{
        Api, Backoff, Change, Client, EventKind, EventRecorder, Informer, Informers, PostParams, WorkQueue,
    },
    error::ApiError,
};

use super::{Cidr, NodeRanges, Outcome, RangeConfig, RangeSetError, nodes::ranges_of};

/// Why a node did not get its ranges this time.
#[derive(Debug, thiserror::Error)]
pub enum RangeError {
    /// The API server refused, or was not there.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// None are left.
    #[error("CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range")]
    Exhausted,
}

struct State {
    ranges: NodeRanges,
    /// Nodes for which nothing was left.
    waiting: BTreeSet<String>,
}

/// The controller. It writes as the user of its informers' client.
///
/// ```no_run
/// # use rkube_api::client::Informers;
/// # use rkube_net::ipam::{RangeConfig, RangeController};
/// # async fn example(informers: Informers) {
/// let controller = RangeController::new(&informers, &RangeConfig::for_nodes(5000)).unwrap();
/// controller.run().await;
/// # }
/// ```
pub struct RangeController {
    client: Client,
    nodes: Informer<Node>,
    queue: WorkQueue<String>,
    recorder: EventRecorder,
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for RangeController {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RangeController")
    }
}

impl RangeController {
    /// A controller that is not running yet. Needs a tokio runtime.
    pub fn new(informers: &Informers, config: &RangeConfig) -> Result<Self, RangeSetError> {
        let client = informers.client().clone();
        let state = State { ranges: NodeRanges::new(config)?, waiting: BTreeSet::new() };
        Ok(Self {
            recorder: EventRecorder::new(&client, "cidrAllocator"),
            nodes: informers.get(),
            queue: WorkQueue::new(Backoff {
                base: Duration::from_millis(100),
                max: Duration::from_secs(600),
            }),
            state: Arc::new(Mutex::new(state)),
            client,
        })
    }

    /// Works until the future is dropped.
    pub async fn run(&self) {
        self.nodes.synced().await;
        // What is taken first, then what is asked for.
        for node in self.nodes.cache().list() {
            let ranges = ranges_of(&node);
            if !ranges.is_empty() {
                self.state.lock().ranges.node(name(&node), uid(&node), &ranges);
            }
        }
        let queue = self.queue.clone();
        self.nodes.on_change(move |change| {
            let node = change.object();
            let settled = |node: &Node| !ranges_of(node).is_empty();
            // Heartbeats are not of interest.
            let quiet = matches!(change, Change::Updated { old, new } if settled(old) && ranges_of(old) == ranges_of(new));
            if !quiet {
                queue.add(name(node).to_owned());
            }
        });
        while let Some(key) = self.queue.next().await {
            match self.sync(&key).await {
                Ok(()) => self.queue.forget(&key),
                Err(error) => {
                    tracing::debug!(node = key, %error, "a node has no range yet");
                    self.queue.add_rate_limited(key.clone());
                }
            }
            self.queue.done(&key);
        }
    }

    async fn sync(&self, key: &str) -> Result<(), RangeError> {
        let Some(node) = self.nodes.cache().get("", key) else {
            self.removed(key);
            return Ok(());
        };
        let outcome = self.state.lock().ranges.node(key, uid(&node), &ranges_of(&node));
        match outcome {
            Outcome::Known => {
                self.state.lock().waiting.remove(key);
                Ok(())
            }
            Outcome::Assigned(ranges) => {
                self.write(&node, &ranges).await?;
                self.state.lock().waiting.remove(key);
                Ok(())
            }
            Outcome::Exhausted => {
                self.state.lock().waiting.insert(key.to_owned());
                let note = format!("Node {key} status is now: CIDRNotAvailable");
                self.recorder.record(&*node, EventKind::Normal, "CIDRNotAvailable", "", note);
                Err(RangeError::Exhausted)
            }
        }
    }

    fn removed(&self, key: &str) {
        let mut state = self.state.lock();
        state.waiting.remove(key);
        if state.ranges.remove(key) {
            std::mem::take(&mut state.waiting).into_iter().for_each(|waiting| self.queue.add(waiting));
        }
    }

    async fn write(&self, node: &Node, ranges: &[Cidr]) -> Result<(), ApiError> {
        let texts: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        let mut node = node.clone();
        let spec = node.spec.get_or_insert_with(NodeSpec::default);
        spec.pod_cidr = texts.first().cloned();
        spec.pod_cidrs = Some(texts);
        let api: Api<Node> = Api::all(self.client.clone());
        match api.update(&PostParams::default(), node).await {
            // It changed since it was seen; the informer will show it, and the assignment is remembered.
            Err(error @ ApiError::Conflict { .. }) => Err(error),
            Err(ApiError::NotFound { .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

fn uid(node: &Node) -> &str {
    node.metadata.uid.as_deref().unwrap_or_default()
}
