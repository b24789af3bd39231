//! The API server from outside: what the documentation of Kubernetes promises, line by line.
#![cfg(feature = "server")]

mod semantics_read;
mod support;
