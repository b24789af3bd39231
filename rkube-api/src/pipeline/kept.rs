//! What a cluster keeps for itself beside its objects: the keys of its authority, what it was made with.
//! It lies in the store, where all servers of the cluster find it, in a folder that no resource has; so no
//! request reads it, and encryption at rest always seals it.

use std::{sync::Arc, time::Duration};

use rkube_store::{CommitError, Entry, Key, LeaseId, ListOptions, Prefix, Store, StoreError, Txn};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Map;

use super::call::{commit_error, store_error};
use crate::{
    error::ApiError,
    object::{Dynamic, Object},
};

/// Reads and writes what a cluster keeps for itself.
///
/// ```
/// use std::sync::Arc;
/// use rkube_api::{error::ApiError, object::Object, pipeline::Kept};
/// use rkube_store::Memory;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let kept = Kept::new(Arc::new(Memory::<Object>::builder().build()));
/// let first: u64 = kept.get_or_make("answer", || Ok::<_, ApiError>(42)).await?;
/// let second: u64 = kept.get_or_make("answer", || Ok::<_, ApiError>(43)).await?;
/// assert_eq!((first, second), (42, 42));
/// # Ok::<(), ApiError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Kept(Arc<dyn Store<Object>>);

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept")
    }
}

impl Kept {
    /// What the cluster with this store keeps.
    pub fn new(store: Arc<dyn Store<Object>>) -> Self {
        Self(store)
    }

    /// What is kept under a name.
    ///
    /// # Errors
    /// When the store cannot be read, or what is kept is no such thing.
    pub async fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ApiError> {
        self.entry(&key(name)).await?.map(|entry| read(&entry)).transpose()
    }

    /// What is kept under a name. If nothing is, it is made and kept; of several who come at once, all get
    /// what the first has made.
    ///
    /// What is there already is written again as it is: so encryption keys can be rotated by starting all
    /// servers anew, although nobody ever changes it.
    ///
    /// # Errors
    /// Those of making it, or as [`Kept::get`].
    pub async fn get_or_make<T, E>(&self, name: &str, make: impl FnOnce() -> Result<T, E>) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<ApiError>,
    {
        let key = key(name);
        if let Some(entry) = self.entry(&key).await? {
            let found = read(&entry)?;
            if let Err(error) = self.0.commit(Txn::update(&key, entry.value, entry.mod_revision)).await {
                tracing::debug!(%key, %error, "it stays as it was written before");
            }
            return Ok(found);
        }
        let made = make()?;
        match self.0.commit(Txn::create(&key, record(name, &made)?)).await {
            Ok(_) => Ok(made),
            Err(CommitError::Conflict(conflict)) if conflict.current.is_some() => {
                // Somebody was faster.
                conflict.current.as_ref().map_or(Ok(made), |entry| Ok(read(entry)?))
            }
            // It may have been written, by this one or another: what stands in the store holds.
            Err(error @ CommitError::Unknown(_)) => match self.get(name).await? {
                Some(kept) => Ok(kept),
                None => Err(commit_error(error).into()),
            },
            Err(error) => Err(commit_error(error).into()),
        }
    }

    /// Keeps something else under a name, where nobody else writes.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn put(&self, name: &str, what: &impl Serialize) -> Result<(), ApiError> {
        let txn = Txn::new().put(key(name), record(name, what)?);
        self.0.commit(txn).await.map(drop).map_err(commit_error)
    }

    /// All that is kept in a folder, whose name ends with `/`.
    ///
    /// # Errors
    /// As [`Kept::get`].
    pub async fn all<T: DeserializeOwned>(&self, folder: &str) -> Result<Vec<T>, ApiError> {
        self.entries(folder).await?.iter().map(read).collect()
    }

    /// Keeps nothing in a folder any more.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn clear(&self, folder: &str) -> Result<(), ApiError> {
        let entries = self.entries(folder).await?;
        let txn = entries.iter().fold(Txn::new(), |txn, entry| txn.remove(&entry.key));
        if txn.ops.is_empty() {
            return Ok(());
        }
        self.0.commit(txn).await.map(drop).map_err(commit_error)
    }

    /// What is to be kept under a name for as long as somebody renews it. It is not kept before the first
    /// [`Claim::renew`].
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn claim(&self, name: &str, what: &impl Serialize, time: Duration) -> Result<Claim, ApiError> {
        let (key, record) = (key(name), record(name, what)?);
        Ok(Claim { kept: self.clone(), key, record, time, lease: None })
    }

    async fn entries(&self, folder: &str) -> Result<Vec<Entry<Object>>, ApiError> {
        let folder = Prefix::new(key(folder).as_str());
        Ok(self.0.list(&folder, ListOptions::default()).await.map_err(store_error)?.entries)
    }

    async fn entry(&self, key: &Key) -> Result<Option<Entry<Object>>, ApiError> {
        Ok(self.0.get(key, None).await.map_err(store_error)?.entry)
    }
}

/// Something that goes by itself when nobody renews it any more; see [`Kept::claim`].
#[must_use]
pub struct Claim {
    kept: Kept,
    key: Key,
    record: Object,
    time: Duration,
    lease: Option<LeaseId>,
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Claim({})", self.key)
    }
}

impl Claim {
    /// Keeps it for its time from now on, even if it is gone, or another one has come in its place.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn renew(&mut self) -> Result<(), ApiError> {
        if let Some(lease) = self.lease {
            let found = self.kept.entry(&self.key).await?;
            let is_ours = found.is_some_and(|entry| entry.lease == Some(lease));
            match self.kept.0.keep_alive(lease).await {
                Ok(_) if is_ours => return Ok(()),
                Ok(_) | Err(StoreError::LeaseNotFound(_)) => {}
                Err(error) => return Err(store_error(error)),
            }
        }
        let lease = self.kept.0.grant(self.time).await.map_err(store_error)?.id;
        // Before the outcome is known: whatever it is, the end of the lease ends what was written.
        self.lease = Some(lease);
        let txn = Txn::new().put(&self.key, self.record.clone()).lease(lease);
        self.kept.0.commit(txn).await.map(drop).map_err(commit_error)
    }

    /// Keeps it no longer.
    ///
    /// # Errors
    /// As [`Claim::renew`].
    pub async fn end(&mut self) -> Result<(), ApiError> {
        let Some(lease) = self.lease.take() else { return Ok(()) };
        match self.kept.0.revoke(lease).await {
            Ok(()) | Err(CommitError::Store(StoreError::LeaseNotFound(_))) => Ok(()),
            Err(error) => Err(commit_error(error)),
        }
    }
}

fn key(name: &str) -> Key {
    Key::new(format!("{}{name}", Prefix::private()))
}

fn record(name: &str, kept: &impl Serialize) -> Result<Object, ApiError> {
    let spec = serde_json::to_value(kept)
        .map_err(|error| ApiError::internal(format!("{name} cannot be written: {error}")))?;
    let mut record = Dynamic {
        api_version: "internal.rkube.io/v1".into(),
        kind: "Kept".into(),
        metadata: Default::default(),
        fields: Map::from_iter([("spec".to_owned(), spec)]),
    };
    record.metadata.name = Some(name.to_owned());
    Ok(Object::new(record))
}

fn read<T: DeserializeOwned>(entry: &Entry<Object>) -> Result<T, ApiError> {
    let spec = entry.value.to_value()?.get_mut("spec").map(serde_json::Value::take).unwrap_or_default();
    serde_json::from_value(spec)
        .map_err(|error| ApiError::internal(format!("{} cannot be read: {error}", entry.key)))
}
