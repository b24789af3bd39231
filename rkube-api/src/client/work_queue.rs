//! The work queue of controllers, with client-go's promises: a key waits in it once however often it is
//! added, two workers never have the same key, and a key added while a worker has it comes again after.
//!
//! ```
//! use rkube_api::client::{Backoff, WorkQueue};
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let queue = WorkQueue::new(Backoff::default());
//! queue.add("a");
//! queue.add("a");
//! assert_eq!(queue.next().await, Some("a"));
//! queue.done(&"a");
//! assert_eq!(queue.len(), 0);
//! # });
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::context::instant_after;

/// How long a key that failed waits: `base` doubled with each failure, up to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub base: Duration,
    /// At most.
    pub max: Duration,
}

impl Default for Backoff {
    /// 5 ms to 1000 s, as client-go's item limiter.
    fn default() -> Self {
        Self { base: Duration::from_millis(5), max: Duration::from_secs(1000) }
    }
}

impl Backoff {
    /// The wait after so many failures.
    ///
    /// ```
    /// use std::time::Duration;
    /// use rkube_api::client::Backoff;
    /// assert_eq!(Backoff::default().after(1), Duration::from_millis(5));
    /// assert_eq!(Backoff::default().after(4), Duration::from_millis(40));
    /// assert_eq!(Backoff::default().after(99), Duration::from_secs(1000));
    /// ```
    pub fn after(&self, failures: u32) -> Duration {
        2_u32
            .checked_pow(failures.saturating_sub(1))
            .and_then(|factor| self.base.checked_mul(factor))
            .map_or(self.max, |wait| wait.min(self.max))
    }
}

struct State<T> {
    waiting: VecDeque<T>,
    /// Waiting, or to be put to wait when the worker that has it is done.
    dirty: BTreeSet<T>,
    taken: BTreeSet<T>,
    delayed: BTreeSet<(Instant, u64, T)>,
    due: BTreeMap<T, (Instant, u64)>,
    next_delay: u64,
    failures: BTreeMap<T, u32>,
    stopping: bool,
}

/// A queue of keys; clones share it.
pub struct WorkQueue<T> {
    state: Arc<Mutex<State<T>>>,
    changed: Arc<Notify>,
    backoff: Backoff,
}

impl<T> Clone for WorkQueue<T> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), changed: self.changed.clone(), backoff: self.backoff }
    }
}

impl<T> std::fmt::Debug for WorkQueue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.lock();
        write!(
            f,
            "WorkQueue({} waiting, {} taken, {} delayed)",
            state.waiting.len(),
            state.taken.len(),
            state.delayed.len()
        )
    }
}

impl<T: Ord + Clone> State<T> {
    fn add(&mut self, key: T) -> bool {
        if self.stopping || !self.dirty.insert(key.clone()) {
            return false;
        }
        let waits = !self.taken.contains(&key);
        if waits {
            self.waiting.push_back(key);
        }
        waits
    }

    fn delay(&mut self, key: T, until: Instant) {
        if let Some(&(earlier, number)) = self.due.get(&key) {
            if earlier <= until {
                return;
            }
            self.delayed.remove(&(earlier, number, key.clone()));
        }
        self.next_delay += 1;
        self.due.insert(key.clone(), (until, self.next_delay));
        self.delayed.insert((until, self.next_delay, key));
    }

    /// Takes in what is due; gives the time of the next.
    fn take_in(&mut self, now: Instant) -> Option<Instant> {
        while let Some((until, ..)) = self.delayed.first() {
            if *until > now {
                return Some(*until);
            }
            if let Some((.., key)) = self.delayed.pop_first() {
                self.due.remove(&key);
                self.add(key);
            }
        }
        None
    }

    fn take(&mut self) -> Option<T> {
        let key = self.waiting.pop_front()?;
        self.dirty.remove(&key);
        self.taken.insert(key.clone());
        Some(key)
    }
}

impl<T: Ord + Clone> WorkQueue<T> {
    /// An empty queue.
    pub fn new(backoff: Backoff) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            dirty: BTreeSet::new(),
            taken: BTreeSet::new(),
            delayed: BTreeSet::new(),
            due: BTreeMap::new(),
            next_delay: 0,
            failures: BTreeMap::new(),
            stopping: false,
        };
        Self { state: Arc::new(Mutex::new(state)), changed: Arc::default(), backoff }
    }

    /// Adds a key.
    pub fn add(&self, key: T) {
        if self.state.lock().add(key) {
            self.changed.notify_one();
        }
    }

    /// Adds a key after a while, [`LONGEST_WAIT`](crate::context::LONGEST_WAIT) at most; the earliest of
    /// several such calls counts.
    pub fn add_after(&self, key: T, wait: Duration) {
        if wait.is_zero() {
            return self.add(key);
        }
        let mut state = self.state.lock();
        if !state.stopping {
            state.delay(key, instant_after(wait));
            self.changed.notify_one();
        }
    }

    /// Adds a key that failed, after its backoff.
    pub fn add_rate_limited(&self, key: T) {
        let failures = {
            let mut state = self.state.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            *failures = failures.saturating_add(1);
            *failures
        };
        self.add_after(key, self.backoff.after(failures));
    }

    /// Forgets a key's failures.
    pub fn forget(&self, key: &T) {
        self.state.lock().failures.remove(key);
    }

    /// How often a key has failed since it was forgotten.
    pub fn requeues(&self, key: &T) -> u32 {
        self.state.lock().failures.get(key).copied().unwrap_or_default()
    }

    /// Waits for a key; the caller has it until [`WorkQueue::done`]. `None`: the queue was shut down and
    /// nothing waits any more.
    pub async fn next(&self) -> Option<T> {
        loop {
            let changed = self.changed.notified();
            let due = {
                let mut state = self.state.lock();
                let due = state.take_in(Instant::now());
                if let Some(key) = state.take() {
                    if !state.waiting.is_empty() || due.is_some() {
                        // Another worker may have been woken for what this one took.
                        self.changed.notify_one();
                    }
                    return Some(key);
                }
                if state.stopping {
                    self.changed.notify_one();
                    return None;
                }
                due
            };
            match due {
                Some(due) => {
                    tokio::select! {
                        biased;
                        () = changed => {}
                        () = tokio::time::sleep_until(due) => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    /// Gives a key back; it comes again if it was added meanwhile.
    pub fn done(&self, key: &T) {
        let mut state = self.state.lock();
        if state.taken.remove(key) && state.dirty.contains(key) {
            state.waiting.push_back(key.clone());
            self.changed.notify_one();
        }
    }

    /// How many keys wait, delayed ones aside.
    pub fn len(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Whether no key waits, delayed ones aside.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes no more keys; what waits is still handed out, what is delayed is dropped.
    pub fn shut_down(&self) {
        let mut state = self.state.lock();
        state.stopping = true;
        state.delayed.clear();
        state.due.clear();
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::LONGEST_WAIT;

    #[tokio::test(start_paused = true)]
    async fn a_key_in_work_comes_again_only_after_done() {
        let queue = WorkQueue::new(Backoff::default());
        queue.add(1);
        assert_eq!(queue.next().await, Some(1));
        queue.add(1);
        assert!(queue.is_empty());
        queue.done(&1);
        assert_eq!(queue.next().await, Some(1));
        queue.done(&1);
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_delay_counts_and_backoff_doubles() {
        let queue = WorkQueue::new(Backoff::default());
        let start = Instant::now();
        queue.add_after(1, Duration::from_secs(5));
        queue.add_after(1, Duration::from_secs(2));
        queue.add_after(1, Duration::from_secs(9));
        assert_eq!(queue.next().await, Some(1));
        assert_eq!(start.elapsed().as_secs(), 2);
        queue.done(&1);
        for wait in [5, 10, 20] {
            let start = Instant::now();
            queue.add_rate_limited(1);
            assert_eq!(queue.next().await, Some(1));
            assert_eq!(start.elapsed().as_millis(), wait);
            queue.done(&1);
        }
        assert_eq!(queue.requeues(&1), 3);
        queue.forget(&1);
        assert_eq!(queue.requeues(&1), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_without_end_holds_up_nothing() {
        let queue = WorkQueue::new(Backoff { base: Duration::MAX, max: Duration::MAX });
        queue.add_after(1, Duration::MAX);
        queue.add_rate_limited(1);
        queue.add_after(2, Duration::from_secs(1));
        assert_eq!(queue.next().await, Some(2));
        let begun = Instant::now();
        assert_eq!(queue.next().await, Some(1));
        assert!(begun.elapsed() <= LONGEST_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn many_workers_share_and_all_stop() {
        let queue = WorkQueue::new(Backoff::default());
        for key in 0..100 {
            queue.add_after(key, Duration::from_millis(key % 7));
        }
        let seen = Arc::new(Mutex::new(Vec::new()));
        let worker = || {
            let (queue, seen) = (queue.clone(), seen.clone());
            async move {
                while let Some(key) = queue.next().await {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    seen.lock().push(key);
                    queue.done(&key);
                }
            }
        };
        let stop = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            queue.shut_down();
        };
        tokio::join!(worker(), worker(), worker(), stop);
        let mut seen = seen.lock().clone();
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
    }
}
