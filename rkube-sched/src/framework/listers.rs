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
use crate::snapshot::PodInfo;

/// The objects of the kinds that plugins ask for: kept current by informers where there is an API server,
/// filled by hand where there is none. A kind that the server does not serve is empty.
///
/// A plugin that looks at a kind for some pods only says so ([`Listers::for_pods`]): where there are no such pods,
/// the kind costs nothing.
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
    /// The pods for which objects are looked up, by a number among the demands; all if it is absent.
    demand: Option<usize>,
}

#[derive(Default)]
struct Inner {
    informers: Option<Informers>,
    asked: Mutex<IndexMap<TypeId, Asked>>,
    demands: Mutex<Vec<Demand>>,
}

/// What some pods need.
struct Demand {
    is_of: fn(&PodInfo) -> bool,
    kinds: IndexMap<TypeId, Arc<dyn Source>>,
    progress: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// No such pod has come yet.
    Idle,
    Asked,
    Known,
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
        Self { inner: Arc::new(Inner { informers: Some(informers), ..Inner::default() }), demand: None }
    }

    /// The same listers for a plugin that looks at what it gets from these for some pods only. The scheduler has
    /// the kinds watched from when the first such pod comes, and none such is tried before all objects of them are
    /// known; until then their caches are empty. Which pods they are must not change as long as a pod waits.
    ///
    /// ```
    /// use k8s_openapi::api::core::v1::PersistentVolume;
    /// use rkube_sched::framework::Handle;
    /// # let handle = Handle::default();
    /// let listers = handle.listers.for_pods(|pod| pod.volumes.is_some());
    /// let volumes = listers.get::<PersistentVolume>();
    /// ```
    #[must_use]
    pub fn for_pods(&self, which: fn(&PodInfo) -> bool) -> Self {
        let mut demands = self.inner.demands.lock();
        demands.push(Demand { is_of: which, kinds: IndexMap::new(), progress: Progress::Idle });
        Self { inner: self.inner.clone(), demand: Some(demands.len() - 1) }
    }

    /// The objects of a kind; every call gives the same cache.
    pub fn get<K: Kind>(&self) -> Cache<K> {
        let (cache, source) = self.cached::<K>();
        let Some(source) = source else { return cache };
        match self.demand {
            None => source.start(),
            Some(demand) => {
                self.inner.demands.lock()[demand].kinds.insert(TypeId::of::<K>(), source);
            }
        }
        cache
    }

    /// The cache of a kind, and what keeps it current, if anything does.
    fn cached<K: Kind>(&self) -> (Cache<K>, Option<Arc<dyn Source>>) {
        let mut asked = self.inner.asked.lock();
        if let Some(known) = asked.get(&TypeId::of::<K>())
            && let Some(cache) = known.cache.downcast_ref::<Cache<K>>()
        {
            return (cache.clone(), known.source.clone());
        }
        let (cache, source) = match &self.inner.informers {
            Some(informers) => {
                let informer = informers.idle::<K>();
                let cache = informer.cache().clone();
                let source = Followed { client: informers.client().clone(), informer };
                (cache, Some(Arc::new(source) as Arc<dyn Source>))
            }
            None => (Cache::<K>::default(), None),
        };
        asked.insert(TypeId::of::<K>(), Asked { cache: Box::new(cache.clone()), source: source.clone() });
        (cache, source)
    }

    /// The informers behind the kinds asked for so far, whether or not they have started; not those of nodes and
    /// pods, whose changes the driver follows itself.
    pub(crate) fn sources(&self) -> Vec<Arc<dyn Source>> {
        let asked = self.inner.asked.lock();
        let others = asked.iter().filter(|(kind, _)| !is_followed_by_the_driver(**kind));
        others.filter_map(|(_, asked)| asked.source.clone()).collect()
    }

    /// Waits until all objects are known of the kinds that have started.
    pub(crate) async fn ready(&self) {
        let sources: Vec<_> =
            self.inner.asked.lock().values().filter_map(|asked| asked.source.clone()).collect();
        for source in sources.into_iter().filter(|source| source.is_started()) {
            source.ready().await;
        }
    }

    /// Whether all objects that plugins look up for this pod are known.
    pub(crate) fn are_known_for(&self, pod: &PodInfo) -> bool {
        let demands = self.inner.demands.lock();
        !demands.iter().any(|demand| demand.progress != Progress::Known && (demand.is_of)(pod))
    }

    /// Starts what is needed for this pod and has not been started. Who waits for the future knows that it is
    /// [known](Listers::are_known_for) afterwards; `None` if nothing was to be started.
    pub(crate) fn start_for(&self, pod: &PodInfo) -> Option<impl Future<Output = ()> + Send + use<>> {
        let mut asked = Vec::new();
        for (number, demand) in self.inner.demands.lock().iter_mut().enumerate() {
            if demand.progress == Progress::Idle && (demand.is_of)(pod) {
                demand.progress = Progress::Asked;
                demand.kinds.values().for_each(|source| source.start());
                asked.push((number, demand.kinds.values().cloned().collect::<Vec<_>>()));
            }
        }
        let listers = self.clone();
        (!asked.is_empty()).then_some(async move {
            for (number, sources) in asked {
                for source in sources {
                    source.ready().await;
                }
                listers.inner.demands.lock()[number].progress = Progress::Known;
            }
        })
    }
}

/// Nodes and pods: the driver waits for them itself, and tells what their changes mean.
fn is_followed_by_the_driver(kind: TypeId) -> bool {
    [TypeId::of::<Node>(), TypeId::of::<Pod>()].contains(&kind)
}

/// Who hears of changes.
pub(crate) type Tell = Box<dyn Fn(ClusterEvent) + Send + Sync>;

/// What keeps the objects of a kind current.
#[async_trait]
pub(crate) trait Source: Send + Sync {
    /// Begins, if it has not.
    fn start(&self);
    /// Whether it has.
    fn is_started(&self) -> bool;
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
    fn start(&self) {
        self.informer.start();
    }

    fn is_started(&self) -> bool {
        self.informer.is_started()
    }

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
