//! The store on a real etcd, which these tests start: the program `etcd` must be in the path.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may fail like tests"
)]

mod basics;
#[cfg(feature = "encrypt")]
mod encrypt;
mod faults;
mod histories;
mod place;
mod secure;
mod several;
mod suite;
