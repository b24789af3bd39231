//! What makes a cluster this one and no other: the authority of its certificates. It is in the cluster's
//! state, so that all its servers, and those that come after them, have the same.

use rkube_api::{
    context::Clock,
    http::{Authority, Identity},
    pipeline::Kept,
};

use crate::Error;

/// The name under which the authority is kept.
const AUTHORITY: &str = "certificate-authority";

/// The cluster's authority. If there is none yet, it is made by whoever needs one first.
pub(crate) async fn authority(
    kept: &Kept,
    is_needed: bool,
    clock: &Clock,
) -> Result<Option<Authority>, Error> {
    let make = || Ok::<_, Error>(Authority::new(clock)?.identity().clone());
    let identity = match is_needed {
        true => Some(kept.get_or_make(AUTHORITY, make).await?),
        false => kept.get::<Identity>(AUTHORITY).await?,
    };
    Ok(identity.map(|identity| Authority::from_identity(&identity, clock)).transpose()?)
}
