//! The scheduler against the API server, both in this process, on paused time.

mod binding;
mod plugins;
mod support;
