//! The backend in memory: as fast as a store can be, gone with its process.
//!
//! The store needs no task of its own. Only the end of leases and the age of history do, where nobody calls
//! the store: whoever sets it up spawns [`Memory::run_expiry`]; without it leases end at the next call of any
//! kind, and history ages with the next commit.
//!
//! ```
//! use std::time::Duration;
//! use rkube_store::backend::memory::Memory;
//! # use bytes::Bytes;
//! # use rkube_store::{CodecError, Revision, Value};
//! # #[derive(Clone)]
//! # struct Text(std::sync::Arc<str>);
//! # impl Value for Text {
//! #     fn encode(&self) -> Result<Bytes, CodecError> { Ok(Bytes::copy_from_slice(self.0.as_bytes())) }
//! #     fn decode(_: &Bytes) -> Result<Self, CodecError> { Ok(Text("".into())) }
//! #     fn stamp(&mut self, _: Revision) {}
//! #     fn weight(&self) -> usize { self.0.len() }
//! # }
//! let store: Memory<Text> = Memory::builder()
//!     .history(10_000)
//!     .history_age(Duration::from_secs(300))
//!     .hot_bytes(64 << 20)
//!     .build();
//! let expiry = store.run_expiry(); // to be spawned by the host
//! # drop(expiry);
//! ```

mod options;

use std::future::Future;
use std::sync::Arc;

use super::engine::{Engine, store_by_engine};
use crate::{Sizes, Value};
pub use options::Builder;

/// A store in memory; see [`backend::memory`](self). Clones share one store.
pub struct Memory<V> {
    engine: Arc<Engine<V>>,
}

impl<V> Clone for Memory<V> {
    fn clone(&self) -> Self {
        Self { engine: self.engine.clone() }
    }
}

impl<V: Value> Memory<V> {
    /// A store with bounds of its own.
    pub fn builder() -> Builder<V> {
        Builder::default()
    }

    pub(super) fn of(engine: Arc<Engine<V>>) -> Self {
        Self { engine }
    }

    #[cfg(feature = "durable")]
    pub(super) fn engine(&self) -> &Engine<V> {
        &self.engine
    }

    fn figures(&self) -> crate::Stats {
        self.engine.stats()
    }

    /// Ends leases in time, and ages history, for as long as it is polled. It returns when the store is gone.
    pub fn run_expiry(&self) -> impl Future<Output = ()> + Send + use<V> {
        self.engine.run_expiry()
    }

    /// How much is in memory.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        self.engine.sizes()
    }
}

store_by_engine!(Memory);
