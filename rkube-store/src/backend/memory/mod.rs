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
use crate::{Sizes, Stats, StoreError, Value};
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

    /// Ends leases in time, and ages history, for as long as it is polled. It returns when the store is gone.
    pub fn run_expiry(&self) -> impl Future<Output = ()> + Send + use<V> {
        self.engine.run_expiry()
    }

    /// How much is in memory.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        self.engine.sizes()
    }

    /// How it is doing.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// A store with this one's present state, for what may be tried: what happens to one does not happen to
    /// the other. Values are shared, so only the index is copied. Leases go on in both; history begins anew.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use rkube_store::testing::Text;
    /// use rkube_store::{Key, Memory, Store, Txn};
    /// let store = Memory::builder().build();
    /// store.commit(Txn::create("a/1", Text::new("real"))).await?;
    /// let fork = store.fork().await?;
    /// fork.commit(Txn::new().put("a/1", Text::new("what if"))).await?;
    /// let read = store.get(&Key::new("a/1"), None).await?;
    /// assert_eq!(read.entry.map(|entry| entry.value.as_str().to_owned()).as_deref(), Some("real"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// None at present.
    pub async fn fork(&self) -> Result<Self, StoreError> {
        Ok(Self::of(self.engine.fork().await?))
    }
}

store_by_engine!(Memory);
