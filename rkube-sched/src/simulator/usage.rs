//! How much of its nodes a cluster's pods ask for.

use std::fmt;

use rkube_api::meta::{Quantity, quantity::Format};
use serde::Serialize;

use super::table;
use crate::snapshot::{Column, NodeView, Snapshot};

/// What the pods of some nodes ask for, beside what the nodes have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceUsage {
    /// The resource: `cpu`, `memory`, `pods`, `example.com/gpu`.
    pub resource: String,
    /// What the pods ask for: CPU in thousandths, all others as they are (bytes, pieces).
    pub requested: i64,
    /// What the nodes have, in the same unit.
    pub allocatable: i64,
}

impl ResourceUsage {
    /// How much of it is asked for; `None` where there is nothing.
    pub fn percent(&self) -> Option<i64> {
        let share = i128::from(self.requested).checked_mul(100)?.checked_div(i128::from(self.allocatable))?;
        i64::try_from(share).ok()
    }

    fn amount(&self, value: i64) -> Quantity {
        match &*self.resource {
            "cpu" => Quantity::from_milli(value),
            "memory" | "ephemeral-storage" => Quantity::new(value, Format::BinarySI),
            _ => Quantity::new(value, Format::DecimalSI),
        }
    }
}

impl fmt::Display for ResourceUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.amount(self.requested), self.amount(self.allocatable))?;
        match self.percent() {
            Some(percent) => write!(f, " ({percent}%)"),
            None => Ok(()),
        }
    }
}

/// How full a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeUsage {
    /// The node.
    pub node: String,
    /// Whether it takes new pods.
    pub is_schedulable: bool,
    /// What it has and what its pods ask for.
    pub resources: Vec<ResourceUsage>,
}

/// How full a cluster is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Each node, by name.
    pub nodes: Vec<NodeUsage>,
}

impl Usage {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let views = || snapshot.nodes().iter().map(|&id| snapshot.view(id));
        // A resource that no node has and no pod wants is not worth a column.
        let columns: Vec<Column> = snapshot
            .columns()
            .all()
            .filter(|&column| {
                views().any(|node| node.allocatable(column) != 0 || node.requested(column) != 0)
            })
            .collect();
        let one = |node: NodeView<'_>, column| ResourceUsage {
            resource: snapshot.columns().name(column).to_owned(),
            requested: node.requested(column),
            allocatable: node.allocatable(column),
        };
        let mut nodes: Vec<NodeUsage> = views()
            .map(|node| NodeUsage {
                node: node.name().to_owned(),
                is_schedulable: !node.unschedulable(),
                resources: columns.iter().map(|&column| one(node, column)).collect(),
            })
            .collect();
        nodes.sort_unstable_by(|a, b| a.node.cmp(&b.node));
        Self { nodes }
    }

    /// A node's part.
    pub fn of_node(&self, node: &str) -> Option<&NodeUsage> {
        self.nodes.iter().find(|usage| usage.node == node)
    }

    /// All nodes together.
    pub fn total(&self) -> Vec<ResourceUsage> {
        let mut total: Vec<ResourceUsage> = Vec::new();
        for usage in self.nodes.iter().flat_map(|node| &node.resources) {
            match total.iter_mut().find(|sum| sum.resource == usage.resource) {
                Some(sum) => {
                    sum.requested = sum.requested.saturating_add(usage.requested);
                    sum.allocatable = sum.allocatable.saturating_add(usage.allocatable);
                }
                None => total.push(usage.clone()),
            }
        }
        total
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.nodes.first().map(|node| node.resources.iter().map(|it| it.resource.to_uppercase()));
        let names: Vec<String> = names.into_iter().flatten().collect();
        let header: Vec<&str> = ["NODE"].into_iter().chain(names.iter().map(String::as_str)).collect();
        let cells =
            |resources: &[ResourceUsage]| resources.iter().map(ToString::to_string).collect::<Vec<_>>();
        let row = |node: &NodeUsage| {
            let mark = if node.is_schedulable { "" } else { " (cordoned)" };
            [format!("{}{mark}", node.node)].into_iter().chain(cells(&node.resources)).collect()
        };
        let total = ["all".to_owned()].into_iter().chain(cells(&self.total())).collect();
        let rows: Vec<Vec<String>> = self.nodes.iter().map(row).chain([total]).collect();
        table::write(f, &header, &rows)
    }
}
