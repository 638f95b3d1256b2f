//! What is appended: bytes that do not compress, and that say by themselves where they belong.

use bytes::Bytes;

use crate::env::rng;

/// Bytes of the pool. Its part at any place is unlike that at any other.
const POOL_BYTES: usize = 8 << 20;

/// Random bytes. The content of a journal at any offset follows from the journal's number, so it can be checked without being kept.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    bytes: Bytes,
}

impl Pool {
    pub(super) fn new() -> Self {
        let mut bytes = Vec::with_capacity(POOL_BYTES);
        while bytes.len() < POOL_BYTES {
            bytes.extend_from_slice(&rng::u64().to_le_bytes());
        }
        Self {
            bytes: bytes.into(),
        }
    }

    /// The append number `sequence`, of `length` bytes, of journal number `journal`. No copy.
    pub(super) fn payload(&self, journal: usize, sequence: u64, length: usize) -> Bytes {
        let places = (POOL_BYTES - length) as u64;
        // Two odd constants: neighbours in either direction begin far from each other.
        let mixed = (journal as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(sequence.wrapping_mul(0xd1b5_4a32_d192_ed03));
        let place = usize::try_from(mixed % places).unwrap_or_default();
        self.bytes.slice(place..place + length)
    }

    /// How many bytes of `data` are what journal number `journal` has from offset `at` on, whose appends are of `length` bytes each.
    pub(super) fn matching(&self, journal: usize, at: u64, length: usize, data: &[u8]) -> u64 {
        let (mut at, mut data, mut matching) = (at, data, 0);
        while !data.is_empty() {
            let within = usize::try_from(at % length as u64).unwrap_or_default();
            let sent = self
                .payload(journal, at / length as u64, length)
                .slice(within..);
            let (piece, rest) = data.split_at(data.len().min(sent.len()));
            let pairs = piece.iter().zip(&sent);
            matching += match sent.starts_with(piece) {
                true => piece.len() as u64,
                false => pairs.filter(|(got, sent)| got == sent).count() as u64,
            };
            at += piece.len() as u64;
            data = rest;
        }
        matching
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_the_same_again_and_unlike_others() {
        let pool = Pool::new();
        assert_eq!(pool.payload(3, 7, 100), pool.payload(3, 7, 100));
        for other in [pool.payload(3, 8, 100), pool.payload(4, 7, 100)] {
            assert_ne!(pool.payload(3, 7, 100), other);
        }
    }

    #[test]
    fn what_comes_back_is_compared_with_what_was_sent() {
        let pool = Pool::new();
        let sent: Vec<u8> = (0..4).flat_map(|n| pool.payload(3, n, 100)).collect();
        assert_eq!(pool.matching(3, 0, 100, &sent), 400);
        assert_eq!(pool.matching(3, 150, 100, &sent[150..333]), 183);
        let mut damaged = sent.clone();
        damaged[250] ^= 1;
        assert_eq!(pool.matching(3, 0, 100, &damaged), 399);
        assert!(pool.matching(4, 0, 100, &sent) < 50);
    }
}
