//! Commits: one transaction of etcd each.

use bytes::Bytes;

use super::cache::Cache;
use super::leases::is_lease_not_found;
use super::space::{Space, lease_number, number};
use super::wire::{
    Compare, CompareResult, CompareTarget, CompareWith, DeleteRangeRequest, KeyValue, Method, PutRequest,
    RangeRequest, Request, RequestOp, Response, ResponseOp, TxnRequest, TxnResponse, revision,
};
use super::{Failure, Shared, is_full, unavailable};
use crate::error::replaced_unread;
use crate::mvcc::Codec;
use crate::{
    Change, Check, CommitError, Committed, Conflict, Entry, Key, Op, Revision, StoreError, Txn, Value,
};

impl<V: Value> Shared<V> {
    pub(super) async fn commit(&self, txn: Txn<V>) -> Result<Committed<V>, CommitError<V>> {
        let cache = self.cache();
        let before = cache.head();
        let request = request(&self.space, &txn, &cache.engine.codec)?;
        let answer: TxnResponse = match self.client.call(Method::TXN, request).await {
            Ok(answer) => answer,
            Err(failure) => return Err(self.refused(&txn, before, failure).await),
        };
        let revision = revision(answer.header.as_ref());
        if answer.succeeded {
            committed(&cache, txn, revision, answer.responses)
        } else {
            Err(conflict(&cache, &txn, revision, &answer.responses))
        }
    }

    async fn refused(&self, txn: &Txn<V>, before: Revision, failure: Failure) -> CommitError<V> {
        match failure {
            Failure::Lost(reason) => CommitError::Unknown(reason),
            failure if is_lease_not_found(&failure) => {
                let lease = txn.ops.iter().find_map(|op| match op {
                    Op::Put { lease, .. } => *lease,
                    Op::Delete { .. } => None,
                });
                lease.map_or_else(|| unavailable(failure), StoreError::LeaseNotFound).into()
            }
            failure if is_full(&failure) => self.without_space(txn, before, failure.text()).await,
            failure => unavailable(failure).into(),
        }
    }

    /// Whether this is the write that took the last space shows in what was written since.
    async fn without_space(&self, txn: &Txn<V>, before: Revision, text: String) -> CommitError<V> {
        let unknown = |text| CommitError::Unknown(text);
        let Ok(current) = self.current().await else { return unknown(text) };
        let cache = self.cache();
        if !self.reached(&cache, current).await {
            return unknown(text);
        }
        let mut puts = txn.ops.iter().filter(|op| matches!(op, Op::Put { .. }));
        match puts.next().map(|put| cache.engine.changed_after(put.key(), before)) {
            Some(Some(false)) => StoreError::NoSpace.into(),
            _ => unknown(text),
        }
    }
}

fn request<V: Value>(space: &Space, txn: &Txn<V>, codec: &Codec) -> Result<TxnRequest, StoreError> {
    let read = |check: &Check| {
        Request::Range(RangeRequest { key: space.key(check.key()), ..RangeRequest::default() })
    };
    let write = |op: &Op<V>| match op {
        Op::Put { key, value, lease } => Ok(Request::Put(PutRequest {
            key: space.key(key),
            value: Bytes::from_owner(codec.seal(key, value)?),
            lease: lease.map_or(0, lease_number),
            prev_kv: true,
        })),
        Op::Delete { key } => Ok(Request::Delete(DeleteRangeRequest { key: space.key(key), prev_kv: true })),
    };
    let op = |request| RequestOp { request: Some(request) };
    Ok(TxnRequest {
        compare: txn.checks.iter().map(|check| compare(space, check)).collect(),
        success: txn.ops.iter().map(|one| write(one).map(op)).collect::<Result<_, StoreError>>()?,
        failure: txn.checks.iter().map(|check| op(read(check))).collect(),
    })
}

/// A key that does not exist has revision 0 in etcd.
fn compare(space: &Space, check: &Check) -> Compare {
    let (result, revision) = match check {
        Check::Absent(_) => (CompareResult::Equal, 0),
        Check::Exists(_) => (CompareResult::Greater, 0),
        // Nothing was ever written at revision 0.
        Check::Unchanged { revision: Revision::ZERO, .. } => (CompareResult::Equal, i64::MAX),
        Check::Unchanged { revision, .. } => (CompareResult::Equal, number(*revision)),
    };
    Compare {
        result: result.into(),
        target: CompareTarget::Mod.into(),
        key: space.key(check.key()),
        with: Some(CompareWith::ModRevision(revision)),
    }
}

/// What was done. It is done, so whatever cannot be told about it is no failure of the commit.
fn committed<V: Value>(
    cache: &Cache<V>,
    txn: Txn<V>,
    revision: Revision,
    responses: Vec<ResponseOp>,
) -> Result<Committed<V>, CommitError<V>> {
    let changes = txn.ops.into_iter().zip(responses).map(|(op, response)| {
        let key = op.key().clone();
        let before = match response.response {
            Some(Response::Put(put)) => put.prev_kv,
            Some(Response::Delete(delete)) => delete.prev_kvs.into_iter().next(),
            _ => None,
        };
        let previous = before.map(|kv| entry(cache, &key, &kv)).transpose()?;
        Ok(change(op, previous, revision))
    });
    let changes = changes.collect::<Result<_, StoreError>>();
    let changes = changes.map_err(|error| CommitError::Unknown(replaced_unread(revision, &error)))?;
    Ok(Committed { revision, changes })
}

fn change<V: Value>(op: Op<V>, previous: Option<Entry<V>>, revision: Revision) -> Change<V> {
    match op {
        Op::Put { key, mut value, lease } => {
            value.stamp(revision);
            let create_revision = previous.as_ref().map_or(revision, |entry| entry.create_revision);
            let version = previous.as_ref().map_or(1, |entry| entry.version + 1);
            let entry = Entry { key, value, create_revision, mod_revision: revision, version, lease };
            Change::Put { entry, previous }
        }
        Op::Delete { .. } => {
            let last = previous.as_ref().map(|entry| {
                let mut last = entry.value.clone();
                last.stamp(revision);
                last
            });
            Change::Delete { previous, last }
        }
    }
}

/// An entry of etcd's; the cache often has its object.
fn entry<V: Value>(cache: &Cache<V>, key: &Key, kv: &KeyValue) -> Result<Entry<V>, StoreError> {
    let mut present = kv.present();
    present.object = cache.engine.held(key, kv.revision()).map(|value| (value, 0));
    present.stored(key).load(&cache.engine.codec)
}

/// The first check that does not hold. etcd told what it saw when it judged them.
fn conflict<V: Value>(
    cache: &Cache<V>,
    txn: &Txn<V>,
    revision: Revision,
    responses: &[ResponseOp],
) -> CommitError<V> {
    let seen = responses.iter().map(|op| match &op.response {
        Some(Response::Range(range)) => range.kvs.first(),
        _ => None,
    });
    let mut judged = txn.checks.iter().zip(seen).enumerate();
    let broken = judged.find(|(_, (check, kv))| !check.holds(kv.map(KeyValue::revision)));
    let Some((check, (condition, kv))) = broken else {
        return StoreError::Unavailable("etcd refused checks that hold".to_owned()).into();
    };
    let key = condition.key().clone();
    match kv.map(|kv| entry(cache, &key, kv)).transpose() {
        Ok(current) => CommitError::Conflict(Conflict { check, key, current, revision }),
        Err(error) => error.into(),
    }
}
