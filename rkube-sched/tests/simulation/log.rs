//! What happened, line by line: two runs of one seed write the same bytes.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

#[derive(Clone, Debug)]
pub(crate) struct Log {
    start: Instant,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), lines: Arc::default() }
    }

    pub(crate) fn line(&self, text: impl std::fmt::Display) {
        let at = self.start.elapsed();
        self.lines.lock().push(format!("{:>10}.{:03} {text}", at.as_secs(), at.subsec_millis()));
    }

    /// The last lines, for who looks for the cause of a failure.
    pub(crate) fn tail(&self, count: usize) -> String {
        let lines = self.lines.lock();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    pub(crate) fn text(&self) -> String {
        self.lines.lock().join("\n")
    }

    /// How much time has passed in the simulation.
    pub(crate) fn elapsed(&self) -> std::time::Duration {
        self.start.elapsed()
    }
}
