//! Objects beside nodes and pods, as plugins look them up.

use std::{
    any::{Any, TypeId},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use indexmap::IndexMap;
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;
use rkube_api::{
    client::{Api, Cache, Change, Client, Informer, Informers, ListParams},
    error::ApiError,
    object::Kind,
};
use tokio::time::timeout;

use super::ClusterEvent;

/// The objects of the kinds that plugins ask for: kept current by informers where there is an API server,
/// filled by hand where there is none. A kind that the server does not serve is empty.
///
/// ```
/// use std::sync::Arc;
/// use k8s_openapi::api::core::v1::Service;
/// use rkube_sched::framework::Listers;
///
/// let listers = Listers::default();
/// let services = listers.get::<Service>();
/// listers.get::<Service>().insert(Arc::new(Service::default()));
/// assert_eq!(services.len(), 1);
/// ```
#[derive(Clone, Default)]
pub struct Listers {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    informers: Option<Informers>,
    asked: Mutex<IndexMap<TypeId, Asked>>,
}

struct Asked {
    cache: Box<dyn Any + Send + Sync>,
    source: Option<Arc<dyn Source>>,
}

impl std::fmt::Debug for Listers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Listers({} kinds)", self.inner.asked.lock().len())
    }
}

impl Listers {
    /// Listers over informers, each started when a plugin first asks for its kind (which needs a tokio
    /// runtime).
    pub fn over(informers: Informers) -> Self {
        Self { inner: Arc::new(Inner { informers: Some(informers), asked: Mutex::default() }) }
    }

    /// The objects of a kind; every call gives the same cache.
    pub fn get<K: Kind>(&self) -> Cache<K> {
        let mut asked = self.inner.asked.lock();
        let found = asked.get(&TypeId::of::<K>()).and_then(|asked| asked.cache.downcast_ref::<Cache<K>>());
        if let Some(cache) = found {
            return cache.clone();
        }
        let (cache, source) = match &self.inner.informers {
            Some(informers) => {
                let source = Followed { client: informers.client().clone(), informer: informers.get::<K>() };
                let cache = source.informer.cache().clone();
                (cache, (!is_followed_by_the_driver::<K>()).then(|| Arc::new(source) as Arc<dyn Source>))
            }
            None => (Cache::<K>::default(), None),
        };
        asked.insert(TypeId::of::<K>(), Asked { cache: Box::new(cache.clone()), source });
        cache
    }

    /// The informers behind the kinds asked for so far.
    pub(crate) fn sources(&self) -> Vec<Arc<dyn Source>> {
        self.inner.asked.lock().values().filter_map(|asked| asked.source.clone()).collect()
    }
}

/// Nodes and pods: the driver waits for them itself, and tells what their changes mean.
fn is_followed_by_the_driver<K: Kind>() -> bool {
    [TypeId::of::<Node>(), TypeId::of::<Pod>()].contains(&TypeId::of::<K>())
}

/// Who hears of changes.
pub(crate) type Tell = Box<dyn Fn(ClusterEvent) + Send + Sync>;

/// What keeps the objects of a kind current.
#[async_trait]
pub(crate) trait Source: Send + Sync {
    /// Tells of every change from now on.
    fn follow(&self, tell: Tell);
    /// Waits until all objects are known, or the server says that it does not show the kind.
    async fn ready(&self);
}

/// First and longest pause between questions whether the server shows a kind.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

struct Followed<K: Kind> {
    client: Client,
    informer: Informer<K>,
}

#[async_trait]
impl<K: Kind> Source for Followed<K> {
    fn follow(&self, tell: Tell) {
        self.informer.on_change(move |change: &Change<K>| tell(ClusterEvent::other(change)));
    }

    async fn ready(&self) {
        let api = Api::<K>::all(self.client.clone());
        let mut pause = PAUSE.0;
        loop {
            let first = api.list(&ListParams::default().limit(1)).await;
            if let Err(ApiError::NoSuchPath | ApiError::NotFound { .. } | ApiError::Forbidden { .. }) = first
            {
                return;
            }
            // Any other error says nothing of whether the kind will ever come.
            if timeout(pause, self.informer.synced()).await.is_ok() {
                return;
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    }
}
