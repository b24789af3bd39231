use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use crate::{Batch, Revision, WatchStats};

/// The latest batches of one prefix, and the watchers that read them: each at its own place, the batches
/// held once. A batch leaves when the last of the watchers that were there at its coming has taken it, or
/// when there are too many; whoever still needed it then is told that it lags.
///
/// Wakers and batches are handed out to be dropped by the caller, outside of the ring's lock: they may be
/// the last reference to a task or a value, whose end runs others' code.
pub(super) struct Ring<V> {
    bound: usize,
    batches: VecDeque<Slot<V>>,
    /// The number of the first batch held.
    first: u64,
    members: Vec<Option<Member>>,
    /// Places in `members` without a member.
    free: Vec<usize>,
    /// How many members do not lag.
    active: usize,
    /// Who is to be woken by the next batch, by place in `members`. It is taken out whole, so that waking
    /// any number of watchers costs nothing while locks are held.
    waiting: Vec<Option<Waker>>,
}

struct Slot<V> {
    batch: Arc<Batch<V>>,
    /// How many watchers have yet to take it; never less than for the slot before.
    due: usize,
}

struct Member {
    /// The number of the next batch to take.
    next: u64,
    progress: bool,
    /// Set when a batch that it needed went away: it is complete up to here.
    lagged: Option<Revision>,
}

/// What a watcher finds at the ring.
pub(crate) enum Next<V> {
    Batch(Arc<Batch<V>>),
    /// It was too slow for the ring; up to this revision it is complete.
    Lagged(Revision),
    /// Nothing new.
    Drained,
}

impl<V> Ring<V> {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            bound: bound.max(1),
            batches: VecDeque::new(),
            first: 0,
            members: Vec::new(),
            free: Vec::new(),
            active: 0,
            waiting: Vec::new(),
        }
    }

    /// A new watcher, for what comes from now on.
    pub(super) fn join(&mut self, progress: bool) -> usize {
        let member = Member { next: self.first + self.batches.len() as u64, progress, lagged: None };
        self.active += 1;
        match self.free.pop() {
            Some(id) => {
                self.members[id] = Some(member);
                id
            }
            None => {
                self.members.push(Some(member));
                self.members.len() - 1
            }
        }
    }

    pub(super) fn leave(&mut self, id: usize) -> (Vec<Arc<Batch<V>>>, Option<Waker>) {
        let waker = self.waiting.get_mut(id).and_then(Option::take);
        if let Some(member) = self.members.get_mut(id).and_then(Option::take) {
            self.free.push(id);
            if member.lagged.is_none() {
                self.active -= 1;
                self.release_from(member.next);
            }
        }
        (self.undue(), waker)
    }

    /// Adds its watchers to the store's, which is at this revision.
    pub(super) fn count(&self, head: Revision, stats: &mut WatchStats) {
        let lagged = self.members.iter().flatten().filter_map(|member| member.lagged);
        // A batch is held while somebody needs it.
        let needed = self.batches.front().map(|slot| slot.batch.revision.previous());
        let slowest = lagged.chain(needed).min().unwrap_or(head);
        stats.live += self.active;
        stats.lagging += self.members.len() - self.free.len() - self.active;
        stats.lag = stats.lag.max(self.batches.len());
        stats.behind = stats.behind.max(head.0.saturating_sub(slowest.0));
    }

    pub(super) fn is_deserted(&self) -> bool {
        self.free.len() == self.members.len()
    }

    /// Has every watcher go on in the log: what happened at this revision cannot be held here.
    pub(super) fn lag(&mut self, revision: Revision) -> (Vec<Option<Waker>>, Vec<Arc<Batch<V>>>) {
        for member in self.members.iter_mut().flatten().filter(|member| member.lagged.is_none()) {
            let at = usize::try_from(member.next - self.first).unwrap_or(usize::MAX);
            let next = self.batches.get(at).map_or(revision, |slot| slot.batch.revision);
            member.lagged = Some(next.previous());
        }
        self.active = 0;
        self.first += self.batches.len() as u64;
        let gone = self.batches.drain(..).map(|slot| slot.batch).collect();
        (std::mem::take(&mut self.waiting), gone)
    }

    /// Adds a batch. The wakers are to be woken; the batches that had to go for it are to be dropped.
    pub(super) fn push(&mut self, batch: Arc<Batch<V>>) -> (Vec<Option<Waker>>, Vec<Arc<Batch<V>>>) {
        let gone = if self.batches.len() >= self.bound { self.overflow() } else { Vec::new() };
        if self.active > 0 {
            self.batches.push_back(Slot { batch, due: self.active });
        }
        (std::mem::take(&mut self.waiting), gone)
    }

    /// The wakers of those that want progress.
    pub(super) fn wake_for_progress(&mut self, woken: &mut Vec<Option<Waker>>) {
        let waiting = self.waiting.iter_mut().zip(&self.members);
        let wanting = waiting.filter(|(_, member)| member.as_ref().is_some_and(|member| member.progress));
        woken.extend(wanting.map(|(waker, _)| waker.take()));
    }

    /// What comes next for a watcher.
    pub(super) fn next(&mut self, id: usize) -> Next<V> {
        let Some(member) = self.members.get_mut(id).and_then(Option::as_mut) else { return Next::Drained };
        if let Some(complete) = member.lagged {
            return Next::Lagged(complete);
        }
        let at = usize::try_from(member.next - self.first).unwrap_or(usize::MAX);
        let Some(slot) = self.batches.get_mut(at) else { return Next::Drained };
        member.next += 1;
        slot.due -= 1;
        let batch = slot.batch.clone();
        if slot.due == 0 {
            // Nobody needs those before it either, so it is the first; and the next one is still due here.
            self.pop();
        }
        Next::Batch(batch)
    }

    /// Has the watcher woken at the next batch; returns the waker it had left before.
    pub(super) fn wait(&mut self, id: usize, waker: &Waker) -> Option<Waker> {
        if self.waiting.len() <= id {
            self.waiting.reserve(self.members.len() - self.waiting.len());
            self.waiting.resize_with(id + 1, || None);
        }
        let place = self.waiting.get_mut(id)?;
        if place.as_ref().is_some_and(|old| old.will_wake(waker)) {
            return None;
        }
        place.replace(waker.clone())
    }

    fn pop(&mut self) -> Option<Arc<Batch<V>>> {
        let slot = self.batches.pop_front()?;
        self.first += 1;
        Some(slot.batch)
    }

    /// A watcher does not need the batches from this number on any more.
    fn release_from(&mut self, number: u64) {
        let at = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.batches.iter_mut().skip(at).for_each(|slot| slot.due -= 1);
    }

    /// Lets the first batch go although watchers still need it, notes that they lag, and lets those go that
    /// only they needed.
    fn overflow(&mut self) -> Vec<Arc<Batch<V>>> {
        let number = self.first;
        let Some(first) = self.pop() else { return Vec::new() };
        let mut lagging = 0;
        for member in self.members.iter_mut().flatten() {
            if member.lagged.is_none() && member.next == number {
                member.lagged = Some(first.revision.previous());
                lagging += 1;
            }
        }
        self.active -= lagging;
        self.batches.iter_mut().for_each(|slot| slot.due -= lagging);
        let mut gone = vec![first];
        gone.extend(self.undue());
        gone
    }

    /// Takes out the batches that nobody needs any more.
    fn undue(&mut self) -> Vec<Arc<Batch<V>>> {
        let mut gone = Vec::new();
        while self.batches.front().is_some_and(|slot| slot.due == 0) {
            gone.extend(self.pop());
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use futures::task::noop_waker;
    use proptest::prelude::*;

    use super::*;

    fn batch(revision: u64) -> Arc<Batch<u8>> {
        Arc::new(Batch { revision: Revision(revision), events: Vec::new() })
    }

    #[derive(Clone, Debug)]
    enum Step {
        Join,
        Leave(usize),
        Take(usize),
        Push,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => Just(Step::Join),
            1 => (0..8_usize).prop_map(Step::Leave),
            6 => (0..8_usize).prop_map(Step::Take),
            4 => Just(Step::Push),
        ]
    }

    proptest! {
        /// Against a model in which each watcher has its own queue.
        #[test]
        fn each_watcher_gets_all_in_order_or_is_told_that_it_lags(
            steps in proptest::collection::vec(step(), 1..200), bound in 1..5_usize,
        ) {
            let mut ring = Ring::new(bound);
            let mut queues: Vec<(usize, VecDeque<u64>, bool)> = Vec::new();
            let mut revision = 0;
            for step in steps {
                match step {
                    Step::Join => queues.push((ring.join(false), VecDeque::new(), false)),
                    Step::Leave(at) if at < queues.len() => {
                        let (id, ..) = queues.remove(at);
                        ring.leave(id);
                    }
                    Step::Take(at) if at < queues.len() => {
                        let (id, queue, lagged) = &mut queues[at];
                        match ring.next(*id) {
                            Next::Batch(batch) => prop_assert_eq!(Some(batch.revision.0), queue.pop_front()),
                            Next::Drained => prop_assert!(queue.is_empty()),
                            Next::Lagged(complete) => {
                                *lagged = true;
                                prop_assert!(queue.len() > bound);
                                prop_assert_eq!(Some(complete.next().0), queue.front().copied());
                            }
                        }
                    }
                    Step::Push => {
                        revision += 1;
                        ring.push(batch(revision));
                        queues.iter_mut().for_each(|(_, queue, _)| queue.push_back(revision));
                    }
                    Step::Leave(_) | Step::Take(_) => {}
                }
                prop_assert!(ring.batches.len() <= bound);
                prop_assert_eq!(ring.is_deserted(), queues.is_empty());
                if queues.is_empty() {
                    prop_assert!(ring.batches.is_empty(), "batches that nobody needs are gone");
                }
            }
        }
    }

    #[test]
    fn what_an_overflow_frees_is_handed_out_and_not_dropped_within() {
        let mut ring = Ring::new(4);
        let (_slow, quick) = (ring.join(false), ring.join(false));
        for revision in 1..=4 {
            ring.push(batch(revision));
            assert!(matches!(ring.next(quick), Next::Batch(_)));
        }
        // Only the slow one still needed them; it lags now.
        let (_, gone) = ring.push(batch(5));
        assert_eq!(gone.iter().map(|batch| batch.revision.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }

    #[test]
    fn what_is_only_in_the_log_sends_each_watcher_there_from_its_own_place() {
        let mut ring = Ring::new(4);
        let (slow, quick) = (ring.join(false), ring.join(false));
        ring.wait(quick, &noop_waker());
        ring.push(batch(7));
        assert!(matches!(ring.next(quick), Next::Batch(_)));
        ring.wait(quick, &noop_waker());
        let (woken, gone) = ring.lag(Revision(9));
        assert_eq!((woken.into_iter().flatten().count(), gone.len()), (1, 1));
        assert!(matches!(ring.next(slow), Next::Lagged(Revision(6))));
        assert!(matches!(ring.next(quick), Next::Lagged(Revision(8))));
        ring.lag(Revision(10));
        assert!(matches!(ring.next(quick), Next::Lagged(Revision(8))));
        let late = ring.join(false);
        ring.push(batch(11));
        assert!(matches!(ring.next(late), Next::Batch(batch) if batch.revision == Revision(11)));
        for id in [slow, quick, late] {
            ring.leave(id);
        }
        assert!(ring.is_deserted() && ring.batches.is_empty());
    }

    #[test]
    fn waiting_takes_no_more_room_than_there_are_watchers() {
        let mut ring = Ring::<u8>::new(4);
        for _ in 0..100 {
            let id = ring.join(false);
            ring.wait(id, &noop_waker());
            ring.leave(id);
        }
        assert_eq!((ring.members.len(), ring.waiting.len()), (1, 1));
        let id = ring.join(true);
        ring.wait(id, &noop_waker());
        let mut woken = Vec::new();
        ring.wake_for_progress(&mut woken);
        assert_eq!(woken.len(), 1);
        assert_eq!(ring.push(batch(1)).0.into_iter().flatten().count(), 0, "it was woken already");
    }
}
