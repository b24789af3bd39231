//! The controllers against the API server in this process, on paused time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod cascades;
mod custom;
mod deployments;
mod disruption;
mod leader;
mod namespaces;
mod nodes;
#[cfg(feature = "remote")]
mod over_http;
mod replay;
mod resources;
mod runtime;
mod services;
mod support;
mod volumes;
