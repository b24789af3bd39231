//! Who pods are.

pub mod rootcacertpublisher;
pub mod serviceaccount;
