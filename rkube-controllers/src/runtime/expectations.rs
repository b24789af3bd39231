//! What a controller has asked for and not yet seen.
//!
//! A cache lags behind writes. A controller that counts its children in the cache right after it made some
//! would make them again; so it notes what it expects and doesn't count until that has shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rkube_api::client::ObjectKey;
use tokio::time::Instant;

/// After this time an expectation counts as met: a lost event must not stop a controller for ever.
const TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Expectations by the key of the object whose children they are; clones share them.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use rkube_api::client::ObjectKey;
/// use rkube_controllers::runtime::Expectations;
///
/// let (expectations, key) = (Expectations::default(), ObjectKey::new("default", "web"));
/// expectations.expect_creations(&key, 2);
/// expectations.creation_seen(&key);
/// assert!(!expectations.are_met(&key));
/// expectations.creation_seen(&key);
/// assert!(expectations.are_met(&key));
/// # });
/// ```
#[derive(Clone, Debug, Default)]
pub struct Expectations(Arc<Mutex<BTreeMap<ObjectKey, Expected>>>);

#[derive(Debug)]
struct Expected {
    creations: usize,
    /// The UIDs of children whose deletion has been asked for.
    deletions: BTreeSet<String>,
    since: Instant,
}

impl Expectations {
    /// Expects `count` children more to appear.
    pub fn expect_creations(&self, key: &ObjectKey, count: usize) {
        self.expect(key, count, BTreeSet::new());
    }

    /// Expects the children of these UIDs to go.
    pub fn expect_deletions(&self, key: &ObjectKey, uids: impl IntoIterator<Item = String>) {
        self.expect(key, 0, uids.into_iter().collect());
    }

    fn expect(&self, key: &ObjectKey, creations: usize, deletions: BTreeSet<String>) {
        let expected = Expected { creations, deletions, since: Instant::now() };
        self.0.lock().insert(key.clone(), expected);
    }

    /// A child has appeared, or could not be made.
    pub fn creation_seen(&self, key: &ObjectKey) {
        if let Some(expected) = self.0.lock().get_mut(key) {
            expected.creations = expected.creations.saturating_sub(1);
        }
    }

    /// The child of this UID has gone, or could not be deleted.
    pub fn deletion_seen(&self, key: &ObjectKey, uid: &str) {
        if let Some(expected) = self.0.lock().get_mut(key) {
            expected.deletions.remove(uid);
        }
    }

    /// Whether everything expected has shown, or too much time has passed.
    pub fn are_met(&self, key: &ObjectKey) -> bool {
        self.0.lock().get(key).is_none_or(|expected| {
            (expected.creations == 0 && expected.deletions.is_empty()) || expected.since.elapsed() > TIMEOUT
        })
    }

    /// Whether the child of this UID is on its way out, as far as it was asked for and has not shown.
    pub fn awaits_deletion(&self, key: &ObjectKey, uid: &str) -> bool {
        self.0
            .lock()
            .get(key)
            .is_some_and(|expected| expected.deletions.contains(uid) && expected.since.elapsed() <= TIMEOUT)
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn deletions_are_told_apart_and_time_heals() {
        let (expectations, key) = (Expectations::default(), ObjectKey::new("a", "b"));
        assert!(expectations.are_met(&key));
        expectations.expect_deletions(&key, ["1".to_owned(), "2".to_owned()]);
        expectations.deletion_seen(&key, "1");
        expectations.deletion_seen(&key, "1");
        assert!(!expectations.are_met(&key));
        assert!(expectations.awaits_deletion(&key, "2") && !expectations.awaits_deletion(&key, "1"));
        tokio::time::advance(TIMEOUT + Duration::from_secs(1)).await;
        assert!(expectations.are_met(&key) && !expectations.awaits_deletion(&key, "2"));
        expectations.forget(&key);
        assert!(expectations.are_met(&key));
    }
}
