//! Metadata and what belongs to every object.

pub mod validation;
