//! The suite that every backend passes, on etcd: each case has a prefix of its own on one member.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rkube_store::testing::etcd::{Server, Signal};
use rkube_store::testing::{Text, suite};
use rkube_store::{Key, Store, StoreError, Txn};

use crate::place::{builder, connect, server, spread};

struct OfEtcd {
    server: Mutex<Server>,
    cases: AtomicUsize,
    /// As little of everything as possible in memory.
    cramped: bool,
}

impl OfEtcd {
    fn new(cramped: bool) -> Arc<Self> {
        Arc::new(Self { server: Mutex::new(server()), cases: AtomicUsize::new(0), cramped })
    }

    /// The store of the case that began last.
    async fn connect(&self) -> Arc<dyn Store<Text>> {
        let builder = {
            let server = self.server.lock();
            let prefix = format!("/case-{}/", self.cases.load(Ordering::SeqCst));
            // Its own writes would be among the revisions that the cases count.
            builder([&*server]).prefix(prefix).without_compaction()
        };
        let builder = if self.cramped { builder.hot_bytes(0).watch_queue(2) } else { builder };
        Arc::new(connect(builder).await)
    }
}

#[async_trait]
impl suite::Harness for OfEtcd {
    async fn store(&self) -> Arc<dyn Store<Text>> {
        self.cases.fetch_add(1, Ordering::SeqCst);
        self.connect().await
    }

    async fn after_crash(&self, store: Arc<dyn Store<Text>>) -> Option<Arc<dyn Store<Text>>> {
        drop(store);
        {
            let mut server = self.server.lock();
            server.signal(Signal::Kill).unwrap();
            server.restart().unwrap();
        }
        Some(self.connect().await)
    }

    async fn side_by_side(&self, tasks: Vec<BoxFuture<'static, ()>>) {
        spread(tasks).await;
    }
}

/// The names of cases about leases, which wait for real time to pass.
fn is_of_leases(name: &str) -> bool {
    name.contains("lease")
}

async fn passes(harness: Arc<OfEtcd>, wanted: impl Fn(&str) -> bool) {
    for case in suite::all().into_iter().filter(|case| wanted(case.name)) {
        let report = suite::run_matching(harness.clone(), case.name).await;
        assert!(report.failures.is_empty() && report.passed > 0, "{report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member() {
    // The cases of what cannot be read are of no worth on a store that can read it.
    let harness = OfEtcd::new(false);
    let store = suite::Harness::store(&*harness).await;
    store.commit(Txn::new().put("a/1", Text::unreadable())).await.unwrap();
    let read = store.get(&Key::new("a/1"), None).await;
    assert!(matches!(read, Err(StoreError::Codec { .. })), "{read:?}");
    passes(OfEtcd::new(false), |name| !is_of_leases(name)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_with_cold_values_and_short_queues() {
    passes(OfEtcd::new(true), |name| !is_of_leases(name)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases() {
    passes(OfEtcd::new(false), is_of_leases).await;
}
