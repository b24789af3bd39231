//! All backends in one run on one machine, with values of 1 KB: writers, watchers, a long list, start-up,
//! memory an object. Medians of three.
//!
//! ```sh
//! cargo bench -p rkube-store --features durable --bench backends           # those that are built in
//! cargo bench -p rkube-store --all-features --bench backends -- durable    # some of them
//! ```
//!
//! `durable` syncs each commit, in a folder of the current directory. `etcd` needs an empty one, named by
//! `ETCD`, as in `ETCD=http://127.0.0.1:2379`; without it that part is left out. Each backend has a process
//! of its own.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a program that measures and reports"
)]

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use rkube_store::testing::Text;
use rkube_store::{ListOptions, Memory, Prefix, Store, Txn, WatchOptions};
use tokio::task::JoinSet;

/// A backend: its name, and how it is opened. The folder is empty at first and the same for one run.
type Backend = (&'static str, fn(&Path) -> BoxFuture<'_, Option<Opened>>);

struct Opened {
    store: Arc<dyn Store<Text>>,
    /// What the host must poll.
    driver: BoxFuture<'static, ()>,
}

impl Opened {
    fn new<S: Store<Text>>(store: S, driver: impl Future<Output = ()> + Send + 'static) -> Option<Self> {
        Some(Self { store: Arc::new(store), driver: Box::pin(driver) })
    }
}

fn backends() -> Vec<Backend> {
    vec![
        ("memory", |_| Box::pin(async { memory(Memory::builder().build()) })),
        #[cfg(feature = "durable")]
        ("durable", |path| Box::pin(async move { durable(path) })),
        #[cfg(feature = "etcd")]
        ("etcd", |_| Box::pin(etcd())),
    ]
}

fn memory(store: Memory<Text>) -> Option<Opened> {
    let driver = store.run_expiry();
    Opened::new(store, driver)
}

#[cfg(feature = "durable")]
fn durable(path: &Path) -> Option<Opened> {
    let store = rkube_store::backend::durable::Durable::<Text>::open(path).unwrap();
    let driver = store.run_expiry();
    Opened::new(store, driver)
}

#[cfg(feature = "etcd")]
async fn etcd() -> Option<Opened> {
    let endpoint = std::env::var("ETCD").ok()?;
    let store = rkube_store::backend::etcd::Etcd::<Text>::builder([endpoint]).connect().await.unwrap();
    let driver = store.run();
    Opened::new(store, driver)
}

const ROUNDS: usize = 3;
const LISTED: usize = 100_000;

fn value() -> Text {
    Text::new("x".repeat(1024))
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    let kilobytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

fn report(backend: &str, what: &str, figure: String) {
    println!("{backend:<8} {what:<44} {figure:>28}");
}

/// So many writers for about a second: commits a second, and the median of their latencies in microseconds.
async fn writers(store: &Arc<dyn Store<Text>>, writers: usize, round: usize) -> (f64, f64) {
    let mut tasks = JoinSet::new();
    let (start, time) = (Instant::now(), Duration::from_secs(1));
    for writer in 0..writers {
        let store = store.clone();
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            while start.elapsed() < time {
                let key = format!("write/{writers}/{round}/{writer}/{}", latencies.len() % 100);
                let began = Instant::now();
                store.commit(Txn::new().put(key, value())).await.unwrap();
                latencies.push(began.elapsed().as_secs_f64() * 1e6);
            }
            latencies
        });
    }
    let latencies: Vec<f64> = tasks.join_all().await.into_iter().flatten().collect();
    (latencies.len() as f64 / start.elapsed().as_secs_f64(), median(latencies))
}

/// One write to so many watchers: microseconds until the last one has it, the median of 20 writes.
async fn fan_out(store: &Arc<dyn Store<Text>>, watchers: usize) -> f64 {
    let folder = format!("watch/{watchers}");
    let start = store.revision().await.unwrap();
    let (done, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for _ in 0..watchers {
        let mut watch = store.watch(&Prefix::new(&*folder), WatchOptions::after(start)).await.unwrap();
        let done = done.clone();
        tasks.spawn(async move {
            while let Some(Ok(_)) = watch.next().await {
                let _ = done.send(());
            }
        });
    }
    let mut samples = Vec::new();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let began = Instant::now();
        store.commit(Txn::new().put(format!("{folder}/one"), value())).await.unwrap();
        for _ in 0..watchers {
            arrived.recv().await.unwrap();
        }
        samples.push(began.elapsed().as_secs_f64() * 1e6);
    }
    tasks.abort_all();
    median(samples)
}

/// Many keys, written side by side.
async fn fill(store: &Arc<dyn Store<Text>>) {
    let mut tasks = JoinSet::new();
    for writer in 0..64 {
        let store = store.clone();
        tasks.spawn(async move {
            for at in (writer..LISTED).step_by(64) {
                store.commit(Txn::new().put(format!("list/{at:06}"), value())).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
}

async fn run(name: &str, open: fn(&Path) -> BoxFuture<'_, Option<Opened>>) {
    let folder = std::env::current_dir().unwrap().join(format!("bench-{}", std::process::id()));
    let Some(Opened { store, driver }) = open(&folder).await else {
        return report(name, "left out", "nowhere to connect to".to_owned());
    };
    let driver = tokio::spawn(driver);
    let before = resident();
    fill(&store).await;
    let each = resident().saturating_sub(before) / LISTED as u64;
    report(name, &format!("memory an object, {LISTED} of them"), format!("{each} bytes"));
    let mut lists = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let page = store.list(&Prefix::new("list"), ListOptions::default()).await.unwrap();
        assert_eq!(page.entries.len(), LISTED);
        lists.push(began.elapsed().as_secs_f64() * 1e3);
    }
    report(name, &format!("list {LISTED}"), format!("{:.1} ms", median(lists)));
    for count in [1, 32, 512] {
        let (mut rates, mut latencies) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let (rate, latency) = writers(&store, count, round).await;
            rates.push(rate);
            latencies.push(latency);
        }
        let figure = format!("{:.0}/s, p50 {:.1} us", median(rates), median(latencies));
        report(name, &format!("commits, {count} writers"), figure);
    }
    for count in [1, 100, 1_000, 10_000] {
        let figure = fan_out(&store, count).await;
        report(name, &format!("a write to {count} watchers"), format!("{figure:.0} us"));
    }
    drop(store);
    driver.abort();
    let _ = driver.await;
    let mut starts = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let again = open(&folder).await;
        starts.push(began.elapsed().as_secs_f64() * 1e3);
        drop(again);
    }
    report(name, "start-up with what is there", format!("{:.1} ms", median(starts)));
    let _ = std::fs::remove_dir_all(folder);
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|text| !text.starts_with('-')).collect();
    let found: Vec<Backend> =
        backends().into_iter().filter(|(name, _)| wanted.iter().any(|it| it == name)).collect();
    if let [(name, open)] = found.as_slice() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(run(name, *open));
    }
    let this = std::env::current_exe().unwrap();
    for (name, _) in if wanted.is_empty() { backends() } else { found } {
        let status = std::process::Command::new(&this).arg(name).status().unwrap();
        assert!(status.success(), "{name}");
    }
}
