//! How the cache follows etcd.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::sleep;

use super::cache::Cache;
use super::client::{Client, Failure};
use super::read::is_compacted;
use super::space::{Space, number};
use super::wire::{
    EventType, Method, RangeRequest, RangeResponse, WatchCall, WatchCreateRequest, WatchRequest,
    WatchResponse, WireEvent,
};
use super::{Shared, unavailable};
use crate::backend::engine::{Engine, Options};
use crate::mvcc::{Kept, Row};
use crate::{Prefix, Revision, StoreError, Value};

/// How many keys are read at once.
const PAGE: i64 = 500;
/// How long to wait before the next attempt to follow.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often a first read is begun again because etcd was compacted under it.
const TRIES: usize = 5;

/// Why following ended.
enum End {
    /// It can be taken up again.
    Cut(String),
    /// What comes next is compacted, or etcd is another one: everything has to be read again.
    Lost(String),
}

/// Reads etcd as it was as long ago as history is to reach back, or as etcd's own does.
pub(super) async fn load<V: Value>(
    client: &Client,
    space: &Space,
    options: &Options,
) -> Result<Cache<V>, StoreError> {
    let mut tries = 0;
    loop {
        let start = start(client, options).await?;
        tries += 1;
        match read(client, space, start).await {
            Ok(rows) => return Ok(Cache::new(Engine::replica(start, rows, options))),
            Err(failure) if is_compacted(&failure) && tries < TRIES => {}
            Err(failure) => return Err(unavailable(failure)),
        }
    }
}

/// The oldest revision that is wanted and can be read.
async fn start(client: &Client, options: &Options) -> Result<Revision, StoreError> {
    let current = client.revision().await.map_err(unavailable)?;
    let wanted = Revision(current.0.saturating_sub(options.history.revisions).max(1));
    let request =
        RangeRequest { key: "\0".into(), revision: number(wanted), count_only: true, ..Default::default() };
    match client.call::<_, RangeResponse>(Method::RANGE, request).await {
        Ok(_) => Ok(wanted),
        Err(failure) if is_compacted(&failure) => {
            // A watch from there is refused, and told from where it would not be.
            let told = client.first(Method::WATCH, watch_from(wanted), WatchResponse::compacted).await;
            told.map_err(unavailable)
        }
        Err(failure) => Err(unavailable(failure)),
    }
}

async fn read<V: Value>(client: &Client, space: &Space, at: Revision) -> Result<Vec<Kept<V>>, Failure> {
    let mut rows = Vec::new();
    let (mut key, range_end) = space.range(&Prefix::all(), None);
    loop {
        let range_end = range_end.clone();
        let request =
            RangeRequest { key, range_end, limit: PAGE, revision: number(at), ..RangeRequest::default() };
        let page: RangeResponse = client.call(Method::RANGE, request).await?;
        let names = page.kvs.iter().map(|kv| (space.name(&kv.key), kv));
        rows.extend(names.filter_map(|(name, kv)| Some(kv.present().kept(name?))));
        let Some(last) = page.kvs.last().filter(|_| page.more) else { return Ok(rows) };
        key = [&*last.key, &[0]].concat().into();
    }
}

/// A watch of everything, so that no revision is missing.
fn watch_from(revision: Revision) -> WatchRequest {
    let create = WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        start_revision: number(revision),
        progress_notify: false,
    };
    WatchRequest { call: Some(WatchCall::Create(create)) }
}

impl WatchResponse {
    /// Where history begins, if it is told because the watch began before it.
    fn compacted(&self) -> Option<Revision> {
        u64::try_from(self.compact_revision).ok().filter(|at| *at > 0).map(Revision)
    }
}

impl<V: Value> Shared<V> {
    /// Keeps the cache where etcd is.
    pub(super) async fn follow(&self) {
        let mut pause = PAUSE;
        loop {
            let cache = self.cache();
            let before = cache.head();
            let end = tokio::select! {
                biased;
                () = cache.outdated() => End::Lost("its revision fell".to_owned()),
                end = self.follow_once(&cache) => end,
            };
            pause = if cache.head() > before { PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            match end {
                End::Cut(reason) => tracing::warn!(reason, "the watch of etcd was cut; it goes on"),
                End::Lost(reason) => {
                    tracing::warn!(reason, "etcd cannot be followed further; it is read again");
                    match load(&self.client, &self.space, &self.options).await {
                        Ok(next) => {
                            *self.cache.write() = Arc::new(next);
                            cache.end();
                            continue;
                        }
                        Err(error) => tracing::warn!(%error, "etcd cannot be read"),
                    }
                }
            }
            sleep(pause).await;
        }
    }

    async fn follow_once(&self, cache: &Cache<V>) -> End {
        let (member, feed) = (self.client.member(), cache.begin_feed());
        let request = watch_from(cache.head().next());
        let mut answers = match self.client.stream::<_, WatchResponse>(Method::WATCH, request).await {
            Ok(answers) => answers,
            Err(failure) => return End::Cut(failure.text()),
        };
        loop {
            let answer = tokio::select! {
                biased;
                () = cache.stalled(feed) => {
                    self.client.leave(member);
                    return End::Cut("nothing comes any more".to_owned());
                }
                answer = answers.next() => answer,
            };
            let answer = match answer {
                Some(Ok(answer)) => answer,
                Some(Err(status)) => {
                    self.client.failed(member, &status);
                    return End::Cut(status.message().to_owned());
                }
                None => {
                    self.client.leave(member);
                    return End::Cut("the stream ended".to_owned());
                }
            };
            if let Some(compacted) = answer.compacted() {
                return End::Lost(format!("history begins at {compacted}"));
            }
            if answer.canceled {
                self.client.leave(member);
                return End::Cut(answer.cancel_reason);
            }
            if let Err(end) = self.take(cache, answer.events) {
                return end;
            }
        }
    }

    /// Has the cache follow; the events of one revision come together.
    fn take(&self, cache: &Cache<V>, events: Vec<WireEvent>) -> Result<(), End> {
        let mut events = events.into_iter().filter_map(|event| Some((event.kind, event.kv?))).peekable();
        while let Some(revision) = events.peek().map(|(_, kv)| kv.revision()) {
            if revision.0.saturating_sub(cache.engine.revision().0) > self.options.history.revisions.max(1) {
                return Err(End::Lost(format!("etcd went on to {revision}")));
            }
            let mut rows = Vec::new();
            while let Some((kind, kv)) = events.next_if(|(_, kv)| kv.revision() == revision) {
                if let Some(key) = self.space.name(&kv.key) {
                    let present = (kind == EventType::Put as i32).then(|| kv.present());
                    rows.push(Row { key, present });
                }
            }
            cache.engine.follow(revision, rows);
        }
        cache.moved();
        Ok(())
    }
}
