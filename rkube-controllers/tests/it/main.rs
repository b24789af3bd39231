//! The controllers against the API server in this process, on paused time.

mod cascades;
mod deployments;
mod leader;
mod namespaces;
mod nodes;
mod runtime;
mod services;
mod support;
