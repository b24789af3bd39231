//! Whether taints are tolerated and node selectors match.

mod node_selector;
mod tolerations;

pub use node_selector::{CompiledTerm, CompiledTerms, required_node_names, term_matches};
pub use tolerations::{tolerated, tolerates};
