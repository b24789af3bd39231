//! Concurrent clients on many seeds: thousands of operations, and the checker over all of them.

use std::sync::Arc;

use rkube_store::testing::history::{Load, check};
use rkube_store::testing::suite::Harness;

use crate::suite::{OfMemory, OfPlain};

async fn holds(harness: impl Harness, loads: impl IntoIterator<Item = Load>) {
    let harness: Arc<dyn Harness> = Arc::new(harness);
    for load in loads {
        let history = load.run(&harness).await;
        assert!(history.operations.len() as u64 > load.clients * load.steps * 3 / 4, "{load:?}");
        assert_eq!(check(&history), [], "{load:?}");
    }
}

fn seeds() -> impl Iterator<Item = Load> {
    (0..12).map(|seed| Load { clients: 8, steps: 300, compacts: seed % 2 == 1, ..Load::seeded(seed) })
}

#[tokio::test(start_paused = true)]
async fn memory_under_many_seeds() {
    holds(OfMemory { cramped: false }, seeds()).await;
}

#[tokio::test(start_paused = true)]
async fn cold_memory_under_many_seeds() {
    holds(OfMemory { cramped: true }, seeds()).await;
}

#[tokio::test(start_paused = true)]
async fn plain_bytes_under_many_seeds() {
    holds(OfPlain, seeds()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_on_threads() {
    for cramped in [false, true] {
        holds(OfMemory { cramped }, seeds().take(4)).await;
    }
}

/// The same seed gives the same history, tick for tick.
#[tokio::test(start_paused = true)]
async fn a_seed_is_a_history() {
    let harness: Arc<dyn Harness> = Arc::new(OfMemory { cramped: false });
    let load = Load { compacts: true, ..Load::seeded(3) };
    let [once, again] = [load.run(&harness).await, load.run(&harness).await];
    assert_eq!(format!("{once:?}"), format!("{again:?}"));
    let other = Load { compacts: true, ..Load::seeded(4) }.run(&harness).await;
    assert_ne!(format!("{once:?}"), format!("{other:?}"));
}
