//! Checkpoints of legacy workers, which never tell of them: read out of what is committed.
//!
//! A checkpoint is complete when the event log holds its id, behind all its data, and the ops journal the entry of
//! `.checkpoint_ids` that says so. The two come over two connections, in any order; whichever bytes come last complete it.

use std::collections::BTreeMap;

use super::{
    Change, State,
    family::{Entry, Family, name_of},
};
use crate::domain::{Checkpoint, JournalId, Offset};

impl State {
    /// Makes the checkpoints that new bytes of a scanned journal have completed; answers the journals whose finds they took.
    pub(super) fn find_checkpoints(
        &mut self,
        journal: JournalId,
        log_index: u64,
        at_unix_ms: u64,
        changes: &mut Vec<Change>,
    ) -> Vec<JournalId> {
        let mut settled = Vec::new();
        let Some(family) = self.waiting_family(journal) else {
            return settled;
        };
        for entry in self.entries(family.ops) {
            let newest = self.workers[&family.owner].newest_checkpoint();
            if newest.is_some_and(|newest| newest.id >= entry.id) {
                // Told before, or of another run.
                self.settle(family.ops, entry.end, &mut settled);
                continue;
            }
            let Some((log, end)) = self.written(&family, entry.id.number) else {
                continue;
            };
            let checkpoint = Checkpoint {
                id: entry.id,
                offsets: self.covered_by(&family, entry, (log, end)),
                log_index,
                at_unix_ms,
                found: true,
            };
            self.settle(family.ops, entry.end, &mut settled);
            for (_, part) in &family.logs {
                let is_last = *part == log;
                let end = if is_last { end } else { Offset(u64::MAX) };
                self.settle(*part, end, &mut settled);
                if is_last {
                    break;
                }
            }
            let worker = self.worker_mut(family.owner);
            worker.checkpoints.insert(entry.id, checkpoint);
            changes.push(Change::Checkpoint(family.owner, entry.id));
            self.drop_oldest_checkpoint(family.owner, changes);
        }
        settled
    }

    /// The family of a journal, if the ops journal in it has finds that wait; else nothing can have been completed.
    fn waiting_family(&self, journal: JournalId) -> Option<Family> {
        let journal = self.journals.get(&journal)?;
        let worker = self.workers.get(&journal.owner)?;
        let prefix = name_of(journal)?.prefix;
        let ops = self.ops_of(worker, prefix)?;
        let scan = ops.scan.as_ref()?;
        (!scan.waiting.is_empty()).then(|| self.family(worker, prefix, ops.id))
    }

    /// The part of the event log that holds the id of a checkpoint, and where; `None` while it, or something before it, is missing.
    fn written(&self, family: &Family, number: u64) -> Option<(JournalId, Offset)> {
        let mut places = (0..family.logs.len()).rev();
        let (place, end) = places.find_map(|place| {
            let (_, log) = family.logs.get(place)?;
            let scan = self.journals.get(log)?.scan.as_ref()?;
            Some((place, scan.written(number)?))
        })?;
        let (start, log) = *family.logs.get(place)?;
        let before = place.checked_sub(1).and_then(|at| family.logs.get(at));
        // The parts come over connections of their own; the name of each says how many bytes come before it.
        let is_whole = match (before, start) {
            (Some((Some(from), before)), Some(to)) => {
                self.journals.get(before)?.tail.0 >= to.saturating_sub(*from)
            }
            _ => true,
        };
        is_whole.then_some((log, end))
    }

    /// What a checkpoint covers: of the parts of the event log behind the one that holds it, nothing; of any journal beside
    /// these and the ops journal, everything.
    fn covered_by(
        &self,
        family: &Family,
        entry: Entry,
        (log, end): (JournalId, Offset),
    ) -> BTreeMap<JournalId, Offset> {
        let parts = family.logs.iter().map(|(_, part)| *part);
        let later: Vec<JournalId> = parts.skip_while(|part| *part != log).collect();
        let journals = self.workers[&family.owner].journals.values();
        let journals = journals.filter(|id| !later.contains(id));
        let tail = |id: &JournalId| Some((*id, self.journals.get(id)?.tail));
        let mut offsets: BTreeMap<_, _> = journals.filter_map(tail).collect();
        offsets.insert(log, end);
        offsets.insert(family.ops, entry.end);
        offsets
    }

    /// Forgets the finds of a journal up to `end`.
    fn settle(&mut self, journal: JournalId, end: Offset, settled: &mut Vec<JournalId>) {
        let record = self.journals.get_mut(&journal);
        if let Some(scan) = record.and_then(|record| record.scan.as_mut()) {
            scan.settle(end);
            settled.push(journal);
        }
    }
}
