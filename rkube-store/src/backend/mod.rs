//! The backends: what keeps the values.

pub mod memory;
