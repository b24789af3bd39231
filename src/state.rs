//! Where a cluster's state is kept, and how it comes in and goes out as a whole.

#[cfg(feature = "durable")]
use std::path::{Path, PathBuf};
use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use rkube_api::{context::Rng, object::Object};
#[cfg(feature = "durable")]
use rkube_store::backend::durable::{Durable, OpenError, save};
#[cfg(feature = "etcd")]
use rkube_store::backend::etcd;
#[cfg(feature = "durable")]
use rkube_store::backend::{durable, memory};
use rkube_store::{ListOptions, Memory, Prefix, Revision, Store, StoreError, Transform};

use crate::Error;

/// How long history can be read and watched from: Kubernetes has its store compacted as often.
const HISTORY: Duration = Duration::from_secs(300);

/// Where a new cluster finds its state.
#[derive(Default)]
pub(crate) enum State {
    /// Nowhere yet: it begins in memory.
    #[default]
    Anew,
    /// In a store in memory that the cluster drives.
    Memory(Memory<Object>, Option<Arc<dyn Transform>>),
    /// In one that its host drives.
    Given(Arc<dyn Store<Object>>),
    /// In a file, to go on in memory.
    #[cfg(feature = "durable")]
    Saved(PathBuf, Box<memory::Builder<Object>>),
    /// In a folder, which has none yet where it begins with a file.
    #[cfg(feature = "durable")]
    Folder { path: PathBuf, saved: Option<PathBuf>, store: Box<durable::Builder<Object>> },
    /// In etcd.
    #[cfg(feature = "etcd")]
    Etcd(Box<etcd::Builder<Object>>),
}

/// A store that can be used.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store<Object>>,
    /// What must be polled meanwhile.
    pub(crate) driver: Option<BoxFuture<'static, ()>>,
    /// Closes it, whoever may still hold it.
    pub(crate) close: Option<Close>,
    pub(crate) sharing: Sharing,
    /// What seals values at rest, so also those of a file.
    pub(crate) transform: Option<Arc<dyn Transform>>,
}

/// Whether others may serve the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Nobody can: this process holds it.
    Sole,
    /// Its host knows.
    Unknown,
    /// Other processes may.
    Shared,
}

/// How a store is closed.
pub(crate) type Close = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send + Sync>;

impl Opened {
    fn own(store: impl Store<Object>, driver: impl Future<Output = ()> + Send + 'static) -> Self {
        let (store, driver) = (Arc::new(store), Some(driver.boxed()));
        Self { store, driver, close: None, sharing: Sharing::Sole, transform: None }
    }

    fn sealed_by(self, transform: Option<Arc<dyn Transform>>) -> Self {
        Self { transform, ..self }
    }
}

impl State {
    /// A file to go on from, in a store that may be changed before.
    #[cfg(feature = "durable")]
    pub(crate) fn saved(
        path: PathBuf,
        change: impl FnOnce(memory::Builder<Object>) -> memory::Builder<Object>,
    ) -> Self {
        Self::Saved(path, Box::new(change(Memory::builder().history_age(HISTORY))))
    }

    /// A folder, which may begin with a file, and whose store may be changed before it is opened.
    #[cfg(feature = "durable")]
    pub(crate) fn folder(
        path: PathBuf,
        saved: Option<PathBuf>,
        change: impl FnOnce(durable::Builder<Object>) -> durable::Builder<Object>,
    ) -> Self {
        let store = Box::new(change(Durable::builder(&path).history_age(HISTORY)));
        Self::Folder { path, saved, store }
    }

    pub(crate) async fn open(self) -> Result<Opened, Error> {
        match self {
            Self::Anew => Ok(in_memory(Memory::builder().history_age(HISTORY).build())),
            Self::Memory(memory, transform) => Ok(in_memory(memory).sealed_by(transform)),
            Self::Given(store) => {
                Ok(Opened { store, driver: None, close: None, sharing: Sharing::Unknown, transform: None })
            }
            #[cfg(feature = "durable")]
            Self::Saved(path, store) => {
                let (from, transform) = (path.clone(), store.transformer());
                let read = off_thread("restore", move || store.restore(from)).await;
                let memory = read.map_err(|source| Error::Saved { path, source })?;
                Ok(in_memory(memory).sealed_by(transform))
            }
            #[cfg(feature = "durable")]
            Self::Folder { path, saved, store } => {
                let open = |store: durable::Builder<Object>| match saved {
                    Some(saved) => store.restore(saved),
                    None => store.open(),
                };
                let transform = store.transformer();
                let opened = off_thread("open", move || open(*store)).await;
                let store = opened.map_err(|source| Error::DataDir { path, source })?;
                let (driver, closing) = (store.run_expiry(), store.clone());
                let close: Close = Box::new(move || async move { closing.close().await }.boxed());
                Ok(Opened { close: Some(close), ..Opened::own(store, driver) }.sealed_by(transform))
            }
            #[cfg(feature = "etcd")]
            Self::Etcd(builder) => {
                let transform = builder.transformer();
                let store = builder.default_history_age(HISTORY).connect().await?;
                let driver = store.run();
                Ok(Opened { sharing: Sharing::Shared, ..Opened::own(store, driver) }.sealed_by(transform))
            }
        }
    }
}

fn in_memory(memory: Memory<Object>) -> Opened {
    let driver = memory.run_expiry();
    Opened::own(memory, driver)
}

/// The disk is waited for, so not on a thread that other tasks need.
#[cfg(feature = "durable")]
async fn off_thread<T: Send + 'static>(
    doing: &str,
    work: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|ended| Err(OpenError::Io { doing: doing.to_owned(), source: ended.into() }))
}

#[cfg(feature = "durable")]
pub(crate) async fn save(
    store: &dyn Store<Object>,
    path: &Path,
    transform: Option<Arc<dyn Transform>>,
) -> Result<(), Error> {
    let saved = save::save(store, path, transform).await;
    saved.map(drop).map_err(|source| Error::Saved { path: path.to_owned(), source })
}

/// The randomness of a cluster that goes on from a revision: none that was drawn before it comes again.
pub(crate) fn rng(seed: u64, at: Revision) -> Rng {
    let rng = Rng::seeded(seed);
    if at > Revision(1) { rng.fork(&format!("from revision {at}")) } else { rng }
}

/// When the youngest object was made.
pub(crate) async fn youngest(store: &dyn Store<Object>) -> Result<Option<Timestamp>, StoreError> {
    let all = store.list(&Prefix::all(), ListOptions::default()).await?.entries;
    let made = all.iter().filter_map(|entry| entry.value.meta().creation_timestamp.as_ref());
    Ok(made.map(|Time(at)| *at).max())
}
