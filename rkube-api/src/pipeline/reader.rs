//! Reads for what runs inside the server: admission, subresources, reservations.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{self, Poll, Wake, Waker},
};

use futures::StreamExt;
use parking_lot::Mutex;
use rkube_store::{
    Entry, Key, ListOptions, Store,
    watch::{Watch, WatchOptions},
};

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
        let snapshot = self.registry.look();
        let definition = snapshot.definition(group, plural)?;
        keys::is_segment(name).then(|| keys::object(definition, namespace, name))
    }

    /// Whether the resource is served.
    pub fn serves(&self, group: &str, plural: &str) -> bool {
        self.registry.look().definition(group, plural).is_some()
    }

    /// Objects of a kind, in one namespace or in all (empty).
    pub async fn list<K: Kind>(&self, namespace: &str) -> Result<Vec<Arc<K>>, ApiError> {
        let snapshot = self.registry.look();
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

/// All objects of a kind, for what every write asks for and few writes change (priority classes, quotas):
/// the store is asked again only when a watch says that one of them has changed.
pub struct Followed<K> {
    seen: Mutex<Option<Seen<K>>>,
}

struct Seen<K> {
    items: Arc<[Arc<K>]>,
    changes: Watch<Object>,
    woken: Arc<Woken>,
    waker: Waker,
}

impl<K> Default for Followed<K> {
    fn default() -> Self {
        Self { seen: Mutex::new(None) }
    }
}

impl<K> std::fmt::Debug for Followed<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Followed")
    }
}

impl<K: Kind> Followed<K> {
    /// The objects, in the order of their keys; none if the kind is not served. Always of one server.
    pub async fn list(&self, reader: &Reader) -> Result<Arc<[Arc<K>]>, ApiError> {
        if let Some(items) = self.unchanged() {
            return Ok(items);
        }
        let folder = {
            let snapshot = reader.registry.snapshot();
            snapshot
                .definition(K::GROUP, K::URL_PATH_SEGMENT)
                .map(|definition| keys::folder(definition, None))
        };
        let Some(folder) = folder else { return Ok(Arc::default()) };
        let page = reader.store.list(&folder, ListOptions::default()).await.map_err(store_error)?;
        let options = WatchOptions::after(page.revision);
        let changes = reader.store.watch(&folder, options).await.map_err(store_error)?;
        let items: Result<_, ApiError> =
            page.entries.into_iter().map(|entry| Ok(entry.value.into_kind()?)).collect();
        let items: Arc<[Arc<K>]> = items?;
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(woken.clone());
        *self.seen.lock() = Some(Seen { items: items.clone(), changes, woken, waker });
        Ok(items)
    }

    /// What was listed, as long as the watch has nothing to say.
    fn unchanged(&self) -> Option<Arc<[Arc<K>]>> {
        let mut seen = self.seen.lock();
        let known = seen.as_mut()?;
        if known.is_idle() {
            return Some(known.items.clone());
        }
        *seen = None;
        None
    }
}

impl<K> Seen<K> {
    /// Whether the watch has nothing to say. One that has much to look through wakes itself to go on.
    fn is_idle(&mut self) -> bool {
        loop {
            match self.changes.poll_next_unpin(&mut task::Context::from_waker(&self.waker)) {
                Poll::Ready(_) => return false,
                Poll::Pending if self.woken.0.swap(false, Ordering::AcqRel) => {}
                Poll::Pending => return true,
            }
        }
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}
