//! Watch: what exists, if asked for, then each change as it is committed.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use rkube_store::{Change, Entry, Event, Store, StoreError, Watch, WatchItem, WatchOptions};
use tokio::time::{Instant, Sleep};

use super::{
    call::{Call, expired_watch, outgoing, store_error, watch_error},
    read,
    selection::Selection,
};
use crate::{
    error::ApiError,
    meta::{ErrorList, FieldError, FieldPath},
    object::Object,
    registry::Resolved,
    request::{ApiResponse, Options, VersionMatch, WatchEvent},
};

/// How often watchers that welcome bookmarks get one.
pub(super) const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);

/// Begins a watch.
pub(super) async fn watch(call: &Call<'_>) -> Result<ApiResponse, ApiError> {
    let options = &call.options;
    check_watch_options(options)?;
    let selection = Selection::of(call)?;
    let version = read::version(options)?;
    let folder = read::folder(call)?;
    let store = call.server.store();
    let initial = match (options.send_initial_events, version) {
        (Some(wanted), _) => wanted,
        (None, version) => version.is_none(),
    };
    let mut ready = VecDeque::new();
    let start = match (initial, version) {
        (true, wanted) => {
            let options = rkube_store::ListOptions::default();
            let page = store.list(&folder, options).await.map_err(store_error)?;
            if let Some(wanted) = wanted {
                read::not_older_than(wanted, page.revision)?;
            }
            ready = added(call, &selection, page.entries);
            page.revision
        }
        (false, Some(version)) => version,
        (false, None) => store.revision().await.map_err(store_error)?,
    };
    if options.send_initial_events == Some(true) && options.allow_watch_bookmarks {
        let bookmark = WatchEvent::Bookmark { resource_version: start.to_string(), initial_events_end: true };
        ready.push_back(bookmark);
    }
    let bookmarks = options.allow_watch_bookmarks;
    let source = match store.watch(&folder, WatchOptions { after: start, progress: bookmarks }).await {
        Ok(source) => source,
        Err(StoreError::Compacted { requested, compacted }) => {
            let error = WatchEvent::Error(expired_watch(requested.0, compacted.0));
            return Ok(ApiResponse::Watch(stream::once(async { error }).boxed()));
        }
        Err(error) => return Err(store_error(error)),
    };
    if bookmarks {
        call.server.start_bookmarks();
    }
    let end = options.timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout)));
    let feed = Feed { ready, source: Some(source), selection, resource: call.resource.clone(), end };
    Ok(ApiResponse::Watch(feed.boxed()))
}

fn added(call: &Call<'_>, selection: &Selection, entries: Vec<Entry<Object>>) -> VecDeque<WatchEvent> {
    entries
        .into_iter()
        .filter(|entry| selection.matches(&entry.value))
        .map(|entry| converted(&call.resource, entry.value, WatchEvent::Added))
        .collect()
}

/// The event of an object, in the version asked for.
fn converted(resource: &Resolved, object: Object, event: fn(Object) -> WatchEvent) -> WatchEvent {
    match outgoing(resource, object) {
        Ok(object) => event(object),
        Err(error) => WatchEvent::Error(error),
    }
}

/// The stream of a watch.
struct Feed {
    ready: VecDeque<WatchEvent>,
    source: Option<Watch<Object>>,
    selection: Selection,
    resource: Resolved,
    end: Option<Pin<Box<Sleep>>>,
}

impl Stream for Feed {
    type Item = WatchEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(self.deliver(event)));
            }
            if let Some(end) = &mut self.end
                && end.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(None);
            }
            let Some(source) = &mut self.source else { return Poll::Ready(None) };
            match source.poll_next_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(self.deliver(WatchEvent::Error(watch_error(error)))));
                }
                Poll::Ready(Some(Ok(item))) => {
                    if let Some(event) = self.absorb(&item) {
                        return Poll::Ready(Some(self.deliver(event)));
                    }
                }
            }
        }
    }
}

impl Feed {
    /// An error is the last event.
    fn deliver(&mut self, event: WatchEvent) -> WatchEvent {
        if matches!(event, WatchEvent::Error(_)) {
            self.source = None;
            self.ready.clear();
        }
        event
    }

    /// The first event of an item; others wait in `ready`. Most items have one, and thousands of watchers
    /// take each of them, so that one goes without a detour.
    fn absorb(&mut self, item: &WatchItem<Object>) -> Option<WatchEvent> {
        match item {
            WatchItem::Events(batch) => {
                let (first, rest) = batch.events.split_first()?;
                let first = self.event(first);
                for event in rest {
                    let event = self.event(event);
                    self.ready.extend(event);
                }
                first.or_else(|| self.ready.pop_front())
            }
            WatchItem::Progress(revision) => Some(WatchEvent::Bookmark {
                resource_version: revision.to_string(),
                initial_events_end: false,
            }),
        }
    }

    /// What a change is to this watcher: to one who selects, an object comes and goes as it matches.
    fn event(&self, event: &Event<Object>) -> Option<WatchEvent> {
        let before = event.change.previous().map(|entry| &entry.value);
        let matched = before.is_some_and(|object| self.selection.matches(object));
        match &event.change {
            Change::Put { entry, .. } => {
                let object = &entry.value;
                match (matched, self.selection.matches(object)) {
                    (true, true) => Some(self.convert(object, WatchEvent::Modified)),
                    (false, true) => Some(self.convert(object, WatchEvent::Added)),
                    (true, false) => {
                        // As the watcher last saw it, at the version that took it away.
                        let mut last = before?.clone();
                        last.meta_mut().resource_version = Some(event.revision.to_string());
                        Some(self.convert(&last, WatchEvent::Deleted))
                    }
                    (false, false) => None,
                }
            }
            Change::Delete { last, .. } => {
                matched.then_some(last.as_ref()).flatten().map(|last| self.convert(last, WatchEvent::Deleted))
            }
        }
    }

    fn convert(&self, object: &Object, event: fn(Object) -> WatchEvent) -> WatchEvent {
        converted(&self.resource, object.clone(), event)
    }
}

/// Asks the store for progress now and then, for as long as somebody runs it.
pub(super) async fn tick(store: Arc<dyn Store<Object>>) {
    let mut next = Instant::now() + BOOKMARK_PERIOD;
    loop {
        tokio::time::sleep_until(next).await;
        next += BOOKMARK_PERIOD;
        if let Err(error) = store.request_progress().await {
            tracing::warn!(%error, "no bookmarks: the store gives no progress");
        }
    }
}

fn check_watch_options(options: &Options) -> Result<(), ApiError> {
    let mut errors = ErrorList::default();
    let field = FieldPath::new("resourceVersionMatch");
    let matching = options.resource_version_match;
    if options.send_initial_events.is_some() && matching != Some(VersionMatch::NotOlderThan) {
        let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(FieldError::forbidden(&field, detail));
    }
    if let Some(matching) = matching {
        if options.send_initial_events.is_none() {
            let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(FieldError::forbidden(&field, detail));
        }
        if matching != VersionMatch::NotOlderThan {
            errors.push(FieldError::not_supported(&field, "Exact", &["NotOlderThan"]));
        }
        if options.continue_token.as_deref().is_some_and(|token| !token.is_empty()) {
            let detail = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(FieldError::forbidden(&field, detail));
        }
    }
    read::invalid_options(&errors)
}
