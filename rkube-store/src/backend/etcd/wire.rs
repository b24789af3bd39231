//! The messages of etcd's version 3 API that the backend sends and gets: the fields it uses, with the
//! numbers that etcd gives them. Written as types, so that nothing has to be generated when it is built.
//!
//! Source: <https://etcd.io/docs/latest/dev-guide/api_reference_v3/>.

use bytes::Bytes;
use prost::{Enumeration, Message, Oneof};

/// A call: its path, and whether it may be sent again when no answer came.
pub(super) struct Method {
    pub(super) path: &'static str,
    pub(super) repeatable: bool,
}

impl Method {
    pub(super) const RANGE: Self = Self { path: "/etcdserverpb.KV/Range", repeatable: true };
    pub(super) const TXN: Self = Self { path: "/etcdserverpb.KV/Txn", repeatable: false };
    pub(super) const COMPACT: Self = Self { path: "/etcdserverpb.KV/Compact", repeatable: true };
    pub(super) const WATCH: Self = Self { path: "/etcdserverpb.Watch/Watch", repeatable: true };
    /// A lease that nobody knows of ends by itself.
    pub(super) const GRANT: Self = Self { path: "/etcdserverpb.Lease/LeaseGrant", repeatable: true };
    pub(super) const REVOKE: Self = Self { path: "/etcdserverpb.Lease/LeaseRevoke", repeatable: false };
    pub(super) const KEEP_ALIVE: Self = Self { path: "/etcdserverpb.Lease/LeaseKeepAlive", repeatable: true };
    pub(super) const TIME_TO_LIVE: Self =
        Self { path: "/etcdserverpb.Lease/LeaseTimeToLive", repeatable: true };
    pub(super) const AUTHENTICATE: Self = Self { path: "/etcdserverpb.Auth/Authenticate", repeatable: true };
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Header {
    #[prost(int64, tag = "3")]
    pub(super) revision: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(int64, tag = "2")]
    pub(super) create_revision: i64,
    #[prost(int64, tag = "3")]
    pub(super) mod_revision: i64,
    #[prost(int64, tag = "4")]
    pub(super) version: i64,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) value: Bytes,
    #[prost(int64, tag = "6")]
    pub(super) lease: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) range_end: Bytes,
    #[prost(int64, tag = "3")]
    pub(super) limit: i64,
    #[prost(int64, tag = "4")]
    pub(super) revision: i64,
    #[prost(bool, tag = "9")]
    pub(super) count_only: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<Header>,
    #[prost(message, repeated, tag = "2")]
    pub(super) kvs: Vec<KeyValue>,
    #[prost(bool, tag = "3")]
    pub(super) more: bool,
    #[prost(int64, tag = "4")]
    pub(super) count: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
    #[prost(int64, tag = "3")]
    pub(super) lease: i64,
    #[prost(bool, tag = "4")]
    pub(super) prev_kv: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PutResponse {
    #[prost(message, optional, tag = "2")]
    pub(super) prev_kv: Option<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeleteRangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bool, tag = "3")]
    pub(super) prev_kv: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeleteRangeResponse {
    #[prost(message, repeated, tag = "3")]
    pub(super) prev_kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Compare {
    #[prost(enumeration = "CompareResult", tag = "1")]
    pub(super) result: i32,
    #[prost(enumeration = "CompareTarget", tag = "2")]
    pub(super) target: i32,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) key: Bytes,
    #[prost(oneof = "CompareWith", tags = "4, 6")]
    pub(super) with: Option<CompareWith>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(super) enum CompareResult {
    Equal = 0,
    Greater = 1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(super) enum CompareTarget {
    Version = 0,
    Mod = 2,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum CompareWith {
    #[prost(int64, tag = "4")]
    Version(i64),
    #[prost(int64, tag = "6")]
    ModRevision(i64),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RequestOp {
    #[prost(oneof = "Request", tags = "1, 2, 3")]
    pub(super) request: Option<Request>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Request {
    #[prost(message, tag = "1")]
    Range(RangeRequest),
    #[prost(message, tag = "2")]
    Put(PutRequest),
    #[prost(message, tag = "3")]
    Delete(DeleteRangeRequest),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResponseOp {
    #[prost(oneof = "Response", tags = "1, 2, 3")]
    pub(super) response: Option<Response>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Response {
    #[prost(message, tag = "1")]
    Range(RangeResponse),
    #[prost(message, tag = "2")]
    Put(PutResponse),
    #[prost(message, tag = "3")]
    Delete(DeleteRangeResponse),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TxnRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    pub(super) success: Vec<RequestOp>,
    #[prost(message, repeated, tag = "3")]
    pub(super) failure: Vec<RequestOp>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TxnResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<Header>,
    #[prost(bool, tag = "2")]
    pub(super) succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    pub(super) responses: Vec<ResponseOp>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct CompactionRequest {
    #[prost(int64, tag = "1")]
    pub(super) revision: i64,
}

/// An answer of which nothing is looked at.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Done {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchRequest {
    #[prost(oneof = "WatchCall", tags = "1")]
    pub(super) call: Option<WatchCall>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum WatchCall {
    #[prost(message, tag = "1")]
    Create(WatchCreateRequest),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchCreateRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) range_end: Bytes,
    #[prost(int64, tag = "3")]
    pub(super) start_revision: i64,
    #[prost(bool, tag = "4")]
    pub(super) progress_notify: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<Header>,
    #[prost(bool, tag = "3")]
    pub(super) created: bool,
    #[prost(bool, tag = "4")]
    pub(super) canceled: bool,
    #[prost(int64, tag = "5")]
    pub(super) compact_revision: i64,
    #[prost(string, tag = "6")]
    pub(super) cancel_reason: String,
    #[prost(message, repeated, tag = "11")]
    pub(super) events: Vec<WireEvent>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WireEvent {
    #[prost(enumeration = "EventType", tag = "1")]
    pub(super) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) kv: Option<KeyValue>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(super) enum EventType {
    Put = 0,
    Delete = 1,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct LeaseGrantRequest {
    /// In whole seconds.
    #[prost(int64, tag = "1")]
    pub(super) ttl: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct LeaseRequest {
    #[prost(int64, tag = "1")]
    pub(super) id: i64,
}

/// The answer to granting a lease, keeping it alive and asking for it.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct LeaseResponse {
    #[prost(int64, tag = "2")]
    pub(super) id: i64,
    /// The seconds left; none or less if there is no such lease.
    #[prost(int64, tag = "3")]
    pub(super) ttl: i64,
    /// Only when asked for.
    #[prost(int64, tag = "4")]
    pub(super) granted: i64,
}

/// As [`LeaseResponse`]; its fourth field is an error's text.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct LeaseGrantResponse {
    #[prost(int64, tag = "2")]
    pub(super) id: i64,
    #[prost(int64, tag = "3")]
    pub(super) ttl: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AuthenticateRequest {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) password: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AuthenticateResponse {
    #[prost(string, tag = "2")]
    pub(super) token: String,
}

/// The revision that an answer's header tells.
pub(super) fn revision(header: Option<&Header>) -> crate::Revision {
    crate::Revision(header.and_then(|header| u64::try_from(header.revision).ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes as etcd's own client makes them, field by field: number, wire type, value.
    #[test]
    fn messages_have_etcds_numbers() {
        let put = PutRequest { key: "k".into(), value: "v".into(), lease: 3, prev_kv: true };
        assert_eq!(put.encode_to_vec(), [0x0a, 1, b'k', 0x12, 1, b'v', 0x18, 3, 0x20, 1]);
        let compare = Compare {
            result: CompareResult::Greater.into(),
            target: CompareTarget::Mod.into(),
            key: "k".into(),
            with: Some(CompareWith::ModRevision(7)),
        };
        assert_eq!(compare.encode_to_vec(), [0x08, 1, 0x10, 2, 0x1a, 1, b'k', 0x30, 7]);
        let op = RequestOp { request: Some(Request::Delete(DeleteRangeRequest::default())) };
        assert_eq!(op.encode_to_vec(), [0x1a, 0]);
        let range = RangeRequest { limit: 1, revision: 2, count_only: true, ..RangeRequest::default() };
        assert_eq!(range.encode_to_vec(), [0x18, 1, 0x20, 2, 0x48, 1]);
        let create = WatchCreateRequest { start_revision: 5, progress_notify: true, ..Default::default() };
        let watch = WatchRequest { call: Some(WatchCall::Create(create)) };
        assert_eq!(watch.encode_to_vec(), [0x0a, 4, 0x18, 5, 0x20, 1]);
    }

    #[test]
    fn unknown_fields_are_passed_over() {
        // A header with all four of its fields.
        let bytes = [0x08, 1, 0x10, 2, 0x18, 9, 0x20, 4];
        let header = Header::decode(&bytes[..]).unwrap();
        assert_eq!(revision(Some(&header)), crate::Revision(9));
    }
}
