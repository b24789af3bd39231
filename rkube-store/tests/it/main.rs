//! The store from outside: one entry point, a module a subject.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may fail like tests"
)]

mod basics;
mod cold;
mod durable;
mod faults;
mod histories;
mod liars;
mod load;
mod model;
mod plain;
#[cfg(feature = "durable")]
mod saves;
mod suite;
