//! The API server from outside: what the documentation of Kubernetes promises, line by line.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[cfg(feature = "crd")]
mod custom_kinds;
mod events;
mod every_kind;
#[cfg(all(feature = "http", feature = "crd"))]
mod http_bad_input;
#[cfg(all(feature = "http", feature = "crd"))]
mod http_discovery;
#[cfg(all(feature = "http", feature = "crd"))]
mod http_every_kind;
#[cfg(all(feature = "http", feature = "crd", feature = "remote"))]
mod http_kube;
#[cfg(all(feature = "http", feature = "crd"))]
mod http_support;
#[cfg(all(feature = "http", feature = "crd", feature = "remote"))]
mod http_tls;
#[cfg(all(feature = "http", feature = "crd"))]
mod http_wire;
mod namespace_end;
mod node_ports;
#[cfg(all(feature = "http", feature = "remote"))]
mod over_http;
mod probes;
mod reviews;
mod semantics_budgets;
mod semantics_life;
mod semantics_limits;
mod semantics_read;
mod semantics_write;
mod subresource_admission;
mod support;
mod tokens;
mod volumes;
