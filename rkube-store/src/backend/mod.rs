//! The backends: what keeps the values.

#[cfg(feature = "durable")]
pub mod durable;
mod engine;
#[cfg(feature = "etcd")]
pub mod etcd;
pub mod memory;
