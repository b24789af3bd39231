//! Medians, and how they are printed.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

/// The middle one.
pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// One line: what, how much, and what the design asks for.
pub(crate) fn line(what: &str, figure: &str, target: &str) {
    println!("{what:<62} {figure:>24}   {target}");
}

/// How long a future takes.
pub(crate) async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let value = future.await;
    (value, start.elapsed())
}

/// The resident memory of this process, in bytes.
pub(crate) fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or_default()
        * 1024
}

/// A runtime of one thread: a figure of it is a figure a core.
pub(crate) fn one_core() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A runtime with a thread a core.
pub(crate) fn all_cores() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

/// Runs on a thread a core, on the runtime's own ones: work on another thread would have to be woken for each
/// thing that it waits for.
pub(crate) fn on_all_cores<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = all_cores();
    let task = runtime.spawn(work);
    runtime.block_on(task).unwrap()
}
