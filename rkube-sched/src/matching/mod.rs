//! What pods say of nodes and of each other, compiled for scans over many.

mod host_ports;
mod node_selector;
mod pod_terms;
mod required_nodes;

pub use host_ports::HostPort;
pub use node_selector::{CompiledTerm, CompiledTerms, required_node_names};
pub use pod_terms::{PodTerm, PodTerms, with_match_keys};
pub use required_nodes::RequiredNodes;
