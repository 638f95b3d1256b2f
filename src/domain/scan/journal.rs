//! The scan of one journal, and what it found that has not become a checkpoint yet.

use super::{CheckpointIdsScan, EventLogScan, Found, Scan};
use crate::domain::{
    JournalKind, Offset,
    legacy::{LegacyName, LegacyPart},
};

/// Most finds that wait for their counterpart in the worker's other journal; beyond it the oldest is dropped. That other journal is
/// that many checkpoints behind then.
const WAITING_MAX: usize = 64;

/// Where the scan of a journal stands, and its finds that wait for their counterpart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalScan {
    /// Where it stands.
    pub scan: Scan,
    /// In the order of the journal.
    pub waiting: Vec<Found>,
    /// Of an event log: the highest id before all that wait. An id that is not higher than all before it was used again, and the
    /// worker, which takes the first entry of an id for the checkpoint, would roll back to an older one: such an entry is passed
    /// over.
    pub passed: Option<u64>,
}

impl JournalScan {
    /// The scan of a new journal; `None` when its name and kind are none of a legacy worker's.
    #[must_use]
    pub fn of(name: &str, kind: JournalKind) -> Option<Self> {
        let scan = match LegacyName::of(name, kind)?.part {
            LegacyPart::EventLog { .. } => Scan::EventLog(EventLogScan::default()),
            LegacyPart::Ops => Scan::CheckpointIds(CheckpointIdsScan::default()),
        };
        Some(Self {
            scan,
            waiting: Vec::new(),
            passed: None,
        })
    }

    /// Takes in the next bytes of the journal; true when something was found.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        let mut found = Vec::new();
        self.scan.push(bytes, &mut found);
        let before = self.waiting.len();
        for find in found {
            if let Found::Written { id, .. } = find
                && self.newest().is_some_and(|newest| id <= newest)
            {
                continue;
            }
            self.waiting.push(find);
        }
        let is_new = self.waiting.len() > before;
        let surplus = self.waiting.len().saturating_sub(WAITING_MAX);
        self.drop_first(surplus);
        is_new
    }

    /// The highest id of an event log so far.
    fn newest(&self) -> Option<u64> {
        let last = self.waiting.last().and_then(Found::written);
        last.map(|(id, _)| id).or(self.passed)
    }

    /// Where the event log holds everything of checkpoint `id`.
    #[must_use]
    pub fn written(&self, id: u64) -> Option<Offset> {
        let mut written = self.waiting.iter().filter_map(Found::written);
        written.find(|(found, _)| *found == id).map(|(_, end)| end)
    }

    /// Forgets the finds up to `end`, which have become a checkpoint or never will.
    pub fn settle(&mut self, end: Offset) {
        let settled = self.waiting.iter().take_while(|find| find.end() <= end);
        self.drop_first(settled.count());
    }

    fn drop_first(&mut self, count: usize) {
        let dropped = self.waiting.drain(..count);
        let last = dropped.filter_map(|find| find.written()).next_back();
        self.passed = last.map(|(id, _)| id).or(self.passed);
    }

    /// The journal's end was cut off at `at`.
    pub fn cut(&mut self, at: Offset) {
        self.scan.cut(at);
        self.waiting.retain(|find| find.end() <= at);
        if at == Offset::ZERO {
            self.passed = None;
        }
    }

    /// The journal was cut back to checkpoint `id`, which was read out of it: later ids are free again.
    pub fn roll_back(&mut self, id: u64) {
        self.passed = self.passed.map(|passed| passed.min(id));
    }

    /// Behind the last whole entry, where the journal may be cut; `None` when what follows is no entry, so that there is no telling.
    #[must_use]
    pub fn boundary(&self) -> Option<Offset> {
        (!self.scan.is_lost()).then(|| self.scan.boundary())
    }
}
