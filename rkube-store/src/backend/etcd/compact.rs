//! Compaction: when it is asked for, and by time, which only one of the servers on an etcd does.

use std::time::Duration;

use tokio::time::sleep;

use super::client::Failure;
use super::read::{is_compacted, is_future};
use super::space::{COMPACTION, number};
use super::wire::{
    CompactionRequest, Compare, CompareResult, CompareTarget, CompareWith, Done, Method, PutRequest,
    RangeRequest, Request, RequestOp, Response, TxnRequest, TxnResponse, revision,
};
use super::{Shared, unavailable};
use crate::{Revision, StoreError, Value};

/// What was there at the last look: how often the servers compacted, and etcd's revision.
#[derive(Clone, Copy, Default)]
struct Look {
    time: i64,
    revision: Revision,
}

impl<V: Value> Shared<V> {
    pub(super) async fn compact(&self, at: Revision) -> Result<(), StoreError> {
        let current = self.current().await?;
        if at > current {
            return Err(StoreError::Future { requested: at, current });
        }
        self.compact_etcd(at).await.map_err(unavailable)?;
        let cache = self.cache();
        if self.reached(&cache, at).await {
            cache.engine.compact(at).await?;
        }
        Ok(())
    }

    async fn compact_etcd(&self, at: Revision) -> Result<(), Failure> {
        let request = CompactionRequest { revision: number(at) };
        match self.client.call::<_, Done>(Method::COMPACT, request).await {
            Err(failure) if is_compacted(&failure) || is_future(&failure) => Ok(()),
            answer => answer.map(|_| ()),
        }
    }

    /// Compacts, again and again, what was the present one interval ago. All servers try, kube-apiserver
    /// in the same way; the first to change the key since the last look does it for all.
    pub(super) async fn compact_by_time(&self) {
        let Some(interval) = self.compact_after else { return std::future::pending().await };
        let mut last = Look::default();
        loop {
            sleep(interval).await;
            match self.compact_once(last, interval).await {
                Ok(look) => last = look,
                Err(failure) => tracing::warn!(reason = failure.text(), "etcd was not compacted"),
            }
        }
    }

    async fn compact_once(&self, last: Look, interval: Duration) -> Result<Look, Failure> {
        let answer: TxnResponse = self.client.call(Method::TXN, turn(last)).await?;
        let revision = revision(answer.header.as_ref());
        if !answer.succeeded {
            let time = answer.responses.into_iter().find_map(|op| match op.response {
                Some(Response::Range(range)) => range.kvs.first().map(|kv| kv.version),
                _ => None,
            });
            return Ok(Look { time: time.unwrap_or_default(), revision });
        }
        if last.revision > Revision::ZERO {
            tracing::debug!(revision = %last.revision, ?interval, "etcd is compacted");
            self.compact_etcd(last.revision).await?;
        }
        Ok(Look { time: last.time + 1, revision })
    }
}

/// Counts the time up and notes the revision, if nobody did since; else tells the time.
fn turn(last: Look) -> TxnRequest {
    let unchanged = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Version.into(),
        key: COMPACTION.into(),
        with: Some(CompareWith::Version(last.time)),
    };
    let put = PutRequest {
        key: COMPACTION.into(),
        value: last.revision.to_string().into(),
        ..PutRequest::default()
    };
    let get = RangeRequest { key: COMPACTION.into(), ..RangeRequest::default() };
    TxnRequest {
        compare: vec![unchanged],
        success: vec![RequestOp { request: Some(Request::Put(put)) }],
        failure: vec![RequestOp { request: Some(Request::Range(get)) }],
    }
}
