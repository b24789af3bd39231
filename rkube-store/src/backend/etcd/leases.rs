//! Leases, which are etcd's own.

use std::time::Duration;

use super::client::{Client, Failure};
use super::space::{lease, lease_number};
use super::wire::{Done, LeaseGrantRequest, LeaseGrantResponse, LeaseRequest, LeaseResponse, Method};
use super::{is_full, unavailable};
use crate::{CommitError, Lease, LeaseId, StoreError};

/// The longest time to live that etcd grants, in seconds.
const LONGEST: i64 = 9_000_000_000;

pub(super) fn is_lease_not_found(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(text) if text.contains("requested lease not found"))
}

fn seconds(number: i64) -> Duration {
    Duration::from_secs(u64::try_from(number).unwrap_or_default())
}

impl Client {
    pub(super) async fn grant(&self, time_to_live: Duration) -> Result<Lease, StoreError> {
        let rounded = time_to_live.as_secs() + u64::from(time_to_live.subsec_nanos() > 0);
        let ttl = i64::try_from(rounded).unwrap_or(LONGEST).clamp(1, LONGEST);
        let granted: LeaseGrantResponse =
            self.call(Method::GRANT, LeaseGrantRequest { ttl }).await.map_err(|failure| {
                // If it was granted all the same, nobody knows it, and it ends by itself.
                if is_full(&failure) { StoreError::NoSpace } else { unavailable(failure) }
            })?;
        let id =
            lease(granted.id).ok_or_else(|| StoreError::Unavailable("etcd named no lease".to_owned()))?;
        Ok(Lease { id, granted: seconds(granted.ttl), remaining: seconds(granted.ttl) })
    }

    pub(super) async fn keep_alive(&self, id: LeaseId) -> Result<Lease, StoreError> {
        let request = LeaseRequest { id: lease_number(id) };
        let kept: LeaseResponse =
            self.first(Method::KEEP_ALIVE, request, |answer| Some(*answer)).await.map_err(unavailable)?;
        if kept.ttl <= 0 {
            return Err(StoreError::LeaseNotFound(id));
        }
        Ok(Lease { id, granted: seconds(kept.ttl), remaining: seconds(kept.ttl) })
    }

    pub(super) async fn time_to_live(&self, id: LeaseId) -> Result<Lease, StoreError> {
        let request = LeaseRequest { id: lease_number(id) };
        let left: LeaseResponse = self.call(Method::TIME_TO_LIVE, request).await.map_err(|failure| {
            if is_lease_not_found(&failure) { StoreError::LeaseNotFound(id) } else { unavailable(failure) }
        })?;
        if left.ttl <= 0 && left.granted <= 0 {
            return Err(StoreError::LeaseNotFound(id));
        }
        Ok(Lease { id, granted: seconds(left.granted), remaining: seconds(left.ttl) })
    }

    pub(super) async fn revoke<V>(&self, id: LeaseId) -> Result<(), CommitError<V>> {
        let request = LeaseRequest { id: lease_number(id) };
        match self.call::<_, Done>(Method::REVOKE, request).await {
            Ok(_) => Ok(()),
            Err(failure) if is_lease_not_found(&failure) => Err(StoreError::LeaseNotFound(id).into()),
            Err(Failure::Lost(reason)) => Err(CommitError::Unknown(reason)),
            Err(failure) => Err(unavailable(failure).into()),
        }
    }
}
