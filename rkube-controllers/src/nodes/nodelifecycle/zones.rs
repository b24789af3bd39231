//! How fast pods may be driven out of silent nodes, by zone: when a whole zone falls silent, the fault is
//! more likely the network's than the nodes'.
//!
//! Source: the documentation page "Nodes", "Rate limits on eviction".

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Node;
use rkube_api::helpers::node as nodes;
use tokio::time::Instant;

/// Nodes a second.
const NORMAL: f64 = 0.1;
/// Nodes a second when most of a large zone is silent.
const SLOW: f64 = 0.01;
/// How much of a zone must be silent for the zone to count as disrupted.
const UNHEALTHY: f64 = 0.55;
/// Up to this size a disrupted zone loses no pods.
const SMALL: usize = 50;

/// The zone of a node, with its region.
pub(super) fn zone(node: &Node) -> String {
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).cloned();
    let part = |key: &str| label(key).unwrap_or_default();
    format!("{}:{}", part("topology.kubernetes.io/region"), part("topology.kubernetes.io/zone"))
}

/// How a zone is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Normal,
    Partial,
    Full,
}

fn state(ready: usize, silent: usize) -> State {
    #[expect(clippy::cast_precision_loss, reason = "a share of a few thousand nodes")]
    let share = silent as f64 / (ready + silent).max(1) as f64;
    if silent > 0 && ready == 0 {
        State::Full
    } else if silent > 2 && share >= UNHEALTHY {
        State::Partial
    } else {
        State::Normal
    }
}

/// Nodes a second that may lose their pods, by zone.
pub(super) fn rates<'a>(all: impl IntoIterator<Item = &'a Node>) -> BTreeMap<String, f64> {
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for node in all {
        let count = counts.entry(zone(node)).or_default();
        if nodes::is_ready(node) { count.0 += 1 } else { count.1 += 1 }
    }
    let everywhere = counts.values().all(|(ready, silent)| state(*ready, *silent) == State::Full);
    let rate = |(ready, silent): (usize, usize)| match state(ready, silent) {
        // When nothing at all is heard, this process is the one that is cut off.
        State::Full if everywhere && counts.len() > 1 => 0.0,
        State::Normal | State::Full => NORMAL,
        State::Partial if ready + silent > SMALL => SLOW,
        State::Partial => 0.0,
    };
    counts.iter().map(|(zone, count)| (zone.clone(), rate(*count))).collect()
}

/// Hands out permissions at each zone's rate.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    last: BTreeMap<String, Instant>,
}

impl Limiter {
    /// Permission for one node of the zone: `Ok`, or when to ask again.
    pub(super) fn take(&mut self, zone: &str, rate: f64) -> Result<(), Duration> {
        if rate <= 0.0 {
            return Err(Duration::from_secs(10));
        }
        let pause = Duration::from_secs_f64(1.0 / rate);
        let now = Instant::now();
        match self.last.get(zone) {
            Some(last) if now.duration_since(*last) < pause => Err(pause - now.duration_since(*last)),
            _ => {
                self.last.insert(zone.to_owned(), now);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus};

    use super::*;

    fn node(zone: &str, ready: bool) -> Node {
        let mut node = Node::default();
        node.metadata.labels = Some([("topology.kubernetes.io/zone".to_owned(), zone.to_owned())].into());
        let condition = NodeCondition {
            type_: "Ready".into(),
            status: if ready { "True" } else { "Unknown" }.into(),
            ..Default::default()
        };
        node.status = Some(NodeStatus { conditions: Some(vec![condition]), ..Default::default() });
        node
    }

    fn nodes(zone: &str, ready: usize, silent: usize) -> Vec<Node> {
        (0..ready + silent).map(|n| node(zone, n < ready)).collect()
    }

    #[test]
    fn disruption_slows_down() {
        let rate = |lists: &[Vec<Node>]| rates(lists.iter().flatten())[":a"];
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(rate(&[nodes("a", 9, 1)]), NORMAL));
        assert!(close(rate(&[nodes("a", 4, 6)]), 0.0), "a small zone, mostly silent");
        assert!(close(rate(&[nodes("a", 40, 60)]), SLOW));
        assert!(close(rate(&[nodes("a", 0, 3), nodes("b", 3, 0)]), NORMAL), "one zone is down");
        assert!(close(rate(&[nodes("a", 0, 3), nodes("b", 0, 3)]), 0.0), "all zones are down");
        assert!(close(rate(&[nodes("a", 0, 1)]), NORMAL), "a cluster of one zone");
    }

    #[tokio::test(start_paused = true)]
    async fn permissions_come_at_the_rate() {
        let mut limiter = Limiter::default();
        assert_eq!(limiter.take("a", NORMAL), Ok(()));
        assert_eq!(limiter.take("a", NORMAL), Err(Duration::from_secs(10)));
        assert_eq!(limiter.take("b", NORMAL), Ok(()));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(limiter.take("a", NORMAL), Ok(()));
        assert!(limiter.take("a", 0.0).is_err());
    }
}
