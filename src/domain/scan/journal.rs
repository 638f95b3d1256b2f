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
    /// Of an event log: ids whose entries were passed over so, the newest last; at most 64 are kept.
    pub reused: Vec<u64>,
    /// Runs of the worker that ended in this journal, whose files a shutdown in order removes: of an event log, where it begins
    /// again with id 0; of an ops journal, where `.checkpoint_ids` is removed. Journals stay, so a new run appends to them.
    pub ended_runs: u64,
    /// Where the last of them ended: behind that entry.
    pub run_from: Offset,
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
            reused: Vec::new(),
            ended_runs: 0,
            run_from: Offset::ZERO,
        })
    }

    /// Takes in the next bytes of the journal; true when something was found.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        let mut found = Vec::new();
        self.scan.push(bytes, &mut found);
        let mut is_new = false;
        for find in found {
            match find {
                // A log begins with it, and only a new one does.
                Found::Written { id: 0, end } if self.newest().is_some() => {
                    self.waiting.clear();
                    self.reused.clear();
                    self.passed = None;
                    self.end_run(end);
                }
                // What the run that ends here completed may still be found; not so what the one before did.
                Found::Ended { end } => {
                    let begun = self.run_from;
                    self.waiting.retain(|find| find.end() > begun);
                    self.end_run(end);
                    continue;
                }
                Found::Written { id, .. } if self.newest().is_some_and(|newest| id <= newest) => {
                    self.reused.push(id);
                    let surplus = self.reused.len().saturating_sub(WAITING_MAX);
                    self.reused.drain(..surplus);
                    continue;
                }
                _ => {}
            }
            self.waiting.push(find);
            is_new = true;
        }
        let surplus = self.waiting.len().saturating_sub(WAITING_MAX);
        self.drop_first(surplus);
        is_new
    }

    fn end_run(&mut self, end: Offset) {
        self.ended_runs += 1;
        self.run_from = end;
    }

    /// The run that a find that waits is of: the number of those that had ended before it.
    #[must_use]
    pub fn run_of(&self, find: &Found) -> u64 {
        let is_before = u64::from(find.end() < self.run_from);
        self.ended_runs.saturating_sub(is_before)
    }

    /// The journal is a later part of an event log whose first part began again: none of its ids counts any more, for it is of the
    /// run before.
    pub fn outlive_run(&mut self) {
        self.waiting.clear();
        self.passed = Some(u64::MAX);
    }

    /// The highest id of an event log's run so far.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
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
            self.reused.clear();
            self.ended_runs = 0;
            self.run_from = Offset::ZERO;
        } else if at < self.run_from {
            self.ended_runs = self.ended_runs.saturating_sub(1);
            self.run_from = Offset::ZERO; // where the one before ended is not known any more
        }
    }

    /// The journal was cut back to checkpoint `id`, which was read out of it: later ids are free again.
    pub fn roll_back(&mut self, id: u64) {
        self.passed = self.passed.map(|passed| passed.min(id));
        self.reused.retain(|reused| *reused <= id);
    }

    /// Behind the last whole entry, where the journal may be cut; `None` when what follows is no entry, so that there is no telling.
    #[must_use]
    pub fn boundary(&self) -> Option<Offset> {
        (!self.scan.is_lost()).then(|| self.scan.boundary())
    }
}
