//! Reads for what runs inside the server: admission, subresources, reservations.

use std::sync::Arc;

use rkube_store::{Entry, Key, ListOptions, Store};

use super::{call::store_error, keys};
use crate::{
    error::ApiError,
    object::{Kind, Object},
    registry::Registry,
};

/// Reads the present state of registered kinds, past authorization.
#[derive(Clone)]
pub struct Reader {
    store: Arc<dyn Store<Object>>,
    registry: Arc<Registry>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

impl Reader {
    pub(super) fn new(store: Arc<dyn Store<Object>>, registry: Arc<Registry>) -> Self {
        Self { store, registry }
    }

    /// One object; the namespace is empty for a cluster-scoped one.
    pub async fn get<K: Kind>(&self, namespace: &str, name: &str) -> Result<Option<Arc<K>>, ApiError> {
        match self.object(K::GROUP, K::URL_PATH_SEGMENT, namespace, name).await? {
            Some(object) => Ok(Some(object.into_kind()?)),
            None => Ok(None),
        }
    }

    /// One object of a resource, by the group of its hub version; `None` also if the resource is unknown.
    pub async fn object(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Object>, ApiError> {
        let Some(key) = self.key(group, plural, namespace, name) else { return Ok(None) };
        Ok(self.entry(&key).await?.map(|entry| entry.value))
    }

    /// The key of an object, if the resource is known and there can be such a name.
    pub(crate) fn key(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Key> {
        let snapshot = self.registry.snapshot();
        let definition = snapshot.definition(group, plural)?;
        keys::is_segment(name).then(|| keys::object(definition, namespace, name))
    }

    /// Whether the resource is served.
    pub fn serves(&self, group: &str, plural: &str) -> bool {
        self.registry.snapshot().definition(group, plural).is_some()
    }

    /// Objects of a kind, in one namespace or in all (empty).
    pub async fn list<K: Kind>(&self, namespace: &str) -> Result<Vec<Arc<K>>, ApiError> {
        let snapshot = self.registry.snapshot();
        let Some(definition) = snapshot.definition(K::GROUP, K::URL_PATH_SEGMENT) else {
            return Ok(Vec::new());
        };
        let folder = keys::folder(definition, (!namespace.is_empty()).then_some(namespace));
        let page = self.store.list(&folder, ListOptions::default()).await.map_err(store_error)?;
        page.entries.into_iter().map(|entry| Ok(entry.value.into_kind()?)).collect()
    }

    /// The entry of a key.
    pub(crate) async fn entry(&self, key: &Key) -> Result<Option<Entry<Object>>, ApiError> {
        Ok(self.store.get(key, None).await.map_err(store_error)?.entry)
    }
}
