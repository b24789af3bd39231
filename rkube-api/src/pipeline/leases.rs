//! Leases of the store for objects with a time to live.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use rkube_store::{LeaseId, Store, StoreError};
use tokio::time::Instant;

use super::delete::LEASE_SHARED;
use crate::object::Object;

/// So many objects share a lease at most. It ends in one commit, which must stay within the store's limit of
/// operations.
const SHARED_BY: usize = 100;

/// The leases that new objects are bound to, one a time to live.
#[derive(Debug, Default)]
pub(super) struct Leases {
    current: Mutex<BTreeMap<Duration, Shared>>,
}

#[derive(Debug)]
struct Shared {
    id: LeaseId,
    until: Instant,
    users: usize,
}

impl Leases {
    /// A lease that lasts at least `time`, and not much longer.
    pub(super) async fn get(&self, store: &dyn Store<Object>, time: Duration) -> Result<LeaseId, StoreError> {
        let now = Instant::now();
        if let Some(shared) = self.current.lock().get_mut(&time)
            && now < shared.until
            && shared.users < SHARED_BY
        {
            shared.users += 1;
            return Ok(shared.id);
        }
        let window = LEASE_SHARED.min(time / 20);
        let lease = store.grant(time + window).await?;
        let shared = Shared { id: lease.id, until: now + window, users: 1 };
        self.current.lock().insert(time, shared);
        Ok(lease.id)
    }
}
