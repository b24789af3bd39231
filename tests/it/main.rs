//! Whole clusters in this process, as host programs use them.

mod isolation;
mod kube_rs;
mod replay;
mod workloads;
