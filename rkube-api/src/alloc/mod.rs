//! Allocation: cluster addresses and node ports. What is taken is in records in the store (one an address,
//! one a block of ports), committed in one transaction with the Service that takes it, so that no address is
//! ever lost or given twice, however many servers share the store. A dry run commits nothing and so takes
//! nothing.
//!
//! ```
//! use rkube_api::alloc::{AddressRange, Services};
//! let services = Services::new(AddressRange::parse("10.96.0.0/16").unwrap(), 30000..=32767);
//! # let _ = services;
//! ```

mod ports;
mod range;
mod record;
mod services;

use std::sync::Arc;

pub use range::{AddressRange, RangeError};
pub use services::Services;

use crate::pipeline::Reservation;

/// Every built-in reservation, with Kubernetes' default ranges.
pub fn all() -> Vec<Arc<dyn Reservation>> {
    vec![Arc::new(Services::default())]
}
