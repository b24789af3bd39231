//! Reads: from the cache once it is where etcd is, else from etcd.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;

use super::cache::Cache;
use super::client::Client;
use super::space::number;
use super::wire::{Method, RangeRequest, RangeResponse, revision};
use super::{Failure, Shared, unavailable};
use crate::{Key, ListOptions, Page, Prefix, Read, Revision, StoreError, Value};

/// How long a read waits for the cache to follow.
const PATIENCE: Duration = Duration::from_secs(1);

/// Questions for etcd's revision. One is under way at a time, and answers all that were asked before it
/// began.
#[derive(Default)]
pub(super) struct Rounds {
    asked: AtomicU64,
    last: Mutex<Round>,
}

#[derive(Default)]
struct Round {
    /// The questions up to this one are answered.
    answers: u64,
    answer: Option<Result<Revision, String>>,
}

/// Where to read.
enum Place<V> {
    Cache(Arc<Cache<V>>),
    Etcd(Revision),
}

impl Client {
    /// etcd's revision, as most of its members have it.
    pub(super) async fn revision(&self) -> Result<Revision, Failure> {
        // A read of a key that is not there; only the header counts.
        let request = RangeRequest { key: "\0".into(), count_only: true, ..RangeRequest::default() };
        let answer: RangeResponse = self.call(Method::RANGE, request).await?;
        Ok(revision(answer.header.as_ref()))
    }
}

/// Whether etcd refused because a revision is compacted.
pub(super) fn is_compacted(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(text) if text.contains("required revision has been compacted"))
}

/// Whether etcd refused because a revision has not come yet.
pub(super) fn is_future(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(text) if text.contains("required revision is a future revision"))
}

fn fell<V: Value>(cache: &Cache<V>, known: Revision, now: Revision) -> String {
    cache.outdate();
    format!("etcd was at revision {known} and is at {now}: it was replaced, or an old state brought back")
}

impl<V: Value> Shared<V> {
    /// A revision that is not under that of any write acknowledged before.
    pub(super) async fn current(&self) -> Result<Revision, StoreError> {
        let question = self.rounds.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut last = self.rounds.last.lock().await;
        if last.answers < question || last.answer.is_none() {
            let answers = self.rounds.asked.load(Ordering::SeqCst);
            let cache = self.cache();
            let known = cache.head();
            let answer = self.client.revision().await.map_err(Failure::text);
            let answer =
                answer.and_then(|now| if now < known { Err(fell(&cache, known, now)) } else { Ok(now) });
            *last = Round { answers, answer: Some(answer) };
        }
        match &last.answer {
            Some(Ok(revision)) => Ok(*revision),
            Some(Err(reason)) => Err(StoreError::Unavailable(reason.clone())),
            None => Err(StoreError::Unavailable("etcd was not asked".to_owned())),
        }
    }

    /// Whether the cache is at a revision, now or soon.
    pub(super) async fn reached(&self, cache: &Cache<V>, revision: Revision) -> bool {
        let (mut heads, feed) = (cache.heads(), cache.feed());
        let before = *heads.borrow();
        match timeout(PATIENCE, heads.wait_for(|head| *head >= revision)).await {
            Ok(reached) => reached.is_ok(),
            Err(_) => {
                if cache.head() == before {
                    cache.stall(feed);
                }
                false
            }
        }
    }

    /// Where the state at a revision, or the present one, can be read.
    async fn place(&self, at: Option<Revision>) -> Result<Place<V>, StoreError> {
        let cache = self.cache();
        if let Some(at) = at
            && at <= cache.head()
        {
            let is_here = at >= cache.engine.floor();
            return Ok(if is_here { Place::Cache(cache) } else { Place::Etcd(at) });
        }
        let current = self.current().await?;
        let wanted = at.unwrap_or(current);
        if wanted > current {
            return Err(StoreError::Future { requested: wanted, current });
        }
        let is_here = self.reached(&cache, wanted).await;
        Ok(if is_here { Place::Cache(cache) } else { Place::Etcd(wanted) })
    }

    pub(super) async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Read<V>, StoreError> {
        let revision = match self.place(at).await? {
            Place::Cache(cache) => return cache.engine.get(key, at),
            Place::Etcd(revision) => revision,
        };
        let request = RangeRequest { key: self.space.key(key), ..RangeRequest::default() };
        let answer = self.range(request, revision).await?;
        let entry = answer.kvs.first().map(|kv| kv.entry(key, &self.cache().engine.codec)).transpose()?;
        Ok(Read { entry, revision })
    }

    pub(super) async fn list(&self, prefix: &Prefix, options: ListOptions) -> Result<Page<V>, StoreError> {
        let revision = match self.place(options.at).await? {
            Place::Cache(cache) => return cache.engine.list(prefix, options).await,
            Place::Etcd(revision) => revision,
        };
        let (key, range_end) = self.space.range(prefix, options.after.as_ref());
        let limit = options.limit.map_or(0, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let count_only = options.limit == Some(0);
        let request = RangeRequest { key, range_end, limit, count_only, ..RangeRequest::default() };
        let answer = self.range(request, revision).await?;
        let codec = &self.cache().engine.codec;
        let of_store = answer.kvs.iter().filter_map(|kv| Some((self.space.name(&kv.key)?, kv)));
        let entries = of_store.map(|(key, kv)| kv.entry(&key, codec)).collect::<Result<Vec<_>, _>>()?;
        let count = u64::try_from(answer.count).unwrap_or_default();
        let remaining = count.saturating_sub(answer.kvs.len() as u64);
        Ok(Page { entries, revision, more: remaining > 0, remaining })
    }

    /// Reads etcd at a revision.
    async fn range(&self, request: RangeRequest, at: Revision) -> Result<RangeResponse, StoreError> {
        // etcd does not say up to where: the cache may know, and what was asked for is gone.
        let compacted = self.cache().engine.floor().max(at.next());
        let compacted = StoreError::Compacted { requested: at, compacted };
        // Zero is etcd's word for now. Nothing was there then, but that is known only of a whole history.
        if at == Revision::ZERO {
            return Err(compacted);
        }
        let request = RangeRequest { revision: number(at), ..request };
        self.client
            .call(Method::RANGE, request)
            .await
            .map_err(|failure| if is_compacted(&failure) { compacted } else { unavailable(failure) })
    }

    pub(super) async fn request_progress(&self) -> Result<(), StoreError> {
        let current = self.current().await?;
        let cache = self.cache();
        if !self.reached(&cache, current).await {
            return Err(StoreError::Unavailable("the watch of etcd is behind".to_owned()));
        }
        cache.engine.request_progress();
        Ok(())
    }
}
