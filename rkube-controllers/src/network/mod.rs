//! Where services find their pods.

pub mod endpointslice;
