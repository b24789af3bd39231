//! Controllers of devices.

pub mod resourceclaim;
