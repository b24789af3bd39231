//! The API server from outside: what the documentation of Kubernetes promises, line by line.
#![cfg(feature = "server")]

mod semantics_life;
mod semantics_read;
mod semantics_write;
mod support;
