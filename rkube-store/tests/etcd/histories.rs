//! Histories of concurrent clients, held against all promises: several servers on one etcd, members that
//! are killed or cut off meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rkube_store::Store;
use rkube_store::testing::Text;
use rkube_store::testing::etcd::{Server, Signal};
use rkube_store::testing::history::{Answer, Load, check};
use rkube_store::testing::suite::Harness;

use crate::place::{builder, connect, spread};
use crate::several::Several;

/// Two servers on a cluster of etcd, with a prefix of its own for each history.
struct OfServers {
    members: Mutex<Vec<Server>>,
    histories: AtomicUsize,
    /// What happens to the members while clients work.
    faults: Vec<Fault>,
}

#[derive(Clone, Copy)]
enum Fault {
    /// Killed, and started again later.
    Kill,
    /// Not answering for a while, with all connections open.
    Freeze,
}

impl OfServers {
    fn new(members: usize, faults: &[Fault]) -> Arc<Self> {
        Arc::new(Self {
            members: Mutex::new(Server::cluster(members).unwrap()),
            histories: AtomicUsize::new(0),
            faults: faults.to_vec(),
        })
    }

    async fn several(&self) -> Arc<dyn Store<Text>> {
        let mut stores = Vec::new();
        for _ in 0..2 {
            let builder = {
                let members = self.members.lock();
                let prefix = format!("/history-{}/", self.histories.load(Ordering::SeqCst));
                builder(&*members).prefix(prefix).without_compaction()
            };
            let timeouts = (Duration::from_secs(1), Duration::from_secs(20));
            stores.push(connect(builder.timeouts(timeouts.0, timeouts.1)).await);
        }
        Arc::new(Several::new(stores))
    }

    fn signal(&self, member: usize, signal: Signal) {
        self.members.lock()[member].signal(signal).unwrap();
    }

    /// One member after the other has its fault, so that most are always there.
    async fn trouble(&self) {
        let members = self.members.lock().len();
        for (at, fault) in self.faults.iter().enumerate() {
            let member = at % members;
            tokio::time::sleep(Duration::from_millis(700)).await;
            match fault {
                Fault::Kill => {
                    self.signal(member, Signal::Kill);
                    tokio::time::sleep(Duration::from_millis(1200)).await;
                    self.members.lock()[member].restart().unwrap();
                }
                Fault::Freeze => {
                    self.signal(member, Signal::Stop);
                    tokio::time::sleep(Duration::from_millis(2500)).await;
                    self.signal(member, Signal::Continue);
                }
            }
            // Time to find the others again.
            tokio::time::sleep(Duration::from_millis(1200)).await;
        }
    }
}

#[async_trait]
impl Harness for OfServers {
    async fn store(&self) -> Arc<dyn Store<Text>> {
        self.histories.fetch_add(1, Ordering::SeqCst);
        self.several().await
    }

    async fn after_crash(&self, store: Arc<dyn Store<Text>>) -> Option<Arc<dyn Store<Text>>> {
        drop(store);
        {
            let mut members = self.members.lock();
            members.iter_mut().for_each(|member| member.signal(Signal::Kill).unwrap());
            members.iter_mut().for_each(|member| member.restart().unwrap());
        }
        Some(self.several().await)
    }

    fn outlives_crashes(&self) -> bool {
        true
    }

    async fn side_by_side(&self, tasks: Vec<BoxFuture<'static, ()>>) {
        let trouble = self.trouble();
        futures::future::join(spread(tasks), trouble).await;
    }
}

/// Runs the loads; returns how many commits had no answer.
async fn holds(harness: Arc<OfServers>, loads: impl IntoIterator<Item = Load>) -> usize {
    let harness: Arc<dyn Harness> = harness;
    let mut unknown = 0;
    for load in loads {
        let history = load.run(&harness).await;
        assert!(history.operations.len() as u64 > load.clients * load.steps * 3 / 4, "{load:?}");
        let violations = check(&history);
        assert!(
            violations.is_empty(),
            "{load:?}: {} violations, such as {}",
            violations.len(),
            violations[0]
        );
        unknown += history.operations.iter().filter(|op| matches!(op.answer, Answer::Unknown)).count();
    }
    unknown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_member_are_one_store() {
    let loads =
        (0..4).map(|seed| Load { clients: 8, steps: 300, compacts: seed % 2 == 1, ..Load::seeded(seed) });
    assert_eq!(holds(OfServers::new(1, &[]), loads).await, 0, "commits without an answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_all_members_lose_nothing() {
    let load = Load { clients: 8, steps: 400, crashes: 4, ..Load::seeded(11) };
    holds(OfServers::new(1, &[]), [load]).await;
    holds(OfServers::new(3, &[]), [Load { crashes: 2, ..load }]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_goes_is_no_failure_of_what_was_written() {
    let faults = [Fault::Kill, Fault::Kill, Fault::Kill, Fault::Freeze, Fault::Freeze, Fault::Freeze];
    let harness = OfServers::new(3, &faults);
    let unknown = holds(harness, [Load { clients: 8, steps: 1500, ..Load::seeded(21) }]).await;
    // Eight clients are at it all the time, so some commits are on their way to a member when it goes.
    assert!(unknown > 0, "no fault met a commit");
}
