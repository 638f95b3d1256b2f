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
}
