//! Deployments and replica sets.

mod claim;
pub mod deployment;
pub mod replicaset;
