//! Where time, randomness and tasks come from. Nothing in rkube takes them from anywhere else, so that a
//! run on a paused clock can be replayed from its seed.
//!
//! ```
//! use rkube_api::context::Context;
//!
//! let a = Context::simulated(7).rng.fork("names").suffix(5);
//! let b = Context::simulated(7).rng.fork("names").suffix(5);
//! assert_eq!(a, b);
//! ```

mod clock;
mod rng;
mod spawner;

use std::time::Duration;

use tokio::time::Instant;

pub use clock::Clock;
pub use rng::Rng;
pub use spawner::{Spawner, Task};

/// The longest wait of a timer: thirty years, which is tokio's own far future. Clients may ask for more, with
/// numbers that no [`Instant`] has room for.
pub const LONGEST_WAIT: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The instant that is `wait` from now, or [`LONGEST_WAIT`] from now if that is sooner. Unlike an addition it
/// never panics.
///
/// ```
/// use std::time::Duration;
/// use rkube_api::context::{LONGEST_WAIT, instant_after};
/// assert!(instant_after(Duration::MAX) <= instant_after(LONGEST_WAIT));
/// ```
pub fn instant_after(wait: Duration) -> Instant {
    Instant::now() + wait.min(LONGEST_WAIT)
}

/// The three sources that a component draws on, cheap to clone and to pass along.
#[derive(Clone, Debug)]
pub struct Context {
    /// Wall time for timestamps.
    pub clock: Clock,
    /// Randomness and UIDs.
    pub rng: Rng,
    /// Tasks.
    pub spawner: Spawner,
}

impl Context {
    /// The context of a production run: the system's clock, a seed of the caller's choice.
    pub fn system(seed: u64) -> Self {
        Self { clock: Clock::system(), rng: Rng::seeded(seed), spawner: Spawner::new() }
    }

    /// The context of a replayable run: wall time starts at a fixed instant and follows `tokio::time`.
    pub fn simulated(seed: u64) -> Self {
        Self { clock: Clock::simulated(), rng: Rng::seeded(seed), spawner: Spawner::new() }
    }

    /// The context of a component: its own stream of randomness, named so that the streams of two
    /// components never depend on who asks first; its tasks end with the parent's.
    pub fn child(&self, name: &str) -> Self {
        Self { clock: self.clock.clone(), rng: self.rng.fork(name), spawner: self.spawner.child() }
    }
}
