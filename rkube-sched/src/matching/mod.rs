//! What pods say of nodes and of each other, compiled for scans over many.

mod node_selector;
mod pod_terms;
mod required_nodes;

pub use node_selector::{CompiledTerm, CompiledTerms, required_node_names};
pub use pod_terms::{PodTerm, PodTerms, with_match_keys};
pub use required_nodes::RequiredNodes;
pub use rkube_api::helpers::HostPort;
