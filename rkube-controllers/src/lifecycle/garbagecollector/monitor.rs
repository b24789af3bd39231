//! Follows the metadata of one resource, of whatever kind.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::StreamExt;
use rkube_api::{
    client::Client,
    error::ApiError,
    object::Object,
    request::{ApiResponse, Body, Options, Verb, WatchEvent},
};
use tokio::{sync::watch, time::Instant};

use crate::resources::ApiResource;

/// First and longest pause between tries.
const PAUSE: (Duration, Duration) = (Duration::from_millis(800), Duration::from_secs(30));
const PAGE: u64 = 500;
/// A watch that ends sooner than this counts as a failure.
const SHORT: Duration = Duration::from_secs(1);

/// What a monitor tells.
pub(super) enum Seen<'a> {
    /// The object is there, new or changed.
    Put(&'a Object),
    /// The object of this UID is gone.
    Gone(&'a str),
}

/// Lists and watches one resource for as long as it is polled.
pub(super) struct Monitor<F> {
    pub(super) client: Client,
    pub(super) resource: Arc<ApiResource>,
    /// Set once the first list is complete.
    pub(super) synced: watch::Sender<bool>,
    pub(super) tell: F,
}

impl<F: FnMut(&Arc<ApiResource>, Seen<'_>) + Send> Monitor<F> {
    pub(super) async fn run(mut self) {
        let rng = self.client.context().rng.fork(&self.resource.resource);
        let mut known = BTreeSet::new();
        let mut version: Option<String> = None;
        let mut pause = PAUSE.0;
        loop {
            let began = Instant::now();
            let listing = version.is_none();
            let result = match version.take() {
                None => self.list(&mut known).await.map(Some),
                Some(mut after) => {
                    let result = self.watch(&mut after, &mut known).await;
                    version = Some(after);
                    result.map(|()| None)
                }
            };
            match result {
                Ok(listed) => {
                    version = listed.or(version);
                    if listing || began.elapsed() >= SHORT {
                        pause = PAUSE.0;
                        continue;
                    }
                }
                Err(ApiError::Expired { .. }) => {
                    version = None;
                    continue;
                }
                Err(error) => {
                    tracing::debug!(resource = self.resource.resource, %error, "the monitor starts again");
                }
            }
            tokio::time::sleep(pause.mul_f64(1.0 + rng.fraction())).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn list(&mut self, known: &mut BTreeSet<String>) -> Result<String, ApiError> {
        let mut gone = known.clone();
        let mut options = Options { limit: PAGE, ..Options::default() };
        loop {
            let target = self.resource.all(None);
            let list = match self.client.request(Verb::List, target, options.clone(), Body::Empty).await? {
                ApiResponse::List(list) => list,
                other => return Err(ApiError::internal(format!("expected a list, got {other:?}"))),
            };
            for object in &list.items {
                gone.remove(object.uid());
                known.insert(object.uid().to_owned());
                (self.tell)(&self.resource, Seen::Put(object));
            }
            match list.continue_token {
                Some(token) => options.continue_token = Some(token),
                None => {
                    for uid in &gone {
                        known.remove(uid);
                        (self.tell)(&self.resource, Seen::Gone(uid));
                    }
                    self.synced.send_replace(true);
                    return Ok(list.resource_version);
                }
            }
        }
    }

    async fn watch(&mut self, after: &mut String, known: &mut BTreeSet<String>) -> Result<(), ApiError> {
        let options = Options {
            resource_version: Some(after.clone()),
            allow_watch_bookmarks: true,
            ..Options::default()
        };
        let target = self.resource.all(None);
        let mut stream = match self.client.request(Verb::Watch, target, options, Body::Empty).await? {
            ApiResponse::Watch(stream) => stream,
            other => return Err(ApiError::internal(format!("expected a watch, got {other:?}"))),
        };
        while let Some(event) = stream.next().await {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    object.resource_version().clone_into(after);
                    known.insert(object.uid().to_owned());
                    (self.tell)(&self.resource, Seen::Put(&object));
                }
                WatchEvent::Deleted(object) => {
                    object.resource_version().clone_into(after);
                    known.remove(object.uid());
                    (self.tell)(&self.resource, Seen::Gone(object.uid()));
                }
                WatchEvent::Bookmark { resource_version, .. } => *after = resource_version,
                WatchEvent::Error(error) => return Err(error),
            }
        }
        Ok(())
    }
}
