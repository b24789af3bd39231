//! What is known of etcd in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// etcd is not what was followed any more. It stays so: only another cache is of use.
    outdated: watch::Sender<bool>,
    /// How many watches of etcd have fed it, one after the other.
    feeds: AtomicU64,
    /// The last one of them that was seen to stand still.
    stalled: watch::Sender<u64>,
}

impl<V: Value> Cache<V> {
    pub(super) fn new(engine: Arc<Engine<V>>) -> Self {
        let head = watch::Sender::new(engine.revision());
        Self {
            engine,
            head,
            end: watch::Sender::new(()),
            outdated: watch::Sender::new(false),
            feeds: AtomicU64::new(0),
            stalled: watch::Sender::new(0),
        }
    }

    /// Tells that etcd is another one, or fell behind what is here.
    pub(super) fn outdate(&self) {
        self.outdated.send_replace(true);
    }

    /// Returns when, or if, [`Cache::outdate`] was called.
    pub(super) async fn outdated(&self) {
        // The sender is here, so it cannot be gone.
        let _ = self.outdated.subscribe().wait_for(|outdated| *outdated).await;
    }

    /// Another watch of etcd begins to feed it; its number.
    pub(super) fn begin_feed(&self) -> u64 {
        self.feeds.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The number of the watch that feeds it.
    pub(super) fn feed(&self) -> u64 {
        self.feeds.load(Ordering::SeqCst)
    }

    /// Tells that nothing came from a watch for too long.
    pub(super) fn stall(&self, feed: u64) {
        self.stalled.send_if_modified(|last| {
            let is_new = feed > *last;
            *last = feed.max(*last);
            is_new
        });
    }

    /// Returns when [`Cache::stall`] was called for this watch: what is told of an earlier one says nothing
    /// about it.
    pub(super) async fn stalled(&self, feed: u64) {
        let _ = self.stalled.subscribe().wait_for(|last| *last >= feed).await;
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

    /// Ages history although nothing is written, until the cache is replaced.
    pub(super) async fn age(&self) {
        let mut end = self.end.subscribe();
        tokio::select! {
            biased;
            // Failing and changing both mean the end.
            _ = end.changed() => {}
            () = self.engine.run_expiry() => {}
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;
    use crate::backend::durable::Raw;
    use crate::backend::engine::Options;
    use crate::mvcc::Retention;

    fn cache() -> Cache<Raw> {
        Cache::new(Engine::replica(Revision(1), [], &Options::default()))
    }

    /// Several readers find the same watch standing still, one after the other.
    #[test]
    fn a_new_watch_is_not_blamed_for_the_one_before() {
        let cache = cache();
        let first = cache.begin_feed();
        assert!(cache.stalled(first).now_or_never().is_none());
        cache.stall(cache.feed());
        assert!(cache.stalled(first).now_or_never().is_some());
        // It still lasted when the next reader began to wait, and is over when that gives up.
        let seen = cache.feed();
        let second = cache.begin_feed();
        cache.stall(seen);
        cache.stall(seen);
        assert!(cache.stalled(second).now_or_never().is_none());
        cache.stall(cache.feed());
        assert!(cache.stalled(second).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn history_ages_although_nothing_is_written() {
        let history = Retention { revisions: 1000, age: Some(Duration::from_secs(300)) };
        let engine = Engine::replica(Revision(1), [], &Options { history, ..Options::default() });
        let cache: Cache<Raw> = Cache::new(engine);
        (2..10).for_each(|revision| cache.engine.follow(Revision(revision), Vec::new()));
        let aged = |seconds| tokio::time::timeout(Duration::from_secs(seconds), cache.age());
        assert!(aged(200).await.is_err());
        assert!(cache.engine.floor() < Revision(2));
        assert!(aged(200).await.is_err());
        assert_eq!(cache.engine.floor(), Revision(9));
        let mut aging = std::pin::pin!(cache.age());
        assert!(aging.as_mut().now_or_never().is_none());
        cache.end();
        aging.await;
    }

    /// Several readers find that etcd is another one; and the first attempt to read it again may fail.
    #[test]
    fn a_new_cache_is_not_outdated_with_the_one_before() {
        let old = cache();
        assert!(old.outdated().now_or_never().is_none());
        old.outdate();
        assert!(old.outdated().now_or_never().is_some());
        let new = cache();
        old.outdate();
        assert!(new.outdated().now_or_never().is_none());
        assert!(old.outdated().now_or_never().is_some(), "for good");
    }
}
