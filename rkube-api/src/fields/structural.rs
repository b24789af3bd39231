//! Placeholder
/// Rules of a structural schema.
#[derive(Clone, Debug, Default)]
pub struct Rules {}
