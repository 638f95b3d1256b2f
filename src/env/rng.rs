//! Randomness: the operating system's, or in a simulation one seeded stream for all hosts of the thread.

/// A random number, uniform over all of `u64`.
#[must_use]
pub fn u64() -> u64 {
    u64::from_le_bytes(bytes())
}

/// A random number, uniform over all of `u128`: an identity that two clusters will not share.
#[must_use]
pub fn u128() -> u128 {
    u128::from_le_bytes(bytes())
}

/// `N` random bytes.
///
/// # Panics
///
/// If the operating system has no randomness to give, which a running Linux always has.
#[cfg(not(sim))]
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut random = [0; N];
    getrandom::fill(&mut random).expect("the operating system gives random bytes");
    random
}

/// `N` bytes of the thread's seeded stream.
#[cfg(sim)]
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut random = [0; N];
    for chunk in random.chunks_mut(8) {
        let word = simulated::next().to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    random
}

#[cfg(sim)]
pub use simulated::seed;

#[cfg(sim)]
mod simulated {
    use std::cell::Cell;

    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }

    /// Starts this thread's stream again, from `seed`.
    pub fn seed(seed: u64) {
        STATE.with(|state| state.set(seed));
    }

    /// Splitmix64: one addition and a mix per number, full period.
    pub(super) fn next() -> u64 {
        STATE.with(|state| {
            let mut z = state.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
            state.set(z);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        })
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_identities_differ() {
        assert_ne!(super::u128(), super::u128());
    }
}
