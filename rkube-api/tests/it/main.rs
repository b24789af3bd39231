//! The API server from outside: what the documentation of Kubernetes promises, line by line.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod every_kind;
mod probes;
mod semantics_life;
mod semantics_read;
mod semantics_write;
mod support;
