//! Many clients at once; what they saw is held against all promises.

use super::{Outcome, Place, cases, ensure};
use crate::testing::history::{self, Load};

cases! {
    the_history_of_concurrent_clients_keeps_the_promises: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 17],
    what_concurrent_clients_know_survives_crashes: [15],
}

async fn the_history_of_concurrent_clients_keeps_the_promises(place: &Place) -> Outcome {
    judge(place, Load::seeded(0)).await
}

async fn what_concurrent_clients_know_survives_crashes(place: &Place) -> Outcome {
    judge(place, Load { crashes: 3, steps: 80, ..Load::seeded(1) }).await
}

async fn judge(place: &Place, load: Load) -> Outcome {
    let recorded = load.run_on(&place.harness, place.store.clone()).await;
    let expected = (load.clients * load.steps / 2) as usize;
    ensure!(recorded.operations.len() >= expected, "only {} operations", recorded.operations.len());
    let violations = history::check(&recorded);
    let shown: Vec<_> = violations.iter().take(5).map(ToString::to_string).collect();
    ensure!(violations.is_empty(), "{} violations, such as\n{}", violations.len(), shown.join("\n"));
    Ok(())
}
