//! What the resource plugins share: which resources count, and how much a pod adds to each.

use serde::Deserialize;

use crate::snapshot::{Column, Columns, NodeView, PodInfo, Snapshot, is_scalar};

/// A resource that counts in a score.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceSpec {
    /// Its name.
    pub name: String,
    /// Its weight, 1 to 100; 0 stands for 1.
    #[serde(default)]
    pub weight: i64,
}

/// The default: CPU and memory alike.
pub(crate) fn cpu_and_memory() -> Vec<ResourceSpec> {
    ["cpu", "memory"].map(|name| ResourceSpec { name: name.into(), weight: 1 }).into()
}

/// What a list of resources means: an empty one is the default, and a weight of 0 is 1.
pub(crate) fn completed(resources: Vec<ResourceSpec>) -> Vec<ResourceSpec> {
    if resources.is_empty() {
        return cpu_and_memory();
    }
    let weighted = |resource: ResourceSpec| match resource.weight {
        0 => ResourceSpec { weight: 1, ..resource },
        _ => resource,
    };
    resources.into_iter().map(weighted).collect()
}

/// How requests of running pods are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counting {
    Plain,
    NonzeroCpu,
    NonzeroMemory,
}

/// A resource that counts for one pod.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) column: Column,
    pub(crate) counting: Counting,
    /// How much the pod adds.
    pub(crate) amount: i64,
    pub(crate) weight: i64,
}

impl Wanted {
    /// What nodes have of the resource, and what their pods ask for, by row.
    pub(crate) fn columns<'a>(&self, columns: &'a Columns) -> (&'a [i64], &'a [i64]) {
        let requested = match self.counting {
            Counting::Plain => columns.requested(self.column),
            Counting::NonzeroCpu => columns.nonzero_cpu(),
            Counting::NonzeroMemory => columns.nonzero_memory(),
        };
        (columns.allocatable(self.column), requested)
    }

    /// What is requested on the node with the pod there.
    pub(crate) fn requested_with(&self, node: NodeView<'_>) -> i64 {
        let there = match self.counting {
            Counting::Plain => node.requested(self.column),
            Counting::NonzeroCpu => node.nonzero_cpu(),
            Counting::NonzeroMemory => node.nonzero_memory(),
        };
        there.saturating_add(self.amount)
    }
}

/// The resources that count for a pod. `nonzero`: containers that do not say are taken to need a little
/// CPU and memory. A scalar resource counts only if the pod asks for it.
pub(crate) fn wanted(
    snapshot: &Snapshot,
    pod: &PodInfo,
    resources: &[ResourceSpec],
    nonzero: bool,
) -> Vec<Wanted> {
    let requests = &pod.requests;
    let one = |resource: &ResourceSpec| {
        let column = snapshot.columns().find(&resource.name)?;
        let (counting, amount) = match column {
            Column::CPU if nonzero => (Counting::NonzeroCpu, requests.nonzero_cpu),
            Column::MEMORY if nonzero => (Counting::NonzeroMemory, requests.nonzero_memory),
            Column::CPU => (Counting::Plain, requests.cpu_milli),
            Column::MEMORY => (Counting::Plain, requests.memory),
            Column::EPHEMERAL => (Counting::Plain, requests.ephemeral),
            _ => {
                let amount = requests.scalar(&resource.name);
                if amount == 0 || !is_scalar(&resource.name) {
                    return None;
                }
                (Counting::Plain, amount)
            }
        };
        Some(Wanted { column, counting, amount, weight: resource.weight.max(1) })
    };
    resources.iter().filter_map(one).collect()
}
