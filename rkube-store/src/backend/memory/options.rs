use std::marker::PhantomData;

use tokio::time::Instant;

use super::Memory;
use crate::Value;
use crate::backend::engine::{Engine, Options, common_options};
use crate::mvcc::State;

/// The bounds of a store in memory.
///
/// ```
/// # use rkube_store::{Memory, Value};
/// fn small<V: Value>() -> Memory<V> {
///     Memory::builder().history(100).hot_bytes(1 << 20).watch_queue(16).build()
/// }
/// ```
#[must_use]
pub struct Builder<V> {
    options: Options,
    of: PhantomData<fn() -> V>,
}

impl<V> Default for Builder<V> {
    fn default() -> Self {
        Self { options: Options::default(), of: PhantomData }
    }
}

impl<V: Value> Builder<V> {
    common_options!();

    /// Keeps all values as objects; no value is ever encoded.
    pub fn all_hot(mut self) -> Self {
        self.options.hot_bytes = None;
        self
    }

    /// The empty store, at revision 1.
    #[must_use]
    pub fn build(self) -> Memory<V> {
        let state = State::new(self.options.history.clone(), self.options.hot_bytes);
        Memory::of(Engine::new(state, &self.options, Instant::now(), None))
    }
}
