//! What a legacy worker's journals say of its checkpoints, found as the bytes come, in bounded memory.
//!
//! A legacy worker never tells its store of a checkpoint: its event log holds the id behind the data, and `.checkpoint_ids`, a
//! file within the ops journal, which one is complete. A scan is fed every byte of a journal once, in any slices; where it stands
//! is a part of the journal's record, so its cost follows new bytes, and every member finds the same.

mod checkpoint_ids;
mod event_log;
mod journal;
#[cfg(test)]
mod tests;

pub use checkpoint_ids::{CheckpointIds, CheckpointIdsScan};
pub use event_log::EventLogScan;
pub use journal::JournalScan;

use super::offset::Offset;

/// The longest entry or record that a scan follows, in bytes: what the readers of `codec` take, too.
const LENGTH_MAX: u32 = 256 << 20;

/// Where the scan of one journal stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scan {
    /// Of an event log.
    EventLog(EventLogScan),
    /// Of an ops journal.
    CheckpointIds(CheckpointIdsScan),
}

/// What a scan found, and the offset behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// An event log holds everything of this checkpoint.
    Written {
        /// The application's number.
        id: u64,
        /// Behind its entry.
        end: Offset,
    },
    /// `.checkpoint_ids` was removed: the worker was shut down in order.
    Ended {
        /// Behind the record.
        end: Offset,
    },
    /// `.checkpoint_ids` was written.
    Ids {
        /// What it says now.
        ids: CheckpointIds,
        /// Where the record begins.
        at: Offset,
        /// Behind the record.
        end: Offset,
    },
}

impl Found {
    /// Behind what was found.
    #[must_use]
    pub fn end(&self) -> Offset {
        match self {
            Self::Written { end, .. } | Self::Ended { end } | Self::Ids { end, .. } => *end,
        }
    }

    /// The id of an event log's entry, and the offset behind it.
    #[must_use]
    pub fn written(&self) -> Option<(u64, Offset)> {
        match self {
            Self::Written { id, end } => Some((*id, *end)),
            Self::Ended { .. } | Self::Ids { .. } => None,
        }
    }
}

impl Scan {
    /// Takes in the next bytes of the journal.
    pub fn push(&mut self, bytes: &[u8], found: &mut Vec<Found>) {
        match self {
            Self::EventLog(scan) => scan.push(bytes, found),
            Self::CheckpointIds(scan) => scan.push(bytes, found),
        }
    }

    /// The journal's end was cut off at `at`, which is a boundary unless it lies inside the entry at hand: then the scan is lost.
    pub fn cut(&mut self, at: Offset) {
        let lost = self.is_lost() && at > self.boundary() || self.is_inside(at);
        match self {
            Self::EventLog(scan) => *scan = EventLogScan::at(at),
            Self::CheckpointIds(scan) => *scan = CheckpointIdsScan::at(at),
        }
        if lost {
            self.lose();
        }
    }

    /// Behind the last whole entry: where the journal may be cut.
    #[must_use]
    pub fn boundary(&self) -> Offset {
        match self {
            Self::EventLog(scan) => scan.entry,
            Self::CheckpointIds(scan) => scan.record,
        }
    }

    /// Nothing can be read from [`boundary`](Self::boundary) on: what is there is no entry, or was cut.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match self {
            Self::EventLog(scan) => scan.lost,
            Self::CheckpointIds(scan) => scan.lost,
        }
    }

    fn is_inside(&self, at: Offset) -> bool {
        at > self.boundary()
    }

    fn lose(&mut self) {
        match self {
            Self::EventLog(scan) => scan.lost = true,
            Self::CheckpointIds(scan) => scan.lost = true,
        }
    }
}

/// Moves as many bytes as are wanted from `bytes` to `head`; true once it has `wanted`.
fn fill(head: &mut Vec<u8>, wanted: usize, bytes: &mut &[u8]) -> bool {
    let missing = wanted.saturating_sub(head.len()).min(bytes.len());
    let (taken, rest) = bytes.split_at(missing);
    head.extend_from_slice(taken);
    *bytes = rest;
    head.len() >= wanted
}

/// The big-endian number at `at`, which must be there.
fn number<const N: usize>(head: &[u8], at: usize) -> u64 {
    let bytes = head.get(at..at + N).unwrap_or_default();
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}
