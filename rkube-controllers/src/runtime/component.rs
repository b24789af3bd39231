//! What the manager starts and stops.

use async_trait::async_trait;
use rkube_api::client::Informers;
use tokio_util::sync::CancellationToken;

/// Something long-running: a [`super::Controller`], or whatever else shares its life.
#[async_trait]
pub trait Component: Send + Sync + 'static {
    /// Its name, for logs.
    fn name(&self) -> &str;

    /// Asks for the informers it needs. Called once, before it runs, and under an election not before this
    /// process leads; the manager then waits until all informers have seen their kinds.
    fn prepare(&self, informers: &Informers);

    /// Works until the token is cancelled, then finishes what it has begun and returns. The future may also
    /// be dropped, when the lead is lost: whatever it has started must end with it.
    async fn run(&self, token: CancellationToken);
}
