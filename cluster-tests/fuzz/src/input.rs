//! A fuzzer's input: its first byte says how the rest is cut into slices.

use bytes::Bytes;

/// The longest slice, in bytes: longer than any header, so that cuts lie everywhere.
const SLICE_BYTES_MAX: u64 = 40;

/// The bytes to read, and the same in slices, of which some are empty; `None` for an empty input.
#[must_use]
pub fn cut(data: &[u8]) -> Option<(Bytes, Vec<Bytes>)> {
    let (seed, rest) = data.split_first()?;
    let whole = Bytes::copy_from_slice(rest);
    let mut slices = Vec::new();
    let mut state = u64::from(*seed) + 1;
    let mut left = whole.clone();
    while !left.is_empty() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let wanted = usize::try_from(state % SLICE_BYTES_MAX).unwrap_or(0);
        slices.push(left.split_to(wanted.min(left.len())));
    }
    Some((whole, slices))
}
