//! What there is of a kind, told to one who keeps of it what he needs.
//!
//! An [informer](super::Informer) keeps whole objects, which are large: a pod takes seven kilobytes and more.
//! [`follow`] keeps none.
//!
//! ```no_run
//! # use std::collections::BTreeSet;
//! # use k8s_openapi::api::core::v1::Pod;
//! # use rkube_api::client::{Client, Scope, Seen, follow};
//! # async fn example(client: Client) {
//! let (mut names, mut missing) = (BTreeSet::new(), BTreeSet::new());
//! follow(&client, Scope::default(), |seen: Seen<Pod>| match seen {
//!     Seen::Listing => missing = names.clone(),
//!     Seen::There(pod) => {
//!         missing.remove(&pod.metadata.name);
//!         names.insert(pod.metadata.name.clone());
//!     }
//!     Seen::Gone(pod) => drop(names.remove(&pod.metadata.name)),
//!     Seen::Listed => names.retain(|name| !missing.contains(name)),
//! })
//! .await;
//! # }
//! ```

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::time::Instant;

use super::{Api, Client, KindWatchEvent, ListParams, Scope, WatchParams};
use crate::{error::ApiError, object::Kind};

/// What [`follow`] tells.
#[derive(Clone, Debug)]
pub enum Seen<K> {
    /// All objects are going to be told, one by one: at the beginning, and after a gap in the watch.
    Listing,
    /// An object is there: new, changed, or as it was told before.
    There(Arc<K>),
    /// An object is gone; this is its last state. One that went during a gap is not told so: it is missing among
    /// those that come between [`Seen::Listing`] and [`Seen::Listed`].
    Gone(Arc<K>),
    /// That were all. A [`Seen::Listing`] that comes before this begins anew.
    Listed,
}

/// Tells of the objects of a kind, in order and for ever; it ends only by being dropped. It lists once and
/// watches from there, resumes a watch that ends, and lists anew if the server does not know what came between.
pub async fn follow<K: Kind>(client: &Client, scope: Scope, tell: impl FnMut(Seen<K>) + Send) {
    let api = match &scope.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace.clone()),
        None => Api::all(client.clone()),
    };
    Reflector { api, scope, tell }.run().await;
}

/// First and longest pause between tries, as client-go's reflector has them.
const PAUSE: (Duration, Duration) = (Duration::from_millis(800), Duration::from_secs(30));
/// A watch that ends sooner than this counts as a failure.
const SHORT: Duration = Duration::from_secs(1);

struct Reflector<K, T> {
    api: Api<K>,
    scope: Scope,
    tell: T,
}

impl<K: Kind, T: FnMut(Seen<K>) + Send> Reflector<K, T> {
    async fn run(mut self) {
        let rng = self.api.client().context().rng.fork(K::KIND);
        let mut pause = PAUSE.0;
        let mut version: Option<String> = None;
        loop {
            let began = Instant::now();
            let after = version.take();
            let watched = after.is_some();
            let outcome = match after {
                None => self.list().await,
                Some(after) => self.watch(after).await,
            };
            match outcome {
                Ok(reached) => {
                    version = Some(reached);
                    if !watched || began.elapsed() >= SHORT {
                        pause = PAUSE.0;
                        continue;
                    }
                    // A server that ends every watch at once must not be asked in a tight loop.
                }
                Err((reached, error)) => {
                    tracing::debug!(kind = K::KIND, %error, "a watch starts again");
                    // An expired version means to list anew, at once; after any other error the watch
                    // goes on from where it was.
                    if matches!(error, ApiError::Expired { .. }) {
                        continue;
                    }
                    version = reached;
                }
            }
            tokio::time::sleep(pause.mul_f64(1.0 + rng.fraction())).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// Reads everything; gives the version that was read.
    async fn list(&mut self) -> Result<String, (Option<String>, ApiError)> {
        let mut params = ListParams::default().labels(&*self.scope.labels).fields(&*self.scope.fields);
        let mut first = true;
        loop {
            let page = self.api.list(&params).await.map_err(|error| (None, error))?;
            if std::mem::take(&mut first) {
                (self.tell)(Seen::Listing);
            }
            page.items.into_iter().for_each(|object| (self.tell)(Seen::There(object)));
            match page.continue_token {
                Some(token) => params = params.continue_from(token),
                None => {
                    (self.tell)(Seen::Listed);
                    return Ok(page.resource_version);
                }
            }
        }
    }

    /// Follows changes after a version; gives the version reached when the server ended the watch.
    async fn watch(&mut self, after: String) -> Result<String, (Option<String>, ApiError)> {
        let params = WatchParams {
            labels: self.scope.labels.clone(),
            fields: self.scope.fields.clone(),
            ..WatchParams::after(after.clone()).bookmarks()
        };
        let mut reached = after;
        let mut events = match self.api.watch(&params).await {
            Ok(events) => events,
            Err(error) => return Err((Some(reached), error)),
        };
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.apply(event, &mut reached),
                Err(error) => return Err((Some(reached), error)),
            }
        }
        Ok(reached)
    }

    fn apply(&mut self, event: KindWatchEvent<K>, reached: &mut String) {
        let object = match event {
            KindWatchEvent::Added(object) | KindWatchEvent::Modified(object) => {
                (self.tell)(Seen::There(object.clone()));
                object
            }
            KindWatchEvent::Deleted(object) => {
                (self.tell)(Seen::Gone(object.clone()));
                object
            }
            KindWatchEvent::Bookmark { resource_version, .. } => {
                *reached = resource_version;
                return;
            }
        };
        if let Some(version) = &object.metadata().resource_version {
            reached.clone_from(version);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use async_trait::async_trait;
    use futures::stream;
    use k8s_openapi::api::core::v1::Pod;
    use parking_lot::Mutex;

    use super::*;
    use crate::{
        context::Context,
        object::Object,
        request::{ApiRequest, ApiResponse, Credentials, List, Transport, Verb, WatchEvent, WatchStream},
    };

    fn pod(name: &str, version: u32) -> Object {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.into());
        pod.metadata.resource_version = Some(version.to_string());
        Object::from_arc(Arc::new(pod))
    }

    fn list(version: u32, names: &[&str]) -> Result<ApiResponse, ApiError> {
        Ok(ApiResponse::List(List {
            api_version: "v1".into(),
            kind: "PodList".into(),
            items: names.iter().map(|name| pod(name, version)).collect(),
            resource_version: version.to_string(),
            continue_token: None,
            remaining: None,
        }))
    }

    fn watched(events: Vec<WatchEvent>) -> Result<ApiResponse, ApiError> {
        let events: WatchStream = stream::iter(events).boxed();
        Ok(ApiResponse::Watch(events))
    }

    /// Answers as written down, then never again.
    struct Script {
        asked: Mutex<Vec<String>>,
        answers: Mutex<VecDeque<Result<ApiResponse, ApiError>>>,
    }

    #[async_trait]
    impl Transport for Script {
        async fn send(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
            let after = request.options.resource_version.unwrap_or_default();
            let verb = if request.verb == Verb::List { "list" } else { "watch" };
            self.asked.lock().push(format!("{verb} {after}"));
            let answer = self.answers.lock().pop_front();
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gap_is_told_as_a_list_and_a_broken_watch_is_resumed() {
        let failed = || ApiError::Unavailable { message: "not now".into() };
        let expired = ApiError::Expired { message: "too old".into(), continue_token: None };
        let answers = [
            Err(failed()),
            list(1, &["a", "b"]),
            watched(vec![WatchEvent::Added(pod("c", 2)), WatchEvent::Deleted(pod("a", 3))]),
            Err(failed()),
            watched(vec![WatchEvent::Modified(pod("b", 4))]),
            Err(expired),
            list(9, &["b"]),
        ];
        let script = Arc::new(Script { asked: Mutex::default(), answers: Mutex::new(answers.into()) });
        let client = Client::new(script.clone(), Credentials::Anonymous, "test", Context::simulated(1));
        let mut told = Vec::new();
        let tell = |seen: Seen<Pod>| {
            let name = |pod: Arc<Pod>| pod.metadata.name.clone().unwrap();
            told.push(match seen {
                Seen::Listing => "listing".to_owned(),
                Seen::There(pod) => name(pod),
                Seen::Gone(pod) => format!("{} is gone", name(pod)),
                Seen::Listed => "listed".to_owned(),
            });
        };
        let hours = Duration::from_secs(3600);
        let ended = tokio::time::timeout(hours, follow(&client, Scope::default(), tell)).await;
        assert!(ended.is_err(), "it never ends");
        assert_eq!(told, ["listing", "a", "b", "listed", "c", "a is gone", "b", "listing", "b", "listed"]);
        let asked = script.asked.lock().clone();
        assert_eq!(asked, ["list ", "list ", "watch 1", "watch 3", "watch 3", "watch 4", "list ", "watch 9"]);
    }
}
