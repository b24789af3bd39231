//! Deployments, replica sets, and budgets of how many of their pods may be disrupted.

mod claim;
pub mod deployment;
pub mod disruption;
pub mod replicaset;
pub mod stalepoddisruption;
