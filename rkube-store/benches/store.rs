//! The memory store: commits, reads, and how long one write takes to reach its watchers.
//!
//! `cargo bench -p rkube-store`; the figures to reach are in the design's table.

#![allow(clippy::expect_used, reason = "a benchmark that cannot run may stop")]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use rkube_store::{CodecError, Key, ListOptions, Memory, Prefix, Revision, Store, Txn, Value, WatchOptions};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::time::Instant;

/// As large as the smallest useful pod.
const BYTES: usize = 837;

#[derive(Clone)]
struct Blob(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    revision: Revision,
    bytes: Box<[u8]>,
}

impl Blob {
    fn new() -> Self {
        Self(Arc::new(Inner { revision: Revision::ZERO, bytes: vec![b'x'; BYTES].into() }))
    }
}

impl Value for Blob {
    fn encode(&self) -> Result<Bytes, CodecError> {
        Ok(Bytes::copy_from_slice(&self.0.bytes))
    }

    fn decode(bytes: &Bytes) -> Result<Self, CodecError> {
        Ok(Self(Arc::new(Inner { revision: Revision::ZERO, bytes: bytes.to_vec().into() })))
    }

    fn stamp(&mut self, revision: Revision) {
        Arc::make_mut(&mut self.0).revision = revision;
    }

    fn weight(&self) -> usize {
        7 * 1024
    }

    fn size(&self) -> Result<usize, CodecError> {
        Ok(BYTES)
    }
}

type Shared = Arc<dyn Store<Blob>>;

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}

fn key(at: u64) -> Key {
    Key::new(format!("/registry/pods/namespace-{}/deployment-{at:08}", at % 100))
}

async fn filled(keys: u64, store: Memory<Blob>) -> Shared {
    let store: Shared = Arc::new(store);
    for at in 0..keys {
        store.commit(Txn::create(key(at), Blob::new())).await.expect("a new key");
    }
    store
}

/// Times `each` over all rounds; what it needs is made before the clock runs.
fn timed<T>(runtime: &Runtime, prepared: Vec<T>, each: impl AsyncFn(T)) -> Duration {
    runtime.block_on(async {
        let start = Instant::now();
        for it in prepared {
            each(it).await;
        }
        start.elapsed()
    })
}

fn commits(criterion: &mut Criterion) {
    let runtime = current_thread();
    let mut group = criterion.benchmark_group("commit");
    group.throughput(Throughput::Elements(1));
    for (name, watched, builder) in [
        ("create", false, Memory::builder().all_hot()),
        ("create, watched and seen", true, Memory::builder().all_hot()),
        ("create counted", false, Memory::builder().hot_bytes(1 << 40)),
        ("create going cold", false, Memory::builder().hot_bytes(0)),
    ] {
        let store = runtime.block_on(filled(1000, builder.build()));
        let mut next = 1000;
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                let txns = (next..next + rounds).map(|at| Txn::create(key(at), Blob::new())).collect();
                let watch = watched.then(|| {
                    let (pods, after) = (Prefix::new("/registry/pods"), Revision(next + 1));
                    runtime.block_on(store.watch(&pods, WatchOptions::after(after))).expect("a watch")
                });
                let watch = Mutex::new(watch);
                next += rounds;
                timed(&runtime, txns, async |txn| {
                    black_box(store.commit(txn).await.expect("a new key"));
                    if let Some(watch) = &mut *watch.lock() {
                        black_box(
                            watch.next().now_or_never().expect("it is there").expect("an event").is_ok(),
                        );
                    }
                })
            });
        });
    }
    let store = runtime.block_on(filled(100_000, Memory::builder().build()));
    group.bench_function("update of 100k", |bencher| {
        bencher.iter_custom(|rounds| {
            let txns = (0..rounds).map(|at| Txn::new().put(key(at * 7919 % 100_000), Blob::new())).collect();
            timed(&runtime, txns, async |txn| {
                black_box(store.commit(txn).await.expect("no check"));
            })
        });
    });
    group.finish();
}

fn reads(criterion: &mut Criterion) {
    let runtime = current_thread();
    let store = runtime.block_on(filled(100_000, Memory::builder().build()));
    criterion.bench_function("get of 100k", |bencher| {
        bencher.iter_custom(|rounds| {
            let keys = (0..rounds).map(|at| key(at * 7919 % 100_000)).collect();
            timed(&runtime, keys, async |key| {
                black_box(store.get(&key, None).await.expect("now can be read"));
            })
        });
    });
    let mut group = criterion.benchmark_group("list");
    for keys in [10_000, 100_000] {
        let store = runtime.block_on(filled(keys, Memory::builder().build()));
        group.throughput(Throughput::Elements(keys));
        group.bench_function(BenchmarkId::from_parameter(keys), |bencher| {
            bencher.iter_custom(|rounds| {
                timed(&runtime, vec![(); rounds as usize], async |()| {
                    let page = store.list(&Prefix::new("/registry/pods"), ListOptions::default()).await;
                    assert_eq!(black_box(page.expect("now can be read")).entries.len() as u64, keys);
                })
            });
        });
    }
    group.finish();
}

/// Counts who has seen the write of this round.
struct Seen {
    count: AtomicUsize,
    all: usize,
    done: Notify,
}

#[allow(clippy::disallowed_methods, reason = "a benchmark has no context to spawn from")]
fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one write to watchers");
    for watchers in [1, 100, 1000] {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
        let store = runtime.block_on(filled(1000, Memory::builder().build()));
        let seen = Arc::new(Seen { count: AtomicUsize::new(0), all: watchers, done: Notify::new() });
        for _ in 0..watchers {
            let after = WatchOptions::after(Revision(1001));
            let mut watch =
                runtime.block_on(store.watch(&Prefix::new("/registry/pods"), after)).expect("a watch");
            let seen = seen.clone();
            runtime.spawn(async move {
                while let Some(Ok(item)) = watch.next().await {
                    black_box(item);
                    if seen.count.fetch_add(1, Ordering::AcqRel) + 1 == seen.all {
                        seen.done.notify_one();
                    }
                }
            });
        }
        for (name, whole) in [("until all are queued", false), ("until the last poll", true)] {
            group.bench_function(BenchmarkId::new(name, watchers), |bencher| {
                bencher.iter_custom(|rounds| {
                    let (store, seen) = (store.clone(), seen.clone());
                    // On a worker, as a client of the store would be.
                    let task = runtime.spawn(async move {
                        let mut took = Duration::ZERO;
                        for at in 0..rounds {
                            seen.count.store(0, Ordering::Release);
                            let txn = Txn::new().put(key(at % 1000), Blob::new());
                            let start = Instant::now();
                            store.commit(txn).await.expect("no check");
                            let queued = start.elapsed();
                            seen.done.notified().await;
                            took += if whole { start.elapsed() } else { queued };
                        }
                        took
                    });
                    runtime.block_on(task).expect("the task ends")
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = commits, reads, fan_out
}
criterion_main!(benches);
