//! The suite on the memory backend, in its usual and its most cramped form, and on the plain one.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use rkube_store::testing::{Text, suite};
use rkube_store::{Key, Memory, Store, StoreError, Txn};

use crate::cold::Toy;
use crate::plain::Plain;

/// Runs tasks on the threads that the test's runtime has.
pub(crate) async fn spread(tasks: Vec<BoxFuture<'static, ()>>) {
    let mut running = tokio::task::JoinSet::new();
    for task in tasks {
        running.spawn(task);
    }
    running.join_all().await;
}

#[derive(Clone, Copy)]
pub(crate) struct OfMemory {
    pub(crate) cramped: bool,
}

#[async_trait]
impl suite::Harness for OfMemory {
    async fn store(&self) -> Arc<dyn Store<Text>> {
        let builder = Memory::builder();
        let memory = if self.cramped {
            builder.hot_bytes(0).watch_queue(2).transform(Arc::new(Toy::new(["k1"]))).build()
        } else {
            builder.build()
        };
        drive(memory.run_expiry());
        Arc::new(memory)
    }

    async fn side_by_side(&self, tasks: Vec<BoxFuture<'static, ()>>) {
        spread(tasks).await;
    }
}

pub(crate) struct OfPlain;

#[async_trait]
impl suite::Harness for OfPlain {
    async fn store(&self) -> Arc<dyn Store<Text>> {
        let plain = Plain::new(Some(Arc::new(Toy::new(["k1"]))));
        drive(plain.clone().run_expiry());
        Arc::new(plain)
    }

    async fn side_by_side(&self, tasks: Vec<BoxFuture<'static, ()>>) {
        spread(tasks).await;
    }
}

/// What a host does with a backend's driver.
#[allow(clippy::disallowed_methods, reason = "a test has no context to spawn from")]
pub(crate) fn drive(driver: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(driver);
}
pub(crate) async fn passes(harness: impl suite::Harness) {
    let report = suite::run(Arc::new(harness)).await;
    assert!(report.failures.is_empty(), "{report}");
    assert_eq!(report.passed, suite::all().len());
}

#[tokio::test(start_paused = true)]
async fn memory() {
    passes(OfMemory { cramped: false }).await;
}

#[tokio::test(start_paused = true)]
async fn memory_with_cold_values_and_short_queues() {
    passes(OfMemory { cramped: true }).await;
}

#[tokio::test(start_paused = true)]
async fn plain_bytes() {
    passes(OfPlain).await;
}

/// The cases of what cannot be read are of no worth on a store that can read it.
pub(crate) async fn cannot_read(harness: &dyn suite::Harness) {
    let store = harness.store().await;
    store.commit(Txn::new().put("a/1", Text::unreadable())).await.unwrap();
    let store = harness.after_crash(store.clone()).await.unwrap_or(store);
    let read = store.get(&Key::new("a/1"), None).await;
    assert!(matches!(read, Err(StoreError::Codec { .. })), "{read:?}");
}

#[tokio::test(start_paused = true)]
async fn the_suite_meets_what_cannot_be_read() {
    cannot_read(&OfMemory { cramped: true }).await;
    cannot_read(&OfPlain).await;
}

#[tokio::test(start_paused = true)]
async fn a_quota_of_memory() {
    for hot in [0, 100_000, 1 << 30] {
        let store = Memory::builder().quota_bytes(200_000).hot_bytes(hot).build();
        suite::quota(Arc::new(store)).await.unwrap();
    }
}

/// Only what races, on real threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_on_threads() {
    for cramped in [false, true] {
        let harness = Arc::new(OfMemory { cramped });
        for name in ["one_of_many_racing", "the_history_of_concurrent"] {
            let report = suite::run_matching(harness.clone(), name).await;
            assert!(report.failures.is_empty() && report.passed > 0, "{report}");
        }
    }
}

#[test]
fn every_promise_has_a_case() {
    let covered: BTreeSet<u8> = suite::all().iter().flat_map(|case| case.promises).copied().collect();
    assert_eq!(covered, (1..=17).collect());
}
