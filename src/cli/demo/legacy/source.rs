//! The source: keyed items, the same ones however often they are asked for, so that it can be replayed from any position.

use std::collections::BTreeMap;

/// How many keys there are.
pub(super) const KEYS: u32 = 600;

/// The key of the item at a position.
pub(super) fn key(position: u64) -> u32 {
    let key = scramble(position) % u64::from(KEYS);
    u32::try_from(key).unwrap_or_default()
}

/// How often each key comes before a position.
pub(super) fn counts(to: u64) -> BTreeMap<u32, u64> {
    let mut counts = BTreeMap::new();
    for position in 0..to {
        *counts.entry(key(position)).or_default() += 1;
    }
    counts
}

/// `SplitMix64`: every bit of the result depends on every bit of `x`.
fn scramble(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_comes_and_a_position_always_has_the_same_one() {
        let counts = counts(20_000);
        assert_eq!(counts.len(), KEYS as usize);
        assert_eq!(counts.values().sum::<u64>(), 20_000);
        assert_eq!(key(17), key(17));
    }
}
