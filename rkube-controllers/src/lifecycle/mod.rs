//! How objects come to their end.

pub mod garbagecollector;
pub mod namespace;
pub mod podgc;
