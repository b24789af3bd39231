//! Why a pod fits nowhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Refusals;
use crate::{
    framework::{Code, Status},
    snapshot::NodeId,
};

/// What users read when there is no node at all.
pub const NO_NODES: &str = "no nodes available to schedule pods";

/// What each node, or PreFilter for all of them, had against a pod.
///
/// ```
/// use rkube_sched::engine::Diagnosis;
///
/// let diagnosis = Diagnosis { all_nodes: 3, post_filter_message: "nobody can go.".into(), ..Default::default() };
/// assert_eq!(diagnosis.message(), "0/3 nodes are available: nobody can go.");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    /// How many nodes there are.
    pub all_nodes: usize,
    /// The refusal of each node that was looked at.
    pub rejected: Arc<Refusals>,
    /// The refusal of all others.
    pub absent: Option<Status>,
    /// What PreFilter had against the pod on any node.
    pub pre_filter_message: String,
    /// What came of PostFilter.
    pub post_filter_message: String,
    /// The plugins that refused.
    pub unschedulable_plugins: BTreeSet<&'static str>,
    /// The plugins that wait for something outside.
    pub pending_plugins: BTreeSet<&'static str>,
}

impl Diagnosis {
    /// Takes in what the nodes have said.
    pub(crate) fn take(&mut self, rejected: Arc<Refusals>) {
        rejected.distinct().for_each(|(status, _)| self.blame(status));
        self.rejected = rejected;
    }

    /// Notes who refused.
    pub(crate) fn blame(&mut self, status: &Status) {
        let Some(plugin) = status.plugin() else { return };
        match status.code() {
            Code::Pending => self.pending_plugins.insert(plugin),
            _ if status.is_rejected() => self.unschedulable_plugins.insert(plugin),
            _ => false,
        };
    }

    /// The refusal of a node.
    pub fn status_of(&self, node: NodeId) -> Option<&Status> {
        self.rejected.get(node).or(self.absent.as_ref())
    }

    /// The account that users read: how many nodes refuse for which reason.
    pub fn message(&self) -> String {
        if self.all_nodes == 0 {
            return NO_NODES.into();
        }
        let histogram = || {
            let others = self.all_nodes.saturating_sub(self.rejected.len());
            let absent = self.absent.iter().map(|absent| (absent, others));
            account(self.all_nodes, self.rejected.distinct().chain(absent))
        };
        // A refusal by PreFilter stands for all nodes; it is told once.
        let mut message = match self.pre_filter_message.as_str() {
            "" => histogram(),
            told => format!("0/{} nodes are available: {told}.", self.all_nodes),
        };
        // It is an account of its own, with its own full stop.
        if !self.post_filter_message.is_empty() {
            message.push(' ');
            message.push_str(&self.post_filter_message);
        }
        message
    }
}

/// How many of all nodes say what against a pod, sorted as text.
pub(crate) fn account<'a>(all_nodes: usize, said: impl IntoIterator<Item = (&'a Status, usize)>) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for (status, nodes) in said.into_iter().filter(|(_, nodes)| *nodes > 0) {
        for reason in status.reasons() {
            *counts.entry(reason).or_default() += nodes;
        }
    }
    let mut lines: Vec<String> =
        counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    lines.sort_unstable();
    match lines.is_empty() {
        true => format!("0/{all_nodes} nodes are available:"),
        false => format!("0/{all_nodes} nodes are available: {}.", lines.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_and_sorted_as_text() {
        let cpu = || Status::unschedulable("Insufficient cpu");
        let diagnosis = Diagnosis {
            all_nodes: 14,
            rejected: Arc::new(Refusals::from_iter([
                (NodeId(0), cpu().with("Insufficient memory")),
                (NodeId(1), cpu()),
                (NodeId(2), Status::unresolvable("node(s) were unschedulable")),
            ])),
            absent: Some(Status::unresolvable("node(s) didn't satisfy plugin(s) [NodeAffinity]")),
            ..Diagnosis::default()
        };
        assert_eq!(
            diagnosis.message(),
            "0/14 nodes are available: 1 Insufficient memory, 1 node(s) were unschedulable, \
             11 node(s) didn't satisfy plugin(s) [NodeAffinity], 2 Insufficient cpu."
        );
        assert_eq!(Diagnosis::default().message(), NO_NODES);
    }
}
