//! The engine's generator: ChaCha20 from a seed, so that the same inputs give the same outputs.

use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use zeroize::Zeroizing;

use super::Secret;

pub(crate) struct Random {
    generator: ChaCha20Rng,
    /// Whoever wants something of it panics, as a defect on that way would.
    #[cfg(test)]
    pub(crate) broken: bool,
}

impl Random {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self {
            generator: ChaCha20Rng::from_seed(seed),
            #[cfg(test)]
            broken: false,
        }
    }

    fn generator(&mut self) -> &mut ChaCha20Rng {
        #[cfg(test)]
        assert!(!self.broken, "the generator is broken");
        &mut self.generator
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.generator().fill_bytes(&mut bytes);
        bytes
    }

    pub(crate) fn secret(&mut self, len_bytes: usize) -> Secret {
        let mut bytes = Zeroizing::new(vec![0; len_bytes]);
        self.generator().fill_bytes(&mut bytes);
        bytes
    }

    pub(crate) fn u32(&mut self) -> u32 {
        self.generator().next_u32()
    }

    pub(crate) fn u64(&mut self) -> u64 {
        self.generator().next_u64()
    }

    /// `duration` less a random share of at most `percent` of it.
    pub(crate) fn shortened(&mut self, duration: Duration, percent: u32) -> Duration {
        let share = f64::from(percent.min(100)) / 100.0 * (f64::from(self.u32()) / f64::from(u32::MAX));
        duration.mul_f64(1.0 - share)
    }
}
