//! Whole clusters in this process, as host programs use them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod devices;
mod election;
#[cfg(all(feature = "durable", feature = "encrypt"))]
mod encrypted;
mod forks;
mod identity;
mod isolation;
mod kube_rs;
mod metrics;
mod remote;
mod replay;
mod shutdown;
mod volumes;
mod workloads;
