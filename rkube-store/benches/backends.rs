//! All backends in one run on one machine, with values of 1 KB: writers, watchers, a long list, start-up,
//! memory an object. Medians of three. About three minutes in all.
//!
//! ```sh
//! cargo bench -p rkube-store --features durable --bench backends           # those that are built in
//! cargo bench -p rkube-store --all-features --bench backends -- durable    # some of them
//! ```
//!
//! `durable` syncs each commit, in a folder of the current directory. `etcd` is the one named by `ETCD`, as in
//! `ETCD=http://127.0.0.1:2379`, which must be empty; without it one is started, with its data in the system's
//! temporary directory (`TMPDIR`, to be on the same disk), and where none is installed that part is left out.
//! Each backend has a process of its own.
//!
//! A start of `durable` is timed in a process that does nothing else: after a crash (the log alone, no
//! snapshot), after it was compacted and closed, and with a thousand more commits; with the files in the
//! system's cache ("warm"), and read from the disk ("cold").

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
    if name == "etcd" {
        let mut starts = Vec::new();
        for _ in 0..ROUNDS {
            let began = Instant::now();
            drop(open(&folder).await);
            starts.push(began.elapsed().as_secs_f64() * 1e3);
        }
        report(name, "start-up on all that was written", format!("{:.1} ms", median(starts)));
    }
    let _ = std::fs::remove_dir_all(folder);
}

/// Start-up of a store on disk, whatever it went through before.
#[cfg(feature = "durable")]
mod start {
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::sync::Arc;
    use std::time::Instant;

    use rkube_store::Store;
    use rkube_store::backend::durable::Durable;
    use rkube_store::testing::Text;

    use super::{LISTED, ROUNDS, fill, median, report, value};

    /// What a process of its own is told to do.
    const WORK: [&str; 4] = ["fill", "compact", "more", "open"];

    /// Does what another process of this program asks for.
    pub(super) async fn child(work: &str, folder: &Path) {
        let began = Instant::now();
        let store: Durable<Text> = Durable::open(folder).unwrap();
        let took = began.elapsed();
        let shared: Arc<dyn Store<Text>> = Arc::new(store.clone());
        match work {
            "fill" => {
                fill(&shared).await;
                assert!(store.stats().disk.snapshot.is_none(), "the log is all there is");
                // As if it were killed.
                std::process::abort();
            }
            "compact" => {
                store.compact(store.revision().await.unwrap()).await.unwrap();
                store.close().await;
                assert!(store.stats().disk.snapshot.is_some(), "the log begins at a snapshot");
            }
            "more" => {
                let puts = (0..1000).map(|at| {
                    shared.commit(rkube_store::Txn::new().put(format!("list/{:06}", at * 97), value()))
                });
                futures::future::join_all(puts).await.into_iter().for_each(|done| drop(done.unwrap()));
                store.close().await;
            }
            _ => {
                assert_eq!(store.stats().store.sizes.keys, LISTED);
                println!("{}", took.as_secs_f64() * 1e3);
                std::process::abort();
            }
        }
    }

    fn run(work: &str, folder: &Path) -> String {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let command = command.arg("start").arg(work).arg(folder).stderr(Stdio::inherit());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }

    /// Drops what the system has in memory of the files; what was synced can be read again.
    fn forget(folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let file = std::fs::File::open(entry.unwrap().path()).unwrap();
            file.sync_all().unwrap();
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        }
    }

    pub(super) fn all() {
        let folder = std::env::current_dir().unwrap().join(format!("bench-start-{}", std::process::id()));
        for (work, what) in [
            (WORK[0], "after a crash"),
            (WORK[1], "after a compaction and a close"),
            (WORK[2], "and 1,000 more commits"),
        ] {
            run(work, &folder);
            let opened = |cold: bool| {
                let times = (0..ROUNDS).map(|_| {
                    if cold {
                        forget(&folder);
                    }
                    run(WORK[3], &folder).trim().parse().unwrap()
                });
                median(times.collect())
            };
            let (warm, cold) = (opened(false), opened(true));
            report("durable", &format!("start-up {what}"), format!("{warm:.0} ms warm, {cold:.0} ms cold"));
        }
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// An etcd, where one is needed and none is named.
#[cfg(feature = "etcd")]
fn server(backend: &str) -> Option<rkube_store::testing::etcd::Server> {
    let is_needed = backend == "etcd" && std::env::var_os("ETCD").is_none();
    is_needed.then(rkube_store::testing::etcd::Server::start)?.ok()
}

/// Runs the part of one backend in a process of its own.
fn measure(name: &str) {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["run", name]);
    #[cfg(feature = "etcd")]
    let server = server(name);
    #[cfg(feature = "etcd")]
    command.envs(server.iter().map(|server| ("ETCD", server.endpoint())));
    assert!(command.status().unwrap().success(), "{name}");
    #[cfg(feature = "durable")]
    if name == "durable" {
        start::all();
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|text| !text.starts_with('-')).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let backends = backends();
    match words.as_slice() {
        ["run", wanted] => {
            for (name, open) in backends.into_iter().filter(|(name, _)| name == wanted) {
                runtime().block_on(run(name, open));
            }
        }
        #[cfg(feature = "durable")]
        ["start", work, folder] => runtime().block_on(start::child(work, Path::new(folder))),
        wanted => {
            let is_wanted = |name: &str| wanted.is_empty() || wanted.contains(&name);
            backends.into_iter().filter(|(name, _)| is_wanted(name)).for_each(|(name, _)| measure(name));
        }
    }
}
