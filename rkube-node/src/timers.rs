//! One ordered set of what is due when, and the one task that waits for it.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

struct State<T> {
    due: BTreeMap<(Instant, u64), T>,
    sequence: u64,
}

/// Values that come out when their time has come; those of one instant in the order they were put in.
pub(crate) struct Timers<T> {
    state: Mutex<State<T>>,
    sooner: Notify,
}

impl<T> Timers<T> {
    pub(crate) fn new() -> Arc<Self> {
        let state = Mutex::new(State { due: BTreeMap::new(), sequence: 0 });
        Arc::new(Self { state, sooner: Notify::new() })
    }

    pub(crate) fn add(&self, at: Instant, value: T) {
        let mut state = self.state.lock();
        let first = state.due.first_key_value().map(|((first, _), _)| *first);
        state.sequence += 1;
        let key = (at, state.sequence);
        state.due.insert(key, value);
        if first.is_none_or(|first| at < first) {
            self.sooner.notify_one();
        }
    }

    /// Takes the first value that is due, or tells when the next one will be.
    fn take(&self, now: Instant) -> Result<T, Option<Instant>> {
        let mut state = self.state.lock();
        match state.due.first_entry() {
            Some(entry) if entry.key().0 <= now => Ok(entry.remove()),
            Some(entry) => Err(Some(entry.key().0)),
            None => Err(None),
        }
    }

    /// Waits for the next value.
    pub(crate) async fn next(&self) -> T {
        loop {
            match self.take(Instant::now()) {
                Ok(value) => return value,
                Err(Some(next)) => {
                    tokio::select! {
                        biased;
                        () = self.sooner.notified() => {}
                        () = tokio::time::sleep_until(next) => {}
                    }
                }
                Err(None) => self.sooner.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn values_come_in_order_of_time_then_of_entry() {
        let timers = Timers::new();
        let start = Instant::now();
        for (second, value) in [(3, 'd'), (1, 'a'), (2, 'b'), (2, 'c')] {
            timers.add(start + Duration::from_secs(second), value);
        }
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push((timers.next().await, start.elapsed().as_secs()));
        }
        assert_eq!(seen, [('a', 1), ('b', 2), ('c', 2), ('d', 3)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sooner_value_wakes_the_waiter() {
        let timers = Timers::new();
        let start = Instant::now();
        timers.add(start + Duration::from_secs(9), 9);
        let later = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            timers.add(start + Duration::from_secs(2), 2);
        };
        let (value, ()) = tokio::join!(timers.next(), later);
        assert_eq!((value, start.elapsed().as_secs()), (2, 2));
    }
}
