//! Watches: what they yield, and the hub that commits feed.
//!
//! Events come from commits and from nothing else. A watch first reads from the log what happened before
//! it began, then takes its place at the ring of its prefix, which holds the latest batches once for all
//! watchers of that prefix. A commit adds one reference to the ring of each matching prefix and wakes who
//! waits there; it does no work for the watchers of other prefixes, and it never waits for anybody. A
//! watcher that falls behind the ring reads from the log again, and if that is compacted it ends with
//! [`WatchError::Slow`].
//!
//! ```
//! # use rkube_store::Revision;
//! use rkube_store::watch::WatchOptions;
//! let options = WatchOptions::after(Revision(7)).with_progress();
//! assert!(options.progress);
//! ```

mod hub;
mod ring;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use futures::stream::{BoxStream, FusedStream};

use crate::{Batch, Revision, WatchError};
pub(crate) use hub::{Hub, Reading, Subscription, Wake};
pub(crate) use ring::Next;

/// From where to watch, and what besides events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// Yield the events above this revision. It may lie in the future.
    pub after: Revision,
    /// Yield [`WatchItem::Progress`] when it is requested.
    pub progress: bool,
}

impl WatchOptions {
    /// The events above this revision, without progress.
    #[must_use]
    pub const fn after(revision: Revision) -> Self {
        Self { after: revision, progress: false }
    }

    /// With progress, too.
    #[must_use]
    pub const fn with_progress(mut self) -> Self {
        self.progress = true;
        self
    }
}

/// What a watch yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchItem<V> {
    /// All events of one revision in the watched prefix.
    Events(Arc<Batch<V>>),
    /// All events up to this revision were yielded.
    Progress(Revision),
}

impl<V> WatchItem<V> {
    /// The revision up to which the watch is complete after this item.
    #[must_use]
    pub fn revision(&self) -> Revision {
        match self {
            Self::Events(batch) => batch.revision,
            Self::Progress(revision) => *revision,
        }
    }
}

/// A running watch: a stream, without end unless it fails. Dropping it ends it.
pub struct Watch<V> {
    stream: Option<BoxStream<'static, Result<WatchItem<V>, WatchError>>>,
}

impl<V> Watch<V> {
    /// A watch over what a backend's stream yields. An error is the last item.
    pub fn new(stream: impl Stream<Item = Result<WatchItem<V>, WatchError>> + Send + 'static) -> Self {
        Self { stream: Some(Box::pin(stream)) }
    }
}

impl<V> Stream for Watch<V> {
    type Item = Result<WatchItem<V>, WatchError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        let polled = stream.as_mut().poll_next(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.stream = None;
        }
        polled
    }
}

impl<V> FusedStream for Watch<V> {
    fn is_terminated(&self) -> bool {
        self.stream.is_none()
    }
}

impl<V> fmt::Debug for Watch<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("ended", &self.stream.is_none()).finish()
    }
}
