//! Own log or embedded engine? Commits of 1 KB values a second, each on disk before it is answered, by 1, 32
//! and 512 writers: the durable store as it is, and redb and fjall behind a queue of the same kind, in which one
//! thread commits all that came meanwhile as one transaction. These keep plain pairs; the store also keeps
//! revisions, history and watches. Run with `cargo bench -p rkube-store --bench engines -- [SECONDS [FOLDER]]`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for a person")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use redb::{Database, TableDefinition};
use rkube_store::backend::durable::Durable;
use rkube_store::testing::Text;
use rkube_store::{Store, Txn};
use tokio::sync::oneshot;
use tokio::time::Instant;

const VALUE: usize = 1024;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let seconds = arguments.first().and_then(|word| word.parse().ok()).unwrap_or(3);
    let parent = arguments.get(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    println!("{:>8} {:>12} {:>12} {:>12}", "writers", "store", "redb", "fjall");
    for writers in [1, 32, 512] {
        let run = |engine: fn(&Path) -> Engine| {
            let folder = tempfile::tempdir_in(&parent).unwrap();
            let engine = engine(folder.path());
            runtime.block_on(measure(engine, writers, Duration::from_secs(seconds)))
        };
        let rates = [run(store), run(redb), run(fjall)].map(|rate| format!("{rate:.0}/s"));
        println!("{writers:>8} {:>12} {:>12} {:>12}", rates[0], rates[1], rates[2]);
    }
    let folder = tempfile::tempdir_in(&parent).unwrap();
    let [log, snapshot] = runtime.block_on(opening(folder.path(), 100_000));
    println!("100,000 objects are opened in {log:.0?} from the log, in {snapshot:.0?} from a snapshot");
}

#[derive(Clone)]
enum Engine {
    Store(Durable<Text>),
    Queue(Sender<Put>),
}

struct Put {
    key: String,
    value: Arc<str>,
    done: oneshot::Sender<()>,
}

impl Engine {
    async fn put(&self, key: String, value: Arc<str>) {
        match self {
            Self::Store(store) => {
                store.commit(Txn::new().put(key, Text::new(value))).await.unwrap();
            }
            Self::Queue(queue) => {
                let (done, wait) = oneshot::channel();
                queue.send(Put { key, value, done }).unwrap();
                wait.await.unwrap();
            }
        }
    }

    /// One that commits batches on a thread of its own.
    fn batched(mut commit: impl FnMut(&[Put]) + Send + 'static) -> Self {
        let (queue, puts) = channel::<Put>();
        std::thread::spawn(move || {
            while let Ok(first) = puts.recv() {
                let batch: Vec<_> = std::iter::once(first).chain(puts.try_iter()).collect();
                commit(&batch);
                for put in batch {
                    let _ = put.done.send(());
                }
            }
        });
        Self::Queue(queue)
    }
}

fn store(folder: &Path) -> Engine {
    Engine::Store(Durable::open(folder).unwrap())
}

fn redb(folder: &Path) -> Engine {
    const TABLE: TableDefinition<&str, &[u8]> = TableDefinition::new("values");
    let database = Database::create(folder.join("redb")).unwrap();
    Engine::batched(move |batch| {
        let transaction = database.begin_write().unwrap();
        {
            let mut table = transaction.open_table(TABLE).unwrap();
            for put in batch {
                table.insert(&*put.key, put.value.as_bytes()).unwrap();
            }
        }
        transaction.commit().unwrap();
    })
}

fn fjall(folder: &Path) -> Engine {
    let database = fjall::Database::builder(folder.join("fjall")).open().unwrap();
    let values = database.keyspace("values", fjall::KeyspaceCreateOptions::default).unwrap();
    Engine::batched(move |puts| {
        let mut batch = database.batch();
        for put in puts {
            batch.insert(&values, &*put.key, put.value.as_bytes());
        }
        batch.commit().unwrap();
        database.persist(fjall::PersistMode::SyncData).unwrap();
    })
}

/// How long opening takes with so many objects, from the log and from a snapshot.
async fn opening(folder: &Path, objects: usize) -> [Duration; 2] {
    let value: Arc<str> = "x".repeat(VALUE).into();
    let store: Durable<Text> = Durable::open(folder).unwrap();
    let keys: Vec<_> = (0..objects).map(|at| format!("registry/pods/default/pod-{at}")).collect();
    for some in keys.chunks(1000) {
        let puts = some.iter().map(|key| store.commit(Txn::new().put(&**key, Text::new(value.clone()))));
        futures::future::join_all(puts).await;
    }
    drop(store);
    let open = || {
        let began = Instant::now();
        (Durable::<Text>::open(folder).unwrap(), began.elapsed())
    };
    let (store, from_log) = open();
    store.compact(store.revision().await.unwrap()).await.unwrap();
    store.close().await;
    drop(store);
    let (store, from_snapshot) = open();
    assert_eq!(store.stats().store.sizes.keys, objects);
    [from_log, from_snapshot]
}

/// Puts a second by so many writers, each of which waits for one before it makes the next.
async fn measure(engine: Engine, writers: usize, time: Duration) -> f64 {
    let value: Arc<str> = "x".repeat(VALUE).into();
    let began = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let (engine, value) = (engine.clone(), value.clone());
        running.spawn(async move {
            let mut count = 0_u64;
            while began.elapsed() < time {
                engine.put(format!("registry/pods/{writer}-{count}"), value.clone()).await;
                count += 1;
            }
            count
        });
    }
    let count: u64 = running.join_all().await.into_iter().sum();
    count as f64 / began.elapsed().as_secs_f64()
}
