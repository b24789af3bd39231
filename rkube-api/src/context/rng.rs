//! Randomness.

use std::sync::Arc;

use parking_lot::Mutex;
use rand::{Rng as _, RngCore, SeedableRng, rngs::SmallRng};
use uuid::{Builder, Uuid};

/// The characters that Kubernetes puts into generated names: no vowels, no look-alikes.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A seeded source of randomness, shared by all clones.
#[derive(Clone, Debug)]
pub struct Rng {
    seed: u64,
    state: Arc<Mutex<SmallRng>>,
}

impl Rng {
    /// A source that gives the same sequence for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self { seed, state: Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))) }
    }

    /// A source of its own for `name`: it depends on this source's seed and the name only, not on what
    /// was drawn before.
    pub fn fork(&self, name: &str) -> Self {
        // FNV-1a: stable across releases and platforms, which std's hashers do not promise.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        Self::seeded(self.seed.rotate_left(23) ^ hash)
    }

    /// Sixty-four random bits.
    pub fn next_u64(&self) -> u64 {
        self.state.lock().next_u64()
    }

    /// A number in `0..bound`; 0 if `bound` is 0.
    pub fn below(&self, bound: usize) -> usize {
        if bound == 0 { 0 } else { self.state.lock().random_range(0..bound) }
    }

    /// A number in `0.0..1.0`.
    pub fn fraction(&self) -> f64 {
        self.state.lock().random()
    }

    /// A random (version 4) UUID, as the API server gives each object.
    pub fn uid(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.state.lock().fill_bytes(&mut bytes);
        Builder::from_random_bytes(bytes).into_uuid()
    }

    /// A suffix for a generated name, `length` characters of Kubernetes' alphabet.
    pub fn suffix(&self, length: usize) -> String {
        let mut state = self.state.lock();
        (0..length)
            .map(|_| char::from(SUFFIX_ALPHABET[state.random_range(0..SUFFIX_ALPHABET.len())]))
            .collect()
    }

    /// Puts `items` into a random order.
    pub fn shuffle<T>(&self, items: &mut [T]) {
        let mut state = self.state.lock();
        for last in (1..items.len()).rev() {
            items.swap(last, state.random_range(0..=last));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_do_not_depend_on_what_was_drawn() {
        let (a, b) = (Rng::seeded(1), Rng::seeded(1));
        a.next_u64();
        assert_eq!(a.fork("x").uid(), b.fork("x").uid());
        assert_ne!(a.fork("x").uid(), a.fork("y").uid());
        assert_ne!(a.fork("x").uid(), Rng::seeded(2).fork("x").uid());
    }
}
