//! What the log on disk says, read from its first record to its last: the same rules when it is written and when it is
//! replayed.

use std::collections::VecDeque;

use super::record::State;
use super::{LogId, Vote};

/// Where an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) term: u64,
    pub(super) node_id: u64,
    /// The segment.
    pub(super) sequence: u64,
    /// Of the record, in the segment.
    pub(super) offset: u32,
    /// Of the whole record.
    pub(super) bytes: u32,
}

/// The effect of all records so far. 40 bytes per entry that is not purged.
#[derive(Debug, Default)]
pub(super) struct DiskIndex {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) last_purged: Option<LogId>,
    pub(super) last: Option<LogId>,
    /// Index of the first location.
    first: u64,
    locations: VecDeque<Location>,
    /// The entries up to this index are in segments that are not there. A purge must follow that covers them.
    absent_through: Option<u64>,
}

impl DiskIndex {
    /// Begins at a segment whose predecessors are gone.
    pub(super) fn begin(state: &State) -> Self {
        let held = state.last.filter(|last| {
            state
                .last_purged
                .is_none_or(|purged| last.index > purged.index)
        });
        Self {
            vote: state.vote,
            committed: state.committed,
            last_purged: state.last_purged,
            last: state.last,
            first: 0,
            locations: VecDeque::new(),
            absent_through: held.map(|last| last.index),
        }
    }

    /// Whether a segment that begins with `state` continues this log. The committed mark is a hint and not compared.
    pub(super) fn is_continued_by(&self, state: &State) -> bool {
        (self.vote, self.last_purged, self.last) == (state.vote, state.last_purged, state.last)
    }

    /// The index of an entry that would be appended next; `None` if any would do.
    pub(super) fn next(&self) -> Option<u64> {
        self.last.map(|last| last.index + 1)
    }

    /// Adds an entry. False, and no effect, if it does not follow the last one.
    #[must_use]
    pub(super) fn append(&mut self, log_id: LogId, location: Location) -> bool {
        if self.next().is_some_and(|next| next != log_id.index) {
            return false;
        }
        if self.locations.is_empty() {
            self.first = log_id.index;
        }
        self.locations.push_back(location);
        self.last = Some(log_id);
        true
    }

    /// Drops the entries after `after`, or all of them.
    pub(super) fn truncate_after(&mut self, after: Option<LogId>) {
        self.last = after.max_by_index(self.last_purged);
        let Some(last) = self.last else {
            self.locations.clear();
            self.absent_through = None;
            return;
        };
        while !self.locations.is_empty() && self.end() > last.index + 1 {
            self.locations.pop_back();
        }
        if let Some(through) = &mut self.absent_through {
            *through = (*through).min(last.index);
        }
        self.forget_purged();
    }

    /// Drops the entries up to and including `through`.
    pub(super) fn purge(&mut self, through: LogId) {
        self.last_purged = Some(through);
        self.last = self.last.max_by_index(self.last_purged);
        self.forget_purged();
    }

    fn forget_purged(&mut self) {
        let Some(purged) = self.last_purged else {
            return;
        };
        while !self.locations.is_empty() && self.first <= purged.index {
            self.locations.pop_front();
            self.first += 1;
        }
        self.absent_through = self
            .absent_through
            .filter(|through| *through > purged.index);
    }

    /// One past the last index with a location.
    fn end(&self) -> u64 {
        self.first + self.locations.len() as u64
    }

    /// Where the entry with this index is.
    pub(super) fn location(&self, index: u64) -> Option<Location> {
        let position = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.locations.get(position).copied()
    }

    /// Length of the records of the entries behind `index`, or of all.
    pub(super) fn bytes_after(&self, index: Option<u64>) -> u64 {
        let behind = index.map_or(0, |index| (index + 1).saturating_sub(self.first));
        let records = self.locations.iter();
        records
            .skip(usize::try_from(behind).unwrap_or(usize::MAX))
            .map(|location| u64::from(location.bytes))
            .sum()
    }

    /// The first entry that is held.
    pub(super) fn first_log_id(&self) -> Option<LogId> {
        let Location { term, node_id, .. } = *self.locations.front()?;
        Some(LogId {
            term,
            node_id,
            index: self.first,
        })
    }

    /// The oldest segment that holds an entry which is needed.
    pub(super) fn oldest_sequence(&self) -> Option<u64> {
        self.locations.front().map(|location| location.sequence)
    }

    /// Entries that should be held and are in no segment.
    pub(super) fn absent(&self) -> Option<std::ops::RangeInclusive<u64>> {
        let from = self.last_purged.map_or(0, |purged| purged.index + 1);
        self.absent_through.map(|through| from..=through)
    }
}

/// Of two places in the log the later one.
pub(super) trait MaxByIndex {
    fn max_by_index(self, other: Self) -> Self;
}

impl MaxByIndex for Option<LogId> {
    fn max_by_index(self, other: Self) -> Self {
        match (self, other) {
            (Some(a), Some(b)) => Some(if a.index >= b.index { a } else { b }),
            (a, b) => a.or(b),
        }
    }
}
