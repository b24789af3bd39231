//! What is known of etcd in this process.

use std::sync::Arc;

use futures::{FutureExt, StreamExt, stream};
use tokio::sync::watch;

use crate::backend::engine::Engine;
use crate::{Prefix, Revision, StoreError, Value, Watch, WatchError, WatchOptions};

/// A part of etcd's history, up to where it was followed, and who watches it. It is replaced as a whole
/// when etcd no longer has what comes next.
pub(super) struct Cache<V> {
    pub(super) engine: Arc<Engine<V>>,
    /// Up to where etcd was followed.
    head: watch::Sender<Revision>,
    /// Gone with the cache: its watches end then.
    end: watch::Sender<()>,
}

impl<V: Value> Cache<V> {
    pub(super) fn new(engine: Arc<Engine<V>>) -> Self {
        let head = watch::Sender::new(engine.revision());
        Self { engine, head, end: watch::Sender::new(()) }
    }

    pub(super) fn head(&self) -> Revision {
        *self.head.borrow()
    }

    /// The head, to wait for it.
    pub(super) fn heads(&self) -> watch::Receiver<Revision> {
        self.head.subscribe()
    }

    /// Tells who waits for it that the engine followed etcd further.
    pub(super) fn moved(&self) {
        self.head.send_replace(self.engine.revision());
    }

    /// Ends all watches.
    pub(super) fn end(&self) {
        self.end.send_replace(());
    }

    pub(super) fn watch(&self, prefix: &Prefix, options: WatchOptions) -> Result<Watch<V>, StoreError> {
        let mut end = self.end.subscribe();
        let events = self.engine.watch(prefix, options)?;
        let ended = async move {
            // Failing and changing both mean the end.
            let _ = end.changed().await;
        };
        let gone = || {
            let reason = "etcd was followed anew, or the store was closed".to_owned();
            Err(WatchError::Store(StoreError::Unavailable(reason)))
        };
        let last = stream::once(async move { gone() });
        Ok(Watch::new(events.take_until(ended.boxed()).chain(last)))
    }
}
