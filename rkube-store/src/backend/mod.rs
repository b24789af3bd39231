//! The backends: what keeps the values.

mod engine;
pub mod memory;
