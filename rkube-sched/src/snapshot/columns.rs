//! One column a resource, one row a node.

use super::{NodeId, Requests};

/// A resource's column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Column(pub(crate) usize);

impl Column {
    /// CPU, in thousandths.
    pub const CPU: Self = Self(0);
    /// Memory, in bytes.
    pub const MEMORY: Self = Self(1);
    /// Ephemeral storage, in bytes.
    pub const EPHEMERAL: Self = Self(2);
    /// Pods, by number.
    pub const PODS: Self = Self(3);
    const FIXED: [&'static str; 4] = ["cpu", "memory", "ephemeral-storage", "pods"];
}

/// What nodes have and what their pods ask for. Scalar resources get a column when the first node or pod
/// names one.
#[derive(Clone, Debug)]
pub struct Columns {
    names: Vec<Box<str>>,
    allocatable: Vec<Vec<i64>>,
    requested: Vec<Vec<i64>>,
    nonzero_cpu: Vec<i64>,
    nonzero_memory: Vec<i64>,
    rows: usize,
}

impl Default for Columns {
    fn default() -> Self {
        let count = Column::FIXED.len();
        Self {
            names: Column::FIXED.iter().map(|&name| name.into()).collect(),
            allocatable: vec![Vec::new(); count],
            requested: vec![Vec::new(); count],
            nonzero_cpu: Vec::new(),
            nonzero_memory: Vec::new(),
            rows: 0,
        }
    }
}

impl Columns {
    /// The column of a resource, if a node or pod has named it.
    pub fn find(&self, name: &str) -> Option<Column> {
        // A cluster knows a dozen resources: a scan is quicker than a map.
        self.names.iter().position(|mine| **mine == *name).map(Column)
    }

    /// The columns of all resources that a node or pod has named.
    pub fn all(&self) -> impl Iterator<Item = Column> + use<> {
        (0..self.names.len()).map(Column)
    }

    /// The resource's name.
    pub fn name(&self, column: Column) -> &str {
        &self.names[column.0]
    }

    /// What the nodes have, by row.
    pub fn allocatable(&self, column: Column) -> &[i64] {
        &self.allocatable[column.0]
    }

    /// What the nodes' pods ask for, by row.
    pub fn requested(&self, column: Column) -> &[i64] {
        &self.requested[column.0]
    }

    /// What the nodes' pods ask for of CPU, with defaults, by row.
    pub fn nonzero_cpu(&self) -> &[i64] {
        &self.nonzero_cpu
    }

    /// What the nodes' pods ask for of memory, with defaults, by row.
    pub fn nonzero_memory(&self) -> &[i64] {
        &self.nonzero_memory
    }

    pub(crate) fn add_row(&mut self) {
        self.rows += 1;
        let columns = self.allocatable.iter_mut().chain(&mut self.requested);
        for column in columns.chain([&mut self.nonzero_cpu, &mut self.nonzero_memory]) {
            column.push(0);
        }
    }

    fn column(&mut self, name: &str) -> usize {
        self.find(name).map_or_else(
            || {
                self.names.push(name.into());
                self.allocatable.push(vec![0; self.rows]);
                self.requested.push(vec![0; self.rows]);
                self.names.len() - 1
            },
            |column| column.0,
        )
    }

    pub(crate) fn clear_allocatable(&mut self, node: NodeId) {
        for column in &mut self.allocatable {
            column[node.row()] = 0;
        }
    }

    pub(crate) fn set_allocatable(&mut self, node: NodeId, name: &str, value: i64) {
        let column = self.column(name);
        self.allocatable[column][node.row()] = value;
    }

    /// Adds (`sign` 1) or takes away (-1) a pod.
    pub(crate) fn apply(&mut self, node: NodeId, requests: &Requests, sign: i64) {
        let row = node.row();
        // Even absurd sums come back to what they were when their pods go.
        let add = |sum: &mut i64, amount: i64| *sum = sum.wrapping_add(sign.wrapping_mul(amount));
        add(&mut self.requested[Column::CPU.0][row], requests.cpu_milli);
        add(&mut self.requested[Column::MEMORY.0][row], requests.memory);
        add(&mut self.requested[Column::EPHEMERAL.0][row], requests.ephemeral);
        add(&mut self.requested[Column::PODS.0][row], 1);
        add(&mut self.nonzero_cpu[row], requests.nonzero_cpu);
        add(&mut self.nonzero_memory[row], requests.nonzero_memory);
        for (name, value) in &requests.scalars {
            let column = self.column(name);
            add(&mut self.requested[column][row], *value);
        }
    }
}
