//! Seeded choices, apart from the product's own randomness: a fault schedule must not change because a node draws once more.

use std::time::Duration;

/// A stream of numbers (splitmix64).
#[derive(Debug, Clone)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// The stream for one purpose of one seed.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut dice = Self { state: seed };
        for byte in purpose.bytes() {
            dice.state = dice.next() ^ u64::from(byte);
        }
        dice
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.between(0, 99) < chance
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let place = self.between(0, of.len() as u64 - 1);
        &of[usize::try_from(place).expect("a place in memory")]
    }
}
