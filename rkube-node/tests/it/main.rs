//! The tests of the node agent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod admission;
mod agent;
mod conformance;
mod contained;
mod ephemeral;
mod images;
mod model;
mod plan;
mod properties;
mod scale;
mod waits;
mod world;
