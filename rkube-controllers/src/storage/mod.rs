//! Claims and the volumes that they get.

pub mod ephemeralvolume;
pub mod persistentvolumebinder;
pub mod pvcprotection;
pub mod pvprotection;

use k8s_openapi::api::core::v1::Pod;
use rkube_api::{client::Cache, helpers::volumes::claims_of};

use crate::facts;

/// The index of pods by the claims that they use.
pub(crate) const CLAIM_INDEX: &str = "claim";

/// Keeps pods by their claims, as `namespace/name`.
pub(crate) fn index_by_claim(pods: &Cache<Pod>) {
    pods.add_index(CLAIM_INDEX, |pod| {
        let namespace = facts::namespace(&pod.metadata);
        claims_of(pod).map(|claim| format!("{namespace}/{claim}")).collect()
    });
}
