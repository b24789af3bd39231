//! Where a pod would go, and why: values, and how they print.

use std::{collections::BTreeSet, fmt};

use rkube_api::client::ObjectKey;
use serde::Serialize;

use super::table::{self, listed};
use crate::engine::PluginScore;

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Choice {
    /// It goes to a node.
    Node {
        /// The node.
        node: String,
        /// Its total score; 0 if it is the only one that fits, which is not scored.
        score: i64,
        /// How many nodes fit.
        feasible: usize,
        /// How many of them are as good: one of these is drawn.
        best: usize,
    },
    /// It fits nowhere as things are; it goes to a node once other pods are sent away.
    Preempts {
        /// The node.
        node: String,
        /// Who has to go, the most important first.
        #[serde(serialize_with = "table::texts")]
        victims: Vec<ObjectKey>,
    },
    /// It goes nowhere.
    Nowhere {
        /// The plugins that see to that.
        plugins: BTreeSet<&'static str>,
    },
    /// It may not be tried yet: its scheduling gates, or a plugin of the host's, hold it.
    Held {
        /// The plugin.
        plugin: &'static str,
    },
    /// It waits for a scheduler that is not simulated: none of the profiles has its `schedulerName`.
    Foreign {
        /// The scheduler's name.
        scheduler: String,
    },
    /// A plugin failed.
    Failed {
        /// The plugin, if it is known.
        plugin: Option<&'static str>,
    },
}

impl Choice {
    /// The node where the pod ends up, if it does.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Node { node, .. } | Self::Preempts { node, .. } => Some(node),
            Self::Nowhere { .. } | Self::Held { .. } | Self::Foreign { .. } | Self::Failed { .. } => None,
        }
    }
}

/// What the plugins say of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Verdict {
    /// The pod fits.
    Fits {
        /// The sum of the weighted scores.
        total: i64,
        /// Each plugin's; none if no other node fits.
        scores: Vec<PluginScore>,
    },
    /// It does not.
    Refused {
        /// The plugin that said so first; `None` where several did together.
        plugin: Option<&'static str>,
        /// Why, as users read it.
        reasons: Vec<String>,
        /// Whether it may help if other pods go.
        may_change: bool,
    },
}

/// One node, as a pod sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeAnswer {
    /// The node.
    pub node: String,
    /// What is said of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Where a pod would go, and what speaks for and against each node.
///
/// It prints as a table, the best node first. [`Answer::summary`] is one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The pod.
    #[serde(serialize_with = "table::text")]
    pub pod: ObjectKey,
    /// What becomes of it.
    #[serde(flatten)]
    pub choice: Choice,
    /// Kubernetes' own account where it does not go to a node at once: `0/5 nodes are available: ...`; else empty.
    pub message: String,
    /// The nodes: the chosen one, the others that fit by their totals, the rest by name. None where the pod was
    /// not tried.
    pub nodes: Vec<NodeAnswer>,
}

impl Answer {
    /// One line.
    pub fn summary(&self) -> String {
        let pod = &self.pod;
        let nodes = self.nodes.len();
        match &self.choice {
            Choice::Node { node, feasible: 1, .. } => {
                format!("{pod} goes to {node}, the only one of {nodes} nodes that fits")
            }
            Choice::Node { node, score, feasible, best } => {
                let tied =
                    if *best > 1 { format!(", drawn from {best} that are as good") } else { String::new() };
                format!("{pod} goes to {node} with {score} points: {feasible} of {nodes} nodes fit{tied}")
            }
            Choice::Preempts { node, victims } => {
                format!("{pod} goes to {node} once {} is gone: {}", listed(victims), self.message)
            }
            Choice::Nowhere { .. } => format!("{pod} goes nowhere: {}", self.message),
            Choice::Held { plugin } => format!("{pod} is held by {plugin}: {}", self.message),
            Choice::Foreign { scheduler } => format!("{pod} waits for the scheduler {scheduler:?}"),
            Choice::Failed { plugin } => {
                format!("{pod} cannot be decided about: {}: {}", plugin.unwrap_or("a plugin"), self.message)
            }
        }
    }

    /// What is said of a node.
    pub fn of_node(&self, node: &str) -> Option<&Verdict> {
        self.nodes.iter().find(|answer| answer.node == node).map(|answer| &answer.verdict)
    }

    /// The nodes that fit but were not chosen, the best first, with their totals.
    pub fn runners_up(&self) -> impl Iterator<Item = (&str, i64)> {
        let chosen = self.choice.node();
        self.nodes.iter().filter(move |answer| Some(&*answer.node) != chosen).filter_map(|answer| {
            match &answer.verdict {
                Verdict::Fits { total, .. } => Some((&*answer.node, *total)),
                Verdict::Refused { .. } => None,
            }
        })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary())?;
        if self.nodes.is_empty() {
            return Ok(());
        }
        let scores = self.nodes.iter().find_map(|answer| match &answer.verdict {
            Verdict::Fits { scores, .. } => Some(scores.as_slice()),
            Verdict::Refused { .. } => None,
        });
        let scores = scores.unwrap_or_default();
        let plugins: Vec<String> =
            scores.iter().map(|score| format!("{} x{}", score.plugin, score.weight)).collect();
        let header = ["NODE", "TOTAL"].into_iter().chain(plugins.iter().map(String::as_str));
        let is_refused = |answer: &NodeAnswer| matches!(answer.verdict, Verdict::Refused { .. });
        let (refused, fit): (Vec<_>, Vec<_>) = self.nodes.iter().partition(|answer| is_refused(answer));
        if !fit.is_empty() {
            let rows: Vec<_> = fit.into_iter().map(|answer| self.row(answer)).collect();
            writeln!(f)?;
            table::write(f, &header.collect::<Vec<_>>(), &rows)?;
        }
        if !refused.is_empty() {
            let rows: Vec<_> = refused.into_iter().map(|answer| self.row(answer)).collect();
            writeln!(f)?;
            table::write(f, &["NODE", "REFUSED BY", "WHY"], &rows)?;
        }
        Ok(())
    }
}

impl Answer {
    fn row(&self, answer: &NodeAnswer) -> Vec<String> {
        match &answer.verdict {
            Verdict::Fits { total, scores } => {
                let mark = if self.choice.node() == Some(&answer.node) { " *" } else { "" };
                let score = |score: &PluginScore| match score.raw == score.normalized {
                    true => score.normalized.to_string(),
                    false => format!("{} (of {})", score.normalized, score.raw),
                };
                let total = if scores.is_empty() { "-".to_owned() } else { total.to_string() };
                let scores = scores.iter().map(score);
                [format!("{}{mark}", answer.node), total].into_iter().chain(scores).collect()
            }
            Verdict::Refused { plugin, reasons, .. } => {
                vec![answer.node.clone(), plugin.unwrap_or("-").to_owned(), reasons.join(", ")]
            }
        }
    }
}
