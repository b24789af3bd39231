//! Amounts of resources by name.
//!
//! ```
//! use rkube_api::helpers::resources::{add, Resources};
//! let mut sum = Resources::from([("cpu".to_string(), "500m".parse()?)]);
//! add(&mut sum, &Resources::from([("cpu".to_string(), "1".parse()?)]));
//! assert_eq!(sum["cpu"].to_string(), "1500m");
//! # Ok::<(), rkube_api::meta::quantity::QuantityError>(())
//! ```

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use crate::meta::Quantity;

/// Amounts by the resource's name.
pub type Resources = BTreeMap<String, Quantity>;

/// The API's list, read. A text that is no quantity (which validation refuses) counts as zero.
#[must_use]
pub fn read(list: Option<&BTreeMap<String, ApiQuantity>>) -> Resources {
    list.into_iter()
        .flatten()
        .map(|(name, text)| (name.clone(), Quantity::try_from(text).unwrap_or_default()))
        .collect()
}

/// Adds amount by amount.
pub fn add(sum: &mut Resources, more: &Resources) {
    for (name, amount) in more {
        match sum.get_mut(name) {
            Some(sum) => *sum += *amount,
            None => {
                sum.insert(name.clone(), *amount);
            }
        }
    }
}

/// Keeps the greater of each amount.
pub fn raise_to(most: &mut Resources, other: &Resources) {
    for (name, amount) in other {
        match most.get_mut(name) {
            Some(most) => *most = (*most).max(*amount),
            None => {
                most.insert(name.clone(), *amount);
            }
        }
    }
}
