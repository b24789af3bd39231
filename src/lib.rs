//! Kubernetes' control plane as embeddable Rust crates.
