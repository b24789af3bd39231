//! The scheduler against the API server, both in this process, on paused time.

#![allow(clippy::unwrap_used, reason = "tests")]

mod binding;
mod demand;
#[cfg(feature = "dra")]
mod devices;
mod faults;
mod gangs;
mod gaps;
mod panics;
mod plugins;
mod preemption;
mod support;
mod volumes;
