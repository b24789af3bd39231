//! What happened, line by line: two runs of one seed write the same bytes.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

#[derive(Clone, Debug)]
pub(crate) struct Log {
    start: Instant,
    /// Whether each line is printed at once too, for a run that does not come to its end.
    aloud: bool,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            aloud: std::env::var_os("SIMULATION_ALOUD").is_some(),
            lines: Arc::default(),
        }
    }

    pub(crate) fn line(&self, text: impl std::fmt::Display) {
        let at = self.start.elapsed();
        let line = format!("{:>10}.{:03} {text}", at.as_secs(), at.subsec_millis());
        if self.aloud {
            eprintln!("{line}");
        }
        self.lines.lock().push(line);
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
