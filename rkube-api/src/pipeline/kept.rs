//! What a cluster keeps for itself beside its objects: the keys of its authority, what it was made with.
//! It lies in the store, where all servers of the cluster find it, in a folder that no resource has; so no
//! request reads it, and encryption at rest always seals it.

use std::sync::Arc;

use rkube_store::{CommitError, Entry, Key, Prefix, Store, Txn};
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

    async fn entry(&self, key: &Key) -> Result<Option<Entry<Object>>, ApiError> {
        Ok(self.0.get(key, None).await.map_err(store_error)?.entry)
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
