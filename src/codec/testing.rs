//! Helpers of the codecs' tests.

use bytes::Bytes;
use proptest::sample::Index;

/// The bytes that a vector of hexadecimal digits spells.
pub(super) fn hex(digits: &str) -> Bytes {
    let digits: Vec<u32> = digits
        .chars()
        .map(|digit| digit.to_digit(16).expect("a hexadecimal digit"))
        .collect();
    digits
        .chunks_exact(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).expect("two digits"))
        .collect()
}

/// `whole` in slices, cut wherever `cuts` says; some may be empty.
pub(super) fn split(whole: &Bytes, cuts: &[Index]) -> Vec<Bytes> {
    let mut cuts: Vec<usize> = cuts
        .iter()
        .map(|cut| cut.index(whole.len() + 1))
        .chain([0, whole.len()])
        .collect();
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|ends| whole.slice(ends[0]..ends[1]))
        .collect()
}
