//! Nodes that fall silent, and what becomes of their pods.

pub mod nodelifecycle;
pub mod tainteviction;
