//! A revisioned key-value store: MVCC, watch, pluggable backends. It knows no Kubernetes.
//!
//! The contract is [`Store`]: one strictly increasing [`Revision`], transactions with compare-and-swap,
//! reads at any retained revision, and watches that derive from commits and from nothing else. What is
//! stored is any [`Value`]: an object that can turn itself into bytes, back again, and take the stamp of
//! the revision that wrote it.
//!
//! | where | what |
//! |---|---|
//! | [`Store`] and the types around it | the contract, its seventeen promises, errors |
//! | [`backend::memory`] | the backend in memory |
//! | `backend::durable` (feature) | the backend on disk |
//! | `backend::etcd` (feature) | the backend on etcd, for several servers |
//! | `mvcc` | the pure, synchronous heart: versions, transactions, compaction, leases |
//! | [`watch`] | what a watch yields, and the hub that commits feed |
//! | `encrypt` (feature) | values sealed at rest, with keys that rotate |
//! | `testing` (feature) | the suite every backend passes, a reference model, a history checker |
//!
//! ```
//! use std::sync::Arc;
//! use bytes::Bytes;
//! use rkube_store::{CodecError, Key, Prefix, Revision, Store, Txn, Value, backend::memory::Memory};
//! use rkube_store::watch::{WatchItem, WatchOptions};
//! use futures::StreamExt;
//!
//! #[derive(Clone)]
//! struct Text(Arc<str>, Revision);
//!
//! impl Value for Text {
//!     fn encode(&self) -> Result<Bytes, CodecError> {
//!         Ok(Bytes::copy_from_slice(self.0.as_bytes()))
//!     }
//!     fn decode(bytes: &Bytes) -> Result<Self, CodecError> {
//!         let text = std::str::from_utf8(bytes).map_err(CodecError::new)?;
//!         Ok(Text(text.into(), Revision::ZERO))
//!     }
//!     fn stamp(&mut self, revision: Revision) {
//!         self.1 = revision;
//!     }
//!     fn weight(&self) -> usize {
//!         self.0.len()
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store: Arc<dyn Store<Text>> = Arc::new(Memory::builder().build());
//! let start = store.revision().await?;
//! let committed = store.commit(Txn::create("pods/a", Text("hello".into(), Revision::ZERO))).await?;
//!
//! let read = store.get(&Key::new("pods/a"), None).await?;
//! let entry = read.entry.ok_or("it was just created")?;
//! assert_eq!(entry.value.1, committed.revision, "stamped in the commit");
//!
//! let mut watch = store.watch(&Prefix::new("pods"), WatchOptions::after(start)).await?;
//! let Some(Ok(WatchItem::Events(batch))) = watch.next().await else { return Err("an event".into()) };
//! assert_eq!(batch.revision, committed.revision);
//! # Ok(()) }
//! ```

pub mod backend;
#[cfg(feature = "encrypt")]
pub mod encrypt;
mod error;
mod event;
mod key;
mod lease;
mod limits;
mod mvcc;
mod revision;
mod stats;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod transform;
mod txn;
mod value;
pub mod watch;

pub use backend::memory::Memory;
pub use error::{CommitError, Conflict, StoreError, WatchError};
pub use event::{Batch, Change, Entry, Event};
pub use key::{Key, Prefix};
pub use lease::{Lease, LeaseId};
pub use limits::Limits;
pub use revision::Revision;
pub use stats::{DiskStats, Latency, Sizes, Stats, WatchStats};
pub use store::{ListOptions, Page, Read, Store};
pub use transform::{Transform, TransformError};
pub use txn::{Check, Committed, Op, Txn};
pub use value::{CodecError, Value};
pub use watch::{Watch, WatchItem, WatchOptions};
