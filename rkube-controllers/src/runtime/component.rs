//! What the manager starts and stops.

use std::time::Duration;

use async_trait::async_trait;
use rkube_api::client::Informers;
use tokio_util::sync::CancellationToken;

/// How long a component that does not say otherwise may take to end.
pub(super) const DRAIN: Duration = Duration::from_secs(10);

/// Something long-running: a [`super::Controller`], or whatever else shares its life.
#[async_trait]
pub trait Component: Send + Sync + 'static {
    /// Its name, for logs.
    fn name(&self) -> &str;

    /// Asks for the informers it needs. Called once, before it runs, and under an election not before this
    /// process leads; the manager then waits until all informers have seen their kinds.
    fn prepare(&self, informers: &Informers);

    /// How long it may take to return once it is asked to; then its future is dropped. 10 s unless said
    /// otherwise.
    fn drain(&self) -> Duration {
        DRAIN
    }

    /// Works until the token is cancelled, then finishes what it has begun and returns. The future may also
    /// be dropped, when the lead is lost: whatever it has started must end with it.
    async fn run(&self, token: CancellationToken);
}
