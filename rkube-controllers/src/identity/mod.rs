//! Who pods are.

pub mod serviceaccount;
