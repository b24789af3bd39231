//! The backends: what keeps the values.

#[cfg(feature = "durable")]
pub mod durable;
mod engine;
pub mod memory;
