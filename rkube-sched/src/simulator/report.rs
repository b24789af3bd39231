//! What a change of the cluster comes to.

use std::{collections::BTreeSet, fmt};

use rkube_api::client::ObjectKey;
use serde::Serialize;

use super::{
    table::{self, listed},
    usage::Usage,
};

/// Why a pod needed a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "cause", rename_all = "camelCase")]
pub enum Cause {
    /// It waited before.
    Waited,
    /// Its node was drained.
    Drained,
    /// Its node is gone.
    NodeGone,
    /// It had to make room.
    Preempted {
        /// For this pod.
        #[serde(serialize_with = "table::text")]
        by: ObjectKey,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waited => f.write_str("waited"),
            Self::Drained => f.write_str("drained"),
            Self::NodeGone => f.write_str("its node is gone"),
            Self::Preempted { by } => write!(f, "makes room for {by}"),
        }
    }
}

/// A pod that got a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Move {
    /// The pod, or what its controller makes in its place.
    #[serde(serialize_with = "table::text")]
    pub pod: ObjectKey,
    /// Where it was.
    pub from: Option<String>,
    /// Where it is now.
    pub to: String,
    /// Why it needed a node.
    #[serde(flatten)]
    pub cause: Cause,
    /// Whether a controller makes a pod in its place. If none does, somebody must.
    pub is_controlled: bool,
    /// The pods that had to go for it.
    #[serde(serialize_with = "table::texts", skip_serializing_if = "Vec::is_empty")]
    pub victims: Vec<ObjectKey>,
}

/// A pod that has no node in the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// The pod, or what its controller makes in its place.
    #[serde(serialize_with = "table::text")]
    pub pod: ObjectKey,
    /// Where it was.
    pub from: Option<String>,
    /// Why it needed a node.
    #[serde(flatten)]
    pub cause: Cause,
    /// Whether a controller makes a pod in its place.
    pub is_controlled: bool,
    /// Why it has none, as Kubernetes says it: `0/5 nodes are available: ...`
    pub message: String,
    /// The plugins that see to that.
    pub plugins: BTreeSet<&'static str>,
}

/// A disruption budget that holds a drain up: so many pods may go at once, the others when those are replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HoldUp {
    /// The budget.
    #[serde(serialize_with = "table::text")]
    pub budget: ObjectKey,
    /// How many of its pods may go at once.
    pub allowed: usize,
    /// How many have to go.
    pub leaving: usize,
}

/// What came of scheduling all pods that wait, after a change or as things were.
///
/// It prints as tables: what moved where, what waits and why, and how full the nodes are before and after whose
/// fill changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The pods that got a node, in the order in which they got it.
    pub moves: Vec<Move>,
    /// The pods that wait in the end, in the order of the queue.
    pub pending: Vec<Pending>,
    /// The nodes that came.
    pub added: Vec<String>,
    /// Pods that went for good, with their nodes or with what was drained: daemons and mirrors of a node that is
    /// gone, pods that were on their way out.
    #[serde(serialize_with = "table::texts")]
    pub gone: Vec<ObjectKey>,
    /// The disruption budgets that the drains have to wait for.
    pub held_up: Vec<HoldUp>,
    /// How full the nodes were.
    pub before: Usage,
    /// How full they are.
    pub after: Usage,
}

impl Report {
    /// Whether every pod has a node.
    pub fn all_fit(&self) -> bool {
        self.pending.is_empty()
    }
}

fn marked(pod: &ObjectKey, is_controlled: bool) -> String {
    if is_controlled { pod.to_string() } else { format!("{pod} (no controller)") }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.added.is_empty() {
            writeln!(f, "Nodes added: {}\n", listed(&self.added))?;
        }
        if !self.gone.is_empty() {
            writeln!(f, "Gone for good: {}\n", listed(&self.gone))?;
        }
        for HoldUp { budget, allowed, leaving } in &self.held_up {
            writeln!(
                f,
                "Held up by the disruption budget {budget}: only {allowed} of {leaving} pods that have to go may go at once.\n"
            )?;
        }
        let from = |from: &Option<String>| from.clone().unwrap_or_else(|| "-".into());
        if self.moves.is_empty() && self.pending.is_empty() {
            writeln!(f, "No pod needs a node.\n")?;
        }
        if !self.moves.is_empty() {
            let row = |moved: &Move| {
                let mut why = moved.cause.to_string();
                if !moved.victims.is_empty() {
                    why = format!("{why}; in place of {}", listed(&moved.victims));
                }
                // Who waited never had a controller's promise to lose.
                let kept = moved.is_controlled || moved.cause == Cause::Waited;
                vec![marked(&moved.pod, kept), from(&moved.from), moved.to.clone(), why]
            };
            let rows: Vec<_> = self.moves.iter().map(row).collect();
            table::write(f, &["POD", "FROM", "TO", "WHY"], &rows)?;
            writeln!(f)?;
        }
        if !self.pending.is_empty() {
            let row = |pod: &Pending| {
                let kept = pod.is_controlled || pod.cause == Cause::Waited;
                vec![marked(&pod.pod, kept), from(&pod.from), pod.message.clone()]
            };
            let rows: Vec<_> = self.pending.iter().map(row).collect();
            table::write(f, &["STILL PENDING", "FROM", "WHY"], &rows)?;
            writeln!(f)?;
        }
        self.write_usage(f)
    }
}

impl Report {
    /// The nodes that changed, and all together.
    fn write_usage(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.after.total();
        let before = self.before.total();
        let names: Vec<String> = total.iter().map(|it| it.resource.to_uppercase()).collect();
        let header: Vec<&str> = ["NODE", ""].into_iter().chain(names.iter().map(String::as_str)).collect();
        let mut rows = Vec::new();
        let mut add = |name: String, when: &str, resources: &[super::ResourceUsage]| {
            let cell = |wanted: &super::ResourceUsage| {
                let found = resources.iter().find(|usage| usage.resource == wanted.resource);
                found.map(ToString::to_string).unwrap_or_default()
            };
            rows.push([name, when.to_owned()].into_iter().chain(total.iter().map(cell)).collect());
        };
        let names = self.before.nodes.iter().chain(&self.after.nodes).map(|node| &*node.node);
        for name in names.collect::<BTreeSet<&str>>() {
            let (old, new) = (self.before.of_node(name), self.after.of_node(name));
            let mark = if new.is_some_and(|node| !node.is_schedulable) { " (cordoned)" } else { "" };
            let resources =
                |node: Option<&super::NodeUsage>| node.map(|it| it.resources.clone()).unwrap_or_default();
            if old != new {
                add(name.to_owned(), if old.is_some() { "before" } else { "was not there" }, &resources(old));
                add(
                    format!("{name}{mark}"),
                    if new.is_some() { "after" } else { "is gone" },
                    &resources(new),
                );
            }
        }
        if before == total {
            add("all".to_owned(), "", &total);
        } else {
            add("all".to_owned(), "before", &before);
            add("all".to_owned(), "after", &total);
        }
        table::write(f, &header, &rows)
    }
}
