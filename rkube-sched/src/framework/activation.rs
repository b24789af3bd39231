//! Pods that a plugin wants tried again.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::snapshot::Uid;

/// Pods that wait in the queue and are to be tried now, whatever kept them: kube-scheduler's `Activate`.
/// Shared by the driver, which carries it out before its next batch, and the plugins.
#[derive(Clone, Debug, Default)]
pub struct Activations {
    inner: Arc<Mutex<Vec<Uid>>>,
}

impl Activations {
    /// Asks for pods to be tried. One that does not wait is left as it is; one that is being tried is tried
    /// again if this try fails.
    pub fn ask(&self, pods: impl IntoIterator<Item = Uid>) {
        self.inner.lock().extend(pods);
    }

    /// What was asked for since the last call.
    pub(crate) fn take(&self) -> Vec<Uid> {
        std::mem::take(&mut self.inner.lock())
    }
}
