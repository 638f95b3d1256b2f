//! `.checkpoint_ids` within an ops journal: `codec::ops` describes its records. Of a record only what names the file, and the end
//! of what is written to it, is kept.

use super::{Found, LENGTH_MAX, fill, number};
use crate::domain::Offset;

/// How the file's name ends.
const SUFFIX: &[u8] = b".checkpoint_ids";
/// One entry of the file; only the last one counts.
const ENTRY_BYTES: usize = 24;
/// Length, version, op, the two counts, tag.
const HEADER_BYTES: usize = 16;
/// What the length does not count.
const LENGTH_BYTES: u64 = 4;
/// The only version there is.
const VERSION: u8 = 0;
const WRITEV: u8 = 1;
const REMOVE: u8 = 2;

/// What an entry of `.checkpoint_ids` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckpointIds {
    /// The checkpoint that was begun last.
    pub current: u64,
    /// The one that is complete.
    pub complete: u64,
    /// The rollback epoch.
    pub rollback: u64,
}

/// Where the scan of an ops journal stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckpointIdsScan {
    /// Where the record at hand begins.
    pub record: Offset,
    /// What is here of its header, ints and sizes; at most 4,096 bytes.
    pub head: Vec<u8>,
    /// Bytes of its strings that were passed.
    pub passed: u64,
    /// The end of its path; at most 15 bytes.
    pub path_end: Vec<u8>,
    /// The end of its data; at most 24 bytes.
    pub data_end: Vec<u8>,
    /// The record at hand is none.
    pub lost: bool,
}

/// What a whole head says of the strings behind it.
struct Strings {
    /// All of them, in bytes.
    bytes: u64,
    /// The first, when it is a path that data is written to, or that is removed.
    path: u64,
    /// The second.
    data: u64,
}

impl CheckpointIdsScan {
    /// A scan from `at` on, where a record begins.
    #[must_use]
    pub fn at(at: Offset) -> Self {
        Self {
            record: at,
            ..Self::default()
        }
    }

    pub(super) fn push(&mut self, mut bytes: &[u8], found: &mut Vec<Found>) {
        while !self.lost {
            if !fill(&mut self.head, HEADER_BYTES, &mut bytes) {
                return;
            }
            let head_bytes = self.head_bytes();
            if !fill(&mut self.head, head_bytes, &mut bytes) {
                return;
            }
            let Some(strings) = self.strings() else {
                return self.lost = true;
            };
            let left = strings.bytes - self.passed;
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            let (part, rest) = bytes.split_at(here);
            self.pass(&strings, part);
            bytes = rest;
            if self.passed < strings.bytes {
                return;
            }
            self.end(&strings, found);
        }
    }

    /// The head with all ints and sizes, in bytes.
    fn head_bytes(&self) -> usize {
        let count = |at| self.head.get(at).copied().map_or(0, usize::from);
        HEADER_BYTES + 8 * (count(6) + count(7))
    }

    /// `None` when the numbers of the head do not fit together.
    fn strings(&self) -> Option<Strings> {
        let length = number::<4>(&self.head, 0);
        let head = self.head.len() as u64 - LENGTH_BYTES;
        if length > u64::from(LENGTH_MAX) {
            return None;
        }
        let bytes = length.checked_sub(head)?;
        let (ints, strings) = (*self.head.get(6)?, *self.head.get(7)?);
        let sizes = HEADER_BYTES + 8 * usize::from(ints);
        let size = |index: usize| number::<8>(&self.head, sizes + 8 * index);
        let mut total = 0u64;
        for index in 0..usize::from(strings) {
            total = total.checked_add(size(index))?;
        }
        if total > bytes {
            return None;
        }
        // Another version's record is passed over, as a replay passes over it.
        let op = self.head.get(5).filter(|_| self.head[4] == VERSION);
        let (path, data) = match (op, strings) {
            (Some(&WRITEV), 2..) => (size(0), size(1)),
            (Some(&REMOVE), 1..) => (size(0), 0),
            _ => (0, 0),
        };
        Some(Strings { bytes, path, data })
    }

    /// Takes in a part of the strings.
    fn pass(&mut self, strings: &Strings, part: &[u8]) {
        let (from, to) = (self.passed, self.passed + part.len() as u64);
        let slice = |begin: u64, end: u64| {
            let place = |at: u64| usize::try_from(at.clamp(from, to) - from).unwrap_or(usize::MAX);
            part.get(place(begin)..place(end)).unwrap_or_default()
        };
        keep_end(&mut self.path_end, slice(0, strings.path), SUFFIX.len());
        let data = slice(strings.path, strings.path + strings.data);
        keep_end(&mut self.data_end, data, ENTRY_BYTES);
        self.passed = to;
    }

    /// The record at hand is whole.
    fn end(&mut self, strings: &Strings, found: &mut Vec<Found>) {
        let bytes = self.head.len() as u64 + strings.bytes;
        let end = Offset(self.record.0.saturating_add(bytes));
        let is_removed = self.head.get(5) == Some(&REMOVE);
        let entries = strings.data > 0 && strings.data.is_multiple_of(ENTRY_BYTES as u64);
        if self.path_end != SUFFIX {
            // Another file's.
        } else if is_removed {
            found.push(Found::Ended { end });
        } else if entries {
            let ids = CheckpointIds {
                current: number::<8>(&self.data_end, 0),
                complete: number::<8>(&self.data_end, 8),
                rollback: number::<8>(&self.data_end, 16),
            };
            let at = self.record;
            found.push(Found::Ids { ids, at, end });
        }
        *self = Self::at(end);
    }
}

/// Appends to what is kept of something, of which only the end counts.
fn keep_end(kept: &mut Vec<u8>, bytes: &[u8], bytes_max: usize) {
    let bytes = bytes
        .get(bytes.len().saturating_sub(bytes_max)..)
        .unwrap_or_default();
    let surplus = (kept.len() + bytes.len()).saturating_sub(bytes_max);
    kept.drain(..surplus.min(kept.len()));
    kept.extend_from_slice(bytes);
}
