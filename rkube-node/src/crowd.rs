//! Many jobs on one task, so many at once; one that hangs does not keep its place for ever.

use std::{collections::VecDeque, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;

/// How long a job keeps its place. What takes longer waits for something, and goes on beside the others.
const PATIENCE: Duration = Duration::from_secs(1);

/// Jobs under way. [`Crowd::step`] drives them.
pub(crate) struct Crowd<'a> {
    jobs: FuturesUnordered<BoxFuture<'a, u64>>,
    places: usize,
    /// The jobs that have a place, by number, and since when, oldest first.
    placed: VecDeque<(u64, Instant)>,
    next: u64,
}

impl<'a> Crowd<'a> {
    /// A crowd of none, with places for so many.
    pub(crate) fn new(places: usize) -> Self {
        Self { jobs: FuturesUnordered::new(), places: places.max(1), placed: VecDeque::new(), next: 0 }
    }

    /// Whether one more may begin.
    pub(crate) fn has_room(&self) -> bool {
        self.placed.len() < self.places
    }

    /// Whether every job has ended.
    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Adds a job.
    pub(crate) fn add(&mut self, job: impl Future<Output = ()> + Send + 'a) {
        let number = self.next;
        self.next += 1;
        self.placed.push_back((number, Instant::now()));
        self.jobs.push(job.map(move |()| number).boxed());
    }

    /// Drives the jobs until one has ended, or a place has become free otherwise. Waits for ever if there is
    /// none. Nothing is lost if it is dropped.
    pub(crate) async fn step(&mut self) {
        let oldest = self.placed.front().filter(|_| !self.has_room()).map(|(_, since)| *since + PATIENCE);
        let impatient = async {
            match oldest {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(ended) = self.jobs.next(), if !self.jobs.is_empty() => {
                self.placed.retain(|(number, _)| *number != ended);
            }
            () = impatient => {
                self.placed.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_hangs_gives_its_place_away_and_still_ends() {
        let (told, ended) = tokio::sync::oneshot::channel();
        let mut crowd = Crowd::new(2);
        crowd.add(std::future::pending());
        crowd.add(async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            told.send(()).unwrap();
        });
        assert!(!crowd.has_room());
        let start = Instant::now();
        crowd.step().await;
        assert_eq!((crowd.has_room(), start.elapsed()), (true, PATIENCE));
        tokio::select! {
            biased;
            result = ended => result.unwrap(),
            () = async { loop { crowd.step().await } } => {}
        }
        assert_eq!(start.elapsed(), Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn short_jobs_run_so_many_at_once() {
        let mut crowd = Crowd::new(3);
        let start = Instant::now();
        for _ in 0..9 {
            while !crowd.has_room() {
                crowd.step().await;
            }
            crowd.add(tokio::time::sleep(Duration::from_millis(500)));
        }
        while !crowd.is_empty() {
            crowd.step().await;
        }
        assert_eq!(start.elapsed(), Duration::from_millis(1500));
    }
}
