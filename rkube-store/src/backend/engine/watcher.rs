use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;

use super::Engine;
use crate::mvcc::{Codec, Written};
use crate::watch::{Next, Reading, Subscription};
use crate::{
    Batch, Change, Event, Prefix, Revision, StoreError, Value, Watch, WatchError, WatchItem, WatchOptions,
};

/// How many revisions of the log are looked at with the lock held.
const REVISIONS: u64 = 256;
/// After how many such pieces without an event other tasks are let in.
const PIECES: usize = 16;

pub(in crate::backend) fn watch<V: Value>(
    engine: &Arc<Engine<V>>,
    prefix: &Prefix,
    options: WatchOptions,
) -> Result<Watch<V>, StoreError> {
    engine.expire();
    let state = engine.state.read();
    if options.after < state.floor() {
        return Err(StoreError::Compacted { requested: options.after, compacted: state.floor() });
    }
    let watcher = Watcher {
        engine: engine.clone(),
        prefix: prefix.clone(),
        options,
        reached: options.after,
        reported: engine.hub.requested(),
        ready: VecDeque::new(),
        source: Source::Log { next: options.after.next(), place: engine.hub.read_log(options.after) },
    };
    drop(state);
    Ok(Watch::new(watcher))
}

struct Watcher<V> {
    engine: Arc<Engine<V>>,
    prefix: Prefix,
    options: WatchOptions,
    /// All events up to here were yielded.
    reached: Revision,
    /// The last request for progress that was answered, or made before this watch began.
    reported: Revision,
    /// Read from the log, to be yielded.
    ready: VecDeque<Arc<Batch<V>>>,
    source: Source<V>,
}

enum Source<V> {
    /// What was committed already, from this revision on.
    Log { next: Revision, place: Reading<V> },
    /// What is committed now.
    Ring(Subscription<V>),
}

impl<V: Value> Watcher<V> {
    /// Goes on in the log by one piece, or over to the ring at its end.
    fn read_log(&mut self, next: Revision) -> Result<(), WatchError> {
        let state = self.engine.state.read();
        if next > state.visible() {
            // No commit can come in between, for the state is locked.
            let subscription = self.engine.hub.subscribe(&self.prefix, self.options.progress);
            self.source = Source::Ring(subscription);
            return Ok(());
        }
        if next.previous() < state.floor() {
            return Err(WatchError::Slow { delivered: next.previous(), compacted: state.floor() });
        }
        let last = state.visible().min(Revision(next.0 + REVISIONS - 1));
        let mut written = Vec::new();
        for revision in (next.0..=last.0).map(Revision) {
            let of_one = state.written(revision, &self.prefix);
            if !of_one.is_empty() {
                written.push((revision, of_one));
            }
        }
        drop(state);
        for (revision, of_one) in written {
            let events = of_one.into_iter().map(|written| event(written, revision, &self.engine.codec));
            let events = events.collect::<Result<_, _>>()?;
            self.ready.push_back(Arc::new(Batch { revision, events }));
        }
        self.reached = self.ready.front().map_or(last, |first| first.revision.previous()).max(self.reached);
        if let Source::Log { next, place } = &mut self.source {
            *next = last.next();
            place.reach(self.reached);
        }
        Ok(())
    }

    /// Yields the next batch of those that were read from the log.
    fn take_ready(&mut self) -> Option<Arc<Batch<V>>> {
        let batch = self.ready.pop_front()?;
        self.reached = batch.revision;
        if let Source::Log { place, .. } = &self.source {
            place.reach(self.reached);
        }
        Some(batch)
    }

    fn progress(&mut self) -> Option<Revision> {
        let requested = self.engine.hub.requested();
        if !self.options.progress || requested <= self.reported || requested > self.reached {
            return None;
        }
        self.reported = requested;
        Some(self.reached)
    }
}

/// An event as the live watchers saw it, put together from what the log and the versions tell.
fn event<V: Value>(written: Written<V>, revision: Revision, codec: &Codec) -> Result<Event<V>, StoreError> {
    let previous = written.before.map(|stored| stored.load(codec)).transpose()?;
    let change = match written.after {
        Some(stored) => Change::Put { entry: stored.load(codec)?, previous },
        None => {
            let last = previous.as_ref().map(|entry| {
                let mut last = entry.value.clone();
                last.stamp(revision);
                last
            });
            Change::Delete { previous, last }
        }
    };
    Ok(Event { key: written.key, revision, change })
}

impl<V: Value> Stream for Watcher<V> {
    type Item = Result<WatchItem<V>, WatchError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        for _ in 0..PIECES {
            if let Some(batch) = this.take_ready() {
                return Poll::Ready(Some(Ok(WatchItem::Events(batch))));
            }
            let subscription = match &this.source {
                Source::Ring(subscription) => subscription,
                Source::Log { next, .. } => {
                    let next = *next;
                    if let Err(error) = this.read_log(next) {
                        return Poll::Ready(Some(Err(error)));
                    }
                    continue;
                }
            };
            match subscription.next(cx.waker()) {
                (Next::Batch(batch), _) if batch.revision <= this.options.after => {}
                (Next::Batch(batch), _) => {
                    this.reached = batch.revision;
                    return Poll::Ready(Some(Ok(WatchItem::Events(batch))));
                }
                (Next::Lagged(complete), _) => {
                    let complete = complete.max(this.options.after);
                    let place = this.engine.hub.read_log(complete);
                    this.source = Source::Log { next: complete.next(), place };
                }
                (Next::Drained, published) => {
                    this.reached = this.reached.max(published);
                    return match this.progress() {
                        Some(revision) => Poll::Ready(Some(Ok(WatchItem::Progress(revision)))),
                        None => Poll::Pending,
                    };
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
