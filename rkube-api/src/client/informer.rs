//! Informers: a cache that a watch keeps current, shared by all who ask for the same objects.
//!
//! ```no_run
//! # use k8s_openapi::api::core::v1::Pod;
//! # use rkube_api::client::{Change, Client, Informers};
//! # async fn example(client: Client) {
//! let informers = Informers::new(client);
//! let pods = informers.get::<Pod>();
//! pods.on_change(|change: &Change<Pod>| println!("{:?}", change.object().metadata.name));
//! pods.synced().await;
//! println!("{} pods", pods.cache().len());
//! # }
//! ```
//!
//! An informer keeps every object whole. Who needs only a little of very many keeps that itself, and is told by
//! [`follow`] what there is.

use std::{
    any::{Any, TypeId},
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Cache, Client, ObjectKey, Seen, follow};
use crate::object::Kind;

/// Which objects of a kind an informer follows; all unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// Only those of one namespace.
    pub namespace: Option<String>,
    /// Only those that a label selector selects.
    pub labels: String,
    /// Only those that a field selector selects.
    pub fields: String,
}

/// A change that an informer saw.
#[derive(Clone, Debug)]
pub enum Change<K> {
    /// The object is new.
    Added(Arc<K>),
    /// The object has changed.
    Updated {
        /// What it was.
        old: Arc<K>,
        /// What it is.
        new: Arc<K>,
    },
    /// The object is gone; this is its last known state.
    Deleted(Arc<K>),
}

impl<K> Change<K> {
    /// The object: as it is now, or as it last was.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Added(object) | Self::Updated { new: object, .. } | Self::Deleted(object) => object,
        }
    }
}

/// The informers of one client: whoever asks for the same objects shares one watch and one cache.
#[derive(Clone)]
pub struct Informers {
    client: Client,
    running: Arc<Mutex<BTreeMap<(TypeId, Scope), Running>>>,
}

struct Running {
    informer: Arc<dyn Any + Send + Sync>,
    progress: watch::Receiver<Progress>,
}

/// How far an informer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Nobody needs it yet.
    Idle,
    Started,
    Synced,
}

impl std::fmt::Debug for Informers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Informers({} running)", self.running.lock().len())
    }
}

impl Informers {
    /// No informers yet.
    pub fn new(client: Client) -> Self {
        Self { client, running: Arc::default() }
    }

    /// The client that they watch with.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The informer of all objects of a kind, started at the first call (which needs a tokio runtime).
    pub fn get<K: Kind>(&self) -> Informer<K> {
        self.get_scoped(Scope::default())
    }

    /// The informer of some objects of a kind, started at the first call.
    pub fn get_scoped<K: Kind>(&self, scope: Scope) -> Informer<K> {
        let informer = self.idle_scoped(scope);
        informer.start();
        informer
    }

    /// The informer of all objects of a kind, not started by this call: its cache is empty until somebody
    /// [starts](Informer::start) it, or [gets](Informers::get) it from here.
    pub fn idle<K: Kind>(&self) -> Informer<K> {
        self.idle_scoped(Scope::default())
    }

    fn idle_scoped<K: Kind>(&self, scope: Scope) -> Informer<K> {
        let mut running = self.running.lock();
        let key = (TypeId::of::<K>(), scope.clone());
        if let Some(found) = running.get(&key)
            && let Ok(inner) = found.informer.clone().downcast::<Inner<K>>()
        {
            return Informer(inner);
        }
        let (progress, receiver) = watch::channel(Progress::Idle);
        let (cache, handlers) = (Cache::default(), Mutex::default());
        let inner = Arc::new(Inner { client: self.client.clone(), scope, cache, handlers, progress });
        running.insert(key, Running { informer: inner.clone(), progress: receiver });
        Informer(inner)
    }

    /// Waits until every informer started so far has seen the whole of its kind once.
    pub async fn synced(&self) {
        let waiting: Vec<_> = self.running.lock().values().map(|running| running.progress.clone()).collect();
        for mut progress in waiting {
            // The sender lives in the informer, which the map holds.
            let _ = progress.wait_for(|progress| *progress != Progress::Started).await;
        }
    }
}

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

struct Inner<K> {
    client: Client,
    scope: Scope,
    cache: Cache<K>,
    /// Held while a change is applied and told, so that every handler sees every change once, in order.
    handlers: Mutex<Vec<Handler<K>>>,
    progress: watch::Sender<Progress>,
}

/// A cache of one kind's objects and the news of their changes. Clones share both.
pub struct Informer<K>(Arc<Inner<K>>);

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Kind> std::fmt::Debug for Informer<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Informer<{}>({:?})", K::KIND, self.0.cache)
    }
}

impl<K: Kind> Informer<K> {
    /// The objects.
    pub fn cache(&self) -> &Cache<K> {
        &self.0.cache
    }

    /// Starts it, if it is not: it watches as long as the client's spawner runs tasks.
    pub fn start(&self) {
        let begins = self.0.progress.send_if_modified(|progress| {
            let idle = *progress == Progress::Idle;
            if idle {
                *progress = Progress::Started;
            }
            idle
        });
        if begins {
            let (client, scope, keep) =
                (self.0.client.clone(), self.0.scope.clone(), self.0.clone().keeper());
            let spawner = client.context().spawner.clone();
            spawner.spawn("informer", async move { follow(&client, scope, keep).await });
        }
    }

    /// Whether it was started.
    pub fn is_started(&self) -> bool {
        *self.0.progress.borrow() != Progress::Idle
    }

    /// Waits until the cache has held the whole of its kind once.
    pub async fn synced(&self) {
        // The sender is in `self`.
        let _ = self.0.progress.subscribe().wait_for(|progress| *progress == Progress::Synced).await;
    }

    /// Whether the cache has held the whole of its kind once.
    pub fn has_synced(&self) -> bool {
        *self.0.progress.borrow() == Progress::Synced
    }

    /// Tells `handler` of every change, in order, after the cache has it; what is cached already comes
    /// first, as added. Handlers run one after the other in the informer's task: they put keys into
    /// queues and return. A handler must not register another on the same informer. One that panics has
    /// missed that change, which is logged; it gets the next ones, and the other handlers get all.
    pub fn on_change(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        let mut handlers = self.0.handlers.lock();
        let handler: Handler<K> = Box::new(handler);
        for object in self.0.cache.list() {
            contained(K::KIND, || handler(&Change::Added(object)));
        }
        handlers.push(handler);
    }
}

/// Calls what a user gave; a panic is logged and ends nothing else.
pub(super) fn contained<T: Default>(kind: &str, call: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        tracing::error!(kind, "a handler or index of an informer panicked");
        T::default()
    })
}

fn tell_all<K: Kind>(handlers: &[Handler<K>], change: &Change<K>) {
    handlers.iter().for_each(|tell| contained(K::KIND, || tell(change)));
}

impl<K: Kind> Inner<K> {
    /// Keeps the cache as what is told says.
    fn keeper(self: Arc<Self>) -> impl FnMut(Seen<K>) {
        let mut missing = BTreeSet::new();
        move |seen| match seen {
            Seen::Listing => missing = self.cache.keys(),
            Seen::There(object) => {
                if !missing.is_empty() {
                    missing.remove(&ObjectKey::of(&*object));
                }
                self.put(object);
            }
            Seen::Gone(last) => self.remove(&ObjectKey::of(&*last), Some(last)),
            Seen::Listed => {
                std::mem::take(&mut missing).iter().for_each(|key| self.remove(key, None));
                self.progress.send_replace(Progress::Synced);
            }
        }
    }

    fn put(&self, object: Arc<K>) {
        let handlers = self.handlers.lock();
        let change = match self.cache.insert(object.clone()) {
            // A relist or a resumed watch may show what is known.
            Some(old) if old.metadata().resource_version == object.metadata().resource_version => return,
            Some(old) if old.metadata().uid != object.metadata().uid => {
                tell_all(&handlers, &Change::Deleted(old));
                Change::Added(object)
            }
            Some(old) => Change::Updated { old, new: object },
            None => Change::Added(object),
        };
        tell_all(&handlers, &change);
    }

    fn remove(&self, key: &ObjectKey, last: Option<Arc<K>>) {
        let handlers = self.handlers.lock();
        if let Some(old) = self.cache.remove(key) {
            let change = Change::Deleted(last.unwrap_or(old));
            tell_all(&handlers, &change);
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::{
        context::Context,
        error::ApiError,
        object::Object,
        request::{ApiRequest, ApiResponse, Credentials, List, Options, Transport, Verb},
    };

    fn pod(name: &str, version: u32) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.into());
        pod.metadata.resource_version = Some(version.to_string());
        Arc::new(pod)
    }

    #[test]
    fn a_handler_that_panics_harms_nobody_else() {
        let informer = Informers::new(client(Arc::new(Pages::default()))).idle::<Pod>();
        informer.cache().add_index("bad", |_: &Pod| panic!("an index"));
        informer.0.put(pod("early", 1));
        let seen = Arc::new(Mutex::new(Vec::new()));
        informer.on_change(|_| panic!("always"));
        for odd in [true, false] {
            let seen = seen.clone();
            informer.on_change(move |change| {
                let name = change.object().metadata.name.clone();
                seen.lock().push((odd, name.clone()));
                assert!(!odd || name.as_deref() != Some("early"), "once");
            });
        }
        informer.0.put(pod("late", 2));
        informer.0.remove(&ObjectKey::of(&*pod("late", 2)), None);
        let names = |wanted: bool| {
            let seen = seen.lock();
            let all = seen.iter().filter(|(odd, _)| *odd == wanted);
            all.filter_map(|(_, name)| name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(true), ["early", "late", "late"]);
        assert_eq!(names(true), names(false));
        assert_eq!(informer.cache().len(), 1);
    }

    /// Gives two pages of one pod each, whatever limit is asked for, and no watch.
    #[derive(Default)]
    struct Pages {
        asked: Mutex<Vec<Options>>,
    }

    #[async_trait]
    impl Transport for Pages {
        async fn send(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
            if request.verb != Verb::List {
                return std::future::pending().await;
            }
            let (name, continue_token) = match request.options.continue_token {
                None => ("a", Some("more".to_owned())),
                Some(_) => ("b", None),
            };
            self.asked.lock().push(request.options);
            Ok(ApiResponse::List(List {
                api_version: "v1".into(),
                kind: "PodList".into(),
                items: vec![Object::from_arc(pod(name, 1))],
                resource_version: "7".into(),
                continue_token,
                remaining: None,
            }))
        }
    }

    fn client(transport: Arc<dyn Transport>) -> Client {
        Client::new(transport, Credentials::Anonymous, "test", Context::simulated(1))
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_informer_asks_for_nothing_until_it_is_started() {
        let pages = Arc::new(Pages::default());
        let informers = Informers::new(client(pages.clone()));
        let informer = informers.idle::<Pod>();
        informers.synced().await;
        assert_eq!((pages.asked.lock().len(), informer.has_synced()), (0, false));
        informers.get::<Pod>();
        informer.start();
        informers.synced().await;
        assert_eq!((pages.asked.lock().len(), informer.cache().len()), (2, 2), "two pages, once");
    }

    #[tokio::test(start_paused = true)]
    async fn an_informer_asks_for_all_at_once_and_takes_the_pages_that_come() {
        let pages = Arc::new(Pages::default());
        let informer = Informers::new(client(pages.clone())).get::<Pod>();
        informer.synced().await;
        let asked: Vec<_> =
            pages.asked.lock().iter().map(|it| (it.limit, it.continue_token.clone())).collect();
        assert_eq!(asked, [(0, None), (0, Some("more".to_owned()))]);
        assert_eq!(informer.cache().len(), 2);
    }
}
