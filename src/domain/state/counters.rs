//! The numbers given out, and the hash that tells members apart that should not differ.

use crate::domain::Writer;

/// Numbers given out so far, and the chained hash of all commands applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// The next worker's number.
    pub next_worker: u64,
    /// The next journal's number.
    pub next_journal: u64,
    /// The next node's number.
    pub next_node: u64,
    /// The largest number that a writer of a deleted journal had: writers of a journal that is made have larger ones, for who saw
    /// the one must not take it for the other.
    pub last_deleted_writer: Writer,
    /// Equal on two members that have applied the same log.
    pub hash: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            next_worker: 1,
            next_journal: 1,
            next_node: 1,
            last_deleted_writer: Writer(0),
            hash: 0,
        }
    }
}

impl Counters {
    /// Chains one applied entry into the hash of all before.
    pub(super) fn chain(&mut self, log_index: u64, digest: u32) {
        self.hash = chain(self.hash, log_index, digest);
    }
}

/// splitmix64's finaliser (Steele, Lea, Flood 2014) over the three.
fn chain(hash: u64, log_index: u64, digest: u32) -> u64 {
    let mut x =
        hash ^ log_index.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(digest).rotate_left(17);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
