//! Node selector terms, compiled for scans over many nodes.

mod node_selector;

pub use node_selector::{CompiledTerm, CompiledTerms, required_node_names};
