//! The controllers against the API server in this process, on paused time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod cascades;
mod custom;
mod deployments;
mod disruption;
mod leader;
mod namespaces;
mod nodes;
mod replay;
mod runtime;
mod services;
mod support;
